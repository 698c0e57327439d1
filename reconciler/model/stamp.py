"""Stamps and places: the rank of a claim on a field, and the place of a record in its log."""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias


class Partition(NamedTuple):
    """One partition of one topic; for a log in a file the topic is the file's name and the partition 0."""

    topic: str
    partition: int


class Anchor(NamedTuple):
    """The last record that was read of a partition: its offset and the digest of its content."""

    offset: int
    digest: str


NO_ANCHORS: Mapping[Partition, Anchor] = {}
NO_POSITIONS: Mapping[Partition, int] = {}


class Place(NamedTuple):
    """The place of a record: topic, partition, offset. For a file: its name, 0 and the line counted from 0."""

    topic: str
    partition: int
    offset: int

    @property
    def text(self) -> str:
        """The place as `topic/partition/offset`."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> "Place":
        """Return the place that a text names; a file's name may have slashes."""
        topic, partition, offset = text.rsplit("/", 2)
        return cls(topic, int(partition), int(offset))


Level: TypeAlias = tuple[str, str, str]  # lead, time and sequence: the part of a stamp that a copy shares


class Stamp(NamedTuple):
    """
    The totally ordered tuple that ranks two claims on one field (docs/explanation.md).

    A tuple, not an attrs class: a fold compares stamps millions of times, and tuples compare in C.
    `lead` is `""` when `[log] order = "time"`; under `order = "log"` it is the record's own timestamp, partition and
    offset as padded text, which then decides before the event's time does.
    """

    lead: str
    time: str  # canonical instant, see `instant`
    sequence: str
    topic: str
    partition: int
    offset: int
    source: str
    id: str

    @property
    def place(self) -> Place:
        """The record that made this claim."""
        return Place(self.topic, self.partition, self.offset)

    @property
    def level(self) -> Level:
        """The parts that rank before the place, which decides only between claims of one level."""
        return self[:3]

    @property
    def event(self) -> tuple[str, str, str, str]:
        """The identity of the claim's event: records that agree in it are copies of one event."""
        return self.time, self.sequence, self.source, self.id

    def follows(self, agreed: "Stamp") -> bool:
        """Whether this claim is later than `agreed` and of another event; a copy of the agreed event is not."""
        return self > agreed and self.event != agreed.event


LEAST = Stamp("", "0001-01-01T00:00:00.000000Z", "", "", 0, 0, "", "")
"""Ranks before every claim."""
