"""Changes in the form in which every store keeps them: agreements as JSON, audit records and messages packed."""

import msgspec

from reconciler.adapters import packing
from reconciler.model import chain, codec
from reconciler.model.audit import Settlement
from reconciler.model.chain import Recorded
from reconciler.model.document import Agreement
from reconciler.model.event import Outgoing

Appended = tuple[bytes, bytes, *tuple[object, ...]]  # a record of the trail, then its cells: packed, and the columns


class Decided(msgspec.Struct, frozen=True):
    """One intent or one settlement, encoded here: one that can't be encoded must not fail the others of its group."""

    key: str
    agreement: bytes
    end: Settlement | None = None  # None: an intent
    audit: tuple[Appended, ...] = ()
    outcomes: tuple[bytes, ...] = ()
    opened: tuple[tuple[object, ...], ...] = ()

    @classmethod
    def of_intent(cls, key: str, agreement: Agreement) -> "Decided":
        return cls(key, codec.encode(agreement))

    @classmethod
    def of_settlement(cls, end: Settlement) -> "Decided":
        encode = codec.encode
        return cls(
            end.key,
            encode(end.agreement),
            end,
            audit=tuple(map(appended, end.audit)),
            outcomes=tuple(map(packed, end.outcomes)),
            opened=tuple((one.id, end.key, one.opened_at_us, encode(one)) for one in end.opened),
        )


def appended(record: Recorded) -> Appended:
    """Return a record of the audit trail, encoded."""
    text = codec.encode_record(record)
    return (text, packing.pack(text), *chain.columns_of(record))


def packed(message: Outgoing) -> bytes:
    """Return a message of the outbox, encoded."""
    return packing.pack(codec.encode_message(message))
