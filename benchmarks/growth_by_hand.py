"""
The rival of `growth`: folding as one would write it by hand, over `sqlite3` alone. A module of its own, so that its
process has none of ours in memory.
"""

import sqlite3
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import orjson

from benchmarks import measure
from benchmarks.measure import Sample

EVENTS = 100_000
BATCH = 10_000  # events that are committed together
_STORE = "INSERT INTO document VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET fields = excluded.fields"


def folded(log: str, database: str, _: str) -> Sample:
    """Fold the events as one would without a library: a dictionary of fields for each key, stored as JSON."""
    connection = sqlite3.connect(database, isolation_level=None)
    connection.executescript("PRAGMA synchronous = FULL; PRAGMA cache_size = -32000;")
    measure.settle_memory()
    with measure.stopwatch() as stop:
        with Path(log).open("rb") as lines:
            numbered = enumerate(lines)
            while batch := list(islice(numbered, BATCH)):
                connection.execute("BEGIN")
                rows = _fold(connection, batch)
                connection.executemany(_STORE, [(key, orjson.dumps(fields)) for key, fields in rows.items()])
                connection.execute("COMMIT")
        connection.close()  # moves what is left of the log into the database, as ours does
        sample = stop(EVENTS)
    return Sample(sample.count, sample.wall_s, sample.cpu_s, {"peak_mib": measure.peak_mib()})


def _fold(connection: sqlite3.Connection, batch: Iterable[tuple[int, bytes]]) -> dict[str, dict[str, object]]:
    rows: dict[str, dict[str, object]] = {}
    for number, line in batch:
        event = orjson.loads(line)
        key = event["subject"]
        fields = rows.get(key)
        if fields is None:
            stored = connection.execute("SELECT fields FROM document WHERE key = ?", (key,)).fetchone()
            fields = rows[key] = orjson.loads(stored[0]) if stored else {}
        stamp = [event["time"], event.get("sequence", ""), number, event["source"], event["id"]]
        for name, value in event["data"]["set"].items():
            known = fields.get(name)
            if known is None or known[1] < stamp:  # type: ignore[index]  # a pair
                fields[name] = (value, stamp)
    return rows
