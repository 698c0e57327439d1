"""The stop of all writes, in the whole daemon: what is under way then, and what comes after."""

import asyncio

from reconciler import config
from reconciler.model.answer import Unknown
from reconciler.model.document import Status
from tests.flows.world import KEY, World

NO_RESYNC = config.Resync(interval_s=0)


async def test_a_stop_waits_for_the_write_under_way_and_none_begins_until_writes_are_resumed(world: World) -> None:
    under_way = world.slowed("write", 10)
    async with world.running(resync=NO_RESYNC) as running:
        actions = running.daemon._make_actions()
        world.append(world.event({"title": "Cover"}))
        await running.pass_until(under_way.is_set, "the write is under way")
        stop = await actions.stop_writes("jdoe", "wrong prices")
        assert [one.slot for one in await actions.despite_stop(stop, 0)] == [0]
        waiting = asyncio.create_task(actions.despite_stop(stop, 60))
        await running.pass_until(waiting.done, "the write has ended")
        assert list(await waiting) == []
        assert (world.live()["title"], world.windchill.writes) == ("Cover", 1)
        world.append(world.event({"title": "Lid"}))
        await world.clock.advance(7200)
        assert (world.windchill.writes, world.document().status) == (1, Status.PENDING)
        assert world.document().agreement.intent is None
        assert await actions.resume_writes("jdoe", "corrected")
        await running.settled()
        assert world.live()["title"] == "Lid"
        assert not await actions.resume_writes("jdoe", "")
    assert [action.kind for action in await world.store.actions()] == ["resume-writes", "stop-writes"]


async def test_a_stop_by_another_process_holds_before_the_daemon_knows_of_it(world: World) -> None:
    async with world.running(resync=NO_RESYNC) as running:
        await world.clock.advance(1)
        stop = await running.daemon._make_actions().stop_writes("jdoe", "")
        running.daemon.writes.look.clear()  # as if by a command: only the store has been told
        world.append(world.event({"title": "Cover"}))
        await running.pass_until(lambda: running.daemon.writes.stopped, "it has learned of it")
        await world.clock.advance(600)
        assert world.windchill.writes == 0
        assert not await running.daemon._make_actions().despite_stop(stop, 0)


async def test_a_stop_outlives_the_daemon_and_a_single_pass_ends_despite_it(world: World) -> None:
    async with world.running() as running:
        await running.daemon._make_actions().stop_writes("jdoe", "wrong prices")
    world.append(world.event({"title": "Cover"}))
    async with world.running(once=True) as running:
        await running.pass_until(running.task.done, "the one pass is over", 60)
        summary = running.task.result()
        assert summary.stop is not None
        assert not summary.settled
    async with world.running() as running:
        await running.settled(KEY, Status.PENDING)
        await world.clock.advance(600)
        assert world.windchill.writes == 0
        assert await running.daemon._make_actions().resume_writes("jdoe", "")
        await running.settled()
    assert world.live()["title"] == "Cover"


async def test_a_write_in_doubt_is_not_repeated_while_writes_are_stopped(world: World) -> None:
    world.windchill.script_writes(Unknown("no answer"))
    async with world.running(resync=NO_RESYNC) as running:
        world.append(world.event({"title": "Cover"}))
        await running.pass_until(lambda: world.windchill.writes, "it was sent")
        await world.clock.advance(0)
        writes = world.windchill.writes
        await running.daemon._make_actions().stop_writes("jdoe", "")
        await world.clock.advance(3600)
        assert world.windchill.writes == writes
        await running.daemon._make_actions().resume_writes("jdoe", "")
        await running.settled()
    assert world.live()["title"] == "Cover"
