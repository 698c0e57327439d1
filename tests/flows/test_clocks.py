"""Clocks: a claim from the future does not count, and stays refused; a host whose own clock is behind blames no one."""

import asyncio
import json
from typing import Any

import pytest

from reconciler.core.events import outcomes
from reconciler.errors import ClockBehindError
from reconciler.flows import recovery, replay
from reconciler.flows.recovery import Bases
from reconciler.model import instant
from reconciler.model.event import Outgoing, PlainRecord
from reconciler.model.stamp import Partition
from tests.fakes.memory_log import MemoryLog
from tests.fakes.memory_store import MemoryStore
from tests.flows.world import KEY, LETTERS, TOPIC, World

PLACE = Partition(TOPIC, 0)
DAY_S = 86_400.0


def ahead(world: World, seconds: float, fields: dict[str, Any], *, by_broker: bool = False, **more: Any) -> None:
    """Append an event whose producer's clock, and so its record's timestamp, is ahead; or the broker's own."""
    own = world.broker.at(PLACE)
    at_us = world.clock.now_us() + round(seconds * 1_000_000)
    value = None if more.get("tombstone") else json.dumps(world.event(fields, time=instant.from_us(at_us))).encode()
    own.records.append(PlainRecord(TOPIC, 0, own.end, at_us // 1000, KEY.encode(), value, (), 1 if by_broker else 0))
    own.end += 1


def title(world: World) -> object:
    register = world.document().desired.fields["title"].register
    return None if register is None else register.value


async def test_a_claim_ahead_of_our_clock_is_a_dead_letter_and_later_events_count(world: World) -> None:
    """Its record's timestamp is of the same clock, so only ours can tell."""
    ahead(world, 73 * 365 * DAY_S, {"title": "from 2099"})
    await world.emit({"title": "Cover"})
    (letter,) = world.store.letters.values()
    assert (letter.stage, letter.place.offset) == ("clock", 0)
    assert "is ahead of this host's clock" in letter.reason
    assert title(world) == "Cover"


async def test_a_tombstone_ahead_of_our_clock_does_not_end_the_document(world: World) -> None:
    ahead(world, DAY_S, {}, tombstone=True)
    await world.emit({"title": "Cover"})
    (letter,) = world.store.letters.values()
    assert "the record's timestamp" in letter.reason or "`time`" in letter.reason
    assert title(world) == "Cover"


@pytest.mark.parametrize("seconds", [0, 299])
async def test_a_claim_within_the_skew_counts(world: World, seconds: float) -> None:
    ahead(world, seconds, {"title": "Cover"})
    await world.fold()
    assert title(world) == "Cover"


async def test_what_was_refused_stays_refused_when_its_time_has_come(world: World) -> None:
    """In the same store, and in one that is made from the logs."""
    ahead(world, 3600, {"title": "too early"})
    await world.emit({"title": "Cover"})
    row = world.document().desired
    announced = [one for one in world.store.outbox.values() if one.topic == LETTERS]
    for one in announced:
        world.broker.put(one)
    await world.clock.advance(2 * 3600)
    await world.make_ingest().take(world.broker.records(TOPIC))
    assert world.document().desired == row
    other = MemoryStore()
    assert await recovery.recall(MemoryLog(world.broker, LETTERS), other, world.clock, asyncio.Event()) == 1
    await world.run(
        replay.replay(MemoryLog(world.broker, TOPIC), world.make_ingest(store=other), Bases(other, world.clock))
    )
    assert (await other.documents([KEY]))[KEY].desired == row
    assert [letter.stage for letter in await other.dead_letters()] == ["clock"]
    assert not [one for one in other.outbox.values() if one.topic == LETTERS], "it was announced before"


async def test_a_letter_that_is_replayed_is_judged_by_the_clock_of_now(world: World) -> None:
    ahead(world, 3600, {"title": "too early"})
    await world.emit({"title": "Cover"})
    (letter,) = world.store.letters.values()
    again = Outgoing(TOPIC, letter.key, letter.value, ((outcomes.REPLAY_OF, letter.id.encode()),))
    world.broker.put(again)
    await world.fold()
    assert len(await world.store.dead_letters("open")) == 1, "still too early, at a place of its own"
    await world.clock.advance(2 * 3600)
    world.broker.put(again)
    await world.fold()
    assert title(world) == "too early"
    # Also in a fold from the beginning: the first two places stay refused, the third does not.
    await world.make_ingest().take(world.broker.records(TOPIC))
    assert title(world) == "too early"


async def test_while_the_brokers_own_clock_shows_ours_to_be_behind_folding_waits_and_heals(world: World) -> None:
    ahead(world, DAY_S, {"title": "Cover"}, by_broker=True)
    await world.log.open({})
    working = asyncio.create_task(world.ingest.run())
    await world.clock.advance(60)
    assert "this host's clock is behind" in world.ingest.waits_for
    assert (world.store.rows, world.store.letters, world.store.offsets) == ({}, {}, {})
    world.clock.ahead_us = round(DAY_S * 1e6)  # someone has set it
    await world.clock.advance(5)
    assert (world.ingest.waits_for, title(world), world.store.letters) == ("", "Cover", {})
    world.ingest.stop()
    await world.run(working)


async def test_folding_that_waits_can_be_stopped_and_leaves_nothing_out(world: World) -> None:
    ahead(world, DAY_S, {"title": "Cover"}, by_broker=True)
    await world.log.open({})
    working = asyncio.create_task(world.ingest.run())
    await world.clock.advance(60)
    world.ingest.stop()
    await world.run(working)
    assert world.store.offsets == {}


async def test_a_broker_whose_clock_was_ahead_for_a_while_does_not_stop_folding_for_ever(world: World) -> None:
    ahead(world, DAY_S, {"title": "from a clock ahead"}, by_broker=True)
    await world.log.open({})
    working = asyncio.create_task(world.ingest.run())
    await world.clock.advance(60)
    assert world.ingest.waits_for
    ahead(world, 0, {"title": "Cover"}, by_broker=True)
    await world.clock.advance(60)
    world.ingest.stop()
    await world.run(working)
    assert (world.ingest.waits_for, title(world)) == ("", "Cover")
    assert [letter.stage for letter in world.store.letters.values()] == ["clock"]


async def test_a_replay_by_command_says_that_this_hosts_clock_is_behind(world: World) -> None:
    ahead(world, DAY_S, {"title": "Cover"}, by_broker=True)
    with pytest.raises(ClockBehindError, match="Set this host's clock"):
        await world.fold()
    assert (world.store.rows, world.store.letters) == ({}, {})


def test_dead_letters_are_read_back_as_they_were_announced(world: World) -> None:
    record = PlainRecord("dead", 0, 0, 5, b"k\xff", b"\xff", (("x-own", None), ("__reconciler.errors.topic", b"t")))
    assert outcomes.letter_in(record) is None, "without all of its reasons"
    assert outcomes.letter_in(PlainRecord("dead", 0, 0, 5, None, b"{}", ())) is None
