"""Several replicas read one log: whatever each believes to have, every event counts, and no position jumps."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

import attrs
import pytest
import structlog
from structlog.testing import capture_logs

from reconciler.core.events import decode
from reconciler.errors import LogTruncatedError
from reconciler.flows.ingest import Ingest, Sharing
from reconciler.model.stamp import Partition
from tests.flows.world import DECISIONS, LETTERS, TOPIC, TOPICS, World

PARTITIONS = 4
EVERY = frozenset({*(Partition(TOPIC, number) for number in range(PARTITIONS)), Partition(DECISIONS, 0)})


@attrs.define(eq=False)
class Group:
    """Divides as it is told, perhaps wrongly."""

    assigned: frozenset[Partition] = frozenset()
    changed: asyncio.Event = attrs.field(factory=asyncio.Event)

    def assign(self, places: Iterable[Partition]) -> None:
        self.assigned = frozenset(places)
        self.changed.set()

    async def run(self, positions: Callable[[], Mapping[Partition, int]]) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError


def replica(world: World, group: Group) -> Ingest:
    log = world.make_log()
    return Ingest(
        log,
        world.store,
        world.clock,
        world.telemetry,
        options=decode.Options(policy=world.policy, topics=TOPICS),
        dead_letter_topic=LETTERS,
        batch_max=7,
        offer=world.offered.append,
        wake=world.woken,
        sharing=Sharing(log, group, world.store.anchors),
    )


@asynccontextmanager
async def running(world: World, *ingests: Ingest) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(one.run()) for one in ingests]
    try:
        yield
        for one in ingests:
            one.stop()
        await world.clock.advance(10)
        for task in tasks:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def folded(world: World) -> dict[str, dict[str, object]]:
    rows = world.store.rows.values()
    return {
        row.key: {name: field.register.value for name, field in row.desired.fields.items() if field.register}
        for row in rows
    }


@pytest.mark.parametrize("seed", range(20))
async def test_whatever_the_group_says_each_event_is_folded_and_counted_once(seed: int) -> None:
    chance = random.Random(f"sharing {seed}")
    world = World(partitions=PARTITIONS)
    groups = [Group(), Group(), Group()]
    ingests = [replica(world, group) for group in groups]
    wanted: dict[str, dict[str, object]] = {}
    count = 0
    async with running(world, *ingests):
        for _ in range(60):
            for _ in range(chance.randrange(12)):
                key, field = f"{chance.randrange(8):010}", chance.choice(["title", "owner", "attributes.Note"])
                count += 1
                wanted.setdefault(key, {})[field] = f"value {count}"
                await world.clock.advance(0.001)
                world.append(world.event({field: f"value {count}"}, key=key))
            if chance.random() < 0.5:  # a rebalance; a stale view leaves a partition to two, or to nobody
                for group in groups:
                    if chance.random() < 0.7:
                        group.assign(place for place in EVERY if chance.random() < 0.5)
            await world.clock.advance(chance.choice([0.0, 0.01, 0.3, 2.0]))
        groups[0].assign(EVERY)
        groups[1].assign(())
        groups[2].assign(())
        await world.clock.advance(20)
        assert folded(world) == wanted
        ends = await world.log.ends()
        assert world.store.offsets == {place: end for place, end in ends.items() if end}
        assert world.telemetry.total("events_total") == count
        assert [one.reached for one in ingests] == [ends, world.store.offsets, world.store.offsets], (
            "each knows how far all are"
        )


async def test_a_share_that_can_not_be_taken_yet_is_taken_when_the_broker_answers() -> None:
    world, group = World(partitions=PARTITIONS), Group()
    group.assign(EVERY)
    world.broker.down = True
    one = replica(world, group)
    structlog.reset_defaults()  # an earlier command in this process may have asked for errors only
    with capture_logs() as logs:
        async with running(world, one):
            await world.clock.advance(5)
            world.broker.down = False
            world.append(world.event({"title": "Cover"}))
            await world.clock.advance(5)
    assert len(world.store.rows) == 1
    assert [line["event"] for line in logs if line["log_level"] == "warning"][:1] == [
        "can't take our share of the log yet"
    ]


async def test_a_partition_that_lacks_what_comes_next_stops_who_is_to_read_it() -> None:
    world, group = World(partitions=PARTITIONS), Group()
    for number in range(20):
        world.append(world.event({"title": "Cover"}, key=f"{number}"))
    world.broker.forget_before(Partition(TOPIC, 1), 1)
    group.assign(EVERY)
    with pytest.raises(LogTruncatedError):
        await replica(world, group).run()


async def test_a_reader_that_slept_while_others_read_on_and_the_log_forgot_that_takes_its_share_anew() -> None:
    """It once took records that were folded for lost ones, and ended."""
    world, group = World(partitions=PARTITIONS), Group()
    group.assign(EVERY)
    async with running(world, replica(world, group)):
        await world.clock.advance(2)
        for number in range(20):
            world.append(world.event({"title": "Cover"}, key=f"{number}"))
        for place in EVERY:
            world.store.offsets[place] = world.broker.at(place).end
            world.broker.forget_before(place, world.broker.at(place).end)
        await world.clock.advance(2)
        world.append(world.event({"title": "Lid"}, key="new"))
        await world.clock.advance(2)
    assert [*world.store.rows] == ["new"]
