"""The slots of a store that several replicas share, and what they agree on, in memory."""

import asyncio
from collections.abc import Callable

import attrs

from reconciler.core.scheduling.limiter import WriteBudget
from reconciler.core.scheduling.replicas import Member, Membership, Stage
from reconciler.errors import EvictedError, ReplacedError, StoreError
from reconciler.flows.budget import OwnBudget
from reconciler.model.chain import Head
from reconciler.model.event import Outgoing
from reconciler.model.policy import Policy
from reconciler.ports import Chosen, Clock, Spending
from tests.fakes.memory_store import MemoryStore
from tests.fakes.virtual_clock import VirtualClock

SLOTS = 16
EVICT_S = 15.0


@attrs.define
class SharedSlots:
    """
    What the store holds of all replicas, and `ports.Shared`.

    `away`: it answers nobody; `…_told`: what it has done is told when set. What they agree on is in `store`. `freed` is
    told of a slot that changes hands.
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
    cuts: int = 0
    freed: Callable[[int], None] = lambda _: None
    seen_s: dict[int, float] = attrs.field(factory=dict)  # of each slot: when its holder last gave a sign of life
    generation: int = 1
    stage: Stage = Stage.OPEN
    began_us: int | None = None
    database: int = 1  # which one it is: another one after each failover
    began_on: int = 1  # the database that the generation began on

    def __attrs_post_init__(self) -> None:
        self.beats_told.set()
        self.duties_told.set()

    def enter(self) -> "OwnSlot":
        self._renew()
        slot = next((slot for slot in range(SLOTS) if slot not in self.members), None)
        if slot is None:  # nobody is left who would take the dead for dead
            slot = min(self.members, key=lambda one: self.seen_s[one])
            if self.clock.monotonic_s() - max(self.seen_s.values()) < EVICT_S:
                raise StoreError("in use by 16 processes")
        self.changes_hands(slot)
        self.number += 1
        self.seen_s[slot] = self.clock.monotonic_s()
        self.members[slot] = Member(slot, self.epochs[slot], 0, 0)
        return OwnSlot(self, slot, self.epochs[slot], (self.generation, self.database))

    def _renew(self) -> None:
        """Begin a generation, if this is another database than the one that the last began on."""
        if self.began_on != self.database:
            self.began_on = self.database
            self.generation += 1
            self.began_us = self.clock.now_us()
            self.stage = Stage.RECOVERING
            for member in [member for member in self.members.values() if not member.leaving]:
                self._takes_for_dead(member)

    def _takes_for_dead(self, member: Member) -> None:
        self.changes_hands(member.slot)
        self.members[member.slot] = Member(member.slot, member.epoch + 1, member.beat, member.obeys, leaving=True)

    def changes_hands(self, slot: int) -> None:
        """Count up the epoch, and free what its holder had."""
        self.epochs[slot] = self.epochs.get(slot, 0) + 1
        self.duties = {duty: holder for duty, holder in self.duties.items() if holder[0] != slot}
        self.freed(slot)

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
    """`ports.Slots` of one replica. `wanted`: duties that may be ours; `busy`: those that we are in the middle of."""

    shared: SharedSlots
    slot: int
    epoch: int
    generation: tuple[int, int] = (1, 1)  # its number, and the database
    wanted: frozenset[str] = frozenset()
    busy: Callable[[], frozenset[str]] = frozenset
    before_leaving: Callable[[], None] = lambda: None

    async def beat(self, obeys: int, *, alarm: bool = False, cuts: int = 0) -> Membership:
        beat = self.mine().beat + 1
        self.shared.seen_s[self.slot] = self.shared.clock.monotonic_s()
        self.shared.members[self.slot] = Member(self.slot, self.epoch, beat, obeys)
        shared = self.shared
        there = tuple(shared.members.values())
        counts = len(shared.store.chosen), shared.alarms, shared.cuts, shared.generation
        seen = Membership(shared.number, there, *counts, shared.stage, shared.began_us)
        shared.alarms += alarm
        shared.cuts = max(shared.cuts, cuts)
        await shared.beats_told.wait()
        return seen

    async def take_duties(self, wanted: frozenset[str]) -> frozenset[str]:
        self.wanted = wanted
        self.mine()
        me, held, asked = (self.slot, self.epoch), self.shared.duties, wanted | self.busy()
        for duty in [duty for duty, holder in held.items() if holder == me and duty not in asked]:
            del held[duty]
        mine = wanted & {duty for duty in asked if held.setdefault(duty, me) == me}
        await self.shared.duties_told.wait()
        return mine

    async def evict(self, member: Member) -> bool:
        shared = self.shared
        if shared.away:
            raise StoreError("no answer")
        if shared.members.get(member.slot) != member:
            return False
        if member.leaving:
            del shared.members[member.slot]
            shared.number += 1
            return True
        shared._takes_for_dead(member)
        return True

    async def add_checkpoint(self, head: Head, record: bytes, announcement: Outgoing) -> bool:
        self.mine()
        checkpoints = self.shared.checkpoints
        if head.records != len(checkpoints) + 1:
            return False
        checkpoints.append((head, record, announcement))
        self.shared.store.outbox[next(self.shared.store._numbers)] = announcement
        return True

    async def reach(self, stage: Stage) -> None:
        self.mine()
        self.shared.stage = max(self.shared.stage, stage)

    def hurry(self) -> None:
        pass

    async def leave(self, *, in_flight: bool = False) -> None:
        member = self.mine()
        self.before_leaving()
        if in_flight:
            await self.evict(member)
            return
        self.shared.changes_hands(self.slot)
        del self.shared.members[self.slot]
        self.shared.number += 1

    def mine(self) -> Member:
        """Raises EvictedError if it is not ours any more."""
        if self.shared.away:
            raise StoreError("no answer")
        self.require_generation()
        if not self.is_mine():
            raise EvictedError("taken for dead")
        return self.shared.members[self.slot]

    def is_mine(self) -> bool:
        """Whether nobody has taken us for dead."""
        member = self.shared.members.get(self.slot)
        mine = member is not None and not member.leaving and member.epoch == self.epoch
        return mine and not self.is_replaced()

    def is_replaced(self) -> bool:
        """Whether our generation is over, or has to be."""
        return self.generation != (self.shared.generation, self.shared.database)

    def require_generation(self) -> None:
        """Raises ReplacedError if our generation is over, or has to be."""
        if self.is_replaced():
            raise ReplacedError("it is another database than before")
