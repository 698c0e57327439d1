"""Having every document compared with Windchill, beside the daemon's own work."""

from msgspec import structs

from reconciler import config
from reconciler.model.document import Lane, Status
from tests.flows.world import Running, World

NO_RESYNC = config.Resync(interval_s=0)


async def many(world: World, running: Running, count: int) -> list[str]:
    """So many documents, each settled."""
    keys = [f"d{number:04}" for number in range(count)]
    world.put(*keys)
    await world.clock.advance(1)
    for key in keys:
        world.append(world.event({"status": "RELEASED"}, key=key))
    rows = world.store.rows
    await running.pass_until(
        lambda: len(rows) == count and all(row.status is Status.SYNCED for row in rows.values()), "all are synced"
    )
    return keys


async def compared(world: World, running: Running) -> int:
    """Have every document compared, and wait until none is left."""
    count = await running.daemon._make_actions().compare("boss", None)
    rows = world.store.rows.values()
    await running.pass_until(
        lambda: not any(row.lane is Lane.RESYNC and row.due_us and row.due_us <= world.clock.now_us() for row in rows),
        "none is left to be compared",
    )
    return count


async def test_comparing_all_finds_what_changed_in_every_document(world: World) -> None:
    async with world.running(resync=NO_RESYNC) as running:
        keys = await many(world, running, 1100)  # more than are made due at a time
        for key in keys[::100]:
            world.windchill.edit(key, {"status": "INWORK"})
        assert await compared(world, running) == 1100
        assert all(world.live(key)["status"] == "RELEASED" for key in keys)
        assert [(action.who, action.kind) for action in await world.store.actions()] == [("boss", "compare")]


async def test_comparing_all_touches_no_wait_that_trouble_has_set(world: World) -> None:
    async with world.running(resync=NO_RESYNC) as running:
        await many(world, running, 2)
        later_us = world.clock.now_us() + 3_600_000_000
        row = structs.replace(world.document("d0000"), status=Status.CONTENDED, lane=Lane.RETRY, due_us=later_us)
        world.store.rows["d0000"] = row
        assert await compared(world, running) == 1
        assert world.document("d0000") == row


async def test_comparing_all_comes_under_the_write_budget(world: World) -> None:
    async with world.running(resync=config.Resync(interval_s=0, writes_max_per_window=2, window_s=3600)) as running:
        keys = await many(world, running, 6)
        for key in keys:
            world.windchill.edit(key, {"status": "INWORK"})
        await compared(world, running)
        parked = [key for key in keys if world.document(key).status is Status.PARKED]
        assert len(parked) == 4
        assert all("writes_max_per_window" in world.document(key).reason for key in parked)
