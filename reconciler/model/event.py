"""
Events and other records of the change log, and its topics (docs/topics.md).

An event names its own source, so the name alone proves nothing. The topic does: the broker decides who may write to it
(for a file log: the file's permissions), and `Topics` decides whose events are accepted from it. Operators' decisions
are in a topic of their own, and nowhere else.
"""

import functools
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, Protocol, Self, TypeAlias

import attrs

from reconciler.model.policy import OPERATORS
from reconciler.model.stamp import Place, Stamp
from reconciler.model.value import Json

Header: TypeAlias = tuple[str, bytes | None]  # Kafka lets a header's value be null


class Record(Protocol):
    """One record of a log, in the client library's own type, to avoid a copy."""

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
    """A record that we make ourselves: a line of a file, a stored dead letter, a test's."""

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


class More(NamedTuple):
    """What few events say: anything but values of fields. `elements` has, by field and canonical element, presence."""

    elements: dict[str, dict[str, bool]] = {}  # noqa: RUF012 - never mutated, as those below
    release: tuple[str, ...] = ()
    expect: dict[str, Json] = {}  # noqa: RUF012 - never mutated
    released: bool = False  # the whole document is released
    accept: dict[str, Json] = {}  # noqa: RUF012 - an operator's: what counts as the value in `set`


NO_MORE = More()


class Event(NamedTuple):
    """
    A decoded change event: requested values of a document, by whom, when (schemas/event.schema.json).

    One flat tuple for speed: it is made for each record, and is the claim on each field that it decides. It begins with
    the parts of its `Stamp`, so that events rank as their stamps do. Rows store the parts up to `set`.
    """

    lead: str
    time: str
    sequence: str
    topic: str
    partition: int
    offset: int
    source: str
    id: str
    actor: str
    reason: str
    set: dict[str, Json]
    key: str = ""  # the document's; not stored within its row
    more: More | None = None  # None: it only sets fields

    @property
    def stamp(self) -> Stamp:
        """The rank of its claims."""
        return tuple.__new__(Stamp, self[:8])

    @classmethod
    def of(
        cls,
        key: str,
        stamp: Stamp,
        set: dict[str, Json] | None = None,
        *,
        actor: str = "",
        reason: str = "",
        **more: Any,
    ) -> Self:
        """Return an event; other arguments are the members of `More`."""
        said = More(**more)
        return cls(*stamp, actor, reason, set or {}, key, said if any(said) else None)


@attrs.frozen
class Refusal:
    """An unusable record, with a reason that its producer can act on. It becomes a dead letter."""

    place: Place
    stage: str  # "decode", "profile", "policy"
    reason: str


@attrs.frozen
class Foreign:
    """A record of a foreign type on a shared topic: counted and skipped."""

    place: Place
    type: str


Decoded = Event | Refusal | Foreign


@attrs.frozen
class DeadLetter:
    """A refused record, kept whole so that it can be replayed: original bytes, key and headers."""

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
        """`topic/partition/offset`: a record that is refused twice has one letter."""
        return self.place.text


# --------------------------------------------------------------------------------------------------------------- topics


OURS = "//reconciler/"  # all our sources begin so
DECISIONS = ".decisions"  # the file for operators' decisions beside a file log ends so
PACKED = (".gz", ".zst")


@attrs.frozen
class ChangeTopic:
    """A topic that systems append to; `sources` are globs, none means any source but ours."""

    name: str
    sources: tuple[str, ...] = ()


@attrs.frozen(eq=False)  # compared by identity, as policies are
class Topics:
    """The topics of one change log; for a log in files they are the files' names."""

    changes: tuple[ChangeTopic, ...] = (ChangeTopic("windchill.document.changes"),)
    decisions: str = "windchill.document.decisions"
    closed: tuple[str, ...] = ()  # that we publish to: events there are refused, in an archive too

    @property
    def names(self) -> tuple[str, ...]:
        """Every topic that events are read from."""
        return (*(one.name for one in self.changes), self.decisions)

    def refusal(self, topic: str, source: str) -> str | None:
        """Return why an event of this source is refused from a topic, `None` if it is accepted."""
        return _refusal(self, topic, source)

    def of(self, source: str) -> str:
        """Return the topic for events of this source; if none accepts them, one that refuses them."""
        if is_ours(source):
            return self.decisions
        names = (one.name for one in self.changes)
        return next((name for name in names if self.refusal(name, source) is None), self.changes[0].name)

    def again(self, topic: str) -> str:
        """Return the topic for a replay of a record from `topic`: the same, if it is still read."""
        if topic in self.names:
            return topic
        return self.decisions if self._decides(topic) else self.changes[0].name

    def _decides(self, topic: str) -> bool:
        """Whether a topic takes decisions: the configured one, or one in an archive by its name."""
        if topic == self.decisions:
            return True
        if any(topic == one.name for one in self.changes):
            return False
        return unpacked(topic).endswith(DECISIONS)


def is_ours(source: str) -> bool:
    """Whether only the reconciler and its operators may name a source, in upper or lower case."""
    return source.lower().startswith(OURS)


def unpacked(name: str) -> str:
    """Return a file's name without the ending that says how it is compressed."""
    return functools.reduce(str.removesuffix, PACKED, name)


@functools.lru_cache(maxsize=4096)  # bounded: sources come from outside
def _refusal(topics: Topics, topic: str, source: str) -> str | None:
    if topic in topics.closed:
        return f"{topic} is not for events: the reconciler publishes there"
    if topics._decides(topic):  # noqa: SLF001  a method's body, outside of the class for the sake of the cache
        return None if source == OPERATORS else f"{topic} takes decisions of operators ({OPERATORS}) only"
    if is_ours(source):
        return (
            f"source {source!r} is the reconciler's own, and {topic} is open to others: decisions of operators are"
            f" taken from {topics.decisions} only; events of a system need the system's source"
        )
    bound = next((one.sources for one in topics.changes if one.name == topic), ())
    if not bound or source == f"//kafka/{topic}" or any(fnmatchcase(source, glob) for glob in bound):
        return None
    return f"source {source!r} may not write to {topic}: [[log.topics]] allows {', '.join(bound)} there"
