"""Documents that an operator has paused, in the whole daemon: what is under way then, and what comes of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from reconciler import config
from reconciler.model.document import Status
from tests.fakes.memory_windchill import Fault
from tests.flows.world import KEY

if TYPE_CHECKING:
    import pytest

    from tests.flows.world import World


async def test_an_attempt_that_a_pause_finds_under_way_is_the_last_until_the_document_is_resumed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, under_way = world.windchill.write, asyncio.Event()

    async def slowly(*args: Any, **named: Any) -> Any:
        under_way.set()
        await world.clock.sleep(10)
        return await write(*args, **named)

    monkeypatch.setattr(world.windchill, "write", slowly)
    async with world.running() as running:
        acts = running.daemon._acts()
        world.append(world.event({"title": "Cover"}))
        await running.pass_until(under_way.is_set, "the write is under way")
        assert (await acts.pause("jdoe", [KEY], "")).done == (KEY,)
        await running.pass_until(lambda: world.live()["title"] == "Cover", "it has come through")
        world.append(world.event({"title": "Lid"}))
        await world.clock.advance(7200)
        assert world.live()["title"] == "Cover"
        assert (world.document().status, world.document().due_us) == (Status.PAUSED, None)
        await acts.resume("jdoe", [KEY])
        await running.settled()
        assert world.live()["title"] == "Lid"


async def test_a_write_whose_reply_was_lost_before_a_pause_is_read_back_after_it(world: World) -> None:
    world.windchill.script_writes(Fault.LOST_REPLY)
    await world.emit({"title": "Cover"})
    await world.attempt()
    async with world.running(resync=config.Resync(interval_s=0)) as running:
        await running.daemon._acts().pause("jdoe", [KEY], "")
        await world.clock.advance(3600)
        assert (world.windchill.reads, world.document().status) == (1, Status.PAUSED)
        await running.daemon._acts().resume("jdoe", [KEY])
        await running.settled()
    assert world.windchill.writes == 1
    (told,) = world.outcomes("reconciled")
    assert told["data"]["written"]
