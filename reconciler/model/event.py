"""Events, and what else a record of the change log can turn out to be."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias

import attrs

from reconciler.model.stamp import Place, Stamp
from reconciler.model.value import Json

Header: TypeAlias = tuple[str, bytes | None]  # Kafka lets a header's value be null


class Record(Protocol):
    """One record of a log, as the client library hands it out: reading it must not cost a copy."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...  # milliseconds since 1970, as the broker has it
    @property
    def timestamp_type(self) -> int: ...  # 0: the producer's own, 1: the broker's, set when it was appended
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[Header]: ...


class PlainRecord(NamedTuple):
    """A record made by ourselves: a line of a file, a stored dead letter, a test's."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = ()
    timestamp_type: int = 0


class Outgoing(NamedTuple):
    """A record to append to a log."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = ()


class Event(NamedTuple):
    """
    A change event after decoding: what a document should be, by whom, when (schemas/event.schema.json).

    A tuple for speed: one is made per record. `elements` holds, per field and canonical element, present or absent.
    """

    key: str
    stamp: Stamp
    set: dict[str, Json]
    elements: dict[str, dict[str, bool]]
    release: tuple[str, ...]
    expect: dict[str, Json]
    released: bool  # the whole document is released
    actor: str
    reason: str
    accept: dict[str, Json] = {}  # noqa: RUF012 - never mutated; an operator's: what counts as the value in `set`


@attrs.frozen
class Refusal:
    """A record that can't be used, with a reason its producer can act on. It becomes a dead letter."""

    place: Place
    stage: str  # "decode", "profile", "policy"
    reason: str


@attrs.frozen
class Foreign:
    """A record of somebody else's type on a shared topic: counted and skipped."""

    place: Place
    type: str


Decoded = Event | Refusal | Foreign


@attrs.frozen
class DeadLetter:
    """A refused record, kept whole so that it can be driven again: original bytes, key and headers."""

    place: Place
    timestamp: int  # milliseconds since 1970
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]
    stage: str
    reason: str
    refused_at_us: int
    status: str = "open"  # "open", "replayed" or "discarded"

    @property
    def id(self) -> str:
        """`topic/partition/offset`: the record itself is the identity, so refusing it twice keeps one letter."""
        return self.place.text
