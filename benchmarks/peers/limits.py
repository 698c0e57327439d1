"""
What no fold can exceed: only consuming the topic, and only parsing and keeping the newest values. Neither stores
anything.
"""

from pathlib import Path

import attrs
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks import events, measure
from benchmarks.measure import Sample
from reconciler.adapters.kafka_client import KafkaOptions
from reconciler.cli import runtime


def consuming(brokers: str, topic: str, count: str) -> Sample:
    """Consume with aiokafka alone, as fast as it gets: every record is fetched, none is looked at."""
    return runtime.run(_consuming(brokers, topic, int(count)))


async def _consuming(brokers: str, topic: str, count: int) -> Sample:
    options = KafkaOptions(brokers=(brokers,), topics=(topic,))
    consumer = AIOKafkaConsumer(
        bootstrap_servers=brokers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_bytes=options.fetch_bytes,
        max_partition_fetch_bytes=options.partition_fetch_bytes,
    )
    await consumer.start()
    measure.settle_memory()
    try:
        stop = measure.started()
        consumer.assign([TopicPartition(topic, number) for number in range(events.PARTITIONS)])
        left = count
        while left > 0:
            left -= sum(map(len, (await consumer.getmany(timeout_ms=1000, max_records=5000)).values()))
        return attrs.evolve(stop(count), more={"rss_mib": measure.peak_mib()})
    finally:
        await consumer.stop()


def in_memory(path: str, count: str) -> Sample:
    """Fold the lines of a file: parse, and keep for each field the value with the greatest stamp, in a dictionary."""
    documents: dict[str, dict[str, tuple[object, tuple[str, str, int, str, str]]]] = {}
    measure.settle_memory()
    stop = measure.started()
    with Path(path).open("rb") as lines:
        for number, line in enumerate(lines):
            event = orjson.loads(line)
            fields = documents.setdefault(event["subject"], {})
            stamp = (event["time"], event.get("sequence", ""), number, event["source"], event["id"])
            for name, value in event["data"]["set"].items():
                known = fields.get(name)
                if known is None or known[1] < stamp:
                    fields[name] = (value, stamp)
    sample = stop(int(count))
    values = ((key, {name: value for name, (value, _) in fields.items()}) for key, fields in documents.items())
    return attrs.evolve(sample, more={"rss_mib": measure.peak_mib(), "digest": events.digest(values)})
