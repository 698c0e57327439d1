"""
Ports: what the flows need from outside, as Protocols.

Every adapter and every fake of a port passes one contract suite (`tests/contracts`). Adapters translate errors into the
classes of `reconciler.errors`; everything expected is returned as a value.
"""

from reconciler.ports.archive import Archive
from reconciler.ports.clock import Clock, Telemetry
from reconciler.ports.log import EventLog, ReaderGroup, SharedLog
from reconciler.ports.shared import Chosen, Shared, Spending
from reconciler.ports.slots import Slots
from reconciler.ports.store import (
    BUCKETS,
    OUTBOX_DUTIES,
    Changed,
    FoldBatch,
    Folded,
    Ledger,
    Outbox,
    OutboxMessage,
    Refolded,
    Store,
    Views,
)
from reconciler.ports.store_admin import StoreAdmin
from reconciler.ports.windchill import ChangeList, Journal, Windchill
from reconciler.ports.write_stops import WriteStops

__all__ = [
    "BUCKETS",
    "OUTBOX_DUTIES",
    "Archive",
    "ChangeList",
    "Changed",
    "Chosen",
    "Clock",
    "EventLog",
    "FoldBatch",
    "Folded",
    "Journal",
    "Ledger",
    "Outbox",
    "OutboxMessage",
    "ReaderGroup",
    "Refolded",
    "Shared",
    "SharedLog",
    "Slots",
    "Spending",
    "Store",
    "StoreAdmin",
    "Telemetry",
    "Views",
    "Windchill",
    "WriteStops",
]
