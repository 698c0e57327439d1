"""
The simulated Windchill: documents, tokens, and its own history of who changed what.

It knows which field and which element was last changed by whom, in which version, by which of our writes. That history
is what the checks ask; nothing in here comes from the program.
"""

from collections.abc import Mapping
from typing import Any

import attrs
from msgspec import structs

from reconciler.model import instant
from reconciler.model.answer import (
    Locked,
    NotAvailable,
    Refused,
    Released,
    Throttled,
    Unauthorised,
    Unguarded,
    VersionConflict,
    WriteAnswer,
    Written,
)
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import canonical
from tests.sim.options import FIELDS, GROUP, KEYWORDS, SCALARS, TYPES
from tests.sim.world import World

ME = "integration"
Part = tuple[str, str]  # a field, and the text of one of its elements or ""


@attrs.frozen
class Touch:
    """The last change of a part of a document."""

    who: str
    version: int
    write: int | None = None  # which of our writes


@attrs.frozen
class Version:
    """A document at one moment."""

    key: str
    number: int
    fields: Mapping[str, Any]
    token: Token
    who: str
    at_us: int
    others_at_us: int  # when anyone but us last changed it
    touched: Mapping[Part, Touch]


@attrs.define
class Write:
    """One PATCH of ours, from the moment it was sent."""

    number: int
    life: int
    key: str
    token: Token
    fields: dict[str, Any]
    stamps: dict[Part, Any]  # of the claims it carries out
    accepted: Version | None = None
    answered: bool = False  # the program was told what became of it, and has stored that
    known: bool = False  # a settlement came after it that had seen it
    released: bool = False  # no one managed the document any more before that was known
    unrecorded: bool = False  # its audit record may have been lost with the store
    forgotten: set[str] = attrs.field(factory=set)  # fields that were not managed for a while since
    policy: Any = None  # by which it was decided


def elements(value: Any) -> list[str]:
    """The elements of a list, a single value counting as a list of one."""
    listed = value if isinstance(value, list) else [] if value is None else [value]
    return [canonical(element) for element in listed]


def token_of(key: str, number: int) -> Token:
    """The token of a version."""
    return Token(f'"{key}/{number}"')


class Server:
    """All documents of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.current: dict[str, Version] = {}
        self.versions: dict[tuple[str, Token], Version] = {}
        self.accepted: list[tuple[Version, Version, Write | None]] = []
        self.windows: dict[str, float] = {}  # what is wrong for a while → until when
        self.locks: dict[str, str] = {}  # document → the lock of ours on it
        self.tugs: dict[tuple[str, str], tuple[Any, float]] = {}  # what another program puts there, and until when
        self._lockings = 0
        self.meant: dict[str, dict[str, Any]] = {}  # what we last sent, whether it came or not
        rng, of_type = world.rng("documents"), world.rng("types")
        self._types = {key: of_type.choice(TYPES) for key in world.options.keys}
        values, words = world.options.values, world.options.words
        for key in world.options.keys:
            fields = {name: rng.choice(values) for name in SCALARS} | {KEYWORDS: rng.sample(words, rng.randrange(3))}
            self._store(Version(key, 0, fields, token_of(key, 0), "administrator", 0, 0, {}))

    # ------------------------------------------------------------------------------------------------------ requests

    def read(self, key: str, known: Token | None) -> tuple[Version | None, Any]:
        """Answer a read: the version shown, and the answer (None for the document itself, or what stands for 304)."""
        trouble = self._trouble(key)
        if trouble is not None:
            return None, trouble
        version = self.current[key]
        return version, (known == version.token)

    def write(self, write: Write) -> WriteAnswer:
        """Evaluate a write, in one go."""
        world, key = self._world, write.key
        trouble = self._trouble(key) or self._refusal(write)
        if trouble is not None:
            return trouble
        before = self.current[key]
        if write.token != before.token:
            if world.strikes("ambiguous_409"):
                return Refused(409, "the object could not be updated", perhaps_stale=True)
            return VersionConflict(412, "modified by another user")
        after = self.change(key, write.fields, ME, write)
        write.accepted = after
        if world.strikes("applied_503"):
            return Throttled(503, "the proxy lost its back end", perhaps_applied=True)
        token = None if world.options.shows == "nothing" or world.strikes("token_missing") else after.token
        if world.options.shows != "document":
            return Written(None, token)
        return Written(structs.replace(self.shown(after), token=token), token)

    def lock(self, key: str) -> Any:
        """Lock a document for us: the lock's name, or why not."""
        trouble = self._trouble(key)
        if trouble is not None:
            return trouble
        if self.wrong(f"locked {key}"):
            return Locked(423, "checked out", "jdoe")
        if key in self.locks:
            return Locked(423, "checked out", ME)
        self._lockings += 1
        self.locks[key] = f"lock {self._lockings}"
        return self.locks[key]

    def unlock(self, key: str, lock: str | None) -> Any:
        """Give up a lock of ours, if it is there."""
        trouble = self._trouble(key)
        if trouble is not None:
            return trouble
        if lock in (None, self.locks.get(key)):
            self.locks.pop(key, None)
        return Released()

    def write_under(self, lock: str, write: Write) -> WriteAnswer:
        """Evaluate a write under a lock, which ends with it."""
        trouble = self._trouble(write.key)
        if trouble is not None:
            return trouble
        if self.locks.get(write.key) != lock:
            return VersionConflict(404, "there is no such working copy")
        refusal = self._refusal(write)
        if refusal is not None:
            return refusal
        after = self.change(write.key, write.fields, ME, write)
        del self.locks[write.key]
        write.accepted = after
        return Written(self.shown(after), after.token)

    def token(self, key: str, number: int) -> Token:
        """The token of a version of a document."""
        return token_of(key, number)

    def type_of(self, key: str) -> str:
        """The document's type, as it is shown."""
        return self._types[key]

    def shown_us(self, at_us: int) -> int:
        """A time as it is shown."""
        return at_us - at_us % 1_000_000 if self._world.options.coarse else at_us

    def shown(self, version: Version) -> Snapshot:
        """A version as a client sees it."""
        kind = self._types[version.key]
        body: dict[str, Any] = {"id": version.key, "type": kind, "title": "never managed"}
        for name, value in version.fields.items():
            head, dot, rest = name.partition(".")
            if dot:
                body.setdefault(head, {})[rest] = value
            else:
                body[name] = value
        at = instant.from_us(self.shown_us(version.at_us))
        body |= {"modifiedBy": version.who, "modifiedOn": at}
        locked = version.key in self.locks
        seen = Snapshot(version.key, body, version.token, modified_at=at, modified_by=version.who, type=kind)
        return structs.replace(seen, locked_by_us=locked, iterates=self._world.options.iterates)

    def _trouble(self, key: str) -> Any:
        rng = self._world.rng("trouble")
        if self.wrong("throttled"):
            return Throttled(rng.choice((429, 503)), "slow down", rng.choice((None, 0.0, 2.0, 15.0)))
        if self.wrong("unauthorised"):
            return Unauthorised("who are you?")
        if self.wrong(f"not_available {key}"):
            return NotAvailable(rng.choice((403, 404, 410)), "not for you")
        return None

    def _refusal(self, write: Write) -> WriteAnswer | None:
        world = self._world
        if world.options.guard == "token" and self.wrong(f"locked {write.key}"):
            return Locked(423, "checked out", "jdoe")
        if world.strikes("unguarded_428"):
            return Unguarded(428, "a front end lost the guard")
        if world.strikes("refused_field"):
            rng = world.rng("refused")
            named = rng.sample(sorted(write.fields), rng.randrange(len(write.fields) + 1))
            return Refused(rng.choice((400, 422)), "not a legal value", tuple(named))
        return None

    def wrong(self, what: str) -> bool:
        return self._world.faulty and self.windows.get(what, -1.0) > self._world.loop.time()

    # -------------------------------------------------------------------------------------------------------- changes

    def change(self, key: str, fields: Mapping[str, Any], who: str, write: Write | None = None) -> Version:
        """Make a new version."""
        world, old = self._world, self.current[key]
        number = old.number + 1
        stored = {name: self._altered(name, value) for name, value in fields.items()}
        touched = dict(old.touched)
        for name, value in stored.items():
            for part in changed_parts(name, old.fields[name], value):
                touched[part] = Touch(who, number, None if write is None else write.number)
        now_us = world.now_us()
        version = Version(
            key,
            number,
            {**old.fields, **stored},
            token_of(key, number),
            who,
            now_us,
            old.others_at_us if write is not None else now_us,
            touched,
        )
        world.note(f"{key} v{number} by {who}: {canonical(stored)}")
        self._store(version)
        self.accepted.append((old, version, write))
        for name in stored if write is not None else ():
            value, until_s = self.tugs.get((key, name), (None, 0.0))
            if world.loop.time() < until_s:
                world.later(world.rng("tugs").uniform(0.2, 3.0), self._tug, key, name, value)
        return version

    def _tug(self, key: str, name: str, value: Any) -> None:
        """Another program puts back what it wants."""
        if key not in self.locks and canonical(self.current[key].fields[name]) != canonical(value):
            self.change(key, {name: value}, "another program")

    def _altered(self, name: str, value: Any) -> Any:
        return value.upper() if name == self._world.options.alters and isinstance(value, str) else value

    def _store(self, version: Version) -> None:
        self.current[version.key] = version
        self.versions[version.key, version.token] = version

    # ---------------------------------------------------------------------------------------------------------- rivals

    def rival(self, key: str, field: str | None = None) -> None:
        """Someone edits a field or two, sometimes back to what it was."""
        if key in self.locks:
            self._world.note(f"{key} is locked: no one can edit it")
            return
        rng, words = self._world.rng("rivals"), self._world.options.words
        field = rng.choice(FIELDS) if field == GROUP else field
        fields: dict[str, Any] = {}
        meant = self.meant.get(key, {})
        if (
            field is None and meant and rng.random() < (0.7 if self._world.options.theme == "doubts" else 0.15)
        ):  # someone enters by hand some of what we tried to write
            self.change(key, {name: meant[name] for name in rng.sample(sorted(meant), 1)}, "jdoe")
            return
        for name in rng.sample(FIELDS, rng.choice((1, 1, 2))) if field is None else [field]:
            before = [old.fields[name] for (k, _), old in self.versions.items() if k == key]
            if rng.random() < 0.3:
                fields[name] = rng.choice(before[-4:])
            elif name == KEYWORDS:
                fields[name] = rng.sample(words, rng.randrange(len(words)))
            else:
                fields[name] = rng.choice(self._world.options.values)
        self.change(key, fields, rng.choice(("jdoe", "sgarcia")))

    def rival_flips(self, key: str, word: str) -> None:
        """Someone adds an element, or takes it away."""
        if key in self.locks:
            return
        there = self.current[key].fields[KEYWORDS] or []
        listed = [one for one in there if one != word] if word in there else [*there, word]
        self.change(key, {KEYWORDS: listed}, "jdoe")


def changed_parts(name: str, old: Any, new: Any) -> list[Part]:
    """Which parts of a field differ: itself, or elements of its list."""
    if name != KEYWORDS:
        return [] if canonical(old) == canonical(new) else [(name, "")]
    return [(name, text) for text in sorted(set(elements(old)) ^ set(elements(new)))]
