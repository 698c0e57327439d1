"""
Folding a topic of Apache Kafka into SQLite through the daemon's ingest, against others who fold the same topic, and
against what no fold can exceed (`peers`).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs
from aiokafka import AIOKafkaProducer

from benchmarks import events, measure
from benchmarks.measure import Figures, Sample
from benchmarks.peers import by_hand, limits, quix
from benchmarks.report import Finding, Report
from reconciler import app
from reconciler.cli import log_output, runtime
from reconciler.config import Config
from reconciler.config.values import ChangeTopic
from reconciler.model.document import Lane
from reconciler.ports import Store
from tests import brokers
from tests.brokers.apache import Apache

NAME = "fold-kafka"
_TOPIC = "benchmark.changes"
_HEADERS = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
_SHORT = (
    "validating each event, keeping who set a field and why, and storing all of it durably is more than any of the"
    " others does; docs/performance.md says where the time goes."
)


def run(rounds: int, tell: Callable[[str], None]) -> Report:
    """Measure; raises `apache.Unavailable` without Java or Maven."""
    with measure.scratch() as folder:
        with measure.on_core(1):
            kafka = Apache(partitions=events.PARTITIONS)
            kafka.start()
        try:
            found = measured(kafka, folder, rounds, tell)
        finally:
            kafka.stop()
    return _report(found, kafka.name)


def measured(
    server: brokers.Server,
    folder: Path,
    rounds: int,
    tell: Callable[[str], None],
    *,
    count: int = events.EVENTS,
    documents: int = events.DOCUMENTS,
    with_quix: bool = True,
) -> dict[str, list[Sample]]:
    """Fill a topic and fold it on all sides; raises AssertionError if they did not fold the same."""
    archive = folder / "events.jsonl"
    events.write_file(archive, count, documents)
    with measure.on_core(1):
        asyncio.run(_fill(server, count, documents))
    (address,) = server.brokers

    def folding(module: str, name: str, **options: Path) -> Callable[[], Sample]:
        def side() -> Sample:
            with measure.scratch() as state:
                return measure.side(module, name, address, _TOPIC, state, count, **options)

        return side

    sides = {
        "ours": folding(__name__, "ingest"),
        "Quix": folding(quix.__name__, "local", python=quix.PYTHON),
        "Quix with changelog": folding(quix.__name__, "changelog", python=quix.PYTHON),
        "by hand, rows in memory": folding(by_hand.__name__, "kept"),
        "by hand, rows read": folding(by_hand.__name__, "read"),
        "only consuming": lambda: measure.side(limits.__name__, "consuming", address, _TOPIC, count),
        "only in memory": lambda: measure.side(limits.__name__, "in_memory", archive, count),
    }
    if not with_quix:
        sides = {name: side for name, side in sides.items() if "Quix" not in name}
    with measure.on_core(0):
        found = measure.in_turn(rounds, sides, tell)
    measure.require_equal_digests(found)
    return found


def _report(found: Mapping[str, Sequence[Sample]], broker: str) -> Report:
    def against(what: str, other: str, target: float | None = None) -> list[Finding]:
        wall, cpu = measure.ratios(found["ours"], found[other])
        return [Finding(f"rate / {what}", wall, target), Finding("the same by processor time", cpu)]

    memory = Figures.of([sample.more["rss_mib"] for sample in found["ours"]])
    return Report(
        NAME,
        f"Folding {events.EVENTS:,} events over {events.DOCUMENTS:,} documents from {broker} ({events.PARTITIONS}"
        " partitions) into SQLite (`synchronous = FULL`) through the daemon's ingest, compared with Quix Streams"
        " (RocksDB), with a loop written by hand (confluent-kafka and sqlite3, a durable commit for each batch), with"
        " aiokafka only consuming, and with `orjson.loads` and a dictionary. All that fold have folded the same values."
        " Each on one core, the broker on another.",
        [
            *against("rate of Quix", "Quix", 2.0),
            *against("rate of Quix with its changelog topic", "Quix with changelog"),
            *against("rate of the loop by hand, rows in memory", "by hand, rows in memory"),
            *against("rate of the loop by hand, rows read again", "by hand, rows read"),
            *against("rate of aiokafka only consuming (`getmany`)", "only consuming", 0.42),
            Finding("peak memory, MiB", memory, 344, False, ".0f"),
        ],
        short=_SHORT,
        sides=found,
    )


async def _fill(server: brokers.Server, count: int, documents: int) -> None:
    """Put the events into the topic, each under its document's key."""
    await server.create_topic(_TOPIC, events.PARTITIONS)
    producer = AIOKafkaProducer(bootstrap_servers=server.brokers, linger_ms=20, max_batch_size=512 * 1024)
    await producer.start()
    try:
        for number, (subject, event) in enumerate(events.generated(count, documents)):
            last = await producer.send(_TOPIC, value=event, key=subject.encode(), headers=_HEADERS)
            if number % 5000 == 0:
                await last
        await producer.flush()
    finally:
        await producer.stop()


def ingest(address: str, topic: str, folder: str, count: str) -> Sample:
    """The daemon's ingest loop, wired by the composition root."""
    log_output.configure("info", asked_for=False)
    return runtime.run(_ingest(address, topic, Path(folder), int(count)))


async def _ingest(address: str, topic: str, folder: Path, count: int) -> Sample:
    config = Config()
    config = attrs.evolve(
        config,
        log=attrs.evolve(config.log, brokers=(address,), topics=(ChangeTopic(name=topic, sources=()),)),
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
                sample = stop(count)
                daemon.ingest.stop()
        peak_mib = measure.peak_mib()
        digest = await digest_of(daemon.store)
    return attrs.evolve(sample, more={"rss_mib": peak_mib, "disk_mb": measure.disk_mb(folder), "digest": digest})


async def digest_of(store: Store) -> str:
    """Return the digest of what a store has folded."""
    return events.digest(
        [
            (key, {name: field.register.value for name, field in desired.fields.items() if field.register})
            async for key, desired in store.export_projection()
        ]
    )
