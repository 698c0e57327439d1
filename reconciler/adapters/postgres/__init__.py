"""
The state store on PostgreSQL, for several replicas that share it.

The SQL (`migrations/`, `queries.py`), the connections, slots, and how a change is stored in one statement live here.
Never here: what a document's state means (the codec and the model know), how its row changes
(`core/folding/rows.py`), and decisions of any kind.

How processes share the store:

- **Read, decide, store if nothing has moved.** Rows are read without a lock. The core makes the new ones, and one
  statement, the function `change_1`, stores them if every row still has the version that was read. If not, the rows
  are read and decided again. So no transaction waits for a client, and the rules are in one place for all stores.
- **An owner holds a slot** (`slots.py`), and all that it changes names the slot's epoch: an owner that was taken for
  dead changes nothing more. For now there is one owner at a time.
- **Guests** (commands) append to the audit trail too, by comparing and setting its head.
- **A lost answer is not guessed.** The owner's turn, or the audit trail, says whether the change was stored.
"""

from reconciler.adapters.postgres.server import Address
from reconciler.adapters.postgres.slots import Terms
from reconciler.adapters.postgres.store import PostgresStore, migrate_store, open_store

__all__ = ["Address", "PostgresStore", "Terms", "migrate_store", "open_store"]
