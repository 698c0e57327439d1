"""
Damage: recognising it at start and while running, and saying what to do.

SQLite keeps no checksums of its pages. So damage shows in three ways: a page is no page any more (SQLite says so when
it reads it), a row is no row any more (it does not decode), or files are missing, cut or exchanged (seen here). What
stays a row of its own kind though its letters have changed, only comparing with the logs can tell.
"""

import errno
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Generic, TypeVar

import attrs
import msgspec
import structlog

from reconciler.adapters.sqlite import locks, opening
from reconciler.errors import StoreDamagedError, StoreError, StoreFullError

T = TypeVar("T")

_log = structlog.get_logger(__name__)

OPENING = "open the store"
REMEDY = "stop the reconciler, then `reconciler rebuild -c FILE` sets it aside and rebuilds it from the logs"

# A check of so much takes below a second, and no start is that quick. See docs/decisions/0007.
CHECKED_BYTES_MAX = 256 * 2**20
# Small and always needed: checked at every start, whatever the size of the rest.
ALWAYS = ("sqlite_schema", "position", "outbox", "contention", "policy")

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
    sqlite3.SQLITE_IOERR: "see to its disk (the system's log says more), then start again: what was stored is kept; "
    "if it is not, `reconciler rebuild -c FILE`",
    sqlite3.SQLITE_READONLY: "make file and directory writable, then start again",
    sqlite3.SQLITE_BUSY: "another program writes to it; find and stop it",
    sqlite3.SQLITE_LOCKED: "another program writes to it; find and stop it",
    sqlite3.SQLITE_TOOBIG: "that is more than SQLite takes at once; ask for less",
    sqlite3.SQLITE_CANTOPEN: "see that its directory exists and may be written to",
}
_PASSING = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG})


# -------------------------------------------------------------------------------------------------------------- errors


def translated(operation: str, path: Path, error: sqlite3.Error) -> StoreError:
    """Return what an error of SQLite's means to a person."""
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
    """Whether nothing more should be tried after this error, because the next attempt may fare worse."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & _PRIMARY not in _PASSING and code not in (0, sqlite3.SQLITE_ERROR)


class Lines(Generic[T]):
    """A decoder for stored lines of one shape; what can't be decoded is damage."""

    def __init__(self, shape: type[T]) -> None:
        self._decode: Callable[[bytes], T] = msgspec.json.Decoder(shape).decode

    def decode(self, line: bytes) -> T:
        """Return what a line stands for."""
        try:
            return self._decode(line)
        except ValueError as error:  # msgspec's errors, and of text that is no UTF-8
            raise StoreDamagedError(
                f"the store has a row that can't be read ({error}): it is damaged; {REMEDY}"
            ) from error


# ------------------------------------------------------------------------------------------------------------- at start


def recognise(path: Path, ownership: locks.Ownership) -> None:
    """
    Look at a store before its owner opens it. Changes nothing of it.

    Raises StoreDamagedError. Reads the whole file if it is small or was not closed in good order, else only a part.
    What is read by hand is read before SQLite opens the file: see the package's docstring.
    """
    if not _is_there(path, ownership.found):
        return
    try:
        large = path.stat().st_size > CHECKED_BYTES_MAX
        whole = not large or ownership.found != locks.CLOSED
        if whole:
            if large:
                _log.info("checking the whole store, which was not closed in good order", bytes=path.stat().st_size)
            read_through(path)
        with opening.watched(path) as extent:
            before = extent()
            with closing(opening.to_read(path)) as connection:  # which reads the log's end, if need be
                if ownership.found == locks.LOST or (before and before.lost_in(extent())):
                    ownership.note(locks.LOST)
                    raise StoreDamagedError(
                        f"{path}-wal, its write-ahead log, has lost commits: the store is damaged; {REMEDY}"
                    )
                require_sound(connection, path, () if whole else ALWAYS)
    except sqlite3.Error as error:
        raise translated(OPENING, path, error) from error


def require_sound(connection: sqlite3.Connection, path: Path, tables: Sequence[str] = ()) -> None:
    """Raise StoreDamagedError if a check finds anything; see `first_fault`."""
    if fault := first_fault(connection, tables):
        raise StoreDamagedError(f"{path} is damaged ({fault}); {REMEDY}")


def first_fault(connection: sqlite3.Connection, tables: Sequence[str] = (), check: str = "quick_check") -> str | None:
    """
    Return the first thing that SQLite's check finds in a database, in these tables only if any are named.

    `quick_check` reads every page, `integrity_check` also compares the indexes with their tables.
    """
    present = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    wanted = [f"({table})" for table in tables if table in present or table == "sqlite_schema"] if tables else [""]
    for table in wanted:
        (said,) = connection.execute(f"PRAGMA {check}{table}").fetchone()
        if said != "ok":
            return next(line for line in str(said).splitlines() if not line.startswith("***"))
    return None


def read_through(path: Path) -> None:
    """Read a file from end to end, so that a check finds it in memory: in its own order it takes ten times as long."""
    with path.open("rb", buffering=0) as file:
        buffer = bytearray(_READ_BYTES)
        while file.readinto(buffer):
            pass


def _is_there(path: Path, found: str) -> bool:
    """Whether there is a file to look at; refuse to begin anew where a store was."""
    size = path.stat().st_size if path.exists() else None
    if size:
        return True
    if found == locks.REPLACING:
        raise StoreDamagedError(
            f"{path} was being restored or rebuilt, which did not end; "
            "do it again: `reconciler restore --from FILE` or `reconciler rebuild -c FILE`"
        )
    log = path.with_name(path.name + "-wal")
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
    """Which files a store's name, its log's and its owner's stood for when it was opened."""

    path: Path
    files: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, path: Path) -> "Identity":
        """Return what the names stand for now."""
        return cls(path, _files(path))

    def require(self) -> None:
        """Raise StoreDamagedError if somebody has removed or exchanged a file that we go on writing to."""
        if _files(self.path) != self.files:
            raise StoreDamagedError(
                f"{self.path}, its -wal or its .owner was removed or exchanged while in use; put it back as it was, "
                f"or {REMEDY}"
            )


def _files(path: Path) -> tuple[tuple[int, int], ...]:
    found = []
    for name in (path, path.with_name(path.name + "-wal"), locks.owner_path(path)):
        try:
            status = name.stat()
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise StoreError(f"can't look at {name}: {error.strerror}; see to its disk") from error
            found.append((0, 0))
        else:
            found.append((status.st_dev, status.st_ino))
    return tuple(found)
