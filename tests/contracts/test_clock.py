"""What every `Clock` promises, and what the virtual one adds."""

import asyncio

import pytest

from reconciler.adapters.clock import SystemClock
from reconciler.ports import Clock
from tests.fakes.virtual_clock import VirtualClock


@pytest.fixture(params=[SystemClock, VirtualClock])
def clock(request: pytest.FixtureRequest) -> Clock:
    made: Clock = request.param()
    return made


async def passes(clock: Clock, delay_s: float) -> None:
    await (clock.advance(delay_s) if isinstance(clock, VirtualClock) else asyncio.sleep(delay_s))


async def test_a_sleeper_wakes_when_its_time_has_passed_on_both_clocks(clock: Clock) -> None:
    wall_us, start_s = clock.now_us(), clock.monotonic_s()
    sleeping = asyncio.ensure_future(clock.sleep(0.02))
    await passes(clock, 0.03)
    await sleeping
    assert clock.monotonic_s() - start_s >= 0.02
    assert clock.now_us() - wall_us >= 19_000


async def test_a_sleep_of_nothing_gives_others_their_turn(clock: Clock) -> None:
    other = asyncio.ensure_future(asyncio.sleep(0))
    for _ in range(3):
        await clock.sleep(0)
    assert other.done()


async def test_waiting_ends_with_the_event_or_with_the_time(clock: Clock) -> None:
    event = asyncio.Event()
    waiting = asyncio.ensure_future(clock.wait(event, 0.02))
    await passes(clock, 0.03)
    await waiting
    waiting = asyncio.ensure_future(clock.wait(event, 1e6))
    await passes(clock, 0.001)
    assert not waiting.done()
    event.set()
    await waiting


def test_chance_is_between_0_and_1(clock: Clock) -> None:
    assert all(0 <= clock.chance() < 1 for _ in range(1000))


async def test_virtual_sleepers_wake_in_the_order_of_their_times_each_at_its_own() -> None:
    clock, seen = VirtualClock(), []

    async def sleeper(delay_s: float) -> None:
        await clock.sleep(delay_s)
        seen.append((delay_s, clock.monotonic_s()))
        if delay_s == 10:
            await sleeper(5)

    sleepers = [asyncio.ensure_future(sleeper(delay_s)) for delay_s in (30, 10, 20)]
    await clock.advance(25)
    assert seen == [(10, 10), (5, 15), (20, 20)]
    assert clock.monotonic_s() == 25
    assert clock.next_wake_s() == 5
    await clock.advance(5)
    await asyncio.gather(*sleepers)
    assert clock.next_wake_s() is None


def test_the_same_seed_gives_the_same_chances() -> None:
    assert [VirtualClock(7).chance() for _ in range(2)] == [VirtualClock(7).chance() for _ in range(2)]
    assert VirtualClock(7).chance() != VirtualClock(8).chance()
