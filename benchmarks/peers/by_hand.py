"""
A loop as a good programmer writes it for this one job: confluent-kafka and sqlite3, a row for each document, and a
durable transaction for each batch, with the offsets in it.
"""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
import orjson
from confluent_kafka import Consumer, TopicPartition

from benchmarks import events, measure
from benchmarks.measure import Sample

_BATCH = 5_000
_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE document (key TEXT PRIMARY KEY, fields BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE position (partition INTEGER PRIMARY KEY, next_offset INTEGER NOT NULL);
"""
_READ = "SELECT key, fields FROM document WHERE key IN (SELECT value FROM json_each(?))"
_STORE = "INSERT INTO document VALUES (?, ?) ON CONFLICT DO UPDATE SET fields = excluded.fields"
_ADVANCE = "INSERT INTO position VALUES (?, ?) ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset"

_Rows = dict[str, dict[str, list[Any]]]


def kept(brokers: str, topic: str, folder: str, count: str) -> Sample:
    """Fold the topic with all rows in memory: the fastest way, and memory grows with the store."""
    return _folded(brokers, topic, Path(folder) / "kept.db", int(count), keep=True)


def read(brokers: str, topic: str, folder: str, count: str) -> Sample:
    """Fold the topic with each batch's rows read again, as we do."""
    return _folded(brokers, topic, Path(folder) / "read.db", int(count), keep=False)


def _folded(brokers: str, topic: str, database: Path, count: int, *, keep: bool) -> Sample:
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "by-hand", "enable.auto.commit": False})
    partitions = consumer.list_topics(topic).topics[topic].partitions
    rows: _Rows = {}
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.executescript(_SCHEMA)
        measure.settle_memory()
        stop = measure.started()
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        left = count
        while left:
            batch, positions = _next(consumer)
            keys = {event["subject"] for event in batch}
            if not keep:
                rows = _rows(connection, keys)
            changed = {event["subject"] for event in batch if events.fold(rows.setdefault(event["subject"], {}), event)}
            connection.execute("BEGIN")
            connection.executemany(_STORE, ((key, orjson.dumps(rows[key])) for key in changed))
            connection.executemany(_ADVANCE, positions.items())
            connection.execute("COMMIT")
            left -= len(batch)
        sample = stop(count)
        consumer.close()
        more: dict[str, Any] = {"rss_mib": measure.peak_mib(), "digest": events.digest(_values(connection))}
    more["disk_mb"] = measure.disk_mb(database.parent)
    return attrs.evolve(sample, more=more)


def _next(consumer: Consumer) -> tuple[list[dict[str, Any]], dict[int, int]]:
    """Return a batch of events, and up to which offset of each partition it goes."""
    batch: list[dict[str, Any]] = []
    positions: dict[int, int] = {}
    for message in consumer.consume(_BATCH, timeout=0.1):
        assert message.error() is None, message.error()
        value, partition, offset = message.value(), message.partition(), message.offset()
        assert value is not None and partition is not None and offset is not None  # noqa: PT018  for mypy: a record has all
        batch.append(orjson.loads(value))
        positions[partition] = offset + 1
    return batch, positions


def _rows(connection: sqlite3.Connection, keys: Iterable[str]) -> _Rows:
    stored = connection.execute(_READ, (orjson.dumps(list(keys)).decode(),))
    return {key: orjson.loads(fields) for key, fields in stored}


def _values(connection: sqlite3.Connection) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, fields in connection.execute("SELECT key, fields FROM document"):
        yield key, events.values(orjson.loads(fields))
