"""
Signing: the proof that the writer of a decision or an outcome has the key (docs/signing.md).

Rules of this file:
1. A signature is the HMAC-SHA-256 of an event's members in one spelling: sorted, numbers by their value (`1.0` is `1`),
   no white space. So it stays valid if a program reads the JSON and writes it again.
2. It leaves out the members that an event gets on its way or that mean nothing: its place in a log, `recordedtime`,
   traces, `partitionkey`, `datacontenttype`, and the signature itself. Any other addition or change breaks it.
3. Only an event before the place where signing began (`Noted`) may have no signature.
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
STAGE: Final = "signature"  # of a refusal because of a signature
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
    """Events that need a signature: all from these places on; in other partitions, from the beginning."""

    keys: Keys
    since: Mapping[Partition, int]

    def within(self, ends: Mapping[Partition, int]) -> "Required":
        """
        Return the same for partitions with these ends.

        A partition that ends before its place is not the one that was noted, so all its events need a signature.
        """
        since = {place: offset if ends.get(place, offset) >= offset else 0 for place, offset in self.since.items()}
        return Required(self.keys, since)

    def fault(self, text: bytes, place: Place) -> str | None:
        """Return why an event at a place is not trusted, `None` if it is."""
        if place.offset < self.since.get(Partition(place.topic, place.partition), 0):
            return None
        return fault(text, self.keys)


def signed(text: bytes, keys: Keys) -> bytes:
    """Return an event, a JSON object, with its signature; raises ValueError for any other text."""
    return msgspec.json.encode({**_members(text), ATTRIBUTE: _VERSION + _mark(text, keys.key)})


def fault(text: bytes, keys: Keys) -> str | None:
    """Return why an event's signature is not ours, `None` if it is."""
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
    """Return a value with one spelling for each number."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {name: _plain(inner) for name, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
        case _:
            return value
