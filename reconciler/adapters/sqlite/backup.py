"""
Copies of a store: making one while the store is in use, checking it, and putting it in a store's place.

Rules. Nothing is ever deleted: the store that was replaced is set aside under a name that says why and when. Wherever
this program ends, the store's name stands for a whole store, or for none and a note that says so (`locks.REPLACING`).

SQLite's own backup makes the copy inside one read transaction, so it shows one moment however much is written
meanwhile. It writes in slices and forces each to the disk before the next: a single sync at the end would make the
owner's commits wait (docs/decisions/0007 has the measurements). A copy with many free pages, as after `prune`, is made
small by writing it once more without them.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TypeVar

from reconciler.adapters import files
from reconciler.adapters.sqlite import damage, locks, opening
from reconciler.errors import StoreDamagedError, StoreError
from reconciler.model.stamp import Partition
from reconciler.ports.store_admin import Contents, Tell

T = TypeVar("T")

_SLICE_PAGES = 2000  # 8 MiB
_SMALLER = ".smaller"
_SYNC_S = 0.1
_BESIDE = ("-wal", "-shm")  # left by a database that was not closed properly
_LOCKS = (".owner", ".writer")


def snapshot(store: Path, to: Path, tell: Tell) -> Contents:
    """
    Copy a store, which may be in use. The file appears under its name only when it is whole and checked.

    Raises StoreDamagedError when the store is damaged, StoreError when the file can't be written.
    """
    locks.require_one_name(store)
    if to.exists() and to.samefile(store):
        raise StoreError(f"{to} is the store itself; name another file")
    if any(files.beside(to, suffix).exists() for suffix in (*_BESIDE, *_LOCKS)):
        raise StoreError(f"{to} is, or was, in use as a store; name another file")
    part = files.beside(to, ".part")
    try:
        copy(store, part, tell)
        _compact(part)
        contents = examine(part)
        files.sync(part)
        part.replace(to)
        files.sync(to.parent)
    except StoreDamagedError as error:
        raise StoreDamagedError(f"{store} is damaged ({error}); {damage.REMEDY}") from error
    except OSError as error:
        raise StoreError(f"can't write {to}: {error.strerror}") from error
    finally:
        _remove(part)
        _remove(files.beside(part, _SMALLER))
    return contents


def _compact(path: Path) -> None:
    """Leave out the pages of a copy that are free, if they are more than a few."""
    smaller = files.beside(path, _SMALLER)
    _remove(smaller)
    try:
        with _made(smaller) as written, closing(opening.to_read(path)) as reader:
            ((free,), (pages,)) = (reader.execute(f"PRAGMA {of}_count").fetchone() for of in ("freelist", "page"))
            if free > pages // 10:
                with _synced_meanwhile(written):
                    reader.execute("VACUUM INTO ?", (str(smaller),))
        if smaller.stat().st_size:
            smaller.replace(path)
    except sqlite3.Error as error:
        raise _failed(f"make {path} smaller", path, error) from error


@contextmanager
def _synced_meanwhile(file: int) -> Iterator[None]:
    """Force what is written to a file to the disk again and again, for one block: see above."""
    done = threading.Event()

    def sync() -> None:
        while not done.wait(_SYNC_S):
            os.fdatasync(file)

    with ThreadPoolExecutor(1) as thread:
        syncing = thread.submit(sync)
        try:
            yield
        finally:
            done.set()
    syncing.result()


def copy(source: Path, to: Path, tell: Tell) -> None:
    """Copy a store as it is at one moment into another file, without checking it. `tell` is told pages."""
    _remove(to)
    if not source.exists():
        raise StoreError(f"there is no store at {source}; correct the name")
    try:
        # `written` is opened before SQLite opens the file and closed after: see the package's docstring.
        with _made(to) as written, closing(opening.to_read(source)) as reader, closing(_fresh(to)) as writer:
            # In a transaction of its own the reader sees one moment, and the backup never begins again.
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sqlite_schema").fetchone()

            def sliced(_: int, remaining: int, total: int) -> None:
                os.fdatasync(written)
                tell(total - remaining, total)

            reader.backup(writer, pages=_SLICE_PAGES, progress=sliced)
            writer.execute("PRAGMA journal_mode = DELETE")  # one file, which opens wherever it is put
    except sqlite3.Error as error:
        raise _failed(f"copy {source}", to, error) from error


def _failed(operation: str, path: Path, error: sqlite3.Error) -> StoreError:
    """Return what to raise; of damage without what to do, which callers say: it depends on what the copy is for."""
    told = damage.translated(operation, path, error)
    return StoreDamagedError(str(error)) if isinstance(told, StoreDamagedError) else told


def examine(path: Path) -> Contents:
    """
    Read and check a whole store or snapshot; return what it holds.

    Raises StoreDamagedError when it is damaged, StoreError when it is not ours or newer than this program.
    """
    try:
        with closing(opening.to_read(path)) as connection:
            if fault := damage.first_fault(connection):
                raise StoreDamagedError(fault)
            return _contents(connection, path)
    except sqlite3.Error as error:
        raise StoreDamagedError(str(error)) from error


def unchecked(path: Path) -> Contents | None:
    """Return what a store says it holds; `None` if there is no store, or it can't say."""
    return _asked(path, lambda connection: _contents(connection, path)) if path.exists() else None


def audit_records(path: Path) -> int | None:
    """Return how many audit records a store, perhaps a damaged one, holds; `None` if they can't all be read."""
    count = "SELECT count(*) FROM audit WHERE length(record) > 0"
    return _asked(path, lambda connection: int(connection.execute(count).fetchone()[0]))


def _asked(path: Path, question: Callable[[sqlite3.Connection], T]) -> T | None:
    try:
        with closing(opening.to_read(path)) as connection:
            return question(connection)
    except (sqlite3.Error, StoreError):
        return None


@contextmanager
def replacing(store: Path) -> Iterator["Replacement"]:
    """Own a store's place for one block, to put another store there; refused while a reconciler owns the store."""
    store = locks.real(store)
    with closing(locks.claim(store)) as ownership:
        # The header may still be in the log only, but then the owner's note shows that the store is ours.
        if not ownership.found and opening.is_foreign(store):
            raise StoreError(f"{store} is another program's database; use another [store] url")
        replacement = Replacement(store, ownership)
        _remove(replacement.fresh)
        try:
            yield replacement
        finally:
            _remove(replacement.fresh)


@contextmanager
def unowned(path: Path) -> Iterator[None]:
    """Keep a reconciler from taking a file in use as its store for one block; refused while one does."""
    with ExitStack() as stack:
        path = locks.real(path)
        if locks.owner_path(path).exists():
            stack.enter_context(closing(locks.claim(path)))
        yield


class Replacement:
    """A store's place, which we own. The caller makes another store at `fresh`; `put` moves it into the place."""

    def __init__(self, store: Path, ownership: locks.Ownership) -> None:
        self.store = store
        self.fresh = files.beside(store, ".new")
        self._ownership = ownership

    def put(self, why: str, at: str) -> Path | None:
        """
        Put `fresh` in the store's place; return where the former store is now, `None` if there was none.

        `why` and `at` (a moment, in characters that file names may have) become part of that name.
        """
        try:
            return self._put(why, at)
        except OSError as error:
            raise StoreError(f"can't put {self.fresh} in the place of {self.store}: {error.strerror}") from error

    def _put(self, why: str, at: str) -> Path | None:
        leftover = files.beside(self.fresh, "-wal")
        assert not leftover.exists() or not leftover.stat().st_size, "the new store is not whole without its log"
        files.sync(self.fresh)
        with locks.held(locks.writer_path(self.store)):  # so that no operator writes to it meanwhile
            self._ownership.note(locks.REPLACING)
            aside = self._set_aside(why, at)
            self.fresh.replace(self.store)
            files.sync(self.store.parent)
            self._ownership.note(locks.CLOSED)
        return aside

    def _set_aside(self, why: str, at: str) -> Path | None:
        there = [suffix for suffix in ("", *_BESIDE) if files.beside(self.store, suffix).exists()]
        if not there:
            return None
        aside = files.beside(self.store, f".{why}-{at}")
        number = 1
        while any(files.beside(aside, suffix).exists() for suffix in there):
            number += 1
            aside = files.beside(self.store, f".{why}-{at}-{number}")
        for suffix in there:
            files.beside(self.store, suffix).rename(files.beside(aside, suffix))
        return aside


def _contents(connection: sqlite3.Connection, path: Path) -> Contents:
    (documents,) = connection.execute("SELECT coalesce(max(number), 0) FROM document").fetchone()
    rows = connection.execute("SELECT topic, partition, next_offset FROM position ORDER BY topic, partition")
    positions = {Partition(topic, partition): offset for topic, partition, offset in rows}
    return Contents(documents, positions, path.stat().st_size)


@contextmanager
def _made(path: Path) -> Iterator[int]:
    """Make an empty file and keep it open for one block."""
    file = files.opened(path, os.O_RDWR | os.O_EXCL)
    try:
        yield file
    finally:
        os.close(file)


def _fresh(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        # Our own syncs make the copy durable, and a copy that fails is thrown away, so it needs no journal.
        connection.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF;")
    except sqlite3.Error as error:
        raise damage.translated("make a copy", path, error) from error
    return connection


def _remove(path: Path) -> None:
    """Remove a file that we were making, with the files beside it."""
    for suffix in ("", *_BESIDE, "-journal", *_LOCKS):
        files.beside(path, suffix).unlink(missing_ok=True)
