"""Watchdog: a loop that is stuck is told from one that works or waits."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reconciler.flows import watchdog
from reconciler.flows.watchdog import IdleClock, Watchdog
from reconciler.model.answer import Failed, Throttled
from reconciler.model.document import Status
from tests.fakes.virtual_clock import VirtualClock
from tests.flows.world import KEY, World
from tests.web.conftest import held_up


@asynccontextmanager
async def watched(clock: VirtualClock, loop: Callable[[], Awaitable[None]]) -> AsyncIterator[Watchdog]:
    watching = Watchdog(clock, 60.0)
    task = asyncio.create_task(watching.watch("loop", loop))
    await clock.advance(0)
    try:
        yield watching
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert watching.late() == {}


async def test_a_loop_that_comes_round_is_alive_and_one_that_does_not_is_late() -> None:
    clock, stuck = VirtualClock(), False

    async def loop() -> None:
        while not stuck:
            watchdog.beat()
            await clock.sleep(10)
        await asyncio.Event().wait()

    async with watched(clock, loop) as watching:
        await clock.advance(1000)
        assert watching.late() == {}
        stuck = True
        await clock.advance(61)
        late = watching.late()
        assert list(late) == ["loop"]
        assert 60 < late["loop"] <= 71


async def test_a_loop_that_waits_for_others_may_wait_for_ever_but_must_work_afterwards() -> None:
    clock, work = VirtualClock(), asyncio.Event()

    async def loop() -> None:
        with watchdog.waiting():
            await work.wait()
        await asyncio.Event().wait()

    async with watched(clock, loop) as watching:
        await clock.advance(100_000)
        assert watching.late() == {}
        work.set()
        await clock.advance(59)
        assert watching.late() == {}
        await clock.advance(2)
        assert list(watching.late()) == ["loop"]


async def test_waits_on_an_idle_clock_may_take_long() -> None:
    clock = VirtualClock()
    idle = IdleClock(clock)

    async def loop() -> None:
        await idle.sleep(1000)
        await idle.wait(asyncio.Event(), 1000)
        await asyncio.Event().wait()

    async with watched(clock, loop) as watching:
        await clock.advance(1999)
        assert watching.late() == {}
        await clock.advance(62)
        assert list(watching.late()) == ["loop"]


async def test_loops_that_no_one_watches_run_all_the_same() -> None:
    watchdog.beat()
    with watchdog.waiting():
        pass


@pytest.mark.parametrize("trouble", [Throttled(503, "maintenance tonight", 900.0), Failed("no connection"), None])
async def test_no_loop_of_the_daemon_is_late_while_all_is_well_or_windchill_is_away(
    trouble: Throttled | Failed | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()

    async def away(*_: object, **__: object) -> Any:
        return trouble

    if trouble is not None:
        monkeypatch.setattr(world.windchill, "read", away)
    async with world.running() as running:
        for number in range(100):
            world.append(world.event({"title": "Cover"}, key=f"d{number}"))
        for _ in range(9):
            await world.clock.advance(120)
            assert running.daemon._watchdog.late() == {}


@pytest.mark.parametrize(
    ("part", "verb", "loop"),
    [
        ("log", "fetch", "ingest"),
        ("store", "waiting", "outbox"),
        ("store", "due", "resync"),
        ("store", "hold", "feed"),
        ("windchill", "read", "worker"),
    ],
)
async def test_every_loop_that_gets_no_answer_at_all_is_found_and_named(part: str, verb: str, loop: str) -> None:
    world = World()
    async with world.running() as running:
        world.append(world.event({"title": "Cover"}))
        await running.settled()
        answers = held_up(getattr(world, part), verb)
        world.windchill.edit(KEY, {"owner": "x"})
        if loop in {"feed", "worker"}:
            world.append(world.event({"title": "Lid"}))
        await world.clock.advance(400)
        late = running.daemon._watchdog.late()
        assert [name.split()[0] for name in late] == [loop]
        answers.set()
        await world.clock.advance(40)  # the longest that a loop sleeps is 30 s
        assert running.daemon._watchdog.late() == {}
        if loop in {"feed", "worker"}:
            await running.settled(KEY, Status.SYNCED)
