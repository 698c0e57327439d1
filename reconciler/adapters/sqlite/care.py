"""
Care of a store as a file: copying it while it is in use, looking whether a copy is whole, putting another in its place.

Rules. Nothing is ever deleted: what was in a store's place is set aside under a name that says why and when. Under a
store's name there is always a whole store, or none and a note that says so (`locks.REPLACING`), wherever it ends.

A copy is made by SQLite's own backup, inside one read transaction: it is the store at one moment, whoever writes
meanwhile. It goes on by the slice, each forced to the disk before the next, because a single great sync at the end
would make the owner's commits wait for it (docs/decisions/0007 has what was measured).
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import attrs

from reconciler.adapters import files
from reconciler.adapters.sqlite import damage, locks, opening
from reconciler.errors import StoreDamagedError, StoreError
from reconciler.model.stamp import Partition

Tell = Callable[[int, int | None], None]

_SLICE_PAGES = 2000  # 8 MiB
_BESIDE = ("-wal", "-shm")  # what belongs to a database that was not closed in good order
_LOCKS = (".owner", ".writer")


@attrs.frozen
class Contents:
    """What a store holds."""

    documents: int
    positions: Mapping[Partition, int]
    bytes: int

    def behind(self, other: "Contents") -> dict[Partition, tuple[int, int]]:
        """Return the positions at which this one is before the other, with both."""
        pairs = {place: (self.positions.get(place, 0), offset) for place, offset in other.positions.items()}
        return {place: pair for place, pair in pairs.items() if pair[0] < pair[1]}


def snapshot(store: Path, to: Path, tell: Tell) -> Contents:
    """
    Copy a store, which may be in use, to a file that appears under its name when it is whole and checked.

    Raises StoreDamagedError when the store is found damaged, StoreError when the file can't be written.
    """
    locks.require_one_name(store)
    if to.exists() and to.samefile(store):
        raise StoreError(f"{to} is the store itself; name another file")
    if any(beside(to, suffix).exists() for suffix in (*_BESIDE, *_LOCKS)):
        raise StoreError(f"{to} is, or was, in use as a store; name another file")
    part = beside(to, ".part")
    try:
        copy(store, part, tell)
        contents = examine(part)
        _sync(part)
        part.replace(to)
        _sync(to.parent)
    except StoreDamagedError as error:
        raise StoreDamagedError(f"{store} is damaged ({error}); {damage.REMEDY}") from error
    except OSError as error:
        raise StoreError(f"can't write {to}: {error.strerror}") from error
    finally:
        _remove(part)
    return contents


def copy(source: Path, to: Path, tell: Tell) -> None:
    """Copy a store as it is at one moment into a file of its own; not yet checked. `tell` is told pages."""
    _remove(to)
    if not source.exists():
        raise StoreError(f"there is no store at {source}; correct the name")
    try:
        # What is forced to the disk is opened before SQLite opens it and closed after: see the package's docstring.
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
        told = damage.translated(f"copy {source}", to, error)
        if isinstance(told, StoreDamagedError):  # what to do about it depends on what the source is for
            raise StoreDamagedError(str(error)) from error
        raise told from error


def examine(path: Path) -> Contents:
    """
    Return what a store or snapshot holds, having read all of it.

    Raises StoreDamagedError when it is damaged, StoreError when it is not ours or newer than we are.
    """
    try:
        with closing(opening.to_read(path)) as connection:
            if fault := damage.first_fault(connection):
                raise StoreDamagedError(fault)
            return _contents(connection, path)
    except sqlite3.Error as error:
        raise StoreDamagedError(str(error)) from error


def glance(path: Path) -> Contents | None:
    """Return what a store says it holds, unchecked; `None` if there is none, or it can't say."""
    if not path.exists():
        return None
    try:
        with closing(opening.to_read(path)) as connection:
            return _contents(connection, path)
    except (sqlite3.Error, StoreError):
        return None


def audit_records(path: Path) -> int | None:
    """Return how many audit records of a store, which may be damaged, can still be read; `None` if not all."""
    try:
        with closing(opening.to_read(path)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM audit WHERE length(record) > 0").fetchone()
            return int(count)
    except (sqlite3.Error, StoreError):
        return None


@contextmanager
def replacing(store: Path) -> Iterator["Replacement"]:
    """Own a store's place for one block, to put another one there; refused while a reconciler owns the store."""
    store = locks.real(store)
    with locks.owned(store) as ownership:
        # What is in the log only is not in the header yet: a note tells whose it is as well.
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
    """Keep a file that was a store from being taken in use for one block; refused while it is."""
    with ExitStack() as stack:
        path = locks.real(path)
        if locks.owner_path(path).exists():
            stack.enter_context(locks.owned(path))
        yield


class Replacement:
    """A store's place, which is ours: `fresh` is where another one is made, `put` puts it in its place."""

    def __init__(self, store: Path, ownership: locks.Ownership) -> None:
        self.store = store
        self.fresh = beside(store, ".new")
        self._ownership = ownership

    def put(self, why: str, at: str) -> Path | None:
        """
        Put `fresh` in the store's place; return where what was there is now, `None` if there was nothing.

        `why` and `at` (a moment, in characters that file names have) become part of its name.
        """
        try:
            return self._put(why, at)
        except OSError as error:
            raise StoreError(f"can't put {self.fresh} in the place of {self.store}: {error.strerror}") from error

    def _put(self, why: str, at: str) -> Path | None:
        leftover = beside(self.fresh, "-wal")
        assert not leftover.exists() or not leftover.stat().st_size, "a store that is not whole without its log"
        _sync(self.fresh)
        with locks.held(locks.writer_path(self.store)):  # no operator's hand in it meanwhile
            self._ownership.note(locks.REPLACING)
            aside = self._set_aside(why, at)
            self.fresh.replace(self.store)
            _sync(self.store.parent)
            self._ownership.note(locks.CLOSED)
        return aside

    def _set_aside(self, why: str, at: str) -> Path | None:
        there = [suffix for suffix in ("", *_BESIDE) if beside(self.store, suffix).exists()]
        if not there:
            return None
        aside = beside(self.store, f".{why}-{at}")
        number = 1
        while any(beside(aside, suffix).exists() for suffix in there):
            number += 1
            aside = beside(self.store, f".{why}-{at}-{number}")
        for suffix in there:
            beside(self.store, suffix).rename(beside(aside, suffix))
        return aside


def beside(path: Path, suffix: str) -> Path:
    """Return the file that has a file's name with something behind it."""
    return path.with_name(path.name + suffix)


def _contents(connection: sqlite3.Connection, path: Path) -> Contents:
    (documents,) = connection.execute("SELECT coalesce(max(rowid), 0) FROM document").fetchone()
    rows = connection.execute("SELECT topic, partition, next_offset FROM position ORDER BY topic, partition")
    positions = {Partition(topic, partition): offset for topic, partition, offset in rows}
    return Contents(documents, positions, path.stat().st_size)


@contextmanager
def _made(path: Path) -> Iterator[int]:
    """Make an empty file, and keep it open for one block."""
    file = files.opened(path, os.O_RDWR | os.O_EXCL)
    try:
        yield file
    finally:
        os.close(file)


def _fresh(path: Path) -> sqlite3.Connection:
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        # Not for durability, which is our own syncs: so that no journal is kept of a file that nobody needs yet.
        connection.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF;")
    except sqlite3.Error as error:
        raise damage.translated("make a copy", path, error) from error
    return connection


def _remove(path: Path) -> None:
    """Remove a file that we were making, and what belongs to it."""
    for suffix in ("", *_BESIDE, "-journal", *_LOCKS):
        beside(path, suffix).unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Force a file, or a directory's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
