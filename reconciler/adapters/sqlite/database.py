"""The connection: one hop to its thread for a statement, checkpoints in their place, errors translated."""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import aiosqlite

from reconciler.adapters.sqlite import locks, opening, queries
from reconciler.adapters.sqlite.queries import Query
from reconciler.errors import StoreError

T = TypeVar("T")

# Rows changed between two checkpoints. One changes two or three pages, so the write-ahead log stays at some tens of
# megabytes, and a checkpoint, for which commits wait, at some tens of milliseconds.
CHECKPOINT_CHANGES = 4000

_HINTS = (
    ("full", "free some space on its disk, then start again"),
    ("not a database", "use another [store] url, or move the file away and replay the log"),
    ("malformed", "move the file away and rebuild it by replaying the log"),
    ("locked", "another program writes to it; find and stop it"),
    ("readonly", "make file and directory writable"),
    ("unable to open", "see that its directory exists and may be written to"),
)


class Database:
    """A connection as owner or guest. Each method is one statement, which runs to its end whoever is cancelled."""

    def __init__(self, path: Path, connection: aiosqlite.Connection, ownership: locks.FileLock | None) -> None:
        self.path = path
        self._connection = connection
        self._ownership = ownership
        self._writer = locks.FileLock(locks.writer_path(path)) if ownership else None
        self._checkpointed = 0  # `total_changes` at the last checkpoint
        # Among our own tasks, since a file lock taken twice through one descriptor is let go of at the first release.
        self._checkpointing = asyncio.Lock()
        self._open = True

    @classmethod
    async def open(cls, path: Path, *, owner: bool) -> "Database":
        """Open a file; the owner makes it when there is none."""
        ownership = locks.claim(path) if owner else None
        try:
            # Opened beforehand: when its connector fails, aiosqlite leaves a thread that may outlive the event loop.
            opened = await asyncio.to_thread(opening.as_owner if owner else opening.as_guest, path)
            connection = await aiosqlite.Connection(lambda: opened, iter_chunk_size=1)
            return cls(path, connection, ownership)
        except BaseException as error:
            if ownership:
                ownership.close()
            if isinstance(error, sqlite3.Error):
                raise _translated("open the store", path, error) from error
            raise

    async def read(self, query: Query, *parameters: object) -> list[bytes]:
        """Return the lines that a query gives."""
        self._require_open(query)
        try:
            rows = list(await self._connection.execute_fetchall(query.sql, parameters))
        except sqlite3.Error as error:
            raise _translated(query.operation, self.path, error) from error
        lines = rows[0][0]
        return [] if lines is None else bytes(lines).split(b"\n")

    async def write(self, query: Query, *parameters: object) -> int:
        """Run a transaction, durably; return how many rows it changed (a procedure tells nothing)."""
        self._require_open(query)
        if not self._ownership:
            raise StoreError(f"can't {query.operation} in {self.path}: it was opened only to look")
        try:
            cursor = await self._connection.execute(query.sql, parameters)
        except sqlite3.Error as error:
            raise _translated(query.operation, self.path, error) from error
        if self._connection.total_changes - self._checkpointed >= CHECKPOINT_CHANGES:
            # Shielded, because the lock must be held for as long as the thread is at it.
            await asyncio.shield(self._checkpoint())
        return cursor.rowcount

    async def write_by_hand(self, query: Query, *parameters: object) -> int:
        """Run one of the small writes that guests may make too."""
        if self._ownership:
            return await self.write(query, *parameters)
        self._require_open(query)
        try:
            return await asyncio.to_thread(opening.write_as_guest, self.path, query.sql, parameters)
        except sqlite3.Error as error:
            raise _translated(query.operation, self.path, error) from error

    async def close(self) -> None:
        """Close the connection, behind everything that was handed to it."""
        if self._open:
            self._open = False
            await asyncio.shield(self._close())

    async def _close(self) -> None:
        async with self._checkpointing:
            if self._writer:
                await asyncio.to_thread(self._writer.take)  # the last connection to close checkpoints
        try:
            await self._connection.close()
        except sqlite3.Error as error:
            raise _translated("close the store", self.path, error) from error
        finally:
            for lock in (self._writer, self._ownership):
                if lock:
                    lock.close()

    async def _checkpoint(self) -> None:
        """Move the log into the database, unless somebody else is at it: then a later commit tries again."""
        assert self._writer is not None
        if self._checkpointing.locked():
            return
        async with self._checkpointing:
            if not self._open or not self._writer.take_at_once():
                return
            try:
                self._checkpointed = self._connection.total_changes
                await self._connection.execute_fetchall(queries.CHECKPOINT.sql)
            except sqlite3.Error as error:
                raise _translated(queries.CHECKPOINT.operation, self.path, error) from error
            finally:
                self._writer.release()

    def _require_open(self, query: Query) -> None:
        if not self._open:
            raise StoreError(f"can't {query.operation} in {self.path}: the store is closed")


def _translated(operation: str, path: Path, error: sqlite3.Error) -> StoreError:
    text = str(error)
    hint = next((hint for word, hint in _HINTS if word in text), None)
    return StoreError(f"can't {operation} in {path}: {text}" + (f"; {hint}" if hint else ""))


async def off_loop(work: Callable[[], T]) -> T:
    """Run pure work of a whole batch on a thread, so that the event loop keeps its beat meanwhile."""
    return await asyncio.to_thread(work)
