"""
The connection of the real SQLite store in a simulation: as the standard library's, over a simulated disk.

SQLite is a newer one than the standard library's (apsw brings its own), and its write-ahead log is in exclusive mode,
because a VFS in Python has no shared memory. Everything else is the same: schema, statements, pragmas.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import apsw

from reconciler.adapters.sqlite import opening
from tests.sim.disk import Disk

_ERRORS: tuple[tuple[type[apsw.Error], type[sqlite3.Error], str | None], ...] = (
    (apsw.IOError, sqlite3.OperationalError, "disk I/O error"),
    (apsw.FullError, sqlite3.OperationalError, "database or disk is full"),
    (apsw.BusyError, sqlite3.OperationalError, "database is locked"),
    (apsw.CantOpenError, sqlite3.OperationalError, "unable to open database file"),
    (apsw.CorruptError, sqlite3.DatabaseError, "database disk image is malformed"),
    (apsw.NotADBError, sqlite3.DatabaseError, "file is not a database"),
    (apsw.ConstraintError, sqlite3.IntegrityError, None),
    (apsw.Error, sqlite3.OperationalError, None),
)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        for theirs, ours, text in _ERRORS:
            if isinstance(error, theirs):
                raise ours(text or str(error)) from error


class Cursor:
    """Rows that were all fetched at once."""

    def __init__(self, rows: list[Any], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def fetchone(self) -> Any:
        return self._rows[0] if self._rows else None

    def fetchall(self) -> list[Any]:
        return self._rows


class Connection:
    """The members of `sqlite3.Connection` that the store uses."""

    def __init__(self, disk: Disk, path: Path) -> None:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        with _translated():
            self._connection = apsw.Connection(str(path), flags=flags, vfs=disk.name)
            self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")

    @property
    def total_changes(self) -> int:
        return self._connection.total_changes()

    def execute(self, sql: str, parameters: Any = ()) -> Cursor:
        with _translated():
            rows = list(self._connection.execute(sql, parameters))
        return Cursor(rows, self._connection.changes())

    def executescript(self, sql: str) -> None:
        self.execute(sql)

    def close(self) -> None:
        with _translated():
            self._connection.close(force=True)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the simulation's connection has no {name} yet")


def as_owner(disk: Disk, path: Path) -> Connection:
    """Open as the program does, with its own pragmas and schema."""
    with mock.patch.object(opening, "_connect", lambda path, _: Connection(disk, path)):
        return opening.as_owner(path)  # type: ignore[return-value]  # it returns what `_connect` gives
