"""
Folding a topic of Apache Kafka into SQLite through the daemon's ingest, against aiokafka only consuming it.

A third side, for comparison, is what one would write first: aiokafka, and a row by row upsert through aiosqlite with
one commit for each `getmany`.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import aiosqlite
import attrs
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from benchmarks import events, measure
from benchmarks.measure import Figures, Sample
from benchmarks.report import Finding, Report
from reconciler import app
from reconciler.adapters.kafka_client import KafkaOptions
from reconciler.cli import log_output, runtime
from reconciler.config import Config
from reconciler.config.values import ChangeTopic
from reconciler.model.document import Lane
from tests.brokers.apache import Apache

NAME = "fold-kafka"
_TARGET = 0.3
_TOPIC = "benchmark.changes"
_PARTITIONS = 4
_HEADERS = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
_SHORT = (
    "`getmany` hands out a record in about 4 µs of processor time, and no one looks at it. Only parsing events and"
    " keeping the latest values, as the bare loop of `fold-file` does, costs 6 µs more, which makes about 0.4 of it;"
    " validating each event, keeping its provenance and storing it durably take the rest."
)


def run(rounds: int, tell: Callable[[str], None]) -> Report:
    """Measure; raises `apache.Unavailable` without Java or Maven."""
    with measure.scratch() as folder, Apache(partitions=_PARTITIONS) as kafka:
        asyncio.run(_fill(kafka.address()))
        load = measure.load()
        sides = {
            "batches": lambda: measure.side(__name__, "batches", kafka.address()),
            "singly": lambda: measure.side(__name__, "singly", kafka.address()),
            "ingest": lambda: measure.side(__name__, "ingest", kafka.address(), folder),
        }
        found = measure.in_turn(rounds, sides, tell)
        naive = measure.in_turn(1, {"naive": lambda: measure.side(__name__, "naive", kafka.address(), folder)}, tell)
    batches, batches_cpu = measure.ratios(found["ingest"], found["batches"])
    singly, _ = measure.ratios(found["ingest"], found["singly"])
    rates = {name: Figures.of([sample.rate for sample in samples]).shown(",.0f") for name, samples in found.items()}
    shares = [
        naive["naive"][0].rate / Figures.of([s.rate for s in found[name]]).middle for name in ("batches", "singly")
    ]
    return Report(
        NAME,
        f"Folding {events.EVENTS:,} events over {events.DOCUMENTS:,} documents from {kafka.name} ({_PARTITIONS}"
        " partitions) into SQLite (`synchronous = FULL`) through the daemon's ingest, compared with aiokafka consuming"
        " them alone, with the same fetch sizes.",
        [
            Finding("rate / rate of consuming in batches (`getmany`)", batches, _TARGET),
            Finding("the same by processor time", batches_cpu),
            Finding("rate / rate of consuming one by one (`async for`)", singly, _TARGET),
        ],
        [
            (
                f"Events a second: ingest {rates['ingest']}, consuming in batches {rates['batches']}, one by one"
                f" {rates['singly']}. The naive loop (aiokafka and aiosqlite, row by row, a commit for each `getmany`)"
                f" comes to {shares[0]:.2f} of consuming in batches and {shares[1]:.2f} of consuming one by one."
            )
        ],
        _SHORT,
        load,
    )


async def _fill(brokers: str) -> None:
    """Put the events into the topic, each under its document's key."""
    producer = AIOKafkaProducer(bootstrap_servers=brokers, linger_ms=20, max_batch_size=512 * 1024)
    await producer.start()
    try:
        for number, (subject, event) in enumerate(events.generated()):
            last = await producer.send(_TOPIC, value=event, key=subject.encode(), headers=_HEADERS)
            if number % 5000 == 0:
                await last
        await producer.flush()
    finally:
        await producer.stop()


def batches(brokers: str) -> Sample:
    """Consume with aiokafka alone, as fast as it gets: every record is fetched, none is looked at."""
    return runtime.run(_batches(brokers))


def singly(brokers: str) -> Sample:
    """Consume with aiokafka alone, the way its documentation begins with."""
    return runtime.run(_singly(brokers))


async def _singly(brokers: str) -> Sample:
    consumer = await _consumer(brokers)
    measure.settle_memory()
    try:
        with measure.stopwatch() as stop:
            count = 0
            async for _ in consumer:
                count += 1
                if count == events.EVENTS:
                    break
            return stop(count)
    finally:
        await consumer.stop()


async def _batches(brokers: str) -> Sample:
    consumer = await _consumer(brokers)
    measure.settle_memory()
    try:
        with measure.stopwatch() as stop:
            count = 0
            while count < events.EVENTS:
                count += sum(map(len, (await consumer.getmany(timeout_ms=1000, max_records=5000)).values()))
            return stop(count)
    finally:
        await consumer.stop()


async def _consumer(brokers: str) -> AIOKafkaConsumer:

    options = KafkaOptions(brokers=(brokers,), topics=(_TOPIC,))
    consumer = AIOKafkaConsumer(
        bootstrap_servers=brokers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_bytes=options.fetch_bytes,
        max_partition_fetch_bytes=options.partition_fetch_bytes,
    )
    await consumer.start()
    consumer.assign([TopicPartition(_TOPIC, number) for number in range(_PARTITIONS)])
    return consumer


def ingest(brokers: str, folder: str) -> Sample:
    """The daemon's ingest loop, wired by the composition root."""
    log_output.configure("info", asked_for=False)
    return runtime.run(_ingest(brokers, Path(folder)))


async def _ingest(brokers: str, folder: Path) -> Sample:
    config = Config()
    config = attrs.evolve(
        config,
        log=attrs.evolve(config.log, brokers=(brokers,), topics=(ChangeTopic(name=_TOPIC, sources=()),)),
        store=attrs.evolve(config.store, url=f"sqlite:///{folder}/ingest.db"),
        admin=attrs.evolve(config.admin, bind=""),
    )
    async with app.daemon(config) as daemon:
        await daemon.log.open({})
        ends = await daemon.log.ends()
        daemon.ingest.lane = Lane.REPLAY  # as the daemon does for a first start
        measure.settle_memory()
        with measure.stopwatch() as stop:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(daemon.ingest.run())
                while any(daemon.ingest.reached.get(place, 0) < end for place, end in ends.items()):
                    await daemon.clock.sleep(0.005)
                sample = stop(events.EVENTS)
                daemon.ingest.stop()
        assert sum((await daemon.store.counts()).values()) == events.DOCUMENTS
        sample = attrs.evolve(sample, more={"peak_mib": measure.peak_mib()})
    measure.remove(folder / "ingest.db")
    return sample


def naive(brokers: str, folder: str) -> Sample:
    """What one would write first."""
    return runtime.run(_naive(brokers, Path(folder) / "naive.db"))


async def _naive(brokers: str, database: Path) -> Sample:
    consumer = await _consumer(brokers)
    upsert = (
        "INSERT INTO field VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value, time = excluded.time"
        " WHERE excluded.time > time"
    )
    try:
        async with aiosqlite.connect(database) as connection:
            await connection.execute("PRAGMA journal_mode = WAL")
            await connection.execute("PRAGMA synchronous = FULL")
            await connection.execute(
                "CREATE TABLE field (document TEXT, name TEXT, value TEXT, time TEXT, PRIMARY KEY (document, name))"
            )
            with measure.stopwatch() as stop:
                count, give_up_s = 0, time.monotonic() + 120  # it is only here to be compared with
                while count < events.EVENTS and time.monotonic() < give_up_s:
                    for records in (await consumer.getmany(timeout_ms=1000)).values():
                        for record in records:
                            event = orjson.loads(record.value)
                            for name, value in event["data"]["set"].items():
                                row = (event["subject"], name, orjson.dumps(value).decode(), event["time"])
                                await connection.execute(upsert, row)
                        count += len(records)
                    await connection.commit()
                return stop(count)
    finally:
        await consumer.stop()
