"""Replay: the logs give everything back (law 8), and differences are found."""

import gc
from collections.abc import Mapping, Sequence

import pytest
from msgspec import structs

from reconciler.flows import ingest, replay
from reconciler.flows.outbox import Publisher
from reconciler.flows.recovery import Bases
from reconciler.model.document import Agreement, Status
from reconciler.model.event import Outgoing, Record
from reconciler.model.policy import Policy, Rule, Strategy
from reconciler.model.stamp import Partition
from tests.fakes.memory_log import MemoryLog
from tests.fakes.memory_store import MemoryStore
from tests.flows.world import KEY, OUTCOMES, TOPIC, World


async def rebuilt(world: World, *topics: str, until: str | None = None) -> MemoryStore:
    store = MemoryStore()
    for topic in topics:
        world.log = MemoryLog(world.broker, topic)
        bases = Bases(store, world.clock, until=until)
        await world.run(replay.replay(world.log, world.make_ingest(until=until, store=store), bases))
    world.log = world.make_log()
    return store


async def keys_that_differ(world: World, other: MemoryStore) -> list[str]:
    return [difference.key async for difference in replay.differences(world.store, other)]


async def test_a_replay_folds_the_same_rows(world: World) -> None:
    for number in range(5):
        await world.emit({"title": f"title {number}"}, key=f"{number % 3}")
    assert await keys_that_differ(world, await rebuilt(world, TOPIC)) == []


async def test_a_long_replay_lets_the_garbage_collector_work_between_two_transactions(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever others leave in cycles meanwhile would add up otherwise, for as long as the replay takes."""
    monkeypatch.setattr(ingest, "_RECORDS_MAX", 2)
    for number in range(6):
        await world.emit({"title": f"title {number}"}, key=f"{number}")
    fetch, positions, seen = world.log.fetch, world.log.positions, list[tuple[str, bool]]()

    async def fetching(records_max: int, timeout_s: float) -> Sequence[Record]:
        seen.append(("fetch", gc.isenabled()))
        return await fetch(min(2, records_max), timeout_s)

    async def between() -> Mapping[Partition, int]:
        seen.append(("between", gc.isenabled()))
        return await positions()

    monkeypatch.setattr(world.log, "fetch", fetching)
    monkeypatch.setattr(world.log, "positions", between)
    store = MemoryStore()
    await world.run(replay.replay(world.log, world.make_ingest(store=store), Bases(store, world.clock)))
    assert len(store.rows) == 6
    assert seen.count(("between", True)) >= 4
    assert {one for one in seen if one[0] == "fetch"} == {("fetch", False)}


async def test_differences_name_what_is_missing_on_either_side_and_what_is_not_the_same(world: World) -> None:
    for key in "ace":
        await world.emit({"title": "t"}, key=key)
    other = await rebuilt(world, TOPIC)
    await world.emit({"title": "more"}, key="a")
    await world.emit({"title": "more"}, key="f")
    del world.store.rows["c"]
    assert await keys_that_differ(world, other) == ["a", "c", "f"]


async def test_until_rebuilds_an_earlier_time(world: World) -> None:
    early = await world.emit({"title": "early"})
    await world.emit({"title": "late"})
    other = await rebuilt(world, TOPIC, until=early["time"])
    register = other.rows[KEY].desired.fields["title"].register
    assert register is not None
    assert register.value == "early"


async def test_a_replay_makes_no_dead_letter_of_what_another_policy_let_in(world: World) -> None:
    """A store that has read nothing yet folds by the rules of today."""
    for key in "abc":
        await world.emit({"title": "t"}, key=key)
    before = dict(world.store.rows)
    world.broker.put(Outgoing(TOPIC, b"k", b"not json"))
    await world.fold()
    world.policy = Policy((Rule(("*",), Strategy.EXTERNAL, sources=("//mes/*",)),))
    world.log = world.make_log()
    await world.run(replay.replay(world.log, world.make_ingest(), Bases(world.store, world.clock)))
    assert [letter.stage for letter in await world.store.dead_letters()] == ["decode"]
    assert world.store.rows == before
    other = await rebuilt(world, TOPIC)
    assert [letter.stage for letter in await other.dead_letters()] == ["policy"] * 3 + ["decode"]


async def test_a_release_that_counted_stays_one_when_a_rule_keeps_its_source_out_later(world: World) -> None:
    await world.emit({"title": "Cover"})
    await world.emit(type="windchill.document.released.v1")
    before = world.document().desired
    assert before.released is not None
    world.policy = Policy((Rule(("owner",), Strategy.PRESERVE, sources=("//mes/*",), name="policy[1]"),))
    world.log = world.make_log()
    await world.run(replay.replay(world.log, world.make_ingest(), Bases(world.store, world.clock)))
    assert (world.document().desired, world.store.letters) == (before, {})
    other = await rebuilt(world, TOPIC)
    assert [letter.stage for letter in await other.dead_letters()] == ["policy"]
    assert other.rows[KEY].desired.released is None


async def test_outcomes_give_back_what_was_agreed_so_that_a_users_edit_still_stands(world: World) -> None:
    await world.emit_and_settle({"owner": "akim", "title": "Cover"})
    await world.edit({"owner": "jdoe"})
    await world.resync()
    agreed = world.document().agreement.base
    while await Publisher(world.store, world.log, world.clock, world.woken).publish():
        pass
    await world.clock.advance(1000)
    other = await rebuilt(world, TOPIC, OUTCOMES)
    assert other.rows[KEY].agreement == Agreement(base=agreed, told=world.document().agreement.told)
    other.policies.update(world.store.policies)
    world.store.rows[KEY] = structs.replace(other.rows[KEY])
    writes = world.windchill.writes
    assert (await world.settle()).status is Status.SYNCED
    assert world.windchill.writes == writes
    assert world.live()["owner"] == "jdoe"


async def test_a_recovered_agreement_never_replaces_a_later_one(world: World) -> None:
    await world.emit_and_settle({"title": "Cover"})
    while await Publisher(world.store, world.log, world.clock, world.woken).publish():
        pass
    await world.emit_and_settle({"title": "Lid"})
    newer = world.document().agreement
    world.log = MemoryLog(world.broker, OUTCOMES)
    await world.run(replay.replay(world.log, world.make_ingest(), Bases(world.store, world.clock)))
    assert world.document().agreement == newer
