"""
A glance: a few keys and ids for a shell to complete, read so that nothing else notices.

Rules. It never waits for a lock, never works for long, writes nothing and leaves no file behind, not even the ones that
SQLite makes beside a database that it reads. Whatever goes wrong raises `sqlite3.Error` or `OSError`: the caller has
nothing to offer then, which is no fault.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from reconciler.adapters.sqlite import locks

MOST = 100  # lines: more than anybody reads in a shell
_STEPS_MAX = 2_000_000  # of SQLite's machine, a few tens of milliseconds
_WAIT_S = 0.1
_LAST = "\U0010ffff"  # sorts behind whatever a prefix goes on with

# Each returns what to complete, and a word about it. ?1 and ?2 enclose the prefix, ?3 is the most, ?4 the document.
DOCUMENTS = "SELECT key, status FROM document WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT ?3"

OPEN_CONFLICTS = """
    SELECT id, document || ' ' || json_extract(CAST(conflict AS TEXT), '$.field') FROM conflict
    WHERE closed_at_us IS NULL AND id >= ?1 AND id < ?2 ORDER BY opened_at_us, id LIMIT ?3
"""

OPEN_LETTERS = """
    SELECT id, 'dead letter' FROM dead_letter
    WHERE status = 'open' AND id >= ?1 AND id < ?2 ORDER BY number LIMIT ?3
"""

CONFLICT_FIELDS = """
    SELECT json_extract(CAST(conflict AS TEXT), '$.field') AS field, count(*) || ' open' FROM conflict
    WHERE closed_at_us IS NULL AND field >= ?1 AND field < ?2 GROUP BY field ORDER BY field LIMIT ?3
"""

# Desired state is stored as [fields by name, released].
DOCUMENT_FIELDS = """
    SELECT field.key, '' FROM document, json_each(CAST(desired AS TEXT), '$[0]') AS field
    WHERE document.key = ?4 AND field.key >= ?1 AND field.key < ?2 ORDER BY field.key LIMIT ?3
"""


def glance(path: Path, query: str, prefix: str, document: str = "") -> list[tuple[str, str]]:
    """Return what a query has that begins with `prefix`, in order, each with a word about it."""
    parameters = (prefix, prefix + _LAST, MOST, document)
    with closing(sqlite3.connect(_address(path), uri=True, isolation_level=None, timeout=_WAIT_S)) as connection:
        connection.set_progress_handler(lambda: True, _STEPS_MAX)
        used = parameters if "?4" in query else parameters[:3]
        return [(str(value), str(note)) for value, note in connection.execute(query, used)]


def _address(path: Path) -> str:
    """
    Return how to open the file without leaving a trace.

    Where a write-ahead log and its index are, SQLite reads both and makes neither. Where no log is, nobody writes: the
    file is read as it lies there, since even a read-only connection would make the two files, as whoever asks.
    """
    path = locks.real(path)  # beside which SQLite's own files lie
    address = path.absolute().as_uri()
    log, index = Path(f"{path}-wal"), Path(f"{path}-shm")
    if log.exists() and index.exists():
        return f"{address}?mode=ro"
    if log.exists() and log.stat().st_size:
        raise sqlite3.OperationalError("a log without an index would have to be recovered first")
    return f"{address}?mode=ro&immutable=1"
