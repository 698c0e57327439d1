"""A host's clock that goes ahead and comes back: nothing waits for the time that it told."""

import re
from typing import Any

import pytest

from reconciler.core.settling.cases import Pace
from reconciler.model.answer import Locked, NotAvailable, Throttled, VersionConflict
from reconciler.model.desired import Claims
from reconciler.model.document import Lane, Status
from reconciler.ports import FoldBatch
from tests import defaults
from tests.flows.world import BODY, Running, World
from tests.web.test_daemon import living

YEARS_2_US = 2 * 365 * 86_400 * 1_000_000
SECOND_US = 1_000_000
STANDING = {
    "pending": Throttled(429, "slow down", 3600.0),
    "locked": Locked(423, "checked out", "jdoe"),
    "parked": NotAvailable(403, "forbidden"),
    "contended": VersionConflict(412, "modified"),
    "synced": None,
}
PACE = defaults.pace()
LONGEST_S = max(PACE.longest_us(status) for status in Status) / SECOND_US


def world_of_all() -> World:
    """Documents that come to stand everywhere, and stay there as long as nothing is healed."""
    world = World()
    for key, answer in STANDING.items():
        world.windchill.put(key, BODY | {"id": key})
        if answer is not None:
            world.windchill.script_writes(*[answer] * 50, key=key)
    return world


async def standing(world: World, running: Running) -> None:
    """Let each document come to stand where its name says."""
    for key in STANDING:
        world.append(world.event({"status": "RELEASED"}, key=key))
    await running.pass_until(
        lambda: (
            all(key in world.store.rows and world.document(key).status == key for key in STANDING)
            and not running.daemon.reconciler._queue.running
            and world.document("pending").agreement.failures > 0
        ),
        "all stand where they are to stand",
    )


def attempts(world: World) -> dict[str, int]:
    return {key: world.document(key).attempts for key in STANDING}


def all_tried_since(world: World, before: dict[str, int]) -> bool:
    return all(count > before[key] for key, count in attempts(world).items())


async def test_after_a_start_with_the_right_clock_all_is_looked_at_within_the_longest_wait() -> None:
    world = world_of_all()
    world.clock.ahead_us = YEARS_2_US
    async with world.running() as running:
        await standing(world, running)
    world.clock.ahead_us = 0
    now_us = world.clock.now_us()
    assert all((world.document(key).due_us or 0) > now_us + YEARS_2_US // 2 for key in STANDING)
    before = attempts(world)
    async with world.running() as running:
        await running.pass_until(lambda: all_tried_since(world, before), "all are looked at again", LONGEST_S)


async def test_when_the_clock_comes_back_while_the_daemon_runs_it_is_the_same() -> None:
    world = world_of_all()
    async with world.running() as running:
        world.clock.ahead_us = YEARS_2_US
        await standing(world, running)
        await world.clock.advance(60)
        world.clock.ahead_us = 0
        before = attempts(world)
        await running.pass_until(lambda: all_tried_since(world, before), "all are looked at again", LONGEST_S)
        world.append(world.event({"title": "Lid"}, key="synced"))
        await running.pass_until(lambda: world.live("synced")["title"] == "Lid", "an event is heard at once", 5)


async def test_readiness_tells_of_a_store_from_a_time_to_come_until_it_is_so_no_more() -> None:
    world = World()
    world.clock.ahead_us = YEARS_2_US
    async with world.running() as running:
        world.append(world.event({"status": "RELEASED"}))
        await running.settled()
    world.clock.ahead_us = 0
    async with living(world) as (running, client):
        await running.pass_until(lambda: bool(running.daemon.due_feeder.clock_fault), "the clock is looked at")
        said = (await client.get("/readyz")).json()
        assert said["status"] == "degraded"
        assert re.search("2028-.* 2026-", said["clock"])
        world.append(world.event({"title": "Lid"}))
        await running.pass_until(
            lambda: not running.daemon.due_feeder.clock_fault, "a decision is recorded by this clock"
        )
        assert (await client.get("/readyz")).json() == {"status": "ready", "windchill": "up"}


async def test_shortening_the_waits_of_a_large_store_is_no_loop_that_hangs_and_ends_at_a_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    rows = {f"d{number:04}": Claims({}) for number in range(1_000)}
    year_us = world.clock.now_us() + YEARS_2_US
    await world.store.fold(FoldBatch(rows, {}, (), Lane.EVENT, year_us))
    bring_forward = world.store.bring_forward

    def waiting() -> int:
        return sum(row.due_us == year_us for row in world.store.rows.values())

    async def slowly(*given: Any) -> int:
        await world.clock.sleep(100)
        return await bring_forward(*given)

    monkeypatch.setattr(world.store, "bring_forward", slowly)
    async with living(world) as (running, client):
        await world.clock.advance(450)
        assert (await client.get("/livez")).json() == {"status": "alive"}
        assert waiting() == 600
        running.stop.set()
        await running.pass_until(running.task.done, "it ends after the page under way", 120)
        assert waiting() == 500


@pytest.mark.parametrize(
    "pace", [defaults.pace(), defaults.pace(interval_s=0), defaults.pace(backoff_max_s=9999, cooldown_max_s=5)]
)
def test_no_wait_that_is_set_is_longer_than_the_longest(pace: Pace) -> None:
    assert all(pace.longest_us(status) > 0 for status in Status if status is not Status.COLLECTING)
    assert pace.longest_us(Status.COLLECTING) == 0, "no one waits for changes by default here"
    assert pace.longest_us(Status.PENDING) >= pace.backoff_max_s * SECOND_US
    assert pace.longest_us(Status.PARKED) >= pace.longest_us(Status.LOCKED) == pace.cooldown_max_s * SECOND_US
    assert pace.longest_us(Status.SYNCED) >= round(pace.interval_s * pace.interval_factor_max * 1.1) * SECOND_US
