"""
Opening the file: whose it is, which version it has, what SQLite is to promise.

How far a write-ahead log went: what the file of shared memory beside it (`-shm`) says.

Theory. After a kill, SQLite takes of the log what its checksums vouch for and says nothing of the rest, because a
commit that was never finished looks the same. But the shared memory, which outlives the process, says how far commits
went: it is written after a commit's sync, so it never promises too much. If the log then has less, commits that were
acknowledged are gone. (After a power cut that file is old or gone as well, and then it proves nothing.)

POSIX locks belong to the process: closing any descriptor of a file drops those that SQLite holds on it, and the next
process to come truncates this one under us. So it is opened before SQLite is, and closed after it.

The layout is that of https://www.sqlite.org/walformat.html, in native byte order.
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

from reconciler.adapters import files
from reconciler.adapters.sqlite import locks
from reconciler.errors import StoreError

T = TypeVar("T")

URL_PREFIX = "sqlite:///"

_APPLICATION_ID = 0x5752434C  # "WRCL", in the file's header: so that nobody's else's database is ever written to
_SCHEMA = 13  # of `schema.sql`; one that is changed gets another number
_MAGIC = b"SQLite format 3\0"  # how every database begins
_HEADER_BYTES = 72  # up to and with the application's id
_VERSION_MIN = (3, 33, 0)  # UPDATE … FROM
_STATEMENTS = 64  # kept prepared; each keeps what was bound to it last, up to a megabyte where it is about many rows
_BUSY_TIMEOUT_S = 30.0  # writes of others last milliseconds; longer means that one of them hangs

# FULL: an acknowledged commit survives a power cut (NORMAL lost some in a third of simulated ones).
# wal_autocheckpoint 0: checkpoints are made by command, under a lock; see the package's docstring.
# secure_delete: some builds overwrite what is deleted with zeros, which doubles the writing and hides nothing.
_OWNER = """
    PRAGMA synchronous = FULL;
    PRAGMA wal_autocheckpoint = 0;
    PRAGMA cache_size = -32000;
    PRAGMA temp_store = MEMORY;
    PRAGMA secure_delete = OFF;
"""


def path_of(url: str) -> Path:
    """Return the file that a store URL names: `sqlite:///state.db` is relative, `sqlite:////var/state.db` absolute."""
    path = url.removeprefix(URL_PREFIX)
    if path == url or not path:
        raise StoreError(f"{url!r} is no SQLite store; write sqlite:///file.db, or sqlite:////directory/file.db")
    return Path(path)


def as_owner(path: Path) -> sqlite3.Connection:
    """Open for reading and writing; make what is not there. The caller holds the owner's lock."""
    if sqlite3.sqlite_version_info < _VERSION_MIN:
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old; at least 3.33 is needed")
    files.make(path)  # SQLite gives -wal and -shm the mode of the file that they are of
    connection = _connect(path, "rwc")
    try:
        version = _version(connection, path)
        # The lock, because making the schema and switching to WAL touch the end of the log too.
        with locks.held(locks.writer_path(path)):
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise StoreError(f"{path} can't have a write-ahead log; put it on a local disk")
            connection.executescript(_OWNER)
            if not version:
                stamp = f"PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {_SCHEMA};"
                connection.executescript(f"BEGIN IMMEDIATE;\n{_schema()}\n{stamp}\nCOMMIT;")
    except BaseException:
        connection.close()
        raise
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
    try:
        _require_made(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def to_read(path: Path) -> sqlite3.Connection:
    """Open read-only what is there; refuse what is not ours, or has another schema."""
    connection = _connect(path, "ro")
    try:
        _version(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def is_foreign(path: Path) -> bool:
    """Whether a file is another program's database, as its header says; one without a whole header is nobody's."""
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

    Closing is inside the lock too: the last connection to close checkpoints.
    """
    locks.require_one_name(path)
    with locks.held(locks.writer_path(path)), closing(_connect(path, "rw")) as connection:
        _require_made(connection, path)
        connection.executescript(
            "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA temp_store = MEMORY;"
        )
        return work(connection)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """
    Open the file. `isolation_level=None`: Python must not slip a BEGIN in front of our statements.
    `check_same_thread=False`: it is opened on one thread and then belongs to aiosqlite's.
    """
    # A path may hold any character; as a URI each of them is quoted.
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
        raise StoreError(f"can't open {path}: {error}; see that its directory exists and may be written to") from error


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the schema's version, 0 for a new file; refuse what is not ours or has another schema."""
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


def _require_made(connection: sqlite3.Connection, path: Path) -> None:
    if not _version(connection, path):
        raise StoreError(f"{path} has no schema yet; start the reconciler once")


def _schema() -> str:
    return (resources.files("reconciler.adapters.sqlite") / "schema.sql").read_text(encoding="utf-8")


# -------------------------------------------------------------------------------------------------------- shared memory


_HEADER = struct.Struct("=III BBH II 2I 8s 2I")  # version, –, change, initialised, –, page size, frames, pages, …
_BACKFILLED = struct.Struct("=I")  # the first number behind the two copies of the header
_VERSION = 3_007_000
_NO_SALT = bytes(8)  # of a log that is empty, or whose own header is none


@attrs.frozen
class Extent:
    """How far the log goes: frames of which generation, and how many of them are in the database already."""

    salt: bytes
    frames: int
    backfilled: int

    def lost_in(self, now: "Extent | None") -> bool:
        """Whether the log as it is `now` lacks commits of this one that are in the database only partly, or not."""
        if self.frames <= self.backfilled:
            return False
        if now is None or now.salt == _NO_SALT:
            return True
        if now.salt == self.salt:
            return now.frames < self.frames
        return not self._followed_by(now)

    def _followed_by(self, now: "Extent") -> bool:
        """Whether that is a later generation: one begins when all of the one before is in the database."""
        step = int.from_bytes(now.salt[:4], "big") - int.from_bytes(self.salt[:4], "big")
        return 0 < step % 2**32 < 2**31


@contextmanager
def watched(path: Path) -> Iterator[Callable[[], Extent | None]]:
    """
    Yield what returns how far the log of a database goes at that moment; `None` where nothing says so.

    Enter before SQLite opens the database in this process, and leave after it has closed it.
    """
    try:
        file = os.open(path.with_name(path.name + "-shm"), os.O_RDONLY | os.O_CLOEXEC)
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
