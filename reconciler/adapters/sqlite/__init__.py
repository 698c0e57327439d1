"""
The state store in one SQLite file: the default, for one process that owns all partitions.

The SQL (`schema.sql`, `queries.py`, `writes.py`), the transactions, and the locks between processes live
here. Never here: what a document's state means (the codec and the model know), how its row changes
(`core/folding/rows.py`), and decisions of any kind.

How processes share the file:

- **One owner.** It holds a lock on `<file>.owner` for as long as it runs. A second one is refused.
- **Guests read.** `owner=False` opens read-only beside a running owner. Only the writes that an operator makes by hand
  (an action, making documents due) open the file for writing, for one transaction.
- **One at a time at the log's end.** SQLite up to 3.51.2 can corrupt a database when one connection resets the
  write-ahead log while another writes or checkpoints it. So only the owner checkpoints, by explicit command, and both
  its checkpoints and every write of a guest hold a lock on `<file>.writer`. The owner's own writes need no lock: they
  run on the connection that checkpoints, and SQLite keeps them apart from a guest's writes.

A rule for all code: **nothing opens or closes the file, its `-wal` or its `-shm` by hand while SQLite has it open in
the same process.** POSIX locks belong to the process: closing any descriptor of a file drops every lock that the
process holds on it, SQLite's too. Another process then finds no lock, truncates `-shm`, and ours dies of SIGBUS. Read
a file by hand before SQLite opens it, or through a descriptor that is opened before and closed after; `stat` is
harmless. `tests/openings.py` holds all tests to this.
"""

from reconciler.adapters.sqlite.store import SqliteStore, open_store, path_of

__all__ = ["SqliteStore", "open_store", "path_of"]
