# ruff: noqa: S608 - the SQL is put together from our own names
"""
Inspecting a store closely, also while it is in use: every page, every index against its table, every row decoded.

It reads by the piece, so that no read transaction lasts: one that does keeps the write-ahead log from starting over.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import attrs
import msgspec

from reconciler.adapters.sqlite import damage, opening
from reconciler.model import codec
from reconciler.model.document import Conflict
from reconciler.model.event import DeadLetter, Outgoing

Tell = Callable[[int, int | None], None]
_Decode = Callable[[bytes], object]

_PAGE_ROWS = 500
_PLAIN = ("sqlite_schema", "position", "contention")  # no blobs in them

# Each table with what its blobs must decode to.
_BLOBS: dict[str, dict[str, _Decode]] = {
    "document": {"desired": codec.decode_desired, "agreement": codec.decode_agreement},
    "audit": {"record": codec.decode_record},
    "outbox": {"message": msgspec.json.Decoder(Outgoing).decode},
    "dead_letter": {"letter": msgspec.json.Decoder(DeadLetter).decode},
    "conflict": {"conflict": msgspec.json.Decoder(Conflict).decode},
    "policy": {"policy": codec.decode_policy},
}
_KEYS = {"policy": "digest"}  # of tables that have no rowid


@attrs.frozen
class Inspected:
    """What an inspection came to: how many rows were read, and the first fault."""

    rows: int
    fault: str | None


def glance(path: Path) -> str | None:
    """Return the first fault that a start would find: in all of it if it is small, else where it hurts most."""
    try:
        with closing(opening.to_read(path)) as connection:
            small = path.stat().st_size <= damage.CHECKED_BYTES_MAX
            return damage.first_fault(connection, () if small else damage.ALWAYS)
    except sqlite3.Error as error:
        return str(error)


def inspect(path: Path, tell: Tell) -> Inspected:
    """Read all of a store; `tell` is told rows. Raises StoreError when it can't be opened at all."""
    rows = 0
    try:
        with closing(opening.to_read(path)) as connection:
            total = sum(_count(connection, table) for table in _BLOBS)
            tell(0, total)
            for table in (*_PLAIN, *_BLOBS):
                if fault := damage.first_fault(connection, (table,), "integrity_check"):
                    return Inspected(rows, fault)
            for table, columns in _BLOBS.items():
                for count, fault in _decoded(connection, table, columns):
                    rows += count
                    tell(rows, max(rows, total))
                    if fault:
                        return Inspected(rows, fault)
    except sqlite3.Error as error:
        return Inspected(rows, str(error))
    return Inspected(rows, None)


def _count(connection: sqlite3.Connection, table: str) -> int:
    (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(count)


def _decoded(
    connection: sqlite3.Connection, table: str, columns: dict[str, _Decode]
) -> Iterator[tuple[int, str | None]]:
    """Yield, page by page, how many rows were decoded, with the fault at which that ended."""
    key = _KEYS.get(table, "rowid")
    after: int | str = "" if table in _KEYS else -1
    page = f"SELECT {key}, {', '.join(columns)} FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT {_PAGE_ROWS}"
    while rows := connection.execute(page, (after,)).fetchall():
        for number, (after, *blobs) in enumerate(rows):  # the last key is where the next page begins
            for (name, decode), blob in zip(columns.items(), blobs, strict=True):
                try:
                    if blob is not None:
                        decode(blob)
                except (ValueError, TypeError) as error:
                    yield number, f"{name} of row {after} in table {table} can't be read: {error}"
                    return
        yield len(rows), None
