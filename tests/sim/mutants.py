"""
Known mistakes, to prove that the simulation finds such. Each is switched on by name, for one run.

`applied` changes the program's code for as long as it lasts; `wired` changes one daemon after it was put together.
"""

import contextlib
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any
from unittest import mock

import attrs
from msgspec import structs

from reconciler import app
from reconciler.adapters import documents
from reconciler.adapters.sqlite import opening
from reconciler.core.events import anchoring, profile, timing
from reconciler.core.folding import fold, normalise
from reconciler.core.planning import contest, elements, merge, retrying
from reconciler.core.planning import plan as planning
from reconciler.core.scheduling import replicas
from reconciler.core.scheduling.limiter import WriteBudget
from reconciler.core.settling import settle
from reconciler.core.settling.cases import Case
from reconciler.flows import attempt as attempts
from reconciler.flows import recovery
from reconciler.flows.attempt import Writing
from reconciler.flows.budget import OwnBudget
from reconciler.flows.gate import Gate
from reconciler.flows.outbox import Publisher
from reconciler.flows.recording import Recorder
from reconciler.model.action import Change, OperatorAction
from reconciler.model.answer import VersionConflict
from reconciler.model.base import Agreed
from reconciler.model.document import Status
from reconciler.model.event import Topics
from reconciler.model.plan import Verb
from reconciler.model.policy import Policy
from reconciler.model.snapshot import Snapshot
from reconciler.model.stamp import Stamp
from reconciler.ports import Changed
from tests.fakes.memory_log import MemoryLog
from tests.fakes.shared_slots import OwnSlot, SharedSlots
from tests.fakes.shared_store import SharedStore

WITHIN = 60
"""So many seeds must be enough to find each."""

FOUND: dict[str, int] = {
    # mutant: where it was found last, which is tried first; no promise
    "offsets-first": 5,
    "forget-intent": 14,
    "stale-token": 2,
    "blind-token": 2,
    "yield-without-stamp": 4,
    "drop-outbox": 1,
    "intend-later": 1,
    "publish-once": 1,
    "sync-normal": 1,
    "sync-off": 1,
    "recover-nothing": 16,
    "accept-truncation-silently": 5,
    "never-release": 1,
    "decide-before-the-lock": 1,
    "write-while-paused": 78,
    "begin-while-paused": 18,
    "settle-unpauses": 9,
    "forget-the-act": 14,
    "copies-are-news": 3,
    "copies-are-ours": 1,
    "held-elements-settle": 6,
    "elements-are-one-value": 46,
    "some-fields-are-all": 3,
    "redraft-keeps-the-plan": 9,
    "adopt-regardless": 6,
    "normalise-nothing": 2,
    "types-don-t-matter": 4,
    "trust-every-clock": 48,
    "refused-for-ever": 37,
    "values-taken-whole": 1,
    "never-contested": 45,
    "read-on-in-another-log": 5,
    "anyone-may-speak": 7,
    "copies-follow": 7,
    "send-whole-groups": 2,
}

WITHIN_OF_SEVERAL = 2000
"""So many seeds of worlds with several processes must be enough to find each of these."""

FOUND_AMONG_SEVERAL: dict[str, int] = {
    "settle-another's": 8,
    "zombies-store": 8,
    "duties-for-all": 1,
    "any-agreement": 919,
    "never-look": 21,
    "beat-by-the-wall": 40,
    "move-any-position": 1,
    "budget-of-each": 5,
    "grow-at-once": 84,
    "ignore-generations": 39,
    "read-no-outcomes": 98,
}

NAMES = (*FOUND, *FOUND_AMONG_SEVERAL)


@contextlib.contextmanager
def applied(name: str | None) -> Iterator[None]:
    """Make a mistake for as long as this lasts."""
    if name is None:
        yield
        return
    if name not in NAMES:
        raise ValueError(f"no mutant {name!r}; there are {', '.join(NAMES)}")
    with contextlib.ExitStack() as stack:
        for target, attribute, replacement in _PATCHES.get(name, ()):
            made = replacement.made() if isinstance(replacement, _Rewritten) else replacement
            stack.enter_context(mock.patch.object(target, attribute, made))
        yield


def wired(name: str | None, daemon: app.Daemon) -> None:
    """Make a mistake in how one daemon is put together."""
    if name == "offsets-first":
        daemon.ingest._projection = _OffsetsFirst(daemon.store)
    if name == "intend-later":
        object.__setattr__(daemon.reconciler._attempt, "ledger", _NoIntent(daemon.store))
    if name == "settle-unpauses":
        daemon.reconciler._ledger = _Unpausing(daemon.store)
    if name == "beat-by-the-wall" and daemon._lease is not None:
        daemon._lease.clock = _Wall(daemon.clock)


class _Wall:
    """A clock that measures spans by what time it is."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._clock, name)

    def monotonic_s(self) -> float:
        return float(self._clock.now_us()) / 1_000_000


class _Store:
    """A store that does one thing otherwise."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class _Unpausing(_Store):
    """Ends the pause of a document that an attempt was under way on."""

    async def settle(self, settlement: Any) -> None:
        await self._store.settle(settlement)
        action = OperatorAction(settlement.at_us, "jdoe", "cli", "resume", settlement.key, settlement.key, {}, "done")
        await self._store.record_actions(Change.RESUME, [action], at_us=settlement.at_us)


class _OffsetsFirst(_Store):
    """Commits log positions before the rows that they stand for."""

    async def fold(self, batch: Any) -> Changed:
        await self._store.fold(attrs.evolve(batch, rows={}, dead_letters=[]))
        stored: Changed = await self._store.fold(batch)
        return stored


class _NoIntent(_Store):
    """Sends first; what was meant is known only in memory."""

    async def intend(self, key: str, agreement: Any, policy: str = "") -> bool:
        """Nothing is stored."""
        return True


async def _begun_anyway(self: Writing) -> bool:
    await _begin(self)
    return True


def _forgetful(case: Case, intent: Any, message: str) -> Any:
    return settle.failed(case, message)


def _reads_unless_failed(document: Any, lane: Any) -> bool:
    calm = structs.replace(document, agreement=structs.replace(document.agreement, failures=0, intent=None))
    return _must_read(calm, lane)


def _reads_unless_clashing(document: Any, lane: Any) -> bool:
    calm = structs.replace(document, agreement=structs.replace(document.agreement, clashes=0))
    return _must_read(calm, lane)


async def _again_with_fresh_token(self: Gate, snapshot: Snapshot, fields: Any, *, token: Any, **more: Any) -> Any:
    """Answer a version conflict by the same patch under a new token: the classical lost update."""
    answer = await _write(self, snapshot, fields, token=token, **more)
    if isinstance(answer, VersionConflict):
        now = await self.read(snapshot.key, None)
        if isinstance(now, Snapshot) and now.token is not None:
            return await _write(self, now, fields, token=now.token, **more)
    return answer


def _agreed_without_stamp(decision: Any, old: Any, shown: Any, steps: Any) -> Agreed:
    found = _agreed(decision, old, shown, steps)
    if decision.verb is Verb.YIELD:
        return found._replace(stamp=None if old is None else old.stamp, elements={} if old is None else old.elements)
    return found


async def _released_never(*_: Any) -> None:
    """Whatever an earlier write has left behind stays there."""


async def _as_it_was(self: Writing, shown: Snapshot) -> Any:
    """What was decided on an earlier read is written under the lock: check-out for show."""
    self.case = structs.replace(self.case, snapshot=shown)
    return self.plan.fields


async def _regardless(self: attempts.Attempt, case: Case) -> Any:
    """A pause is for others."""
    return await self.run(structs.replace(case.document, status=Status.PENDING), case.lane)


async def _unrecorded(*_: Any, **__: Any) -> None:
    """What was appended is not recorded."""


def _whole_groups(snapshot: Snapshot, fields: Any) -> Any:
    """With every field all that lies beside it."""
    body = snapshot.with_fields(dict(fields), None).body
    return {head: body[head] for head in {name.partition(".")[0] for name in fields}}


async def _publish_once(self: Publisher) -> int:
    messages = await self._outbox.waiting(500)
    if messages:
        await self._outbox.published([message.number for message in messages], {})
        await self._log.append([message.record for message in messages])
    return len(messages)


async def _recover_nothing(*_: Any, **__: Any) -> int:
    return 0


async def _opened_anywhere(self: MemoryLog, positions: Any, **_: Any) -> None:
    await _open(self, positions, accept_truncation=True)


def _taken_from_anywhere(self: MemoryLog, records_max: int) -> Any:
    for place, position in self._positions.items():
        self._positions[place] = max(position, self._broker.at(place).begin)
    return _take(self, records_max)


async def _taken_regardless(self: OwnSlot, wanted: frozenset[str]) -> frozenset[str]:
    self.mine()
    self.shared.duties.update(dict.fromkeys(wanted, (self.slot, self.epoch)))
    return wanted


async def _moved_anywhere(self: SharedStore, batch: Any) -> Changed:
    stored: Changed = await _fold(self, attrs.evolve(batch, since={}))
    return stored


class _Impatient(replicas.Deathwatch):
    """Takes for dead whoever was silent for two beats."""

    def __init__(self, evict_s: float, requests_s: float, beat_s: float) -> None:
        super().__init__(2 * beat_s, requests_s, beat_s)


def _grown_at_once(share: replicas.Share, seen: Any, slot: int, in_flight: int, in_flight_max: int) -> replicas.Share:
    mine = seen.share(slot, in_flight_max)
    return replicas.Share(mine, seen.number if in_flight <= mine else share.obeys)


def _budget_of_each(self: SharedSlots, documents_max: int, window_s: float) -> OwnBudget:
    return OwnBudget(WriteBudget(documents_max, window_s), self.clock)


def _begun_by_anyone(self: SharedStore) -> Any:
    self.memory.by = 0 if self.slots is None else self.slots.slot
    return self.slots


@attrs.frozen
class _Rewritten:
    """A function with one part of its text replaced; where that text has moved on, the mutant breaks loudly."""

    function: Any
    old: str
    new: str

    def made(self) -> Any:
        text, name = textwrap.dedent(inspect.getsource(self.function)), self.function.__name__
        if text.count(self.old) != 1:
            raise ValueError(f"{name} has {text.count(self.old)} times {self.old!r}: mend the mutant")
        found: dict[str, Any] = {}
        exec(text.replace(self.old, self.new), self.function.__globals__, found)
        return found[name]


_open, _take = MemoryLog.open, MemoryLog._take
_must_read = attempts._must_read
_agreed = planning._agreed
_write = Gate.write
_begin = Writing.begin
_rule = Policy.rule
_fold = SharedStore.fold

_PATCHES: dict[str, tuple[tuple[Any, str, Any], ...]] = {
    "forget-intent": ((settle, "unknown", _forgetful), (attempts, "_must_read", _reads_unless_failed)),
    "stale-token": ((attempts, "_must_read", _reads_unless_clashing),),
    "blind-token": ((Gate, "write", _again_with_fresh_token),),
    "yield-without-stamp": ((planning, "_agreed", _agreed_without_stamp),),
    "sync-normal": ((opening, "_OWNER", opening._OWNER.replace("= FULL", "= NORMAL")),),
    "sync-off": ((opening, "_OWNER", opening._OWNER.replace("= FULL", "= OFF")),),
    "recover-nothing": ((recovery, "recover", _recover_nothing),),
    "accept-truncation-silently": (
        (MemoryLog, "open", _opened_anywhere),
        (MemoryLog, "_take", _taken_from_anywhere),
    ),
    "never-release": ((attempts.Attempt, "_release_failed", _released_never),),
    "decide-before-the-lock": ((Writing, "redraft", _as_it_was),),
    "begin-while-paused": ((Writing, "begin", _begun_anyway),),
    "write-while-paused": ((attempts.Attempt, "_paused", _regardless),),
    "forget-the-act": ((Recorder, "record", _unrecorded),),
    "publish-once": ((Publisher, "publish", _publish_once),),
    "copies-are-news": ((Stamp, "event", property(lambda stamp: (*stamp.place, stamp.source, stamp.id))),),
    "copies-are-ours": (
        (Stamp, "follows", lambda stamp, agreed: stamp >= agreed),
        (fold, "_replaces", lambda claim, old: claim.stamp > old.stamp),
    ),
    "held-elements-settle": (
        (
            elements,
            "_decision",
            _Rewritten(
                elements._decision, "for item in ruled if item.ruling.verb is not Verb.HOLD}", "for item in ruled}"
            ),
        ),
    ),
    "elements-are-one-value": (
        (elements, "_rule", _Rewritten(elements._rule, "agreed.elements.get(text) if agreed.elements else ", "")),
    ),
    "some-fields-are-all": (
        (
            attempts,
            "_settled_doubts",
            _Rewritten(attempts._settled_doubts, "if len(there) == len(sent.fields) else", "if there else"),
        ),
    ),
    "redraft-keeps-the-plan": (
        (
            Writing,
            "redraft",
            _Rewritten(
                Writing.redraft, "self.case, self.plan, self._token = case, plan,", "self.case, self._token = case,"
            ),
        ),
    ),
    "adopt-regardless": ((merge, "predates", lambda _: True),),
    "normalise-nothing": ((planning, "_steps", lambda *_: ()), (normalise, "comparable", lambda value, _: value)),
    "types-don-t-matter": ((Policy, "rule", lambda policy, field, _: _rule(policy, field, None)),),
    "trust-every-clock": (
        (timing.Present, "objection", lambda *_: None),
        (timing.Present, "objects", lambda *_: False),
    ),
    "never-contested": ((retrying, "TRIES", 1_000), (contest, "TRIES", 1_000)),
    "read-on-in-another-log": ((anchoring, "replaced", lambda *_: False),),
    "anyone-may-speak": ((Topics, "refusal", lambda *_: None),),
    "copies-follow": ((Stamp, "follows", lambda stamp, agreed: stamp > agreed),),
    "send-whole-groups": ((documents, "build", _whole_groups),),
    "values-taken-whole": ((profile, "leaves", dict),),
    "settle-another's": ((SharedStore, "_holds", lambda *_: True),),
    "zombies-store": ((SharedStore, "_begin", _begun_by_anyone), (SharedStore, "_holds", lambda *_: True)),
    "any-agreement": ((SharedStore, "_knows", lambda *_: True),),
    "duties-for-all": ((OwnSlot, "take_duties", _taken_regardless),),
    "never-look": ((app.Daemon, "may_send", lambda _: True),),
    "move-any-position": ((SharedStore, "fold", _moved_anywhere),),
    "evict-at-once": ((replicas, "Deathwatch", _Impatient),),
    "grow-at-once": ((replicas, "after_beat", _grown_at_once),),
    "budget-of-each": ((SharedSlots, "spending", _budget_of_each),),
    "ignore-generations": ((OwnSlot, "is_replaced", lambda _: False),),
    "read-no-outcomes": ((recovery, "recover", _recover_nothing),),
    "refused-for-ever": ((retrying, "lifted", lambda base, *_, **__: base),),
}
