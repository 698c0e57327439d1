"""The connection: runs each transaction on its thread in one hop, checkpoints, and translates errors."""

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import structlog

from reconciler.adapters.sqlite import damage, locks, opening, queries
from reconciler.adapters.sqlite.queries import Many, Query
from reconciler.errors import StoreError

_log = structlog.get_logger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

# Rows changed between two checkpoints. One changes two or three pages, so the write-ahead log stays at some tens of
# megabytes, and a checkpoint, for which commits wait, at some tens of milliseconds.
CHECKPOINT_CHANGES = 4000


class Database:
    """
    A connection as owner or guest. Each call runs on its thread to the end, even if the caller is cancelled.

    After an error that only a person can mend, every later call raises the same error: nothing more is tried on a
    damaged file.
    """

    def __init__(self, path: Path, connection: aiosqlite.Connection, ownership: locks.Ownership | None) -> None:
        self.path = path
        self._connection = connection
        self._ownership = ownership
        self._writer = locks.FileLock(locks.writer_path(path)) if ownership else None
        self.riding: list[Work[None]] = []  # what takes part in the next transaction, and needs none of its own
        self._checkpointed = 0  # `total_changes` at the last checkpoint
        # Among our own tasks: a file lock that is taken twice through one descriptor goes at the first release.
        self._checkpointing = asyncio.Lock()
        self._open = True
        self._fault: StoreError | None = None
        self._identity: damage.Identity | None = None

    @classmethod
    async def open(cls, path: Path, *, owner: bool) -> "Database":
        """Open a file; the owner makes it if there is none."""
        path = locks.real(path)
        ownership = locks.claim(path) if owner else None
        try:
            # Opened here: if its own connector fails, aiosqlite leaves a thread that may outlive the event loop.
            opened = (
                await asyncio.to_thread(_as_owner, path, ownership)
                if ownership
                else await asyncio.to_thread(opening.as_guest, path)
            )
            database = cls(path, await aiosqlite.Connection(lambda: opened, iter_chunk_size=1), ownership)
            database._identity = damage.Identity.of(path) if ownership else None
            return database
        except BaseException as error:
            if ownership:
                ownership.close()
            if isinstance(error, sqlite3.Error):
                raise damage.translated(damage.OPENING, path, error) from error
            raise

    async def read(self, query: Query | Many, *parameters: Any) -> list[bytes]:
        """Return the lines of a query."""
        return await self._run(query.operation, lambda connection: query.lines(connection, *parameters))

    async def write(self, operation: str, work: Work[T]) -> T:
        """Run a function as a durable transaction; return its result."""
        self._require_open(operation)
        if not self._ownership:
            raise StoreError(f"can't {operation} in {self.path}: it was opened read-only")
        # Counted on the thread: the connection may be closed by the time that we hear of the commit.
        result, changes = await self._run(operation, lambda db: (self._transacted(work, db), db.total_changes))
        if changes - self._checkpointed >= CHECKPOINT_CHANGES:
            # Shielded, because the lock must be held until the thread has finished.
            await asyncio.shield(self._checkpoint())
        return result

    async def write_by_hand(self, operation: str, work: Work[T]) -> T:
        """Run one of the small transactions that guests may make as well."""
        if self._ownership:
            return await self.write(operation, work)
        self._require_open(operation)
        try:
            return await asyncio.to_thread(opening.write_as_guest, self.path, partial(transacted, work))
        except sqlite3.Error as error:
            raise self._failed(operation, error) from error

    async def owner(self) -> str:
        """Return the process id of the store's owner, "" if there is none."""
        return str(os.getpid()) if self._ownership else await asyncio.to_thread(locks.owner_of, self.path)

    async def _run(self, operation: str, work: Work[T]) -> T:
        """Run a function of the connection on its thread, so that nothing comes between its statements."""
        self._require_open(operation)
        try:
            # aiosqlite makes its own methods of this one, and has no public one for more than a statement.
            result: T = await self._connection._execute(  # type: ignore[no-untyped-call]  # noqa: SLF001  see above
                lambda: work(self._connection._conn)  # noqa: SLF001  see above
            )
            return result
        except sqlite3.Error as error:
            raise self._failed(operation, error) from error

    def _transacted(self, work: Work[T], connection: sqlite3.Connection) -> T:
        """Run a function with all that ride along; they ride again if it fails."""
        self._require_same_files()
        riding = self.riding[:]

        def together(connection: sqlite3.Connection) -> T:
            for one in riding:
                one(connection)
            return work(connection)

        result = transacted(together, connection)
        del self.riding[: len(riding)]
        return result

    async def close(self) -> None:
        """Close the connection after all calls that are under way."""
        if not self._open:
            return
        try:
            if self.riding and not self._fault:
                await self.write("close the store", lambda _: None)
        finally:
            self._open = False
            await asyncio.shield(self._close())

    async def _close(self) -> None:
        async with self._checkpointing:
            if self._writer:
                await asyncio.to_thread(self._writer.take)  # the last connection to close checkpoints
        try:
            await self._connection.close()
            if self._ownership and not self._fault:
                self._ownership.note(locks.CLOSED)
        except sqlite3.Error as error:
            if not self._fault:  # else this follows from the fault, which was reported
                raise damage.translated("close the store", self.path, error) from error
        finally:
            for lock in (self._writer, self._ownership):
                if lock:
                    lock.close()

    async def _checkpoint(self) -> None:
        """
        Move the log into the database, unless a guest writes: then a later commit tries again.

        Raises nothing, so that the commit before it does not look like one that failed. The next call raises a fault.
        """
        assert self._writer is not None
        if self._checkpointing.locked():
            return
        async with self._checkpointing:
            if not self._open or not self._writer.take_at_once():
                return
            try:
                self._checkpointed = self._connection.total_changes
                await self._connection.execute_fetchall(queries.CHECKPOINT)
            except sqlite3.Error as error:
                failed = self._failed("move the write-ahead log into the database", error)
                _log.warning("no checkpoint; a later commit tries again", error=str(failed))
            finally:
                self._writer.release()

    def _require_open(self, operation: str) -> None:
        if self._fault:
            raise self._fault
        if not self._open:
            raise StoreError(f"can't {operation} in {self.path}: the store is closed")

    def _require_same_files(self) -> None:
        try:
            if self._identity:
                self._identity.require()
        except StoreError as error:
            self._fault = error
            raise

    def _failed(self, operation: str, error: sqlite3.Error) -> StoreError:
        if self._fault:  # of another call under way
            return self._fault
        told = damage.translated(operation, self.path, error)
        if damage.ends_us(error):
            self._fault = told
        return told


def transacted(work: Work[T], connection: sqlite3.Connection) -> T:
    """Run a function between BEGIN and COMMIT; an exception undoes everything it did."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # after some errors SQLite has rolled back by itself
            connection.execute("ROLLBACK")
        raise
    return result


def _as_owner(path: Path, ownership: locks.Ownership) -> sqlite3.Connection:
    """Check the file, open it, and note that it is in use; blocks."""
    damage.recognise(path, ownership)
    opened = opening.as_owner(path)
    try:
        opened.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # makes the write-ahead log, if there is none
        ownership.note(locks.OPEN)
    except BaseException:
        opened.close()
        raise
    return opened
