"""
The state store in one SQLite file: the embedded default, for one process that owns all partitions.

Here live the SQL, the schema with its numbered migrations, group commit, and what keeps several processes out of each
other's way. Never here: what a document's state means (the codec and the model know), and decisions of any kind.

How processes share the file:

- **One owner.** It holds a lock on `<file>.owner` for as long as it lives, so a second one is refused by name.
- **Guests look.** `owner=False` opens read-only beside a living owner. Only the writes that an operator makes by hand
  (marking a dead letter, making documents due) open the file for writing, for one statement.
- **One at a time at the log's end.** SQLite up to 3.51.2 can corrupt a database when one connection resets the
  write-ahead log while another writes or checkpoints it. So only the owner checkpoints, by command and never by itself,
  and its checkpoints and every write of a guest hold a lock on `<file>.writer`. The owner's own writes need no lock:
  they run on the connection that checkpoints, and SQLite keeps them apart from a guest's writes.
"""

from reconciler.adapters.sqlite.store import SqliteStore, open_store, path_of

__all__ = ["SqliteStore", "open_store", "path_of"]
