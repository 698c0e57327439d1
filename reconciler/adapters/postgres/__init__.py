"""
The state store on PostgreSQL, for several replicas that share it.

The SQL (`migrations/`, `queries.py`), the connections, slots, and how a change is stored in one statement live here.
Never here: what a document's state means (the codec and the model know), how its row changes
(`core/folding/rows.py`), and decisions of any kind.

How processes share the store:

- **Read, decide, store if nothing has moved.** Rows are read without a lock. The core makes the new ones, and one
  statement, the function `change_1`, stores them if every row still has the version that was read. If not, the rows
  are read and decided again. So no transaction waits for a client, and the rules are in one place for all stores.
- **An owner holds a slot** (`slots.py`), one of 16, and all that it changes names the slot's epoch: an owner that was
  taken for dead changes nothing more.
- **Documents belong to the slot that attempts them**, until the settlement, or until the slot changes hands. Only its
  holder stores an intent or a settlement, and only on the agreement that it knows.
- **Each slot has its own audit chain.** Guests (commands) append to that of slot 0, by comparing and setting its head.
- **The outbox is divided into buckets**, each a duty of one slot, so a document's messages stay in order.
- **A lost answer is not guessed.** The owner's turn, or the audit trail, says whether the change was stored.
"""

from reconciler.adapters.postgres.server import Address
from reconciler.adapters.postgres.slots import Terms
from reconciler.adapters.postgres.store import PostgresStore, migrate_store, open_store

__all__ = ["Address", "PostgresStore", "Terms", "migrate_store", "open_store"]
