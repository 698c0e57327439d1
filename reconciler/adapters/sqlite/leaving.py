# ruff: noqa: S608 - the SQL is put together from our own names
"""
Leaving: a store in a file that moves to a server. Nobody else uses it meanwhile, nor afterwards.

The note is a row in the file itself (`moved`), which every opening looks for: a file that has moved can't be used again
by mistake, wherever it is copied to. It is written just before the server commits, without which nothing is there.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import attrs

from reconciler.adapters.sqlite import damage, locks, opening
from reconciler.errors import StoreError
from reconciler.ports.moving import TABLES, Line

_LINES = 2_000
_BYTES = 8 * 2**20  # of a page; a line has at most some megabytes

# Where a table's lines are not simply its columns, in the order of its key.
_SELECT = {
    "document": (
        "SELECT key, revision, status, reason, lane, due_us, pending_since_us, conflicts, attempts, aside_us,"
        " (SELECT desired FROM desired WHERE desired.document = number),"
        " (SELECT agreement FROM agreement WHERE agreement.document = number) FROM document ORDER BY key"
    ),
    "audit": "SELECT id, document, at_us, target, who, kind, link, record FROM audit ORDER BY id",
    "outbox": "SELECT message FROM outbox ORDER BY number",
    "refold": "SELECT document, number FROM refold ORDER BY number",
}


@attrs.frozen
class Departure:
    """`ports.moving.Cargo` of a file."""

    _path: Path
    _connection: sqlite3.Connection

    @property
    def leaving(self) -> tuple[str, str] | None:
        found = self._connection.execute("SELECT place, move FROM moved").fetchone()
        return None if found is None else (found[0], found[1])

    def count(self) -> int:
        counts = (self._connection.execute(f"SELECT count(*) FROM {table}").fetchone() for table in TABLES)
        return sum(count for (count,) in counts)

    def pages(self, table: str) -> Iterator[list[Line]]:
        sql = _SELECT.get(table, f"SELECT {', '.join(TABLES[table])} FROM {table} ORDER BY 1")
        try:
            page: list[Line] = []
            size = 0
            for line in self._connection.execute(sql):
                page.append(line)
                size += sum(len(cell) for cell in line if isinstance(cell, bytes))
                if len(page) >= _LINES or size >= _BYTES:
                    yield page
                    page, size = [], 0
            if page:
                yield page
        except sqlite3.Error as error:
            raise damage.translated(f"read {table}", self._path, error) from error

    def leave(self, place: str, move: str) -> None:
        self._note(place, move, done=False)

    def left(self, place: str, move: str) -> None:
        self._note(place, move, done=True)

    def _note(self, place: str, move: str, *, done: bool) -> None:
        try:
            self._connection.execute("INSERT OR REPLACE INTO moved VALUES (1, ?, ?, ?)", (place, move, done))
        except sqlite3.Error as error:
            raise damage.translated("note where the store moves", self._path, error) from error


@contextmanager
def leaving(path: Path) -> Iterator[Departure]:
    """Keep everyone else from a store for one block, in which it may leave."""
    path = locks.real(path)
    if not path.exists():
        raise StoreError(f"there is no store at {path}")
    with closing(locks.claim(path)) as ownership:
        damage.recognise(path, ownership)
        connection = opening.as_owner(path, leaving=True)
        # Operators' commands wait. The last connection to close checkpoints, so that is under the lock too.
        with locks.held(locks.writer_path(path)), closing(connection):
            yield Departure(path, connection)
        ownership.note(locks.CLOSED)
