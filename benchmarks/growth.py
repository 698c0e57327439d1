"""
Folding 100,000 events from a file into a store that has documents already: 20,000, 200,000 and a million of them, each
with all fields and a settled agreement. Beside it, a loop written by hand over `sqlite3` does the same with the same
keys: it keeps a value and a stamp for each field, and nothing else. With a million documents Quix Streams does so too,
from Apache Kafka and with its state in RocksDB, which a first event for each document has filled.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import attrs
import orjson

from benchmarks import backlog, events, filled, fold_file, growth_by_hand, measure
from benchmarks.measure import Figures, Sample
from benchmarks.peers import quix
from benchmarks.report import Finding, Report
from tests.brokers.apache import Apache

NAME = "growth"
_SIZES = (20_000, 200_000, 1_000_000)
_KINDS = 500  # documents of these many kinds fill a store
_OF_A_KIND = 20  # events: all seven fields are set, most of them by different events
_TOPIC = "growth"
_TARGET = 1.5
_MEMORY_MIB = 400
_DOCUMENT_KB = 2.5
_SHORT = "see docs/performance.md for a profile."


def run(rounds: int, tell: Callable[[str], None]) -> Report:
    """Measure; raises `apache.Unavailable` without Java or Maven."""
    findings: list[Finding] = []
    notes: list[str] = []
    load = measure.load()
    theirs = _quix(rounds, tell)
    kinds = [filled.Kind.of(seed, _OF_A_KIND) for seed in range(_KINDS)]
    for count in _SIZES:
        largest = count == _SIZES[-1]
        with measure.scratch() as folder:
            found = _measured(rounds, count, kinds, folder, tell)
            wall, cpu = measure.ratios(found["replay"], found["by hand"])
            peak = Figures.of([sample.more["peak_mib"] for sample in found["replay"]])
            each = Figures.of([sample.more["kb_each"] for sample in found["replay"]])
            name = f"{count:,} documents"
            findings += [
                Finding(f"{name}: rate / rate of the loop written by hand", wall, _TARGET if largest else None),
                Finding(f"{name}: the same by processor time", cpu),
                Finding(f"{name}: peak memory, MiB", peak, _MEMORY_MIB if largest else None, False, ".0f"),
                Finding(f"{name}: kB on disk a document", each, _DOCUMENT_KB if largest else None, False),
            ]
            if largest:
                wall, cpu = measure.ratios(found["replay"], theirs)
                findings += [
                    Finding(f"{name}: rate / rate of Quix", wall, _TARGET),
                    Finding(f"{name}: the same by processor time", cpu),
                ]
                found |= {"Quix": theirs}
            notes.append(f"{name}: {'; '.join(f'{side} {_told(samples)}' for side, samples in found.items())}.")
    return Report(
        NAME,
        f"Folding {growth_by_hand.EVENTS:,} events from a file into a store of settled documents with all seven fields,"
        " through the replay flow, compared with a loop written by hand over `sqlite3`: read a row, fold in a"
        f" dictionary, write the row, a durable commit every {growth_by_hand.BATCH:,} events, the same write-ahead log"
        f" and cache. Quix Streams folds them from a topic, after {_SIZES[-1]:,} events, one for each document, which"
        " are not counted; it was measured before the others.",
        findings,
        notes,
        _SHORT,
        load,
    )


def _measured(
    rounds: int, count: int, kinds: list[filled.Kind], folder: Path, tell: Callable[[str], None]
) -> dict[str, list[Sample]]:
    """Measure both sides on copies of their databases."""
    log, ours, theirs = folder / "events.jsonl", folder / "ours.db", folder / "theirs.db"
    events.write_file(log, growth_by_hand.EVENTS, count, seed=_KINDS)
    filled.fill(ours, count, kinds)
    _fill_by_hand(theirs, count, kinds)
    tell(f"  {count:,} documents: {_kb_each(ours, count):.2f} kB each, by hand {_kb_each(theirs, count):.2f}")
    sides = {
        "by hand": lambda: _on_copy((growth_by_hand.__name__, "folded"), log, theirs, count),
        "replay": lambda: _on_copy((__name__, "replayed"), log, ours, count),
    }
    return measure.in_turn(rounds, sides, tell)


def _quix(rounds: int, tell: Callable[[str], None]) -> list[Sample]:
    """Measure Quix over as many keys as the largest of our stores has."""
    documents, count = _SIZES[-1], growth_by_hand.EVENTS
    with Apache(partitions=1) as kafka:
        asyncio.run(kafka.create_topic(_TOPIC, 1))
        told = chain(_one_each(documents), events.generated(count, documents, seed=_KINDS))
        backlog.fill_topic(kafka.address(), _TOPIC, told)

        def side() -> Sample:
            with measure.scratch() as state:
                order = (quix.__name__, "filled", kafka.address(), _TOPIC, state, documents, count)
                sample = measure.side(*order, python=quix.PYTHON)
            kb_each = sample.more["disk_mb"] * 1000 / documents
            return attrs.evolve(sample, more={"peak_mib": sample.more["rss_mib"], "kb_each": kb_each})

        return measure.in_turn(rounds, {"Quix": side}, tell)["Quix"]


def _one_each(documents: int) -> Iterator[tuple[str, bytes]]:
    """Yield an event for each document, older than the others, that sets all seven fields."""
    for number, (_, text) in zip(range(1, documents + 1), events.generated(documents, 1), strict=True):
        event = orjson.loads(text)
        whole = dict.fromkeys(events.FIELDS, f"filled {number}") | event["data"]["set"]
        key = events.key(number)
        yield key, orjson.dumps(event | {"subject": key, "time": "2026-01-01T00:00:00.000000Z", "data": {"set": whole}})


def _on_copy(side: tuple[str, str], log: Path, database: Path, count: int) -> Sample:
    copy = measure.copied(database, database.with_suffix(".copy"))
    try:
        sample = measure.side(*side, log, copy, count)
        return attrs.evolve(sample, more=sample.more | {"kb_each": _kb_each(copy, count)})
    finally:
        measure.remove(copy)


def _kb_each(database: Path, count: int) -> float:
    return database.stat().st_size / count / 1000


def _told(samples: list[Sample]) -> str:
    rates = Figures.of([sample.rate for sample in samples]).shown(",.0f")
    cpu = Figures.of([sample.cpu_us for sample in samples]).shown(".1f")
    peak = max(sample.more["peak_mib"] for sample in samples)
    return f"{rates} events/s, {cpu} µs of processor each, {peak} MiB, {samples[0].more['kb_each']:.2f} kB a document"


def replayed(log: str, database: str, count: str) -> Sample:
    """Replay the events into the store."""
    sample = fold_file.replayed_into(Path(log), Path(database), growth_by_hand.EVENTS, int(count))
    return attrs.evolve(sample, more={"peak_mib": measure.peak_mib()})


def _fill_by_hand(path: Path, count: int, kinds: list[filled.Kind]) -> None:
    rows = [
        orjson.dumps(
            {
                name: (field.register.value, (*field.register.stamp[1:3], *field.register.stamp[5:]))
                for name, field in kind.desired.fields.items()
                if field.register
            }
        )
        for kind in kinds
    ]
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;"
        " CREATE TABLE document (key TEXT PRIMARY KEY, fields BLOB NOT NULL); BEGIN"
    )
    connection.executemany(
        "INSERT INTO document VALUES (?, ?)",
        ((events.key(number), rows[number % len(rows)]) for number in range(1, count + 1)),
    )
    connection.execute("COMMIT")
    connection.close()
