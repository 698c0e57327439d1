"""The slots of a store that several replicas share, and what they agree on, in memory."""

import asyncio

import attrs

from reconciler.core.scheduling.limiter import WriteBudget
from reconciler.core.scheduling.replicas import Member, Membership
from reconciler.errors import EvictedError, StoreError
from reconciler.flows.budget import OwnBudget
from reconciler.model.chain import Head
from reconciler.model.event import Outgoing
from reconciler.model.policy import Policy
from reconciler.ports import Chosen, Clock, Spending
from tests.fakes.memory_store import MemoryStore
from tests.fakes.virtual_clock import VirtualClock


@attrs.define
class SharedSlots:
    """
    What the store holds of all replicas, and `ports.Shared`.

    `away`: it answers nobody; `…_told`: what it has done is told when set. What they agree on is in `store`.
    """

    number: int = 0
    members: dict[int, Member] = attrs.field(factory=dict)
    duties: dict[str, tuple[int, int]] = attrs.field(factory=dict)  # who has it: slot and epoch
    epochs: dict[int, int] = attrs.field(factory=dict)
    checkpoints: list[tuple[Head, bytes, Outgoing]] = attrs.field(factory=list)
    away: bool = False
    beats_told: asyncio.Event = attrs.field(factory=asyncio.Event)
    duties_told: asyncio.Event = attrs.field(factory=asyncio.Event)
    store: MemoryStore = attrs.field(factory=MemoryStore)
    clock: Clock = attrs.field(factory=VirtualClock)
    budget: OwnBudget | None = None
    alarms: int = 0

    def __attrs_post_init__(self) -> None:
        self.beats_told.set()
        self.duties_told.set()

    def enter(self) -> "OwnSlot":
        slot = next(slot for slot in range(16) if slot not in self.members)
        self.epochs[slot] = self.epochs.get(slot, 0) + 1
        self.number += 1
        self.members[slot] = Member(slot, self.epochs[slot], 0, 0)
        return OwnSlot(self, slot, self.epochs[slot])

    def over(self, store: MemoryStore, clock: Clock) -> "SharedSlots":
        """Be the slots of a store."""
        self.store, self.clock = store, clock
        return self

    def spending(self, documents_max: int, window_s: float) -> Spending:
        self.budget = self.budget or OwnBudget(WriteBudget(documents_max, window_s), self.clock)
        return self.budget

    async def in_force(self) -> Chosen | None:
        return self.store.chosen[-1] if self.store.chosen else None

    async def put_in_force(self, digest: str, policy: Policy, after: int) -> bool:
        if after != len(self.store.chosen):
            return False
        self.store.chosen.append(Chosen(after + 1, digest, policy))
        await self.store.keep_policy(digest, policy)
        return True


@attrs.define
class OwnSlot:
    """`ports.Slots` of one replica."""

    shared: SharedSlots
    slot: int
    epoch: int

    async def beat(self, obeys: int, *, alarm: bool = False) -> Membership:
        beat = self._mine().beat + 1
        self.shared.members[self.slot] = Member(self.slot, self.epoch, beat, obeys)
        shared = self.shared
        seen = Membership(shared.number, tuple(shared.members.values()), len(shared.store.chosen), shared.alarms)
        shared.alarms += alarm
        await shared.beats_told.wait()
        return seen

    async def take_duties(self, wanted: frozenset[str]) -> frozenset[str]:
        self._mine()
        me, held = (self.slot, self.epoch), self.shared.duties
        for duty in [duty for duty, holder in held.items() if holder == me and duty not in wanted]:
            del held[duty]
        mine = frozenset(duty for duty in wanted if held.setdefault(duty, me) == me)
        await self.shared.duties_told.wait()
        return mine

    async def evict(self, member: Member) -> bool:
        self._mine()
        shared = self.shared
        if shared.members.get(member.slot) != member:
            return False
        if member.leaving:
            del shared.members[member.slot]
            shared.number += 1
            return True
        shared.epochs[member.slot] += 1
        shared.members[member.slot] = Member(member.slot, member.epoch + 1, member.beat, member.obeys, leaving=True)
        shared.duties = {duty: holder for duty, holder in shared.duties.items() if holder[0] != member.slot}
        return True

    async def add_checkpoint(self, head: Head, record: bytes, announcement: Outgoing) -> bool:
        self._mine()
        checkpoints = self.shared.checkpoints
        if head.records != len(checkpoints) + 1:
            return False
        checkpoints.append((head, record, announcement))
        return True

    async def leave(self) -> None:
        await self.take_duties(frozenset())
        del self.shared.members[self.slot]
        self.shared.number += 1

    def _mine(self) -> Member:
        if self.shared.away:
            raise StoreError("no answer")
        member = self.shared.members.get(self.slot)
        if member is None or member.leaving or member.epoch != self.epoch:
            raise EvictedError("taken for dead")
        return member
