"""Announcing: the signatures of outcomes, and the one that says from where on everything is signed."""

from collections.abc import Mapping
from typing import Final

import msgspec

from reconciler.core.events import outcomes, signing
from reconciler.core.events.outcomes import Outcome, OutcomeType
from reconciler.model import codec
from reconciler.model.event import Outgoing
from reconciler.model.signing import Keys, Noted
from reconciler.model.stamp import Partition
from reconciler.model.value import Json

_SUBJECT: Final = "signing"  # it is about no document


class _Since(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    offset: int


class _Data(msgspec.Struct, frozen=True):
    since: list[_Since]


class _Began(msgspec.Struct, frozen=True):
    type: str
    data: _Data


_began = msgspec.json.Decoder(_Began).decode


def began(noted: Noted, at_us: int, topic: str, source: str) -> Outgoing:
    """Return the record that says from where on decisions and outcomes are signed; a lost store is told so by it."""
    since: list[object] = [
        {"topic": place, "partition": partition, "offset": offset} for place, partition, offset in noted.since
    ]
    kind, data = OutcomeType.SIGNING_BEGAN, dict[str, Json](key=noted.key, since=since)
    outcome = Outcome(codec.digest([kind, _SUBJECT, at_us, data]), kind, _SUBJECT, at_us, data)
    return outcomes.record(outcome, topic, source)


def since(text: bytes) -> Mapping[Partition, int] | None:
    """Return from where on a record says that everything is signed, `None` if it does not."""
    try:
        found = _began(text)
    except (ValueError, RecursionError):
        return None
    if found.type != OutcomeType.SIGNING_BEGAN:
        return None
    return {Partition(one.topic, one.partition): one.offset for one in found.data.since}


def signed(record: Outgoing, topic: str, keys: Keys | None) -> Outgoing:
    """Return a record of the outcome log with its signature; any other, and where there is no key, as it is."""
    if keys is None or record.topic != topic or record.value is None:
        return record
    return record._replace(value=signing.signed(record.value, keys))
