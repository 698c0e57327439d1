"""
A store in memory that several owners share: PostgreSQL's answers, without a server.

`SharedMemory` is what all see, a `SharedStore` what one owner, or a guest, has of it. It passes the contract suite of
several owners (`tests/contracts/test_store_shared.py`). Each call is done in one go, as a statement is there: who wants
calls to be lost, late or between others has to see to that (`tests/sim/sharing.py`).
"""

import copy
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import structs

from reconciler.errors import LostError, StoreError
from reconciler.flows.budget import OwnBudget
from reconciler.model import chain, codec
from reconciler.model.audit import Settlement
from reconciler.model.chain import CHECKPOINTS, SPAN, Entry, Head, Recorded
from reconciler.model.document import Agreement, Document, Due
from reconciler.model.policy import Policy
from reconciler.model.stamp import Partition
from reconciler.ports import BUCKETS, OUTBOX_DUTIES, Chosen, Clock, FoldBatch, OutboxMessage, Spending
from tests.fakes.memory_store import MemoryStore
from tests.fakes.shared_slots import OwnSlot, SharedSlots
from tests.fakes.virtual_clock import VirtualClock

# What of the slots is stored; the rest belongs to the test.
_OF_SLOTS = (
    *("number", "members", "duties", "epochs", "checkpoints", "alarms", "seen_s", "generation", "stage", "began_on"),
    "budget",
)

# What an owner may only do while it has its slot.
_FENCED = frozenset(
    ("reposition", "refold", "requeue", "bring_forward", "compare_again", "record_actions", "prune", "note_signing")
)


class SharedMemory(MemoryStore):
    """What owners share: rows, who has which document, a chain for each slot, messages by bucket."""

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__()
        self.owners = SharedSlots(store=self, clock=clock or VirtualClock(), freed=self._free_what_it_had)
        self.holders: dict[str, int] = {}  # documents that a slot has
        self.agreed: Counter[str] = Counter()  # versions of agreements
        self.told: dict[int, set[int]] = {}  # by slot: messages that are published, and not forgotten yet
        self.by = 0  # the slot whose chain grows
        self._buckets: dict[int, int] = {}
        self._entries: dict[int, list[Entry]] = {}
        self._ordinals: Counter[str] = Counter()

    def owner(self) -> "SharedStore":
        """Enter as an owner. Raises StoreError if all slots are taken by the living."""
        return SharedStore(self, self.owners.enter())

    def guest(self) -> "SharedStore":
        """Come as a guest."""
        return SharedStore(self, None)

    def state(self) -> dict[str, Any]:
        """All that is stored, as it is now."""
        stored = {name: value for name, value in self.__dict__.items() if name != "owners"}
        return _copied(stored | {name: getattr(self.owners, name) for name in _OF_SLOTS})

    def go_back(self, state: dict[str, Any]) -> None:
        """Become a database in an earlier state, as an asynchronous standby that is promoted is one."""
        for name, value in _copied(state).items():
            setattr(self.owners if name in _OF_SLOTS else self, name, value)
        self.owners.database += 1

    def _free_what_it_had(self, slot: int) -> None:
        self.holders = {key: holder for key, holder in self.holders.items() if holder != slot}
        self.told.pop(slot, None)

    def put_messages(self, bucket: int) -> None:
        """Those that are new are of this bucket."""
        for number in self.outbox:
            self._buckets.setdefault(number, bucket)

    def messages(self, buckets: Iterable[str]) -> list[tuple[int, str]]:
        """The messages of these buckets, with the duties that they are."""
        wanted = set(buckets)
        found = ((number, OUTBOX_DUTIES[self._buckets.get(number, 0)]) for number in self.outbox)
        return [(number, duty) for number, duty in found if duty in wanted]

    # ------------------------------------------------------------------------------------------------------ the chains

    def _append(self, record: Recorded) -> None:
        entries, text = self._entries.setdefault(self.by, []), codec.encode_record(record)
        before = Head(entries[-1].number, entries[-1].link) if entries else chain.begin(self.by)
        head = chain.extend(before, text)
        self._ordinals[record.document] += 1
        ordinal = self._ordinals[record.document]
        previous = entries[-1].link if entries else None
        entries.append(Entry(head.number, previous, head.link, text, chain.columns_of(record), ordinal))
        self.recorded.append(structs.replace(record, id=head.number, ordinal=ordinal))

    async def audit_heads(self) -> list[Head]:
        heads = [Head(entries[-1].number, entries[-1].link) for _, entries in sorted(self._entries.items())]
        return [*heads, *(head for head, *_ in self.owners.checkpoints[-1:])]

    async def audit_entry(self, number: int) -> Entry | None:
        return next((entry for entry in self._entries_of(number) if entry.number == number), None)

    def _entries_of(self, number: int) -> list[Entry]:
        if number // SPAN == CHECKPOINTS:
            return self._checkpoints()
        return self._entries.get(number // SPAN, [])

    async def audit_chain(
        self, document: str | None = None, since_us: int = 0, until_us: int | None = None
    ) -> AsyncIterator[Entry]:
        end_us = 2**63 if until_us is None else until_us
        wanted = {
            record.id: chain.place(record)
            for record in self.recorded
            if document in (None, record.document) and since_us <= record.at_us < end_us
        }
        for entry in self._checkpoints() if document is None and not since_us and until_us is None else ():
            yield entry
        if document is not None:
            for number in sorted(wanted, key=lambda one: wanted[one]):
                if (found := await self.audit_entry(number)) is not None:
                    yield found
            return
        for number, entries in sorted(self._entries.items()):
            ours = [one for one in wanted if one // SPAN == number]
            for entry in entries:
                if ours and min(ours) <= entry.number <= max(ours):
                    yield entry

    def _checkpoints(self) -> list[Entry]:
        links = [None, *(head.link for head, *_ in self.owners.checkpoints)]
        last = max((cut.end.number for cut in self.archived if cut.chain == CHECKPOINTS), default=0)
        return [
            Entry(head.number, links[place], head.link, record)
            for place, (head, record, _) in enumerate(self.owners.checkpoints)
            if head.number > last
        ]


class SharedStore:
    """`ports.Store` and `ports.Shared` of the holder of a slot, or of a guest."""

    def __init__(self, memory: SharedMemory, slot: OwnSlot | None) -> None:
        self.memory = memory
        self.slots = slot
        self.shared = self
        self._agreed: dict[str, int] = {}  # the documents that we hold, with the versions of their agreements
        self._publishing: dict[int, str] = {}  # messages that `waiting` returned, until they are forgotten
        self._open = True
        if slot is not None:
            slot.busy = lambda: frozenset(self._publishing.values())
            slot.before_leaving = self._forget

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.memory, name)
        if name not in _FENCED:
            self._require_open()
            return method

        async def fenced(*arguments: Any, **named: Any) -> Any:
            self._begin()
            done = await method(*arguments, **named)
            self.memory.put_messages(0)
            return done

        return fenced

    async def fold(self, batch: FoldBatch) -> Any:
        self._begin()
        changed = await self.memory.fold(batch)
        self.memory.put_messages(0)
        return changed

    # ---------------------------------------------------------------------------------------------------------- claims

    async def due(self, now_us: int, limit: int) -> list[Due]:
        return (await self._as_mine(self.memory.due, now_us, len(self.memory.rows)))[:limit]

    async def next_due_us(self) -> int | None:
        return await self._as_mine(self.memory.next_due_us)

    async def _as_mine(self, method: Callable[..., Any], *arguments: Any) -> Any:
        self._require_open()
        memory, mine = self.memory, self._number
        memory.elsewhere = {key for key, holder in memory.holders.items() if holder != mine}
        try:
            return await method(*arguments)
        finally:
            memory.elsewhere = set()

    async def hold(self, keys: Iterable[str]) -> dict[str, Document]:
        slot, memory = self._begin(), self.memory
        assert slot is not None, "only an owner makes attempts"
        found = {}
        for key in sorted({*keys} & memory.rows.keys()):
            if memory.holders.setdefault(key, slot.slot) == slot.slot:
                found[key], self._agreed[key] = memory.shown(memory.rows[key]), memory.agreed[key]
        return found

    def held_late(self, keys: Iterable[str], *, back: bool) -> None:
        """The server gets to a statement that was given up long before: documents are taken, or given back."""
        slot, memory = self.slots, self.memory
        if slot is None or not slot.is_mine():
            return
        for key in {*keys} & memory.rows.keys():
            if back and memory.holders.get(key) == slot.slot:
                del memory.holders[key]
            elif not back:
                memory.holders.setdefault(key, slot.slot)

    async def give_back(self, keys: Iterable[str]) -> None:
        given = list(keys)
        for key in given:
            self._agreed.pop(key, None)
        self.held_late(given, back=True)

    async def intend(self, key: str, agreement: Agreement, policy: str = "") -> bool:
        self._require_ours(key)
        self._begin()
        stands = await self.memory.intend(key, agreement, policy)
        self._agrees(key)
        self._forget()
        return stands

    async def settle(self, settlement: Settlement) -> None:
        key = settlement.key
        self._require_ours(key)
        self._begin()
        await self.memory.settle(settlement)
        self.memory.put_messages(zlib.crc32(key.encode()) % BUCKETS)
        self._agrees(key)
        self._agreed.pop(key, None)
        self.memory.holders.pop(key, None)
        self._forget()

    def _agrees(self, key: str) -> None:
        self.memory.agreed[key] += 1
        self._agreed[key] = self.memory.agreed[key]

    def _require_ours(self, key: str) -> None:
        self._require_open()
        if key not in self.memory.rows:
            raise StoreError(f"can't settle {key!r}: the store has no such document")
        if not (self._holds(key) and self._knows(key)):
            raise LostError(f"can't settle {key!r}: another process has it, or had it meanwhile")

    def _holds(self, key: str) -> bool:
        return self.memory.holders.get(key) == self._number

    def _knows(self, key: str) -> bool:
        return self._agreed.get(key) == self.memory.agreed[key]

    async def rebase(self, agreements: Mapping[str, Agreement], *more: Any) -> None:
        self._begin()
        rows = self.memory.rows
        before = {key: rows[key].agreement if key in rows else None for key in agreements}
        await self.memory.rebase(agreements, *more)
        for key in agreements:
            self.memory.agreed[key] += key in rows and rows[key].agreement is not before[key]

    # ---------------------------------------------------------------------------------------------------------- outbox

    async def waiting(self, limit: int) -> list[OutboxMessage]:
        self._require_open()
        slot = self.slots
        if slot is None or not slot.is_mine():
            return []
        told = self.memory.told.setdefault(slot.slot, set())
        if told and not slot.wanted.issuperset(self._publishing.values()):
            self._forget()  # before another replica publishes what comes after
        told = self.memory.told.setdefault(slot.slot, set())
        self._publishing = {number: self._publishing[number] for number in sorted(told & self._publishing.keys())}
        ours = [duty for duty in slot.wanted if self.memory.owners.duties.get(duty) == (slot.slot, slot.epoch)]
        found = [(number, duty) for number, duty in self.memory.messages(ours) if number not in told][:limit]
        self._publishing |= dict(found)
        return [OutboxMessage(number, self.memory.outbox[number]) for number, _ in found]

    async def published(self, numbers: Sequence[int], positions: Mapping[Partition, int]) -> None:
        self._require_open()
        slot = self.slots
        if slot is not None and slot.is_mine():
            self.memory.told.setdefault(slot.slot, set()).update(numbers)
            self.memory.offsets.update(positions)
            if not numbers:
                self._forget()

    def _forget(self) -> None:
        told = set() if self.slots is None else self.memory.told.pop(self.slots.slot, set())
        for number in told:
            self.memory.outbox.pop(number, None)
        self._publishing = {number: duty for number, duty in self._publishing.items() if number not in told}

    # ---------------------------------------------------------------------------------------------------------- shared

    def spending(self, documents_max: int, window_s: float) -> Spending:
        return self.memory.owners.spending(documents_max, window_s)

    async def in_force(self) -> Chosen | None:
        self._require_open()
        return await self.memory.owners.in_force()

    async def put_in_force(self, digest: str, policy: Policy, after: int) -> bool:
        self._begin()
        return await self.memory.owners.put_in_force(digest, policy, after)

    async def keep_policy(self, digest: str, policy: Policy) -> None:
        self._require_open()
        if self.slots is not None and self.slots.is_mine():
            await self.memory.keep_policy(digest, policy)

    async def close(self) -> None:
        if self._open and self.slots is not None and self.slots.is_mine():
            await self.slots.leave()
        self._open = False

    @property
    def _number(self) -> int:
        return -1 if self.slots is None else self.slots.slot

    def _begin(self) -> OwnSlot | None:
        """Whatever is stored from here on is ours. Raises EvictedError."""
        self._require_open()
        self.memory.by = 0 if self.slots is None else self.slots.slot
        if self.slots is not None:
            self.slots.mine()
        return self.slots

    def _require_open(self) -> None:
        if not self._open:
            raise StoreError("the store is closed")
        if self.slots is not None:
            self.slots.require_generation()


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    """A copy down to what does not change."""

    def copied(value: Any) -> Any:
        if isinstance(value, OwnBudget):
            return OwnBudget(copy.deepcopy(value._budget), value._clock)
        made = copy.copy(value)
        if isinstance(value, dict):
            made.update((key, copy.copy(one)) for key, one in value.items() if isinstance(one, list | set))
        return made

    return {name: copied(value) for name, value in state.items()}
