"""
What the store has promised to keep, checked against what it has at the beginning of every life and at the end.

What it acknowledged must be there; what was under way when the process or the machine died is there whole or not at
all. A change is an intent or a settlement: an agreement, audit records, and outcomes that wait to be published. Rows
and log positions are the matter of `folding.py`.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import msgspec

from reconciler.model import codec
from reconciler.model.audit import AuditRecord, Settlement
from reconciler.model.document import NO_AGREEMENT, Agreement
from reconciler.model.event import Outgoing
from reconciler.model.value import canonical
from reconciler.ports import OutboxMessage
from tests.sim.logs import OUTCOMES
from tests.sim.world import World

_EVERYTHING = 1_000_000


@attrs.frozen(eq=False)
class Change:
    """Something that the store is asked to keep about one document."""

    key: str
    agreement: str
    audit: tuple[str, ...] = ()
    outcomes: tuple[bytes, ...] = ()


@attrs.define
class _Kept:
    """What the store must have of one document."""

    agreement: str
    audit: Counter[str] = attrs.field(factory=Counter)
    waiting: Counter[bytes] = attrs.field(factory=Counter)

    def copy(self) -> _Kept:
        return _Kept(self.agreement, Counter(self.audit), Counter(self.waiting))

    def with_change(self, change: Change) -> _Kept:
        return _Kept(change.agreement, self.audit + Counter(change.audit), self.waiting + Counter(change.outcomes))


_NOTHING = codec.encode(NO_AGREEMENT).decode()


class Promises:
    """The store's word, for one world."""

    def __init__(self, world: World, is_synced: Callable[[], bool]) -> None:
        self._world = world
        self.is_synced = is_synced
        self._kept: dict[str, _Kept] = {}
        self._under_way: list[Change] = []
        self._leaving: Counter[bytes] = Counter()  # published, and perhaps forgotten already
        self._unsure: Counter[bytes] = Counter()  # published, and perhaps not durably forgotten
        self._before: dict[str, list[_Kept]] = {}  # states that the next loss of power may bring back
        self._lost: set[bytes] = set()  # outcomes that it took with it; they may have been published before
        self._messages: dict[int, bytes] = {}
        self._told: set[bytes] = set()  # outcomes of everything that was ever stored
        self._announced: set[bytes] = set()  # those of them that no attempt has caused
        self._in_hand: set[bytes] = set()  # outcomes of what is lost, which may yet be published

    # ------------------------------------------------------------------------------------------------- as things happen

    def intends(self, key: str, agreement: Agreement) -> Change:
        return self._begins(Change(key, _text(agreement)))

    def settles(self, end: Settlement) -> Change:
        audit = tuple(_record(record) for record in end.audit)
        return self._begins(Change(end.key, _text(end.agreement), audit, tuple(_values(end.outcomes))))

    def _begins(self, change: Change) -> Change:
        self._under_way.append(change)
        return change

    def acknowledged(self, change: Change) -> None:
        self._under_way.remove(change)
        self._store(change)

    def announced(self, records: Iterable[Outgoing]) -> None:
        """The store has more to tell than the ends of attempts; the last of it may wait for the next start."""
        for record in records:
            key, values = (record.key or b"").decode(), tuple(_values([record]))
            self._store(Change(key, self._kept.get(key, _Kept(_NOTHING)).agreement, outcomes=values))
            self._announced.update(values)

    def durable(self) -> None:
        """A commit was acknowledged. One log holds all of them: whatever came before it is durable as well."""
        self._before.clear()

    def shows(self, messages: Iterable[OutboxMessage]) -> None:
        self._messages.update((message.number, value) for message in messages for value in _values([message.record]))

    def forgets(self, numbers: Sequence[int]) -> None:
        self._leaving.update(self._messages[number] for number in numbers if number in self._messages)

    # -------------------------------------------------------------------------------------------------------- the check

    async def check(self, store: Any) -> None:
        """Compare with everything that a store has, at a moment when nothing is under way."""
        agreements = {row.key: _text(row.agreement) for row in await store.list_documents(None, "", _EVERYTHING)}
        audit: dict[str, Counter[str]] = {}
        for record in await store.audit(limit=_EVERYTHING):
            audit.setdefault(record.document, Counter())[_record(record)] += 1
        waiting: dict[str, Counter[bytes]] = {}
        for message in await store.waiting(_EVERYTHING):
            for value in _values([message.record]):
                waiting.setdefault((message.record.key or b"").decode(), Counter())[value] += 1
        for key in sorted({*agreements, *audit, *waiting, *self._kept}):
            found = _Kept(agreements.get(key, _NOTHING), audit.get(key, Counter()), waiting.get(key, Counter()))
            self._explain(key, found)
        self._under_way.clear()
        # That they are gone may be seen before it is durable: the next loss of power can bring them back.
        self._unsure |= self._leaving
        self._leaving.clear()

    def _explain(self, key: str, found: _Kept) -> None:
        """What is found must be what was acknowledged, with some of what was under way, each of it whole."""
        latest = self._kept.get(key, _Kept(_NOTHING))
        changes = [change for change in self._under_way if change.key == key]
        for before in (latest, *reversed(self._before.get(key, ()))):
            for count in range(len(changes), -1, -1):
                for some in itertools.combinations(changes, count):
                    expected = before
                    for change in some:
                        expected = expected.with_change(change)
                    if self._matches(expected, found):
                        self._found(key, found, some)
                        self._lost |= set(latest.waiting - before.waiting)
                        return
        self._world.expect(False, f"{key}: the store has lost or torn something: {_difference(latest, changes, found)}")

    def _found(self, key: str, found: _Kept, some: Sequence[Change]) -> None:
        """Go on from what is there. A change that was never acknowledged can be seen before it is durable."""
        if some:
            self._before.setdefault(key, []).append(self._kept.get(key, _Kept(_NOTHING)))
        self._told.update(value for change in some for value in change.outcomes)
        self._kept[key] = found

    def _matches(self, expected: _Kept, found: _Kept) -> bool:
        missing = expected.waiting - found.waiting
        return (
            (expected.agreement, expected.audit) == (found.agreement, found.audit)
            and not found.waiting - expected.waiting - self._unsure
            and not missing - self._leaving
        )

    def copy(self) -> dict[str, Any]:
        """What a copy of the store shows that is made now, while nothing is under way."""
        return {key: kept.copy() for key, kept in self._kept.items()}

    def starts_over(
        self, kept: dict[str, Any], published: Iterable[bytes], in_hand: Iterable[bytes] | None = None
    ) -> None:
        """
        Another store takes the place of the one that was; what waited to be published there is lost with it.

        Processes that are at work then may yet publish what they have `in_hand`.
        """
        if in_hand is None:
            self._leaving.clear()
        self._in_hand.update(in_hand or ())
        there = set(published)
        self._told |= {value for change in self._under_way for value in change.outcomes}
        self._told &= there
        self._kept = {key: one.copy() for key, one in kept.items()}
        self._told.update(value for one in kept.values() for value in one.waiting)
        self._under_way.clear()
        self._before.clear()

    def told(self, published: Iterable[bytes]) -> None:
        """The outcome log tells of everything that was stored, and of nothing else."""
        there = set(published)
        missing = self._told - self._lost - self._announced - there
        self._world.expect(not missing, f"outcomes that never came: {sorted(missing)}")
        more = there - self._told - self._in_hand
        self._world.expect(not more, f"outcomes of nothing that is stored: {sorted(more)}")

    def _store(self, change: Change) -> None:
        self._kept[change.key] = self._kept.get(change.key, _Kept(_NOTHING)).with_change(change)
        self._told.update(change.outcomes)


def _text(agreement: Agreement) -> str:
    return codec.encode(agreement).decode()


def _values(records: Iterable[Outgoing]) -> list[bytes]:
    return [record.value or b"" for record in records if record.topic == OUTCOMES]


def _record(record: AuditRecord) -> str:
    return canonical(
        [record.document, record.at_us, record.attempt, record.result, record.message, record.status, record.patch]
        + [[verdict.field, verdict.verb, msgspec.to_builtins(verdict.reasons)] for verdict in record.decisions]
    )


def _difference(before: _Kept, changes: list[Change], found: _Kept) -> str:
    lines = [
        f"agreement as acknowledged: {before.agreement == found.agreement}",
        f"audit records gone: {sorted(before.audit - found.audit)}",
        f"audit records more: {sorted(found.audit - before.audit)}",
        f"outcomes gone: {sorted(before.waiting - found.waiting)}",
        f"outcomes more: {sorted(found.waiting - before.waiting)}",
        f"under way: {changes}",
    ]
    return "; ".join(lines)
