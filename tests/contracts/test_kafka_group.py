"""The consumer group: what tools that watch lag see, and how members divide the partitions."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.consumer.fetcher import Fetcher

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.kafka_client import KafkaOptions
from reconciler.adapters.kafka_group import KafkaGroup
from reconciler.model.stamp import Partition
from tests.brokers import Server, group_offsets
from tests.brokers.apache import Apache
from tests.brokers.fixtures import MakeTopic
from tests.patience import HANG_S

pytestmark = pytest.mark.kafka

Positions = Mapping[Partition, int]


@pytest.fixture
def server(broker: Server) -> Apache:
    if not isinstance(broker, Apache):
        pytest.skip("only Apache Kafka has whole consumer groups")
    return broker


def group_of(topic: str) -> str:
    return f"group-of-{topic}"


def member(server: Server, topic: str, *, divided: bool) -> KafkaGroup:
    options = KafkaOptions(brokers=tuple(server.brokers), topics=(topic,))
    return KafkaGroup(options, group_of(topic), SystemClock(), divided=divided, session_s=6.0)


@asynccontextmanager
async def running(group: KafkaGroup, positions: Callable[[], Positions] = dict) -> AsyncIterator[KafkaGroup]:
    task = asyncio.create_task(group.run(positions))
    yield group
    group.stop()
    async with asyncio.timeout(HANG_S):
        await task


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG_S):
        while not holds():  # noqa: ASYNC110  no event tells
            await asyncio.sleep(0.05)


async def until_shown(server: Server, topic: str, wanted: Positions) -> None:
    async with asyncio.timeout(HANG_S):
        while await group_offsets(server, group_of(topic)) != wanted:  # noqa: ASYNC110  the broker tells nobody
            await asyncio.sleep(0.2)


async def test_lag_tools_see_how_far_a_lone_reader_is(server: Apache, topic: MakeTopic) -> None:
    name = await topic(partitions=2)
    positions = {Partition(name, 0): 0}
    async with running(member(server, name, divided=False), lambda: dict(positions)):
        await until_shown(server, name, {Partition(name, 0): 0})  # also where nothing was read yet
        positions |= {Partition(name, 0): 7, Partition(name, 1): 3}
        await until_shown(server, name, positions)
        positions[Partition(name, 0)] = 9
    assert await group_offsets(server, group_of(name)) == positions, "the last word comes with the end"


@pytest.mark.parametrize("divided", [False, True])
async def test_no_record_is_fetched_beside_those_that_are_folded(
    server: Apache, topic: MakeTopic, monkeypatch: pytest.MonkeyPatch, divided: bool
) -> None:
    """What was fetched here and never read stayed in memory: a megabyte for each commit."""
    name = await topic()
    async with AIOKafkaProducer(bootstrap_servers=server.brokers) as producer:
        await producer.send_and_wait(name, b"x" * 1000)
    asked: list[object] = []
    monkeypatch.setattr(Fetcher, "_proc_fetch_request", lambda *given: asked.append(given))
    positions = {Partition(name, 0): 0}
    for _ in range(2):  # the second finds what the first has committed
        async with running(member(server, name, divided=divided), lambda: positions):
            await until_shown(server, name, positions)
            await asyncio.sleep(1)
    assert not asked


async def test_a_lone_reader_that_died_is_followed_at_once(server: Apache, topic: MakeTopic) -> None:
    name = await topic()
    dead = asyncio.create_task(member(server, name, divided=False).run(lambda: {Partition(name, 0): 5}))
    await until_shown(server, name, {Partition(name, 0): 5})
    dead.cancel()
    await asyncio.wait([dead])
    async with running(member(server, name, divided=False), lambda: {Partition(name, 0): 6}):
        await until_shown(server, name, {Partition(name, 0): 6})


async def test_members_divide_the_partitions_and_take_over(server: Apache, topic: MakeTopic) -> None:
    name = await topic(partitions=4)
    every = frozenset(Partition(name, number) for number in range(4))
    async with running(member(server, name, divided=True)) as one:
        await until(lambda: one.assigned == every)
        async with running(member(server, name, divided=True)) as other:
            await until(lambda: len(one.assigned) == len(other.assigned) == 2)
            assert one.assigned | other.assigned == every
        await until(lambda: one.assigned == every)
    assert not one.assigned


async def test_a_member_commits_what_it_was_assigned_alone(server: Apache, topic: MakeTopic) -> None:
    name = await topic(partitions=2)
    everything = {Partition(name, 0): 4, Partition(name, 1): 6}
    async with (
        running(member(server, name, divided=True), lambda: dict.fromkeys(everything, 1)) as one,
        running(member(server, name, divided=True), lambda: everything) as other,
    ):
        await until(lambda: len(one.assigned) == len(other.assigned) == 1)
        wanted = {place: 1 if place in one.assigned else everything[place] for place in everything}
        await until_shown(server, name, wanted)


async def test_a_broker_that_is_away_is_told_once_and_waited_for(server: Apache, topic: MakeTopic) -> None:
    name = await topic()
    place = Partition(name, 0)
    gone = KafkaOptions(brokers=("127.0.0.1:1",), topics=(name,))
    group = KafkaGroup(gone, group_of(name), SystemClock(), divided=False, session_s=6.0)
    with structlog.testing.capture_logs() as logs:
        async with running(group, lambda: {place: 2}):
            await until(lambda: bool(logs))
    assert [one["event"] for one in logs] == ["tools that watch the consumer group see old lag"]


async def test_a_member_that_has_lost_its_partitions_commits_nothing(server: Apache) -> None:
    one = member(server, "any", divided=True)
    one._committed = {Partition("any", 0): 5}  # and now nothing is assigned to it
    consumer = one._make_consumer()
    await one._commit(consumer, {Partition("any", 0): 7})
    await consumer.stop()
