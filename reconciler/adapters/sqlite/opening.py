"""Opening the file: whose it is, which version it has, what SQLite is to promise."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib import resources
from pathlib import Path

from reconciler.adapters import private_file
from reconciler.adapters.sqlite import acting, locks, noting, procedures
from reconciler.errors import StoreError
from reconciler.model import chain

URL_PREFIX = "sqlite:///"

_APPLICATION_ID = 0x5752434C  # "WRCL", in the file's header: so that nobody's else's database is ever written to
_MAGIC = b"SQLite format 3\0"  # how every database begins
_HEADER_BYTES = 72  # up to and with the application's id
_VERSION_MIN = (3, 33, 0)  # UPDATE … FROM
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
    """Open for reading and writing; make or bring up to date what is there. The caller holds the owner's lock."""
    if sqlite3.sqlite_version_info < _VERSION_MIN:
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old; at least 3.33 is needed")
    private_file.make(path)  # SQLite gives -wal and -shm the mode of the file that they are of
    connection = _connect(path, "rwc")
    try:
        version = _version(connection, path)
        # The lock, because making the schema and switching to WAL touch the end of the log too.
        with locks.held(locks.writer_path(path)):
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise StoreError(f"{path} can't have a write-ahead log; put it on a local disk")
            connection.executescript(_OWNER)
            _migrate(connection, version)
        _add_procedures(connection)
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
        _require_current(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def to_read(path: Path) -> sqlite3.Connection:
    """Open read-only what is there, with whatever schema; refuse what is not ours, or newer than we are."""
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


def write_as_guest(path: Path, sql: str, parameters: tuple[object, ...]) -> int:
    """
    Run one small write beside a living owner, and return how many rows it changed. Blocks; run it on a thread.

    Closing is inside the lock too: the last connection to close checkpoints.
    """
    locks.require_one_name(path)
    with locks.held(locks.writer_path(path)), closing(_connect(path, "rw")) as connection:
        _require_current(connection, path)
        pragmas = "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0; PRAGMA temp_store = MEMORY;"
        connection.executescript("".join((pragmas, *(procedure.definition for procedure in acting.PROCEDURES))))
        return connection.execute(sql, parameters).rowcount


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """
    Open the file. `isolation_level=None`: Python must not slip a BEGIN in front of our statements.
    `check_same_thread=False`: it is opened on one thread and then belongs to aiosqlite's.
    """
    # A path may hold any character; as a URI each of them is quoted.
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    try:
        return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_TIMEOUT_S)
    except sqlite3.OperationalError as error:
        raise StoreError(f"can't open {path}: {error}; see that its directory exists and may be written to") from error


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the schema's version, 0 for a new file; refuse what is not ours or newer than we are."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != _APPLICATION_ID and (application or version or tables):
        raise StoreError(f"{path} is another program's database; use another [store] url")
    newest = len(_migrations())
    if version > newest:
        raise StoreError(
            f"{path} was written by a newer reconciler (schema {version}, we know {newest}); update this program, "
            "or rebuild into a new store by replaying the log"
        )
    return int(version)


def _require_current(connection: sqlite3.Connection, path: Path) -> None:
    version, newest = _version(connection, path), len(_migrations())
    if version < newest:
        raise StoreError(
            f"{path} has schema {version}, not yet {newest}; start the reconciler once to bring it up to date"
        )


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    connection.create_function("chain_link", 2, _chaining())  # see 0002_chain.sql
    for number, sql in enumerate(_migrations(), start=1):
        if number > version:
            stamp = f"PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {number};"
            connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\n{stamp}\nCOMMIT;")


def _chaining() -> Callable[[int, bytes], bytes]:
    """Return a function that links the records of a trail, each after the one that it was given before."""
    head = chain.BEGIN

    def link(number: int, record: bytes) -> bytes:
        nonlocal head
        if number <= head.number:
            raise ValueError(f"record {number} came after record {head.number}")
        head = chain.Head(number, chain.link(head.link, number, record))
        return head.link

    return link


def _migrations() -> list[str]:
    """Return the migrations in the order of their numbers; number n brings the schema to version n."""
    folder = resources.files("reconciler.adapters.sqlite") / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    assert [int(file.name[:4]) for file in files] == list(range(1, len(files) + 1)), "migrations are numbered from 1"
    return [file.read_text(encoding="utf-8") for file in files]


def _add_procedures(connection: sqlite3.Connection) -> None:
    connection.executescript(
        "".join(one.definition for one in (*procedures.PROCEDURES, *acting.PROCEDURES, noting.NOTE))
    )
