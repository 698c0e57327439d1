"""The lease: what several replicas may do at one time, while some of them sleep, and the store is away at times."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.config import Windchill
from reconciler.core.scheduling.breaker import Breaker, RequestResult, State, What
from reconciler.core.scheduling.limiter import Limiter, Load, Permit, RetryQuota
from reconciler.core.scheduling.replicas import Member, Stage
from reconciler.errors import EvictedError, StoreError
from reconciler.flows.lease import BEAT_S, Lease
from tests.fakes.shared_slots import OwnSlot, SharedSlots
from tests.fakes.virtual_clock import VirtualClock
from tests.flows.world import KEY, World

IN_FLIGHT_MAX, EVICT_S, REQUESTS_S = 5, 15.0, 30.0
DUTIES = ("outbox 0", "outbox 1", "outbox 2", "recovery", "checkpoint")


def leased(
    shared: SharedSlots,
    clock: VirtualClock,
    evict_s: float = EVICT_S,
    moved: Callable[[], None] | None = None,
    in_flight_max: int = IN_FLIGHT_MAX,
) -> Lease:
    return Lease(
        slots=shared.enter(),
        clock=clock,
        limiter=Limiter(in_flight_max),
        quota=RetryQuota(),
        breaker=Breaker(1),
        in_flight_max=in_flight_max,
        evict_s=evict_s,
        requests_s=REQUESTS_S,
        duties=DUTIES,
        moved=moved or (lambda: None),
        notice=lambda _: None,
    )


@asynccontextmanager
async def running(*leases: Lease) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(lease.run()) for lease in leases]
    await asyncio.sleep(0)
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_lone_replica_has_everything() -> None:
    shared, clock = SharedSlots(), VirtualClock()
    one = leased(shared, clock)
    assert not one.holds()
    assert one.limiter.try_acquire() is None, "nothing is sent before the first beat"
    async with running(one):
        await clock.advance(BEAT_S)
        assert one.holds()
        assert all(map(one.has, DUTIES))
        assert one.limiter.limit == IN_FLIGHT_MAX


@pytest.mark.parametrize("evict_s", [3.0, 600.0])
async def test_a_lease_that_beats_holds_without_a_gap(evict_s: float) -> None:
    shared, clock = SharedSlots(), VirtualClock()
    one = leased(shared, clock, evict_s)
    async with running(one):
        for _ in range(100):
            await clock.advance(0.1)
            assert one.holds()


async def test_replicas_divide_duties_and_requests_and_take_over_from_one_that_leaves() -> None:
    shared, clock = SharedSlots(), VirtualClock()
    one, other = leased(shared, clock), leased(shared, clock)
    async with running(one, other):
        await clock.advance(3 * BEAT_S)
        assert one.limiter.limit + other.limiter.limit == IN_FLIGHT_MAX
        assert [one.has(duty) + other.has(duty) for duty in DUTIES] == [1] * len(DUTIES)
        other.stop()
        await clock.advance(3 * BEAT_S)
        assert not other.holds()
        assert one.limiter.limit == IN_FLIGHT_MAX
        assert all(map(one.has, DUTIES))


def fail_all(breaker: Breaker, now_s: float, count: int) -> None:
    for number in range(count):
        leave = breaker.try_pass(now_s)
        assert leave is not None
        breaker.report(leave, RequestResult.FAILURE, now_s, 0.5, What(f"d{number}"))


async def test_a_replica_whose_breaker_opens_makes_the_others_doubt_once_and_no_more() -> None:
    shared, clock = SharedSlots(), VirtualClock()
    one, other = leased(shared, clock), leased(shared, clock)
    await one.beat()
    await other.beat()
    fail_all(one.breaker, clock.monotonic_s(), 1 + 8)
    assert one.breaker.state is State.OPEN
    for lease in (one, other, one):
        await lease.beat()
    assert (one.breaker.state, other.breaker.state) == (State.OPEN, State.HALF_OPEN)
    leave = other.breaker.try_pass(clock.monotonic_s())
    assert leave is not None
    other.breaker.report(leave, RequestResult.SUCCESS, clock.monotonic_s(), 0.5)
    for lease in (one, other, one, other):
        await lease.beat()
    assert (one.breaker.state, other.breaker.state) == (State.OPEN, State.CLOSED), "its network may be its own trouble"
    await leased(shared, clock).beat()
    assert shared.alarms == 1


async def test_a_replica_that_finds_windchill_overloaded_slows_down_the_others_once_and_no_newcomer() -> None:
    shared, clock = SharedSlots(), VirtualClock()
    one, other = leased(shared, clock, in_flight_max=16), leased(shared, clock, in_flight_max=16)
    for lease in (one, other) * 3:
        await lease.beat()
    permit = one.limiter.try_acquire()
    assert permit is not None
    one.limiter.released(permit, Load.OVERLOAD)
    for lease in (one, other, one, other):
        await lease.beat()
    assert (one.limiter.limit, other.limiter.limit) == (4, 4)
    newcomer = leased(shared, clock, in_flight_max=16)
    for lease in (newcomer, one, other) * 3:
        await lease.beat()
    assert newcomer.limiter.limit == 16 // 3
    assert shared.cuts == 1


async def test_a_silent_replica_stops_in_time_and_its_successor_begins_after_it() -> None:
    shared, clock = SharedSlots(), VirtualClock()
    one, frozen = leased(shared, clock), leased(shared, clock)
    await frozen.beat()
    async with running(one):
        await clock.advance(EVICT_S * 2 / 3)
        assert not frozen.holds()
        assert not shared.members[frozen.slots.slot].leaving
        await clock.advance(EVICT_S)
        assert all(map(one.has, DUTIES))
        assert one.limiter.limit < IN_FLIGHT_MAX, "what the other has sent may be in flight"
        await clock.advance(REQUESTS_S)
        assert one.limiter.limit == IN_FLIGHT_MAX
        with pytest.raises(EvictedError):
            await frozen.beat()
        assert not frozen.holds()


async def test_after_a_failover_nothing_is_sent_while_requests_of_before_may_be_in_flight() -> None:
    shared, clock = SharedSlots(generation=2, stage=Stage.RECOVERING), VirtualClock()
    before = shared.enter()
    assert await before.evict(before.mine()), "as all who took part in the last generation are"
    one = leased(shared, clock)
    async with running(one):
        turn = asyncio.create_task(one.turn(asyncio.Event()))
        await clock.advance(EVICT_S * 2 / 3 - 1)
        assert not turn.done(), "a replica of before may begin a request"
        await clock.advance(2)
        assert turn.done()
        await one.slots.reach(Stage.OPEN)
        await clock.advance(REQUESTS_S - 3 * BEAT_S)
        assert one.limiter.try_acquire() is None, "its request may be in flight"
        await clock.advance(6 * BEAT_S)
        assert one.limiter.try_acquire() is not None


async def test_it_tells_when_a_replica_comes_leaves_dies_and_is_gone_and_not_in_between() -> None:
    shared, clock, told = SharedSlots(), VirtualClock(), list[int]()
    one = leased(shared, clock, moved=lambda: told.append(len(shared.members)))
    async with running(one):
        await clock.advance(5 * BEAT_S)
        assert told == [1]
        other = leased(shared, clock)
        async with running(other):
            await clock.advance(5 * BEAT_S)
            assert told == [1, 2]
            other.stop()
            await clock.advance(5 * BEAT_S)
            assert told == [1, 2, 1]
        leased(shared, clock)  # and nothing more is seen of it
        await clock.advance(EVICT_S + 3 * BEAT_S)
        assert told[3] == 2
        assert 2 <= len(told[3:]) <= 3
        told.clear()
        await clock.advance(REQUESTS_S + 5 * BEAT_S)
        assert told == [1]


async def test_what_a_dead_replica_had_is_taken_up_when_it_is_taken_for_dead(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, evict = SharedSlots(), OwnSlot.evict

    async def freeing(self: OwnSlot, member: Member) -> bool:
        world.store.elsewhere.clear()
        return await evict(self, member)

    monkeypatch.setattr(OwnSlot, "evict", freeing)
    async with world.running(slots=shared.enter()):
        await world.clock.advance(5 * BEAT_S)
        shared.enter()  # and nothing more is seen of it
        world.store.elsewhere.add(KEY)
        world.append(world.event({"title": "Cover"}))
        await world.clock.advance(EVICT_S - BEAT_S)
        assert not world.windchill.writes
        await world.clock.advance(3 * BEAT_S)
        assert world.live()["title"] == "Cover"


async def test_a_beat_counts_from_its_beginning() -> None:
    shared, clock = SharedSlots(), VirtualClock()
    one = leased(shared, clock)
    shared.beats_told.clear()
    beating = asyncio.create_task(one.beat())
    await clock.advance(EVICT_S * 2 / 3)
    shared.beats_told.set()
    await beating
    assert not one.holds()


async def test_a_duty_ends_before_the_next_one_may_begin() -> None:
    shared, clock = SharedSlots(), VirtualClock()
    one = leased(shared, clock)
    await one.beat()
    leased(shared, clock)
    shared.duties_told.clear()
    beating = asyncio.create_task(one.beat())
    await clock.advance(0.0)  # by now it has given duties up in the store, and does not know that the store has done it
    assert len(shared.duties) < len(DUTIES)
    assert [one.has(duty) for duty in DUTIES] == [duty in shared.duties for duty in DUTIES]
    shared.duties_told.set()
    await beating


async def test_after_an_outage_of_the_store_nobody_is_evicted() -> None:
    shared, clock = SharedSlots(), VirtualClock()
    one, other = leased(shared, clock), leased(shared, clock)
    async with running(one, other):
        await clock.advance(3 * BEAT_S)
        shared.away = True
        await clock.advance(EVICT_S)
        assert not one.holds()
        assert not other.holds()
        await clock.advance(100.0)
        shared.away = False
        await clock.advance(3 * BEAT_S)
        assert one.holds()
        assert other.holds()
        assert shared.epochs == {0: 1, 1: 1}


async def test_the_daemon_writes_nothing_while_its_lease_may_have_ended(world: World) -> None:
    shared = SharedSlots()
    async with world.running(slots=shared.enter()) as running:
        world.append(world.event({"title": "Cover"}))
        await running.settled()
        shared.away = True
        await world.clock.advance(EVICT_S)
        asked = world.windchill.reads + world.windchill.writes
        world.append(world.event({"title": "Lid"}))
        await world.clock.advance(60.0)
        assert world.live()["title"] == "Cover"
        assert world.windchill.reads + world.windchill.writes == asked, "it does not even read"
        shared.away = False
        await running.settled()
        assert world.live()["title"] == "Lid"
    assert not shared.members, "it has left"


async def test_a_daemon_that_was_evicted_ends(world: World) -> None:
    shared = SharedSlots()

    async def evicted() -> None:
        async with world.running(slots=shared.enter()):
            await world.clock.advance(5.0)
            shared.members.clear()
            await world.clock.advance(60.0)

    with pytest.raises(BaseExceptionGroup) as ended:
        await evicted()
    assert ended.group_contains(EvictedError)


# ------------------------------------------------------------------------------------------ what another replica has


async def test_a_document_that_another_replica_has_is_left_to_it(world: World) -> None:
    world.store.elsewhere.add(KEY)
    async with world.running() as running:
        world.append(world.event({"title": "Cover"}))
        await world.clock.advance(60.0)
        assert world.windchill.reads + world.windchill.writes == 0
        world.store.elsewhere.clear()  # it was taken for dead
        await running.settled()
    assert world.live()["title"] == "Cover"


async def test_an_event_that_came_too_late_for_the_attempt_of_another_replica_is_not_left_lying(world: World) -> None:
    async with world.running() as running:
        await world.clock.advance(5.0)
        world.store.elsewhere.add(KEY)
        world.append(world.event({"title": "Cover"}))
        await world.clock.advance(3.0)
        assert world.store.rows, "it is folded"
        world.store.elsewhere.clear()
        await world.clock.advance(3.0)
        assert world.live()["title"] == "Cover"
        await running.settled()


@pytest.mark.parametrize("lost_at", ["read", "write"])
async def test_a_document_that_is_lost_during_an_attempt_is_not_written_or_not_settled_by_us(
    world: World, monkeypatch: pytest.MonkeyPatch, lost_at: str
) -> None:
    asked = getattr(world.windchill, lost_at)

    async def lost(*given: Any, **more: Any) -> Any:
        world.store.elsewhere.add(KEY)
        return await asked(*given, **more)

    monkeypatch.setattr(world.windchill, lost_at, lost)
    async with world.running() as running:
        world.append(world.event({"title": "Cover"}))
        await world.clock.advance(60.0)
        assert world.windchill.writes == (lost_at == "write")
        assert not world.outcomes()
        assert not world.store.trail
        monkeypatch.undo()
        world.store.elsewhere.clear()
        await running.settled()
    assert world.live()["title"] == "Cover"
    assert world.windchill.writes == 1, "who takes it over reads first"


async def test_a_replica_that_ends_with_a_request_in_flight_keeps_its_share_of_them_until_that_must_be_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: Any) -> None:
        raise StoreError("simulated")

    async def hangs(*_: Any) -> None:
        monkeypatch.setattr(world.store, "due", fails)
        await world.clock.sleep(60.0)

    shared = SharedSlots()
    monkeypatch.setattr(world.windchill, "read", hangs)

    async def ended_by_a_failure() -> None:
        async with world.running(slots=shared.enter()):
            world.append(world.event({"title": "Cover"}))
            await world.clock.advance(40.0)

    with pytest.raises(BaseExceptionGroup) as ended:
        await ended_by_a_failure()
    assert ended.group_contains(StoreError)
    assert [member.leaving for member in shared.members.values()] == [True]


async def test_a_replica_without_a_share_of_the_requests_leaves_all_documents_to_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had them, and waited with them for a permit as long as the others were there."""
    shared, left = SharedSlots(), list[str]()

    async def given_back(keys: Iterable[str]) -> None:
        left.extend(keys)

    monkeypatch.setattr(world.store, "give_back", given_back)
    leased(shared, world.clock)  # and so is its request, until it is taken for dead
    async with world.running(slots=shared.enter(), windchill=Windchill(in_flight_max=1)) as running:
        world.append(world.event({"title": "Cover"}))
        await world.clock.advance(EVICT_S + REQUESTS_S)
        assert world.windchill.reads + world.windchill.writes == 0
        assert set(left) == {KEY}, "also one that the store took for us without our knowing"
        await world.clock.advance(5 * BEAT_S)
        await running.settled()
    assert world.live()["title"] == "Cover"


@attrs.define
class Replica:
    """One that sleeps when told, with its requests in flight: each ends after `REQUESTS_S`, even if it sleeps."""

    lease: Lease
    flying: list[tuple[float, Permit]] = attrs.field(factory=list)
    evicted: bool = False

    async def beat(self) -> None:
        try:
            await self.lease.beat()
        except EvictedError:
            self.evicted = True

    def send(self, now_s: float) -> None:
        if self.lease.holds() and (permit := self.lease.limiter.try_acquire()) is not None:
            self.flying.append((now_s, permit))

    def hear(self) -> None:
        if self.flying:
            self.lease.limiter.released(self.flying.pop(0)[1], Load.NORMAL)

    def in_flight(self, now_s: float) -> int:
        return sum(now_s - sent_s < REQUESTS_S for sent_s, _ in self.flying)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["beat", "beat", "send", "send", "hear", "join", "leave", "away", "wait", "watch"]),
        st.integers(0, 3),
    ),
    max_size=120,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_at_no_time_do_two_have_one_duty_or_are_too_many_requests_in_flight(steps: list[tuple[str, int]]) -> None:
    asyncio.run(_tried(steps))


async def _tried(steps: list[tuple[str, int]]) -> None:
    shared, clock = SharedSlots(), VirtualClock()
    living = [Replica(leased(shared, clock)), Replica(leased(shared, clock))]
    everyone = list(living)  # what is in flight outlives its sender
    for what, number in steps:
        now_s = clock.monotonic_s()
        one = living[number % len(living)] if living else None
        if what == "wait":
            await clock.advance((BEAT_S, 5.0, EVICT_S, REQUESTS_S)[number])
        elif one is not None and what == "watch":  # the others sleep meanwhile
            for _ in range(9):
                await one.beat()
                await clock.advance(BEAT_S)
        elif what == "away":
            shared.away = not shared.away
        elif what == "join" and len(living) < 4:
            living.append(Replica(leased(shared, clock)))
            everyone.append(living[-1])
        elif one is not None and what == "beat":
            await one.beat()
            if one.evicted:
                living.remove(one)
        elif one is not None and what == "send":
            one.send(now_s)
        elif one is not None and what == "hear":
            one.hear()
        elif one is not None and what == "leave" and not one.flying and not shared.away:
            with suppress(EvictedError):
                await one.lease.slots.leave()
            living.remove(one)
        holders = [sum(one.lease.has(duty) for one in living) for duty in DUTIES]
        assert max(holders, default=0) <= 1
        now_s = clock.monotonic_s()
        assert sum(one.in_flight(now_s) for one in everyone) <= IN_FLIGHT_MAX
