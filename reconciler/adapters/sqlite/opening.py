"""
Opening the file: whether it is ours, its schema version, and how durable SQLite's commits are.

At the end of the module: how far the write-ahead log went, as the shared memory beside it (`-shm`) says. After a kill,
SQLite keeps as much of the log as its checksums prove, and drops the rest without a word: a commit that was never
finished looks the same. The shared memory outlives the process. It is written after a commit's sync, so it never
promises too much, and if the log has less, acknowledged commits are gone. (After a power cut it is old or gone as well,
and proves nothing.) Its layout is that of https://www.sqlite.org/walformat.html, in native byte order.
"""

import os
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path
from typing import TypeVar

import attrs

from reconciler.adapters import files, packing
from reconciler.adapters.sqlite import locks
from reconciler.errors import StoreError

T = TypeVar("T")

URL_PREFIX = "sqlite:///"

_APPLICATION_ID = 0x5752434C  # "WRCL" in the file's header, so that we never write to another program's database
_SCHEMA = 25  # version of `schema.sql` and the dictionary; every change of them gets a new number
_MAGIC = b"SQLite format 3\0"  # how every database begins
_HEADER_BYTES = 72  # up to and with the application's id
_VERSION_MIN = (3, 33, 0)  # UPDATE … FROM
_STATEMENTS = 256  # kept prepared; each keeps its last parameters, up to a megabyte if it is about many rows
_BUSY_TIMEOUT_S = 30.0  # others write for milliseconds; one that takes longer hangs

# FULL: an acknowledged commit survives a power cut (NORMAL lost some in a third of simulated ones).
# cache_size, in KiB: a fold looks at each page three times, to read, to compare and to write it. Those of one
# transaction fit in: desired states, and the rows and indexes of their documents.
# wal_autocheckpoint 0: we checkpoint by command, under a lock; see the package's docstring.
# secure_delete: some builds overwrite deleted content with zeros, which doubles the writing and protects nothing here.
_OWNER = """
    PRAGMA synchronous = FULL;
    PRAGMA wal_autocheckpoint = 0;
    PRAGMA cache_size = -98304;
    PRAGMA temp_store = MEMORY;
    PRAGMA secure_delete = OFF;
"""


def path_of(url: str) -> Path:
    """Return the file that a store URL names: `sqlite:///state.db` is relative, `sqlite:////var/state.db` absolute."""
    path = url.removeprefix(URL_PREFIX)
    if path == url or not path:
        raise StoreError(f"{url!r} is no SQLite store; write sqlite:///file.db, or sqlite:////directory/file.db")
    return Path(path)


def as_owner(path: Path, *, leaving: bool = False) -> sqlite3.Connection:
    """
    Open for reading and writing; make the file and its schema if need be. The caller holds the owner's lock.

    `leaving`: to be moved, perhaps for the second time, if the first try was interrupted at its end.
    """
    if sqlite3.sqlite_version_info < _VERSION_MIN:
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old; at least 3.33 is needed")
    files.make(path)  # SQLite gives -wal and -shm the mode of this file
    connection = _connect(path, "rwc")
    with _closed_on_error(connection):
        version = _version(connection, path)
        if version:
            _require_not_moved(connection, path, leaving=leaving)
        # The lock, because making the schema and switching to WAL touch the end of the log too.
        with locks.held(locks.writer_path(path)):
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise StoreError(f"{path} can't have a write-ahead log; put it on a local disk")
            connection.executescript(_OWNER)
            if not version:
                stamp = f"PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {_SCHEMA};"
                connection.executescript(f"BEGIN IMMEDIATE;\n{_schema()}\n{stamp}\nCOMMIT;")
    return connection


def as_guest(path: Path) -> sqlite3.Connection:
    """Open read-only. SQLite never checkpoints on such a connection, not even when it is the last one to close."""
    try:
        there = path.exists()
    except OSError as error:
        raise StoreError(f"can't read {path}: {error.strerror}") from error
    if not there:
        raise StoreError(f"there is no store at {path}; start the reconciler once, or correct the [store] url")
    connection = to_read(path)
    with _closed_on_error(connection):
        _require_made(connection, path)
    return connection


def to_read(path: Path) -> sqlite3.Connection:
    """Open read-only; refuse a file that is not ours or has another schema."""
    connection = _connect(path, "ro")
    with _closed_on_error(connection):
        _version(connection, path)
    return connection


def is_foreign(path: Path) -> bool:
    """Whether a file's header says that it is another program's database; False without a whole header."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"can't read {path}: {error.strerror}") from error
    ours = _APPLICATION_ID.to_bytes(4, "big")
    return len(header) == _HEADER_BYTES and header.startswith(_MAGIC) and not header.endswith(ours)


def write_as_guest(path: Path, work: Callable[[sqlite3.Connection], T]) -> T:
    """
    Run one small transaction beside a living owner, and return what it returns. Blocks; run it on a thread.

    The connection is closed under the lock too, because the last one to close checkpoints.
    """
    locks.require_one_name(path)
    with locks.held(locks.writer_path(path)), closing(_connect(path, "rw")) as connection:
        _require_made(connection, path)
        connection.executescript(
            "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA temp_store = MEMORY;"
        )
        return work(connection)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    # isolation_level None: Python must not begin transactions by itself. check_same_thread False: the connection is
    # opened on one thread and then belongs to aiosqlite's. A URI, because it quotes any character in the path.
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    try:
        return sqlite3.connect(
            uri,
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=_BUSY_TIMEOUT_S,
            cached_statements=_STATEMENTS,
        )
    except sqlite3.OperationalError as error:
        raise StoreError(f"can't open {path}: {error}; check that its directory exists and is writable") from error


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the schema's version, 0 for a new file; refuse a file that is not ours or has another schema."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != _APPLICATION_ID and (application or version or tables):
        raise StoreError(f"{path} is another program's database; use another [store] url")
    if version not in (0, _SCHEMA):
        raise StoreError(
            f"{path} has schema {version}, and this program reads {_SCHEMA}; use the reconciler that wrote it, or "
            "rebuild into a new store by replaying the log"
        )
    return int(version)


@contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


def _require_made(connection: sqlite3.Connection, path: Path) -> None:
    if not _version(connection, path):
        raise StoreError(f"{path} has no schema yet; start the reconciler once")
    _require_not_moved(connection, path, leaving=False)


def _require_not_moved(connection: sqlite3.Connection, path: Path, *, leaving: bool) -> None:
    found = connection.execute("SELECT place, done FROM moved").fetchone()
    if found is None or (leaving and not found[1]):
        return
    place, done = found
    if done:
        raise StoreError(f"{path} was moved to {place}; name that in store.url")
    raise StoreError(
        f"{path} was about to be moved to {place} when that was interrupted; run the same `reconciler store move` again"
    )


def _schema() -> str:
    tables = (resources.files("reconciler.adapters.sqlite") / "schema.sql").read_text(encoding="utf-8")
    return f"{tables}\nINSERT INTO dictionary VALUES (x'{packing.DICTIONARY.hex()}');"


# -------------------------------------------------------------------------------------------------------- shared memory


_HEADER = struct.Struct("=III BBH II 2I 8s 2I")  # version, –, change, initialised, –, page size, frames, pages, …
_BACKFILLED = struct.Struct("=I")  # the first number behind the two copies of the header
_VERSION = 3_007_000
_NO_SALT = bytes(8)  # of a log that is empty or has no valid header


@attrs.frozen
class Extent:
    """How far the log goes: how many frames of which generation, and how many of them are in the database already."""

    salt: bytes
    frames: int
    backfilled: int

    def lost_in(self, now: "Extent | None") -> bool:
        """Whether the log `now` lacks commits of this one that are not wholly in the database."""
        if self.frames <= self.backfilled:
            return False
        if now is None or now.salt == _NO_SALT:
            return True
        if now.salt == self.salt:
            return now.frames < self.frames
        return not self._followed_by(now)

    def _followed_by(self, now: "Extent") -> bool:
        """Whether that is a later generation, which begins when all of the former one is in the database."""
        step = int.from_bytes(now.salt[:4], "big") - int.from_bytes(self.salt[:4], "big")
        return 0 < step % 2**32 < 2**31


@contextmanager
def watched(path: Path) -> Iterator[Callable[[], Extent | None]]:
    """
    Yield a function that returns how far a database's log goes at that moment, `None` if that is not known.

    Enter before SQLite opens the database in this process, and leave after it has closed it: see the package's
    docstring.
    """
    try:
        file = os.open(files.beside(path, "-shm"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield lambda: None
        return
    try:
        yield lambda: _extent(file)
    finally:
        os.close(file)


def _extent(file: int) -> Extent | None:
    try:
        content = os.pread(file, 2 * _HEADER.size + _BACKFILLED.size, 0)
    except OSError:
        return None
    if len(content) < 2 * _HEADER.size + _BACKFILLED.size:
        return None
    first, second = content[: _HEADER.size], content[_HEADER.size : 2 * _HEADER.size]
    version, _, _, initialised, _, _, frames, _, _, _, salt, _, _ = _HEADER.unpack(first)
    if first != second or version != _VERSION or not initialised:
        return None
    return Extent(salt, frames, *_BACKFILLED.unpack_from(content, 2 * _HEADER.size))
