"""
What several processes share: the store, of which each holds a slot, and the group that divides the log.

A call of the store is done, and judged, in one go at a seeded moment. Its answer may be lost before or after that, and
then it is asked again, as the adapter of PostgreSQL does; one that has lost its slot by then can't know whether it was
stored. A statement that takes documents, or gives them back, may be carried out once more, long afterwards.

**The promises** of several, each judged by what this world has seen and not by what the store answers: whoever stores
something has its slot; a document has one live claim, and an intent or a settlement is that claim's, decided on the
agreement that it was taken with (S2, S5); a position moves from where its reader began, and never back (S7); a duty is
one process's; a request is sent only while no one can have taken the sender for dead (S4); requests in flight, and
documents that comparisons write to, stay within the limits of all; after a failover nobody writes before all outcomes
are read that were published before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from reconciler.core.scheduling.replicas import Member, Membership
from reconciler.errors import EvictedError, LostError, StoreError
from reconciler.model.audit import Settlement
from reconciler.model.chain import Head
from reconciler.model.document import Agreement, Document, Status
from reconciler.model.event import Outgoing
from reconciler.model.stamp import Partition
from reconciler.ports import FoldBatch, Spending
from tests.fakes.memory_log import MemoryBroker
from tests.fakes.shared_slots import OwnSlot
from tests.fakes.shared_store import SharedMemory, SharedStore
from tests.sim.logs import places
from tests.sim.promises import Promises
from tests.sim.stores import Watched
from tests.sim.witness import Witness
from tests.sim.world import Life, World

WINDOW_S = 120.0  # in which comparisons may write to `writes_max` documents
_ONCE_S = 3.0  # after which a call without patience is given up
_AWAY_S_MAX = 20.0  # until a lost connection is there again
_LATE_S_MAX = 30.0  # until a statement that was given up is carried out
_SESSION_S = 30.0  # after which the group takes a silent member for dead
_LOOK_S = 5.0  # between two looks of the group's coordinator

_READS = ("positions", "anchors", "due", "next_due_us", "documents", "waiting", "in_force")


@attrs.define
class Ledger:
    """Who has what, as this world has seen it."""

    world: World
    claims: dict[str, Life] = attrs.field(factory=dict)
    known: dict[tuple[Life, str], int] = attrs.field(factory=dict)  # versions of agreements, as they were taken
    duties: dict[Life, frozenset[str]] = attrs.field(factory=dict)
    spent: dict[str, float] = attrs.field(factory=dict)  # documents that comparisons may write to, since when
    commits: int = 0
    unread: dict[Partition, int] = attrs.field(factory=dict)  # what has to be recovered before anyone writes

    def watched(self, inner: SharedStore, life: Life, witness: Witness, promises: Promises) -> Shared:
        """The store as a life of this world has it."""
        return Shared(inner, life, witness, promises, self)

    def stores(self, life: Life, what: str) -> None:
        """Something of a process is stored."""
        self.world.expect(life.is_current(), f"{what} of life {life.number} is stored, and it has lost its slot")
        self.commits += 1

    def writes(self, life: Life, offsets: Mapping[Partition, int]) -> None:
        """A process is about to write; outcomes are read up to these offsets."""
        unread = {place: end for place, end in self.unread.items() if offsets.get(place, 0) < end}
        self.world.expect(not unread, f"life {life.number} writes before these outcomes are recovered: {unread}")

    def takes(self, life: Life, key: str, version: int | None) -> None:
        """A document is a process's, which knows a version of the agreement; `None`: it does not know of it."""
        holder = self.claims.get(key, life)
        live = holder is not life and not holder.dead and holder.is_current()
        self.world.expect(not live, f"life {life.number} takes {key}, which life {holder.number} has")
        self.claims[key] = life
        if version is not None:
            self.known[life, key] = version

    def decides(self, life: Life, key: str, version: int) -> None:
        """An intent or a settlement is about to be stored."""
        known = self.known.get((life, key))
        self.world.expect(self.claims.get(key) is life, f"{key}: decided by life {life.number}, which has lost it")
        told = f"{key}: decided on the agreement's version {known} by life {life.number}, and it is {version}"
        self.world.expect(known == version, told)
        self.known[life, key] = version + 1

    def leaves(self, life: Life, keys: Iterable[str]) -> None:
        for key in keys:
            if self.claims.get(key) is life:
                del self.claims[key]

    def does(self, life: Life, duties: frozenset[str]) -> None:
        """These duties are a process's from here on, and no others."""
        for other, theirs in self.duties.items():
            if other is not life and not other.dead and other.is_current():
                both = sorted(duties & theirs)
                self.world.expect(not both, f"{both} are duties of life {life.number} and of life {other.number}")
        self.duties[life] = duties

    def spends(self, key: str, most: int) -> None:
        """A comparison may write to a document now."""
        now_s = self.world.loop.time()
        self.spent = {one: since_s for one, since_s in self.spent.items() if since_s > now_s - WINDOW_S}
        self.spent.setdefault(key, now_s)
        self.world.expect(len(self.spent) <= most, f"comparisons write to {sorted(self.spent)} in {WINDOW_S} s")


class Shared(Watched):
    """The store of one of several lives: what is done to it, and judged, is done at the server in one go."""

    def __init__(self, inner: SharedStore, life: Life, witness: Witness, promises: Promises, ledger: Ledger) -> None:
        super().__init__(inner, life, witness, promises, effects=True)
        self._memory: SharedMemory = inner.memory
        self._ledger = ledger
        self._rng = life.world.rng("connections")
        assert inner.slots is not None
        self.slots = _Slots(self, inner.slots)
        self.shared = self
        life.is_current, life.slot = inner.slots.is_mine, inner.slots.slot

    async def _call(self, name: str, act: Callable[[], Any]) -> Any:
        return await self._life.effect(f"store.{name}", lambda: self.at_server(name, act), fails=True)

    async def at_server(self, name: str, act: Callable[[], Any]) -> Any:
        """Do something there; its answer may be lost."""
        await asyncio.sleep(max(0.0, self._life.away_s - self._life.world.loop.time()))
        lost = self._life.world.strikes("connection_lost")
        if lost and self._rng.random() < 0.5:
            await asyncio.sleep(self._rng.uniform(0.1, _AWAY_S_MAX))
            lost = False
        try:
            done = await act()
        except LostError:
            self._life.world.faults["decided_for_nothing"] += 1
            raise
        if lost:
            await asyncio.sleep(self._rng.uniform(0.1, _AWAY_S_MAX))
            if name not in _READS and not self._life.is_current():
                raise EvictedError("no one can say whether it is stored")
        return done

    async def once(self, name: str, act: Callable[[], Any]) -> Any:
        """A call without patience."""

        async def within() -> Any:
            try:
                async with asyncio.timeout(_ONCE_S):
                    return await self.at_server(name, act)
            except TimeoutError:
                raise StoreError(f"no answer: {name}") from None

        return await self._life.effect(f"store.{name}", within, fails=True)

    def _late(self, keys: list[str], *, back: bool) -> None:
        """The same statement, once more, long after it was given up."""
        if not keys or not self._life.world.strikes("sent_late"):
            return

        def carried_out() -> None:
            before = dict(self._memory.holders)
            self._inner.held_late(keys, back=back)
            self._ledger.leaves(self._life, [key for key in keys if key not in self._memory.holders])
            taken = [key for key in keys if key not in before and key in self._memory.holders]
            for key in taken:
                self._ledger.takes(self._life, key, None)
            faults = self._life.world.faults
            faults["taken_late"] += len(taken)
            faults["given_back_late"] += len(before) - len(self._memory.holders) + len(taken)

        for most_s in (1.0, 5.0, _LATE_S_MAX):
            self._life.world.later(self._rng.uniform(0.0, most_s), carried_out)

    async def fold(self, batch: FoldBatch) -> Any:
        again = self._life.again
        aside = None if batch.positions or again is None else dict(await again.positions())

        async def act() -> Any:
            before = dict(self._memory.offsets)
            stored = await self._inner.fold(batch)
            self._ledger.stores(self._life, "a fold")
            for place, offset in batch.positions.items():
                began, was = batch.since.get(place, 0), before.get(place, 0)
                self._life.world.expect(began == was, f"{place}: read from {began} on, and the store was at {was}")
                self._life.world.expect(offset >= was, f"{place}: moved back from {was} to {offset}")
            self._witness.folding.folds(batch, aside)
            self._witness.folding.folded()
            self._witness.folding.durable()
            return stored

        return await self._call("fold", act)

    async def rebase(self, agreements: Mapping[str, Agreement], *more: Any) -> None:
        async def act() -> None:
            await self._inner.rebase(agreements, *more)
            self._ledger.stores(self._life, "a recovery")
            for key, agreement in agreements.items():
                if self._memory.rows[key].agreement is agreement:
                    self._promises.acknowledged(self._promises.intends(key, agreement))

        await self._call("rebase", act)

    async def hold(self, keys: Iterable[str]) -> dict[str, Document]:
        wanted = list(keys)

        async def act() -> dict[str, Document]:
            found: dict[str, Document] = await self._inner.hold(wanted)
            for key, document in sorted(found.items()):
                self._ledger.takes(self._life, key, self._memory.agreed[key])
                paused = key in self._life.paused() and document.status is not Status.PAUSED
                self._life.world.expect(not paused, f"{key} was paused, and is {document.status}: no one resumed it")
                self._witness.loaded(document, self._witness.folding.mark())
            self._late(wanted, back=False)
            return found

        done: dict[str, Document] = await self._call("hold", act)
        return done

    async def give_back(self, keys: Iterable[str]) -> None:
        given = list(keys)

        async def act() -> None:
            await self._inner.give_back(given)
            self._ledger.leaves(self._life, given)
            self._late(given, back=True)

        await self._call("give_back", act)

    async def intend(self, key: str, agreement: Agreement, policy: str = "") -> bool:
        async def act() -> bool:
            version = self._memory.agreed[key]
            stands: bool = await self._inner.intend(key, agreement, policy)
            self._ledger.stores(self._life, "an intent")
            self._ledger.writes(self._life, self._memory.offsets)
            self._ledger.decides(self._life, key, version)
            self._witness.intending(key, agreement.intent, paused=key in self._life.paused())
            self._promises.acknowledged(self._promises.intends(key, agreement))
            self._witness.intended(key)
            return stands

        done: bool = await self._call("intend", act)
        return done

    async def settle(self, settlement: Settlement) -> None:
        key = settlement.key

        async def act() -> None:
            version = self._memory.agreed[key]
            await self._inner.settle(settlement)
            self._ledger.stores(self._life, "a settlement")
            self._ledger.decides(self._life, key, version)
            self._ledger.leaves(self._life, [key])
            self._witness.settling(settlement)
            self._promises.acknowledged(self._promises.settles(settlement))
            self._witness.settled(settlement)

        await self._call("settle", act)

    async def published(self, numbers: Sequence[int], *more: Any) -> None:
        self._promises.forgets(numbers)
        await self._call("published", lambda: self._inner.published(numbers, *more))

    def spending(self, documents_max: int, window_s: float) -> Spending:
        return _Spending(self, self._inner.spending(documents_max, window_s), self._ledger, documents_max)


@attrs.frozen
class _Spending:
    """`ports.Spending` of one life."""

    _store: Shared
    _inner: Spending
    _ledger: Ledger
    _documents_max: int

    async def wait_s(self, key: str) -> float:
        async def act() -> float:
            await self._store._inner.in_force()  # who has lost the store is told so
            wait_s = await self._inner.wait_s(key)
            if wait_s <= 0:
                self._ledger.spends(key, self._documents_max)
            return wait_s

        done: float = await self._store._call("spend", act)
        return done


class _Slots:
    """`ports.Slots` of one life."""

    def __init__(self, store: Shared, inner: OwnSlot) -> None:
        self._store = store
        self._inner = inner
        self.slot = inner.slot
        self.epoch = inner.epoch

    async def beat(self, obeys: int, *, alarm: bool = False, cuts: int = 0) -> Membership:
        seen: Membership = await self._store.once("beat", lambda: self._inner.beat(obeys, alarm=alarm, cuts=cuts))
        return seen

    async def take_duties(self, wanted: frozenset[str]) -> frozenset[str]:
        self._inner.wanted = wanted

        async def act() -> frozenset[str]:
            mine = await self._inner.take_duties(wanted)
            self._store._ledger.does(self._store._life, mine)
            return mine

        done: frozenset[str] = await self._store.once("take_duties", act)
        return done

    async def evict(self, member: Member) -> bool:
        async def act() -> bool:
            done = await self._inner.evict(member)
            world = self._store._life.world
            slept = any(one.slot == member.slot and one.process.stopped for one in world.lives if not one.dead)
            world.faults["evicted"] += done and not member.leaving
            world.faults["evicted_asleep"] += done and slept and not member.leaving
            return done

        return bool(await self._store.once("evict", act))

    async def add_checkpoint(self, head: Head, record: bytes, announcement: Outgoing) -> bool:
        async def act() -> bool:
            added = await self._inner.add_checkpoint(head, record, announcement)
            self._store._promises.announced([announcement] if added else [])
            return added

        return bool(await self._store._call("add_checkpoint", act))

    async def reach(self, stage: Any) -> None:
        await self._store._call("reach", lambda: self._inner.reach(stage))

    def hurry(self) -> None:
        """The store answers in time."""

    async def leave(self, *, in_flight: bool = False) -> None:
        async def act() -> None:
            await self._inner.leave(in_flight=in_flight)
            self._store._ledger.duties.pop(self._store._life, None)

        try:
            await self._store.once("leave", act)
        except StoreError:
            await self._store._life.alive()  # the others find out by themselves


class Group:
    """`ports.ReaderGroup` of one life."""

    def __init__(self, coordinator: Coordinator, life: Life) -> None:
        self.life = life
        self.assigned: frozenset[Partition] = frozenset()
        self.changed = asyncio.Event()
        self.number = 0  # of the division that it knows
        self._coordinator = coordinator
        self._stopping = asyncio.Event()

    async def run(self, _: Callable[[], Mapping[Partition, int]]) -> None:
        """Be a member until stopped."""
        self._coordinator.joins(self)
        await self._stopping.wait()
        await self.life.alive()
        self._coordinator.leaves(self)

    def stop(self) -> None:
        self._stopping.set()


class Coordinator:
    """Divides the log among the members of the group; each learns of it some time later, and reads on until then."""

    def __init__(self, world: World, broker: MemoryBroker) -> None:
        self._world = world
        self._broker = broker
        self._rng = world.rng("group")
        self._joined: list[Group] = []
        self._members: list[Group] = []
        self._silent_s: dict[Group, float] = {}  # since when
        self._number = 0
        world.later(_LOOK_S, self._look)

    def joins(self, group: Group) -> None:
        self._joined.append(group)
        self._members.append(group)
        self.divide()

    def leaves(self, group: Group) -> None:
        self._joined.remove(group)
        if group in self._members:
            self._members.remove(group)
        self.divide()

    def divide(self) -> None:
        """Divide the log anew, among those who seem to be there."""
        self._number += 1
        order = self._rng.sample(self._members, len(self._members))
        log = places(self._broker)
        for place, group in enumerate(order):
            slow = self._world.faulty and self._rng.random() < 0.2
            delay_s = self._rng.uniform(0.0, 20.0 if slow else 2.0)
            self._world.later(delay_s, self._tell, group, self._number, frozenset(log[place :: len(order)]))

    def _tell(self, group: Group, number: int, share: frozenset[Partition]) -> None:
        if group.life.process.stopped:
            self._world.later(1.0, self._tell, group, number, share)
        elif number > group.number and not group.life.dead:
            group.number, group.assigned = number, share
            group.changed.set()

    def _look(self) -> None:
        now_s = self._world.loop.time()
        self._joined = [group for group in self._joined if not (group.life.dead and self._is_gone(group, now_s))]
        seem = [group for group in self._joined if not self._is_gone(group, now_s)]
        if {*seem} != {*self._members}:
            self._members = seem
            self.divide()
        self._world.later(_LOOK_S, self._look)

    def _is_gone(self, group: Group, now_s: float) -> bool:
        if not group.life.dead and not group.life.process.stopped:
            self._silent_s.pop(group, None)
            return False
        return now_s - self._silent_s.setdefault(group, now_s) >= _SESSION_S
