"""Documents that an operator has paused, in the whole daemon: what is under way then, and what comes of it."""

from typing import Any

import pytest

from reconciler import config
from reconciler.model.document import Status
from tests.fakes.memory_windchill import Fault
from tests.flows.world import KEY, World


async def test_an_attempt_that_a_pause_finds_under_way_is_the_last_until_the_document_is_resumed(world: World) -> None:
    under_way = world.slowed("write", 10)
    async with world.running() as running:
        actions = running.daemon._make_actions()
        world.append(world.event({"title": "Cover"}))
        await running.pass_until(under_way.is_set, "the write is under way")
        assert (await actions.pause("jdoe", [KEY], "")).done == (KEY,)
        await running.pass_until(lambda: world.live()["title"] == "Cover", "it has come through")
        world.append(world.event({"title": "Lid"}))
        await world.clock.advance(7200)
        assert world.live()["title"] == "Cover"
        assert (world.document().status, world.document().due_us) == (Status.PAUSED, None)
        await actions.resume("jdoe", [KEY])
        await running.settled()
        assert world.live()["title"] == "Lid"


async def test_a_pause_that_finds_an_attempt_reading_is_not_written_through(world: World) -> None:
    under_way = world.slowed("read", 10)
    async with world.running(resync=config.Resync(interval_s=0)) as running:
        world.append(world.event({"title": "Cover"}))
        await running.pass_until(under_way.is_set, "the attempt has begun to read")
        await running.daemon._make_actions().pause("jdoe", [KEY], "")
        await world.clock.advance(120)
        assert (world.windchill.writes, world.document().status) == (0, Status.PAUSED)
        assert (world.document().due_us, world.document().agreement.intent) == (None, None)
        await running.daemon._make_actions().resume("jdoe", [KEY])
        await running.settled()
        assert world.live()["title"] == "Cover"


async def test_a_document_that_waits_for_its_turn_when_it_is_paused_is_not_even_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked = world.windchill.read, list[str]()

    async def slowly(key: str, *args: Any, **named: Any) -> Any:
        asked.append(key)
        await world.clock.sleep(10)
        return await read(key, *args, **named)

    monkeypatch.setattr(world.windchill, "read", slowly)
    async with world.running(
        resync=config.Resync(interval_s=0), windchill=config.Windchill(in_flight_max=1)
    ) as running:
        keys = [f"d{number}" for number in range(6)]
        world.put(*keys)
        await world.clock.advance(1)
        for key in keys:
            world.append(world.event({"title": "Lid"}, key=key))
        await running.pass_until(lambda: bool(asked), "the first is read, and the second waits at the gate")
        assert (await running.daemon._make_actions().pause("jdoe", keys[2:], "")).done == tuple(keys[2:])
        await world.clock.advance(120)
        assert asked == keys[:2]
        assert [world.live(key)["title"] for key in keys] == ["Lid", "Lid", *["Bracket"] * 4]


async def test_a_write_whose_reply_was_lost_before_a_pause_is_read_back_after_it(world: World) -> None:
    world.windchill.script_writes(Fault.LOST_REPLY)
    await world.emit_and_attempt({"title": "Cover"})
    async with world.running(resync=config.Resync(interval_s=0)) as running:
        await running.daemon._make_actions().pause("jdoe", [KEY], "")
        await world.clock.advance(3600)
        assert (world.windchill.reads, world.document().status) == (1, Status.PAUSED)
        await running.daemon._make_actions().resume("jdoe", [KEY])
        await running.settled()
    assert world.windchill.writes == 1
    (told,) = world.outcomes("reconciled")
    assert told["data"]["written"]
