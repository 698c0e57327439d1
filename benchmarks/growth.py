"""
Folding 100,000 events from a file into a store that has documents already: 20,000, 200,000 and a million of them, each
with all fields and a settled agreement. Beside it, a loop written by hand over `sqlite3` does the same with the same
keys: it keeps a value and a stamp for each field, and nothing else.
"""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import attrs
import orjson

from benchmarks import events, filled, fold_file, growth_by_hand, measure
from benchmarks.measure import Figures, Sample
from benchmarks.report import Finding, Report

NAME = "growth"
_SIZES = (20_000, 200_000, 1_000_000)
_KINDS = 500  # documents of these many kinds fill a store
_OF_A_KIND = 20  # events: all seven fields are set, most of them by different events
_TARGET = 1.5
_MEMORY_MIB = 400
_DOCUMENT_KB = 2.5
_SHORT = "see docs/performance.md for a profile."


def run(rounds: int, tell: Callable[[str], None]) -> Report:
    """Measure."""
    findings: list[Finding] = []
    notes: list[str] = []
    load = measure.load()
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
            notes.append(f"{name}: {'; '.join(f'{side} {_told(samples)}' for side, samples in found.items())}.")
    return Report(
        NAME,
        f"Folding {growth_by_hand.EVENTS:,} events from a file into a store of settled documents with all seven fields,"
        " through the replay flow, compared with a loop written by hand over `sqlite3`: read a row, fold in a"
        f" dictionary, write the row, a durable commit every {growth_by_hand.BATCH:,} events, the same write-ahead log"
        " and cache.",
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
    # Another stream processor belongs here as one more side: it needs the same keys, and to be filled before.
    sides = {
        "by hand": lambda: _on_copy((growth_by_hand.__name__, "folded"), log, theirs, count),
        "replay": lambda: _on_copy((__name__, "replayed"), log, ours, count),
    }
    return measure.in_turn(rounds, sides, tell)


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
