"""What only Kafka does to a log: retention, transactions, added partitions, brokers that are not there."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
import structlog
from aiokafka import AIOKafkaProducer, TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete

from reconciler import factory
from reconciler.adapters import kafka_topic
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.kafka import KafkaLog
from reconciler.adapters.kafka_client import KafkaOptions
from reconciler.config import Config, Log
from reconciler.core.events import anchoring
from reconciler.errors import ConfigError, LogError, LogTruncatedError
from reconciler.model.event import Outgoing, Record
from reconciler.model.stamp import Partition
from tests.brokers import Server, apache
from tests.brokers.apache import Apache
from tests.brokers.fixtures import MakeTopic
from tests.fakes.virtual_clock import VirtualClock
from tests.patience import HANG_S

pytestmark = pytest.mark.kafka

NO_BROKER = ("127.0.0.1:1",)  # port 1 is reserved, and nothing listens there


def options(server: Server, topic: str, **others: object) -> KafkaOptions:
    return KafkaOptions(**{"brokers": tuple(server.brokers), "topics": (topic,), "fetch_wait_s": 0.1, **others})


@pytest.fixture
def server(broker: Server) -> Apache:
    if not isinstance(broker, Apache):
        pytest.skip("only Apache Kafka deletes records, adds partitions and has transactions")
    return broker


@pytest.fixture
async def admin(server: Apache) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=server.brokers)
    await client.start()
    yield client
    await client.close()


@pytest.fixture
async def changes(topic: MakeTopic) -> str:
    return await topic(partitions=1, name="changes")


@pytest.fixture
async def log(broker: Server, changes: str) -> AsyncIterator[KafkaLog]:
    client = KafkaLog(options(broker, changes), SystemClock())
    yield client
    await client.close()


async def put(log: KafkaLog, topic: str, *values: bytes) -> None:
    await log.append([Outgoing(topic, b"key", value) for value in values])


async def read(log: KafkaLog, count: int) -> list[Record]:
    records: list[Record] = []
    async with asyncio.timeout(HANG_S):
        while len(records) < count:
            records.extend(await log.fetch(100, 0.2))
    return records


async def read_to_end(log: KafkaLog) -> list[Record]:
    records: list[Record] = []
    ends = await log.ends()
    async with asyncio.timeout(HANG_S):
        while await log.positions() != ends:
            records.extend(await log.fetch(100, 0.2))
    return records


def values(records: Sequence[Record]) -> list[bytes | None]:
    return [record.value for record in records]


# ------------------------------------------------------------------------------------------------- what retention does


async def test_a_position_that_retention_has_passed_is_refused_with_the_offsets_of_the_log(
    server: Apache, admin: AIOKafkaAdminClient, log: KafkaLog, changes: str
) -> None:
    await put(log, changes, *[b"%d" % number for number in range(10)])
    await admin.delete_records({TopicPartition(changes, 0): RecordsToDelete(4)})
    with pytest.raises(LogTruncatedError, match=rf"{changes}/0: offset 3 comes next, but the log holds 4 up to 10\..*"):
        await log.open({Partition(changes, 0): 3})
    await log.open({Partition(changes, 0): 4})
    assert values(await read_to_end(log)) == [b"%d" % number for number in range(4, 10)]


@pytest.mark.parametrize("position", [None, 1, 9], ids=["new here", "passed by retention", "beyond the end"])
async def test_a_person_may_decide_to_go_on_without_lost_records(
    server: Apache, admin: AIOKafkaAdminClient, log: KafkaLog, changes: str, position: int | None
) -> None:
    await put(log, changes, b"0", b"1", b"2")
    await admin.delete_records({TopicPartition(changes, 0): RecordsToDelete(2)})
    stored = {} if position is None else {Partition(changes, 0): position}
    with pytest.raises(LogTruncatedError, match=f"offset {position or 0} comes next, but the log holds 2 up to 3"):
        await log.open(stored)
    await log.open(stored, accept_truncation=True)
    assert values(await read_to_end(log)) == [b"2"]


async def test_a_topic_created_again_with_more_records_is_recognised(
    server: Apache, admin: AIOKafkaAdminClient, log: KafkaLog, changes: str
) -> None:
    await put(log, changes, b"0", b"1")
    await log.open({})
    last = (await read(log, 2))[-1]
    await log.close()  # it would have the broker make the topic
    await admin.delete_topics([changes])
    await server.create_topic(changes, 1)
    place, other = Partition(changes, 0), KafkaLog(options(server, changes), SystemClock())
    await put(other, changes, *[b"new"] * 5)
    with pytest.raises(LogTruncatedError, match=f"{changes}/0: the record at 1 is not the one that was read"):
        await other.open({place: 2}, anchors={place: anchoring.of(last)})
    await other.open({place: 2}, accept_truncation=True, anchors={place: anchoring.of(last)})
    assert values(await read_to_end(other)) == [b"new"] * 5
    await other.close()


async def test_a_missing_record_proves_nothing_about_the_log(
    server: Apache, admin: AIOKafkaAdminClient, transactions: AIOKafkaProducer, log: KafkaLog, changes: str
) -> None:
    await put(log, changes, b"0")
    async with transactions.transaction():
        await transactions.send_and_wait(changes, b"1", partition=0)
    place = Partition(changes, 0)
    await log.open({})
    last = (await read(log, 2))[-1]
    marked = KafkaLog(options(server, changes), SystemClock())
    await marked.open({place: 3}, anchors={place: anchoring.of(last)})  # past the transaction's marker
    await put(marked, changes, b"3")
    assert values(await read(marked, 1)) == [b"3"]
    await admin.delete_records({TopicPartition(changes, 0): RecordsToDelete(3)})
    passed = KafkaLog(options(server, changes), SystemClock())
    await passed.open({place: 3}, anchors={place: anchoring.of(last)})
    assert values(await read(passed, 1)) == [b"3"]
    await marked.close()
    await passed.close()


async def test_a_partition_that_is_gone_is_refused_and_may_be_given_up(log: KafkaLog, changes: str) -> None:
    await put(log, changes, b"0")
    with pytest.raises(LogTruncatedError, match=f"{changes}/7 is gone, and offset 5 comes next: .* 1 partitions"):
        await log.open({Partition(changes, 7): 5})
    await log.open({Partition(changes, 7): 5}, accept_truncation=True)
    assert values(await read_to_end(log)) == [b"0"]


async def test_an_append_returns_the_offsets_after_it(log: KafkaLog, changes: str) -> None:
    records = [Outgoing(changes, b"key", b"%d" % number) for number in range(3)]
    assert await log.append(records) == {Partition(changes, 0): 3}
    assert await log.append(records[:1]) == {Partition(changes, 0): 4}


async def test_a_log_that_loses_the_next_records_while_it_is_read_stops_for_good(
    server: Apache, admin: AIOKafkaAdminClient, log: KafkaLog, changes: str
) -> None:
    await put(log, changes, b"0")
    await log.open({})
    assert values(await read(log, 1)) == [b"0"]
    # The client must not have fetched what is deleted: with the default buffers it would have.
    other = KafkaLog(options(server, changes, partition_fetch_bytes=1), SystemClock())
    await other.open({})
    await put(log, changes, *[b"x" * 1000] * 20)
    await admin.delete_records({TopicPartition(changes, 0): RecordsToDelete(21)})
    for _ in range(2):
        with pytest.raises(LogTruncatedError, match="the log holds 21 up to 21"):
            await read(other, 30)
    await other.close()


# -------------------------------------------------------------------------------------------- what transactions leave


@pytest.fixture
async def transactions(server: Apache, changes: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(bootstrap_servers=server.brokers, transactional_id=changes)
    await producer.start()
    yield producer
    await producer.stop()


async def test_a_marker_at_the_end_is_recognised_as_the_end(
    transactions: AIOKafkaProducer, log: KafkaLog, changes: str
) -> None:
    async with transactions.transaction():
        await transactions.send_and_wait(changes, b"kept", partition=0)
    await log.open({})
    assert (await log.ends())[Partition(changes, 0)] == 2
    assert values(await read_to_end(log)) == [b"kept"]
    assert await log.positions() == {Partition(changes, 0): 2}
    resumed = KafkaLog(log._options, SystemClock())
    await resumed.open({Partition(changes, 0): 1})  # as stored with the record: the marker itself comes next
    assert await read_to_end(resumed) == []
    await resumed.close()


async def test_aborted_transactions_are_never_read(transactions: AIOKafkaProducer, log: KafkaLog, changes: str) -> None:
    await transactions.begin_transaction()
    await transactions.send_and_wait(changes, b"taken back", partition=0)
    await transactions.abort_transaction()
    await put(log, changes, b"kept")
    await log.open({})
    assert values(await read_to_end(log)) == [b"kept"]


async def test_an_open_transaction_is_beyond_the_end(
    transactions: AIOKafkaProducer, log: KafkaLog, changes: str
) -> None:
    await put(log, changes, b"before")
    await transactions.begin_transaction()
    await transactions.send_and_wait(changes, b"undecided", partition=0)
    await log.open({})
    assert values(await read_to_end(log)) == [b"before"]
    await transactions.commit_transaction()
    assert values(await read(log, 1)) == [b"undecided"]


# ------------------------------------------------------------------------------------------------------ what grows


async def test_partitions_that_are_added_are_read_from_their_beginning(
    server: Apache, admin: AIOKafkaAdminClient, log: KafkaLog, changes: str
) -> None:
    reader = KafkaLog(options(server, changes, metadata_age_s=0.2), SystemClock())
    await put(log, changes, b"before")
    await reader.open({})
    assert values(await read(reader, 1)) == [b"before"]
    await admin.create_partitions({changes: NewPartitions(3)})
    producer = AIOKafkaProducer(bootstrap_servers=server.brokers)
    await producer.start()
    for partition in (2, 1, 0):
        await producer.send_and_wait(changes, b"to %d" % partition, partition=partition)
    await producer.stop()
    assert sorted(filter(None, values(await read(reader, 3)))) == [b"to 0", b"to 1", b"to 2"]
    assert await reader.positions() == {Partition(changes, 0): 2, Partition(changes, 1): 1, Partition(changes, 2): 1}
    await reader.close()


async def test_a_missing_topic_is_created_if_the_broker_does_that(server: Apache, topic: MakeTopic) -> None:
    name = f"{await topic()}-by-first-use"
    log = KafkaLog(options(server, name), SystemClock())
    await log.open({})
    assert len(await log.ends()) == 4  # what the test broker gives a topic that is made on first use
    await log.close()


async def test_a_topic_that_cannot_be_created_is_named_within_the_timeout(server: Apache) -> None:
    log = KafkaLog(options(server, "no topic's name", connect_timeout_s=1.0), SystemClock())
    with pytest.raises(LogError, match=r"topic no topic's name can't be read at .*: create it"):
        await log.open({})


# ------------------------------------------------------------------------------------------- when the broker is away


async def test_without_a_broker_opening_fails_within_its_timeout() -> None:
    log = KafkaLog(KafkaOptions(brokers=NO_BROKER, topics=("changes",), connect_timeout_s=0.5), SystemClock())
    with pytest.raises(LogError, match=r"no broker answers at 127.0.0.1:1: is Kafka running"):
        await log.open({})
    await log.close()


async def test_without_a_broker_appending_fails_at_once() -> None:
    log = KafkaLog(KafkaOptions(brokers=NO_BROKER, topics=("changes",)), SystemClock())
    for _ in range(2):
        with pytest.raises(LogError, match=r"no broker answers at 127.0.0.1:1"):
            await put(log, "changes", b"lost")
    await log.close()


@pytest.mark.slow
async def test_a_restart_of_the_broker_costs_neither_records_nor_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    if apache.missing():
        pytest.skip("only Apache Kafka keeps records over a restart")
    own = Apache()
    await asyncio.to_thread(own.start)
    clock = VirtualClock()
    log = KafkaLog(options(own, "changes", request_timeout_s=10.0), clock)
    try:
        await own.create_topic("changes", 1)
        await put(log, "changes", b"before")
        await log.open({})
        assert values(await read(log, 1)) == [b"before"]
        await asyncio.to_thread(own.halt)
        with structlog.testing.capture_logs() as logged:
            for _ in range(3):
                assert not await log.fetch(10, 0.2)
                await clock.advance(31)
        assert [entry["event"] for entry in logged] == ["no broker answers"]
        monkeypatch.setattr(log._appender, "_options", options(own, "changes", delivery_timeout_s=2.0))
        with pytest.raises(LogError, match="not acknowledged within 2 s"):
            await put(log, "changes", b"while away")
        await asyncio.to_thread(own.resume)
        monkeypatch.undo()
        await put(log, "changes", b"after")
        with structlog.testing.capture_logs() as logged:
            assert values(await read(log, 1)) == [b"after"]
        assert "the broker answers again" in [entry["event"] for entry in logged]
    finally:
        await log.close()
        await asyncio.to_thread(own.stop)


async def test_whoever_asks_for_the_end_outlasts_a_broker_that_is_away() -> None:
    if apache.missing():
        pytest.skip("only Apache Kafka keeps records over a restart")
    own = Apache()
    await asyncio.to_thread(own.start)
    log = KafkaLog(options(own, "changes", request_timeout_s=3.0), SystemClock())
    try:
        await own.create_topic("changes", 1)
        await put(log, "changes", b"before")
        await log.open({})
        await asyncio.to_thread(own.halt)
        with structlog.testing.capture_logs() as logged:
            asked = asyncio.create_task(log.ends())
            async with asyncio.timeout(HANG_S):
                while not (logged or asked.done()):
                    await asyncio.wait({asked}, timeout=0.1)
            await asyncio.to_thread(own.resume)
            assert await asyncio.wait_for(asked, HANG_S) == {Partition("changes", 0): 1}
        assert logged[0]["event"] == "no broker answers"
        assert values(await read(log, 1)) == [b"before"]
    finally:
        await log.close()
        await asyncio.to_thread(own.stop)


async def test_a_broker_too_slow_to_show_what_was_read_last_is_asked_again(
    log: KafkaLog, changes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(*_: object) -> dict[Partition, str]:
        raise errors.KafkaTimeoutError

    await put(log, changes, b"0", b"1")
    await log.open({})
    log._away = True
    monkeypatch.setattr(kafka_topic, "replaced", slow)
    assert not await log.fetch(2, HANG_S)
    monkeypatch.undo()
    assert values(await read(log, 2)) == [b"0", b"1"]


async def test_a_client_that_has_stalled_is_replaced_and_nothing_is_lost_or_comes_twice(
    broker: Server, log: KafkaLog, changes: str
) -> None:
    clock = VirtualClock()
    reader = KafkaLog(options(broker, changes), clock)
    await put(log, changes, b"before")
    await reader.open({})
    assert values(await read(reader, 1)) == [b"before"]
    stalled = reader._consumer
    assert stalled is not None
    stalled._fetcher._fetch_task.cancel()
    await put(log, changes, b"after")
    assert not await reader.fetch(10, 0.3)  # its fetching task is dead, which aiokafka does not report
    for _ in range(2):
        await clock.advance(31)
        assert not await reader.fetch(10, 0.05)
    assert reader._consumer is not stalled
    assert values(await read(reader, 1)) == [b"after"]
    await reader.close()


async def test_an_idle_topic_is_no_stall(broker: Server, changes: str) -> None:
    clock = VirtualClock()
    reader = KafkaLog(options(broker, changes), clock)
    await reader.open({})
    consumer = reader._consumer
    for _ in range(4):
        await clock.advance(31)
        assert not await reader.fetch(10, 0.05)
    assert reader._consumer is consumer
    await reader.close()


# -------------------------------------------------------------------------------------------------- what goes wrong


async def test_a_fetch_that_fails_has_taken_nothing(
    log: KafkaLog, changes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(log, changes, b"0", b"1", b"2")
    await log.open({})
    assert log._consumer is not None
    getmany = log._consumer.getmany

    async def drained_then_failed(**arguments: object) -> object:
        assert await getmany(**arguments)
        raise ValueError("a batch that can't be decoded")

    monkeypatch.setattr(log._consumer, "getmany", drained_then_failed)
    with pytest.raises(LogError, match="can't be read: ValueError: a batch that can't be decoded"):
        await log.fetch(2, HANG_S)
    monkeypatch.undo()
    assert values(await read(log, 3)) == [b"0", b"1", b"2"]


async def test_a_record_over_the_limit_is_named_and_nothing_of_its_batch_is_sent(log: KafkaLog, changes: str) -> None:
    with pytest.raises(LogError, match=r"key b'large' has 1048582 bytes, and 1048576 are allowed"):
        await log.append([Outgoing(changes, b"small", b"{}"), Outgoing(changes, b"large", b"x" * 1024**2 + b"!")])
    await log.open({})
    assert await log.ends() == await log.positions()


async def test_a_record_over_the_brokers_limit_names_the_setting_and_the_next_append_succeeds(
    server: Apache, changes: str
) -> None:
    log = KafkaLog(options(server, changes, append_bytes_max=10 * 1024**2), SystemClock())
    with pytest.raises(LogError, match=r"raise the topic's max.message.bytes"):
        await put(log, changes, b"x" * 2 * 1024**2)
    await put(log, changes, b"small")
    await log.open({})
    assert values(await read_to_end(log)) == [b"small"]
    await log.close()


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_every_compression_is_appended_and_read(broker: Server, changes: str, compression: str) -> None:
    log = KafkaLog(options(broker, changes, compression=compression), SystemClock())
    await put(log, changes, *[b"%d" % number * 100 for number in range(300)])
    await log.open({Partition(changes, 0): 150})
    assert values(await read_to_end(log)) == [b"%d" % number * 100 for number in range(150, 300)]
    await log.close()


async def test_a_record_larger_than_the_fetch_size_is_read_too(server: Apache, changes: str) -> None:
    log = KafkaLog(options(server, changes, partition_fetch_bytes=1000), SystemClock())
    await put(log, changes, b"x" * 500_000, b"small")
    await log.open({})
    assert [len(record.value or b"") for record in await read_to_end(log)] == [500_000, 5]
    await log.close()


async def test_a_record_that_can_be_read_can_be_appended() -> None:
    for size, limit in ((1024, 1024**2), (5 * 1024**2, 5 * 1024**2)):
        log = factory.make_log(Config(log=Log(record_bytes_max=size)), SystemClock())
        assert isinstance(log, KafkaLog)
        assert log._options.append_bytes_max == limit


def test_secrets_are_not_shown() -> None:
    shown = KafkaOptions(brokers=NO_BROKER, topics=("changes",), sasl_password="hunter2")
    assert "hunter" not in repr(shown)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"security": "ssl", "ca_file": "/nowhere/ca.pem"}, r"/nowhere/ca.pem: can't be used for TLS"),
        ({"security": "sasl_plaintext", "sasl_username": "me"}, "needs sasl_username and sasl_password"),
    ],
)
async def test_settings_that_can_not_work_are_refused_before_anything_is_tried(
    settings: dict[str, str], message: str
) -> None:
    log = KafkaLog(KafkaOptions(brokers=NO_BROKER, topics=("changes",), **settings), SystemClock())
    with pytest.raises(ConfigError, match=message):
        await log.open({})


async def test_a_client_that_is_replaced_does_not_go_on_in_a_topic_created_again(
    server: Apache, admin: AIOKafkaAdminClient, log: KafkaLog, changes: str
) -> None:
    clock = VirtualClock()
    reader = KafkaLog(options(server, changes), clock)
    await put(log, changes, b"before")
    await reader.open({})
    await read(reader, 1)
    assert reader._consumer is not None
    await reader._consumer._client.close()  # it would have the broker make the topic
    reader._consumer._fetcher._fetch_task.cancel()
    await log.close()
    await admin.delete_topics([changes])
    await server.create_topic(changes, 1)
    other = KafkaLog(options(server, changes), SystemClock())
    await put(other, changes, *[b"new"] * 5)
    for _ in range(2):
        assert not await reader.fetch(10, 0.05)
        await clock.advance(31)
    with pytest.raises(LogTruncatedError, match="the record at 0 is not the one that was read"):
        await reader.fetch(10, 0.05)
    await other.close()
    await reader.close()


# --------------------------------------------------------------------------------------------- several readers share it


@pytest.fixture
async def logs(broker: Server, topic: MakeTopic) -> AsyncIterator[tuple[str, KafkaLog, KafkaLog]]:
    name = await topic(partitions=2, name="shared")
    pair = [KafkaLog(options(broker, name), SystemClock()) for _ in range(2)]
    yield name, pair[0], pair[1]
    for one in pair:
        await one.close()


async def test_readers_of_one_log_read_each_partition_once(logs: tuple[str, KafkaLog, KafkaLog]) -> None:
    name, one, other = logs
    for number in range(20):
        await one.append([Outgoing(name, b"%d" % number, b"%d" % number)])
    for log, partition in ((one, 0), (other, 1)):
        await log.open({})
        await log.share({Partition(name, partition)}, {})
    ends = await one.ends()
    assert ends == await other.ends(), "each knows the ends of all"
    records = [
        record for log, number in ((one, 0), (other, 1)) for record in await read(log, ends[Partition(name, number)])
    ]
    assert sorted(map(int, values(records))) == list(range(20))
    assert [set(await log.positions()) for log in (one, other)] == [{Partition(name, 0)}, {Partition(name, 1)}]


async def test_a_partition_that_changes_hands_goes_on_from_the_given_position(
    logs: tuple[str, KafkaLog, KafkaLog],
) -> None:
    name, one, other = logs
    both = {Partition(name, 0), Partition(name, 1)}
    for number in range(20):
        await one.append([Outgoing(name, b"%d" % number, b"%d" % number)])
    await one.open({})
    await one.share(both, {})
    first = await one.fetch(5, HANG_S)  # the client has fetched more than that
    reached = dict(await one.positions())
    await one.share((), reached)
    assert await one.fetch(100, 0.5) == (), "what it had fetched is dropped"
    await other.open(reached)
    await other.share(both, reached)
    rest = await read(other, 20 - len(first))
    assert sorted(map(int, values([*first, *rest]))) == list(range(20))


async def test_what_retention_took_from_a_share_stops_only_the_reader_that_is_to_read_it(
    server: Apache, admin: AIOKafkaAdminClient, logs: tuple[str, KafkaLog, KafkaLog]
) -> None:
    name, one, _ = logs
    for number in range(20):
        await one.append([Outgoing(name, b"%d" % number, b"%d" % number)])
    await one.open({})
    await admin.delete_records({TopicPartition(name, 0): RecordsToDelete(2)})
    await one.share({Partition(name, 1)}, {})
    assert await read(one, 1)
    with pytest.raises(LogTruncatedError, match=f"{name}/0: offset 0 comes next"):
        await one.share({Partition(name, 0), Partition(name, 1)}, {})
    assert set(await one.positions()) == {Partition(name, 1)}, "it goes on with what it had"
