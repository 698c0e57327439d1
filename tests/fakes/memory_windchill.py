"""
A Windchill in memory: documents with opaque tokens, scripted faults, and a history of accepted writes.

It passes the contract suite of the real dialect (`tests/contracts/test_windchill.py`), so that what flows learn from it
holds on a socket too. Everything happens in one step: nothing else runs between a guard and its write.
"""

import enum
from collections import deque
from collections.abc import Callable, Mapping
from copy import deepcopy

import attrs
from msgspec import structs

from reconciler.model import instant
from reconciler.model.answer import (
    Locked,
    NotAvailable,
    ReadAnswer,
    ReleaseAnswer,
    Released,
    Unchanged,
    Unknown,
    VersionConflict,
    WriteAnswer,
    Written,
)
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import Json
from reconciler.ports import Journal

ME = "integration"
_BEGIN_US = 1_767_225_600_000_000  # 2026-01-01
_SECOND_US = 1_000_000


class Fault(enum.Enum):
    """What a step of a script can be besides a ready answer."""

    NONE = "none"
    """Answer as usual."""
    LOST_REPLY = "lost reply"
    """The write is applied, its reply is lost."""
    RIVAL = "rival"
    """Someone else edits the document right before the write is evaluated, or is guarded by a lock."""
    STRANDED = "stranded"
    """The lock is taken, and nothing of the write comes after it: it is left behind."""
    LOST_LOCK = "lost lock"
    """The lock is taken, but no one is told."""


Step = Fault | ReadAnswer | WriteAnswer


@attrs.frozen
class Accepted:
    """One accepted write or edit."""

    key: str
    who: str
    before: Token
    after: Token
    fields: Mapping[str, Json]


@attrs.frozen
class _Version:
    body: dict[str, Json]
    token: Token
    modified_us: int
    modified_by: str


class MemoryWindchill:
    """Satisfies `reconciler.ports.Windchill`. `now_us` dates the edits; without it each is a second after the last."""

    def __init__(
        self,
        documents: Mapping[str, Mapping[str, Json]] | None = None,
        *,
        now_us: Callable[[], int] | None = None,
        shows_document: bool = True,
        shows_token: bool = True,
        locks: bool = False,
        later_portions: tuple[tuple[str, ...], ...] = (),
    ) -> None:
        self.locks = locks
        """Whether writes are guarded by a lock instead of the token."""
        self.later_portions = later_portions
        """Groups of fields that can only be written by themselves."""
        self.history: list[Accepted] = []
        self.reads = 0
        self.writes = 0
        self.closed = False
        self.holders: dict[str, str] = {}
        """Key → who has the document checked out."""
        self.foreign: set[str] = set()
        """Keys of documents that a person has checked out under our account."""
        self.lockings = 0
        self.hidden_under_lock: frozenset[str] = frozenset()
        self.refusals: dict[str, NotAvailable] = {}
        """Key → what every request for it gets."""
        self._now_us = now_us
        self._shows_document = shows_document
        self._shows_token = shows_token
        self._versions: dict[str, _Version] = {}
        self._count = 0
        self._reading: deque[tuple[str | None, Step]] = deque()
        self._writing: deque[tuple[str | None, Step]] = deque()
        for key, body in (documents or {}).items():
            self.put(key, body)

    # ------------------------------------------------------------------------------------------------------- the port

    async def read(self, key: str, known: Snapshot | None = None) -> ReadAnswer:
        self.reads += 1
        step = _next(self._reading, key)
        if not isinstance(step, Fault):
            return step  # type: ignore[return-value]  # the script is the test's own
        if key in self.refusals:
            return self.refusals[key]
        version = self._versions.get(key)
        if version is None:
            return NotAvailable(404, f"there is no document {key}")
        if self.holders.get(key) == ME:
            return structs.replace(self._shown(key, version), locked_by_us=True)
        return Unchanged() if known is not None and known.token == version.token else self._shown(key, version)

    async def release(self, key: str, lock: str | None, mark: str) -> ReleaseAnswer:
        assert mark.count("-") == 2, "by nothing else a lock is known"
        if key in self.foreign:
            return Locked(423, "undo that check-out by hand", "our own account")
        if self.holders.get(key, ME) != ME and lock is None:
            return Locked(423, f"checked out by {self.holders[key]}", self.holders[key])
        if self.holders.get(key) == ME:
            del self.holders[key]
        return Released()

    async def write(
        self,
        snapshot: Snapshot,
        fields: Mapping[str, Json],
        *,
        token: Token,
        journal: Journal,
    ) -> WriteAnswer:
        if not token.strip() or token.strip() == "*":
            raise ValueError("a write needs the token of a read")
        key = snapshot.key
        self.writes += 1
        step = _next(self._writing, key)
        if step is Fault.RIVAL:
            self.edit(key, {"title": f"edited {self._count}"})
        if not isinstance(step, Fault):
            return step  # type: ignore[return-value]  # the script is the test's own
        if len({snapshot.portion(field) for field in fields}) > 1:
            raise AssertionError(f"{sorted(fields)} can't be written together")
        if self.locks:
            answer = await self._under_lock(snapshot, step, journal)
        else:
            answer = self._written(key, fields, token)
        lost = step is Fault.LOST_REPLY and isinstance(answer, Written)
        return Unknown("the connection broke before the answer was whole") if lost else answer

    async def close(self) -> None:
        self.closed = True

    # ------------------------------------------------------------------------------------------- steering and watching

    def put(self, key: str, body: Mapping[str, Json], who: str = "administrator") -> Token:
        """Make this the document, without history."""
        modified_us = _BEGIN_US + self._count * _SECOND_US if self._now_us is None else self._now_us()
        self._count += 1
        stamped = deepcopy(dict(body)) | {"id": key, "modifiedBy": who, "modifiedOn": instant.from_us(modified_us)}
        version = _Version(stamped, Token(f'"memory-{self._count}"'), modified_us, who)
        self._versions[key] = version
        return version.token

    def edit(self, key: str, fields: Mapping[str, Json], who: str = "jdoe") -> Token:
        """Do what a person does in the GUI, asking no token."""
        old = self._versions[key]
        after = self.put(key, self._shown(key, old).with_fields(deepcopy(dict(fields)), None).body, who)
        self.history.append(Accepted(key, who, old.token, after, dict(fields)))
        return after

    def delete(self, key: str) -> None:
        """Remove a document."""
        del self._versions[key]

    def body(self, key: str) -> dict[str, Json]:
        """Return the document as it is."""
        return deepcopy(self._versions[key].body)

    def script_reads(self, *steps: Step, key: str | None = None) -> None:
        """Say what the next reads (of a document, or of any) meet, one step each."""
        self._reading.extend((key, step) for step in steps)

    def script_writes(self, *steps: Step, key: str | None = None) -> None:
        """Say what the next writes (of a document, or of any) meet, one step each."""
        self._writing.extend((key, step) for step in steps)

    def _written(self, key: str, fields: Mapping[str, Json], token: Token) -> WriteAnswer:
        version = self._versions.get(key)
        if key in self.refusals:
            return self.refusals[key]
        if version is None:
            return NotAvailable(404, f"there is no document {key}")
        if self.holders.get(key, ME) != ME:
            return Locked(423, f"checked out by {self.holders[key]}", self.holders[key])
        if token != version.token:
            return VersionConflict(412, "modified by another user")
        after = self.edit(key, fields, ME)
        shown_token = after if self._shows_token else None
        if not self._shows_document:
            return Written(None, shown_token)
        return Written(structs.replace(self._shown(key, self._versions[key]), token=shown_token), shown_token)

    async def _under_lock(self, snapshot: Snapshot, step: Step, journal: Journal) -> WriteAnswer:
        key = snapshot.key
        holder = self.holders.get(key)
        if holder is not None:
            return Locked(423, f"checked out by {holder}", holder)
        self.holders[key] = ME
        self.lockings += 1
        if step is Fault.LOST_LOCK:
            return Unknown("the connection broke before the answer was whole")
        await journal.locked(f"lock {self.lockings}")
        if step is Fault.STRANDED:
            return Unknown("the connection broke before the answer was whole")
        version = self._versions[key]
        shown = structs.replace(self._shown(key, version), unreadable=self.hidden_under_lock)
        fields = await journal.redraft(shown)
        answer = self._written(key, fields, version.token) if fields else VersionConflict(0, "changed before the lock")
        del self.holders[key]
        return answer

    def _shown(self, key: str, version: _Version) -> Snapshot:
        kind = version.body.get("type")
        return Snapshot(
            key,
            deepcopy(version.body),
            version.token,
            modified_at=instant.from_us(version.modified_us),
            modified_by=version.modified_by,
            type=kind if isinstance(kind, str) else None,
            later_portions=self.later_portions,
            iterates=self.locks,
        )


def _next(script: deque[tuple[str | None, Step]], key: str) -> Step:
    """Take the first step meant for this document."""
    for place, (meant_for, step) in enumerate(script):
        if meant_for in (None, key):
            del script[place]
            return step
    return Fault.NONE
