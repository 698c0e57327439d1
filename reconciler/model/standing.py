"""The present state of all documents: counts of the store, how far the change log is folded, and hot spots."""

from collections.abc import Mapping, Sequence
from typing import Final

import attrs
import msgspec

from reconciler.model.document import Status
from reconciler.model.limits import GIB
from reconciler.model.stamp import Partition


@attrs.frozen(kw_only=True)
class Standing:
    """Counts of the store at one moment."""

    at_us: int
    documents: Mapping[Status, int]
    oldest_pending_us: int | None
    conflicts: int  # open ones
    dead_letters: int
    comparisons_due: int  # documents due for a comparison with Windchill
    write_stop: "WriteStop | None" = None
    replicas: "Sequence[Replica]" = ()  # who shares the store; none can share one in a file
    not_notified: Mapping[str, int] = attrs.field(factory=dict)  # receivers that accept no notifications; since when

    @property
    def oldest_pending_s(self) -> float | None:
        """How long the oldest pending document has been pending, None if none is."""
        return None if self.oldest_pending_us is None else max(0, self.at_us - self.oldest_pending_us) / 1_000_000


@attrs.frozen
class Reach:
    """How far one partition of the change log is folded; `end` is None if the log does not tell it."""

    topic: str
    partition: int
    position: int
    end: int | None

    @property
    def lag(self) -> int | None:
        """The number of records left to fold."""
        return None if self.end is None else max(0, self.end - self.position)


def reaches(reached: Mapping[Partition, int], ends: Mapping[Partition, int] | None) -> list[Reach]:
    """Return all partitions in order; for a log that does not answer (None), those that were folded from."""
    known = ends or {}
    return [Reach(*place, reached.get(place, 0), known.get(place)) for place in sorted({**reached, **known})]


@attrs.frozen
class Space:
    """How much of a file system is free for us; `of` is what of ours it holds."""

    of: str  # store or log
    path: str
    free: int  # bytes
    size: int

    @property
    def is_low(self) -> bool:
        """Whether it is nearly full: less than a tenth is left, and not much."""
        return self.free < min(self.size // 10, _LOW_BYTES)


# -------------------------------------------------------------------------------------------------------------- control


class WriteStop(msgspec.Struct, frozen=True):
    """Operators have stopped all writes: since when, who and why. `number` counts the stops and their ends."""

    number: int
    at_us: int
    who: str
    reason: str


@attrs.frozen
class Replica:
    """A process that uses the store as one of its owners."""

    slot: int
    name: str
    silent_s: float  # since its last sign of life, by the store's clock
    evicted: bool  # others have taken it for dead, so it sends nothing more
    obeys_stop: int = 0  # the number of the stop that it obeys: no write of before is under way there

    def writes_despite(self, stop: WriteStop) -> bool:
        """Whether a write may still be under way here that began before a stop."""
        return not self.evicted and self.obeys_stop != stop.number


# ------------------------------------------------------------------------------------------------------------ hot spots


_LOW_BYTES: Final = 5 * GIB  # of a large file system a tenth lasts for long
HOUR_US: Final = 3_600_000_000
DAY_H: Final = 24
KEPT_H: Final = 7 * DAY_H  # older hours are deleted one by one
# A rate is ranked as if so many more attempts had gone well: one conflict in one attempt ranks below 400 in 1,000.
DOUBT: Final = 10


@attrs.frozen
class HotSpot:
    """
    A document or a field with version conflicts.

    The day is the present clock hour and the 23 before it; the day before is the 24 before those. Attempts on a
    document are counted by the hour from its first version conflict on.
    """

    kind: str  # "document" or "field"
    name: str
    conflicts: int
    attempts: int
    day_conflicts: int = 0
    day_attempts: int = 0
    before_conflicts: int = 0
    before_attempts: int = 0
    hours: tuple[tuple[int, int], ...] = ()  # of both days, those with conflicts: hours ago, and conflicts


def hour_of(at_us: int) -> int:
    """Return the hour that a moment belongs to."""
    return at_us // HOUR_US
