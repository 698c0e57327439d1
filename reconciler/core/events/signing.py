"""
Signing: what proves that a decision or an outcome was written by somebody who has the key (docs/signing.md).

Rules of this file:
1. A signature is the HMAC-SHA-256 of all that an event says, in one spelling: members sorted, numbers by their value
   (`1.0` is `1`), no white space. So it survives whoever reads the JSON and writes it again.
2. Left out is only what an event gets on its way, and what says nothing: its place in a log, `recordedtime`, traces,
   `partitionkey`, `datacontenttype`, and the signature itself. Whatever else is added or changed breaks it.
3. An event may be without a signature only where it stands before the place from which on all are signed (`Noted`).
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Final

import attrs
import msgspec

from reconciler.model.signing import Keys
from reconciler.model.stamp import Partition, Place

ATTRIBUTE: Final = "signature"
STAGE: Final = "signature"  # of what is refused for want of one
_VERSION: Final = "v1."
_PURPOSE: Final = b"windchill-reconciler v1\n"
_PLACE = ("kafkatopic", "kafkapartition", "kafkaoffset", "recordedtime")
_NOT_SIGNED: Final = frozenset((ATTRIBUTE, *_PLACE, "traceparent", "tracestate", "partitionkey", "datacontenttype"))
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_said = msgspec.json.Decoder(dict[str, object]).decode


class _Marked(msgspec.Struct):
    signature: str | None = None


_marked = msgspec.json.Decoder(_Marked).decode


@attrs.frozen
class Required:
    """What has to be signed: all from these places on; a partition that is not named, from its beginning."""

    keys: Keys
    since: Mapping[Partition, int]

    def within(self, ends: Mapping[Partition, int]) -> "Required":
        """
        Return the same where partitions end here.

        One that ends before its place is another one than was noted, which somebody has put there: all of it is new.
        """
        since = {place: offset if ends.get(place, offset) >= offset else 0 for place, offset in self.since.items()}
        return Required(self.keys, since)

    def fault(self, text: bytes, place: Place) -> str | None:
        """Return why an event at a place is not accepted, `None` if it is."""
        if place.offset < self.since.get(Partition(place.topic, place.partition), 0):
            return None
        return fault(text, self.keys)


def signed(text: bytes, keys: Keys) -> bytes:
    """Return an event with its signature, a JSON object as it was otherwise; raises ValueError for what is none."""
    return msgspec.json.encode({**_members(text), ATTRIBUTE: _VERSION + _mark(text, keys.key)})


def fault(text: bytes, keys: Keys) -> str | None:
    """Return why an event's signature is not one of ours, `None` if it is."""
    try:
        given = _marked(text).signature
        if given is None:
            return "it is not signed"
        marks = [_VERSION + _mark(text, key) for key in (keys.key, *keys.previous)]
    except (ValueError, RecursionError):
        return "it can't be read"
    known = [hmac.compare_digest(mark.encode(), given.encode()) for mark in marks]
    return None if any(known) else "its signature is of another key, or it was changed since"


def _mark(text: bytes, key: bytes) -> str:
    said = {name: _plain(value) for name, value in _said(text).items() if name not in _NOT_SIGNED}
    canonical = json.dumps(said, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return hmac.digest(key, _PURPOSE + canonical.encode(), hashlib.sha256).hex()


def _plain(value: object) -> object:
    """Return a value with every number as its value tells, however it was spelled."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {name: _plain(inner) for name, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case _:
            return value
