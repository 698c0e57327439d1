"""Stores filled directly, in SQL: many settled documents, sooner than by folding and settling them one by one."""

import asyncio
import sqlite3
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from benchmarks import events
from reconciler.adapters import packing, sqlite
from reconciler.core.events import decode
from reconciler.core.folding import fold
from reconciler.model import codec
from reconciler.model.base import Agreed, Base
from reconciler.model.desired import NOTHING_DESIRED, Desired
from reconciler.model.document import Agreement
from reconciler.model.event import Event, PlainRecord
from reconciler.model.snapshot import Snapshot, Token

_TABLES = {
    "document": "(?, ?, 1, 'synced', '', 3, ?, NULL, 0, 1, NULL)",
    "desired": "(?, ?)",
    "agreement": "(?, ?)",
}


@attrs.frozen
class Kind:
    """A document to fill a store with, under many keys."""

    desired: Desired
    agreement: Agreement

    @classmethod
    def of(cls, seed: int, count: int) -> "Kind":
        """Return the document that these many events of one key make, agreed as it is."""
        found = [
            decode.record(PlainRecord("events", 0, number, 0, None, text), decode.Options())
            for number, (_, text) in enumerate(events.generated(count, 1, seed))
        ]
        desired = fold.steps(NOTHING_DESIRED, [event for event in found if isinstance(event, Event)])
        fields = {
            name: Agreed(field.register.value, field.register.stamp)
            for name, field in desired.fields.items()
            if field.register
        }
        body: dict[str, object] = {name: field.value for name, field in fields.items()}
        snapshot = Snapshot("0000000000", body, Token('"v1.1.1"'), "2026-03-02T06:00:00.000000Z", "jdoe")  # type: ignore[arg-type]  # JSON is JSON
        return cls(desired, Agreement(base=Base(fields), snapshot=snapshot))


def fill(path: Path, count: int, kinds: Sequence[Kind], new: int = 0) -> None:
    """Make a store of settled documents, due again tomorrow; the first `new` of them were never agreed."""
    asyncio.run(_make(path))
    rows = [(codec.encode_desired(kind.desired), packing.pack(codec.encode(kind.agreement))) for kind in kinds]
    tomorrow_us = round((time.time() + 86_400) * 1_000_000)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    numbers = range(1, count + 1)
    tables: dict[str, Iterable[tuple[object, ...]]] = {
        "document": ((number, events.key(number), tomorrow_us + number) for number in numbers),
        "desired": ((number, rows[number % len(rows)][0]) for number in numbers),
        "agreement": ((number, rows[number % len(rows)][1]) for number in numbers[new:]),
    }
    for table, values in tables.items():
        connection.executemany(f"INSERT INTO {table} VALUES {_TABLES[table]}", values)
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


async def _make(path: Path) -> None:
    store = await sqlite.open_store(path, owner=True)
    await store.close()
