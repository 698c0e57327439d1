# ruff: noqa: S608 - the SQL is put together from our own names
"""
Damage: finding it at the start, while running and by a close inspection, and saying what to do.

SQLite keeps no checksums of its pages. So damage shows in three ways: a page is broken (SQLite says so when it reads
it), a row does not decode, or files are missing, cut or exchanged (checked here). A row that still decodes although
its letters have changed can be found only by comparing with the logs.
"""

import errno
import sqlite3
from binascii import unhexlify
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Generic, TypeVar

import attrs
import msgspec
import structlog

from reconciler.adapters import files, packing
from reconciler.adapters.sqlite import locks, opening
from reconciler.errors import StoreDamagedError, StoreError, StoreFullError
from reconciler.model import codec
from reconciler.model.chain import Cut
from reconciler.model.document import Conflict
from reconciler.model.event import DeadLetter

T = TypeVar("T")

_log = structlog.get_logger(__name__)

OPENING = "open the store"
REMEDY = "stop the reconciler, then `reconciler rebuild -c FILE` sets it aside and rebuilds it from the logs"

# Checking this much takes less than a second, which no start will notice. See docs/decisions/0007.
CHECKED_BYTES_MAX = 256 * 2**20
# Small tables, needed at once: checked at every start, however large the store is.
ALWAYS = ("sqlite_schema", "position", "outbox", "contention", "policy", "cut")

_READ_BYTES = 8 * 2**20

_PRIMARY = 0xFF  # an extended error code's last byte is the primary one
_DAMAGED = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_IOERR_SHORT_READ,
        sqlite3.SQLITE_IOERR_CORRUPTFS,
        sqlite3.SQLITE_IOERR_DATA,
    }
)
_HINTS = {
    sqlite3.SQLITE_IOERR: "check its disk (the system's log says more), then start again: what was stored is kept; "
    "if the store is lost, `reconciler rebuild -c FILE`",
    sqlite3.SQLITE_READONLY: "make file and directory writable, then start again",
    sqlite3.SQLITE_BUSY: "another program writes to it; find and stop it",
    sqlite3.SQLITE_LOCKED: "another program writes to it; find and stop it",
    sqlite3.SQLITE_TOOBIG: "that is more than SQLite takes at once; ask for fewer",
    sqlite3.SQLITE_CANTOPEN: "check that its directory exists and is writable",
}
_PASSING = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG})


# -------------------------------------------------------------------------------------------------------------- errors


def translated(operation: str, path: Path, error: sqlite3.Error) -> StoreError:
    """Return an error of SQLite's as one that says what to do."""
    code = getattr(error, "sqlite_errorcode", 0)
    said = f"can't {operation} in {path}: {error}"
    if code == sqlite3.SQLITE_NOTADB and operation == OPENING:
        return StoreDamagedError(f"{said}; use another [store] url, or if this was a store: {REMEDY}")
    if code in _DAMAGED or code & _PRIMARY in _DAMAGED:
        return StoreDamagedError(f"{said}: the store is damaged; {REMEDY}")
    if code & _PRIMARY == sqlite3.SQLITE_FULL:
        return StoreFullError(f"{said}; free some space on its disk, then start again: nothing is lost")
    hint = _HINTS.get(code & _PRIMARY)
    return StoreError(f"{said}; {hint}" if hint else said)


def ends_us(error: sqlite3.Error) -> bool:
    """Whether nothing more may be tried after this error, because another attempt could do harm."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & _PRIMARY not in _PASSING and code not in (0, sqlite3.SQLITE_ERROR)


class Lines(Generic[T]):
    """A decoder of stored lines of one shape; a line that does not decode is damage."""

    def __init__(self, shape: type[T]) -> None:
        self._decode: Callable[[bytes], T] = msgspec.json.Decoder(shape).decode

    def decode(self, line: bytes) -> T:
        """Return the decoded line; raises StoreDamagedError."""
        try:
            return self._decode(line)
        except ValueError as error:  # msgspec's errors, and those of text that is not UTF-8
            raise _unreadable(error) from error


class PackedLines(Generic[T]):
    """A decoder of lines `NUMBER HEX`: a row's number, and in hexadecimal a packed blob that `decode` decodes."""

    def __init__(self, decode: Callable[[bytes], T]) -> None:
        self._decode = decode

    def decode(self, line: bytes) -> tuple[int, T]:
        """Return the number and the decoded blob; raises StoreDamagedError."""
        number, _, stored = line.partition(b" ")
        return int(number), unpacked(self._decode, stored)


def unpacked(decode: Callable[[bytes], T], stored: bytes) -> T:
    """Decode a packed blob in hexadecimal; raises StoreDamagedError."""
    try:
        return decode(packing.unpack(unhexlify(stored)))
    except ValueError as error:
        raise _unreadable(error) from error


def _unreadable(error: ValueError) -> StoreDamagedError:
    return StoreDamagedError(f"the store has a row that can't be read ({error}): it is damaged; {REMEDY}")


# ------------------------------------------------------------------------------------------------------------- at start


def recognise(path: Path, ownership: locks.Ownership) -> None:
    """
    Check a store before its owner opens it, without changing it; raises StoreDamagedError.

    Reads the whole file if it is small or was not closed properly, else only a part, and does so before SQLite opens
    the file: see the package's docstring.
    """
    if not _exists(path, ownership.found):
        return
    try:
        large = path.stat().st_size > CHECKED_BYTES_MAX
        whole = not large or ownership.found != locks.CLOSED
        if whole:
            if large:
                _log.info("checking the whole store, which was not closed properly", bytes=path.stat().st_size)
            read_through(path)
        with opening.watched(path) as extent:
            before = extent()
            with closing(opening.to_read(path)) as connection:  # this recovers the log, if need be
                if ownership.found == locks.LOST or (before and before.lost_in(extent())):
                    ownership.note(locks.LOST)
                    raise StoreDamagedError(
                        f"{path}-wal, its write-ahead log, has lost commits: the store is damaged; {REMEDY}"
                    )
                require_sound(connection, path, () if whole else ALWAYS)
    except sqlite3.Error as error:
        raise translated(OPENING, path, error) from error


def require_sound(connection: sqlite3.Connection, path: Path, tables: Sequence[str] = ()) -> None:
    """Raise StoreDamagedError if `first_fault` finds anything."""
    if fault := first_fault(connection, tables):
        raise StoreDamagedError(f"{path} is damaged ({fault}); {REMEDY}")


def first_fault(connection: sqlite3.Connection, tables: Sequence[str] = (), check: str = "quick_check") -> str | None:
    """
    Return the first fault that SQLite's check finds in a database, or in these tables.

    `quick_check` reads every page; `integrity_check` also compares the indexes with their tables.
    """
    present = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    wanted = [f"({table})" for table in tables if table in present or table == "sqlite_schema"] if tables else [""]
    for table in wanted:
        (said,) = connection.execute(f"PRAGMA {check}{table}").fetchone()
        if said != "ok":
            return next(line for line in str(said).splitlines() if not line.startswith("***"))
    return None


def read_through(path: Path) -> None:
    """Read a whole file into the system's cache: a check of a file on the disk takes ten times as long."""
    with path.open("rb", buffering=0) as file:
        buffer = bytearray(_READ_BYTES)
        while file.readinto(buffer):
            pass


def _exists(path: Path, found: str) -> bool:
    """Whether there is a store to check; refuse to make a new one where a damaged one was."""
    size = path.stat().st_size if path.exists() else None
    if size:
        return True
    if found == locks.REPLACING:
        raise StoreDamagedError(
            f"{path} was being restored or rebuilt, which did not finish; "
            "do it again: `reconciler restore --from FILE` or `reconciler rebuild -c FILE`"
        )
    log = files.beside(path, "-wal")
    if log.exists() and log.stat().st_size:
        raise StoreDamagedError(
            f"{path} is {'gone' if size is None else 'empty'}, its write-ahead log is not; {REMEDY}"
        )
    if size is None and found:
        _log.warning("the store is gone; a new one is filled from the logs", path=str(path))
    if size == 0 and found:
        raise StoreDamagedError(f"{path} is empty, and was a store; {REMEDY}")
    return False


# -------------------------------------------------------------------------------------------------------- while running


@attrs.frozen
class Identity:
    """Which files had the names of a store, its log and its owner's lock when it was opened."""

    path: Path
    files: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, path: Path) -> "Identity":
        """Return the files that have these names now."""
        return cls(path, _files(path))

    def require(self) -> None:
        """Raise StoreDamagedError if a file was removed or exchanged while we write to it."""
        if _files(self.path) != self.files:
            raise StoreDamagedError(
                f"{self.path}, its -wal or its .owner was removed or exchanged while in use; put it back as it was, "
                f"or {REMEDY}"
            )


def _files(path: Path) -> tuple[tuple[int, int], ...]:
    found = []
    for name in (path, files.beside(path, "-wal"), locks.owner_path(path)):
        try:
            status = name.stat()
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise StoreError(f"can't look at {name}: {error.strerror}; check its disk") from error
            found.append((0, 0))
        else:
            found.append((status.st_dev, status.st_ino))
    return tuple(found)


# ----------------------------------------------------------------------------------------------------- close inspection


Tell = Callable[[int, int | None], None]
_Decode = Callable[[bytes], object]

_PAGE_ROWS = 500
_PLAIN = ("sqlite_schema", "document", "position", "contention")  # no blobs in them

# Each table, with what decodes its blobs. The inspection reads them page by page, because a long read transaction would
# keep the write-ahead log from starting over.
_BLOBS: dict[str, dict[str, _Decode]] = {
    "desired": {"desired": codec.decode_desired},
    "agreement": {"agreement": lambda stored: codec.decode_agreement(packing.unpack(stored))},
    "audit": {"record": lambda stored: codec.decode_record(packing.unpack(stored))},
    "outbox": {"message": lambda stored: codec.decode_message(packing.unpack(stored))},
    "dead_letter": {"letter": msgspec.json.Decoder(DeadLetter).decode},
    "conflict": {"conflict": msgspec.json.Decoder(Conflict).decode},
    "policy": {"policy": codec.decode_policy},
    "cut": {"cut": msgspec.json.Decoder(Cut).decode},
}
_KEYS = {"policy": "digest"}  # of tables that have no rowid


@attrs.frozen
class Inspected:
    """The result of an inspection: how many rows were read, and the first fault."""

    rows: int
    fault: str | None


def glance(path: Path) -> str | None:
    """Return the first fault that a start would find: it checks all of a small store, else only some tables."""
    try:
        with closing(opening.to_read(path)) as connection:
            small = path.stat().st_size <= CHECKED_BYTES_MAX
            return first_fault(connection, () if small else ALWAYS)
    except sqlite3.Error as error:
        return str(error)


def inspect(path: Path, tell: Tell) -> Inspected:
    """Check all pages, indexes and rows of a store, which may be in use; `tell` is told rows."""
    rows = 0
    try:
        with closing(opening.to_read(path)) as connection:
            total = sum(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _BLOBS)
            tell(0, total)
            for table in (*_PLAIN, *_BLOBS):
                if fault := first_fault(connection, (table,), "integrity_check"):
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
