"""
Changes as every store takes them: encoded, but not packed.

A store packs all of a transaction together: one at a time, on a busy event loop, zstd finds its tables gone from the
processor's caches and takes four times as long.
"""

import msgspec

from reconciler.adapters import packing
from reconciler.model import chain, codec
from reconciler.model.audit import Settlement
from reconciler.model.chain import Recorded
from reconciler.model.document import Agreement
from reconciler.model.event import Outgoing

Appended = tuple[bytes, *tuple[object, ...]]  # a record of the trail, then its columns


class Decided(msgspec.Struct, frozen=True):
    """One intent or one settlement, encoded here: one that can't be encoded must not fail the others of its group."""

    key: str
    agreement: bytes
    end: Settlement | None = None  # None: an intent
    audit: tuple[Appended, ...] = ()
    outcomes: tuple[bytes, ...] = ()
    opened: tuple[tuple[object, ...], ...] = ()
    policy: str = ""  # of an intent: digest of the policy that it is only good under; empty: any

    @classmethod
    def of_intent(cls, key: str, agreement: Agreement, policy: str = "") -> "Decided":
        return cls(key, codec.encode(agreement), policy=policy)

    @classmethod
    def of_settlement(cls, end: Settlement) -> "Decided":
        encode = codec.encode
        return cls(
            end.key,
            encode(end.agreement),
            end,
            audit=tuple(map(appended, end.audit)),
            outcomes=tuple(map(codec.encode_message, end.outcomes)),
            opened=tuple((one.id, end.key, one.opened_at_us, encode(one)) for one in end.opened),
        )


def appended(record: Recorded) -> Appended:
    """Return a record of the audit trail, encoded."""
    return (codec.encode_record(record), *chain.columns_of(record))


def packed(message: Outgoing) -> bytes:
    """Return a message as the outbox keeps it."""
    return packing.pack(codec.encode_message(message))
