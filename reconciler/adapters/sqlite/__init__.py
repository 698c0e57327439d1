"""
The state store in one SQLite file: the embedded default, for one process that owns all partitions.

Here live the SQL (`schema.sql`, `queries.py`, `writes.py`), the transactions, group commit, and what keeps several
processes out of each other's way. Never here: what a document's state means (the codec and the model know), what
becomes of its row (`core/folding/rows.py`), and decisions of any kind.

How processes share the file:

- **One owner.** It holds a lock on `<file>.owner` for as long as it lives, so a second one is refused by name.
- **Guests look.** `owner=False` opens read-only beside a living owner. Only the writes that an operator makes by hand
  (an act, making documents due) open the file for writing, for one transaction.
- **One at a time at the log's end.** SQLite up to 3.51.2 can corrupt a database when one connection resets the
  write-ahead log while another writes or checkpoints it. So only the owner checkpoints, by command and never by itself,
  and its checkpoints and every write of a guest hold a lock on `<file>.writer`. The owner's own writes need no lock:
  they run on the connection that checkpoints, and SQLite keeps them apart from a guest's writes.

A rule for whoever opens a file: **no code opens or closes the file, its `-wal` or its `-shm` by hand while SQLite has
it open in the same process.** POSIX locks belong to the process: closing any descriptor of a file drops every lock that
the process holds on it, SQLite's too. The next process to come then finds no lock, truncates `-shm`, and ours dies of
SIGBUS. So what is read by hand is read before SQLite opens the file, or through a descriptor that is opened before and
closed after; looking at names (`stat`) is harmless. `tests/openings.py` holds all tests to this.
"""

from reconciler.adapters.sqlite.store import SqliteStore, open_store, path_of

__all__ = ["SqliteStore", "open_store", "path_of"]
