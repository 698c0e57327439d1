"""
Timing: the checks of a record's timestamp and an event's `time`.

A claim may not lie in the future: it would win over every later one (docs/reliability.md). The record's timestamp shows
that only if the broker has set it. So the first reader of a record asks the host's clock as well, and keeps that
refusal by the record's place, because a later rebuild must give the same rows. Text in canonical form compares as time
does (`model/instant.py`).
"""

import functools
from collections.abc import Iterable

import attrs

from reconciler.core.events import profile
from reconciler.model import instant
from reconciler.model.stamp import Place, Stamp

_LENGTH = 27  # of a time in canonical form, with which a lead begins
_NEVER = "~"  # later than every time
_AGAIN = "correct the producer's clock, or this host's; `reconciler dead-letters replay` tries it again"


@attrs.frozen
class Present:
    """The latest time that a claim may have at a first reading, and the places of earlier refusals for that."""

    latest: str = _NEVER
    refused: frozenset[Place] = frozenset()

    @classmethod
    def of(cls, now_us: int, skew_us_max: int, refused: frozenset[Place] = frozenset()) -> "Present":
        """Return the present at `now_us`, for records that are read for the first time."""
        try:
            return cls(instant.from_us(now_us + skew_us_max), refused)
        except OverflowError:  # a skew of thousands of years allows any time
            return cls(_NEVER, refused)

    def objection(self, stamp: Stamp) -> str | None:
        """Return why a claim is refused, None if it is not."""
        if stamp.place in self.refused:
            return f"its time was ahead of this host's clock when it was first read: {_AGAIN}"
        # Under `order = "log"` the record's timestamp ranks claims, so it may not lie in the future either.
        claimed = max(stamp.time, stamp.lead[:_LENGTH])
        if claimed <= self.latest:
            return None
        what = "`time`" if claimed == stamp.time else "the record's timestamp"
        return (
            f"{what} {claimed} is ahead of this host's clock (at most {self.latest} is allowed): it would win over"
            f" every later event; {_AGAIN}"
        )

    def objects(self, latest: str, places: Iterable[tuple[str, int, int]]) -> bool:
        """Whether one of several claims is refused; `latest` is their latest time."""
        return latest > self.latest or (bool(self.refused) and not self.refused.isdisjoint(places))


READ_BEFORE = Present()


def canonical(text: str, attribute: str) -> str:
    """Return a time in canonical form; raises `profile.Invalid` for an invalid one."""
    try:
        return instant.canonical(text)
    except ValueError as error:
        raise profile.Invalid(f"`{attribute}` is {text!r}: {error}") from error


def of_record(recorded_us: int) -> str:
    """Return the time of a record's timestamp, which in Kafka may be any number."""
    try:
        return instant.from_us(recorded_us)
    except OverflowError as error:
        raise profile.Invalid("the record's timestamp is beyond the year 9999; correct the producer's clock") from error


@functools.lru_cache(maxsize=8)  # records of one batch share their millisecond: format the limit once
def latest_allowed(recorded_us: int, skew_us_max: int) -> str:
    """Return the latest time of an event whose record was written at `recorded_us`."""
    return of_record(recorded_us + skew_us_max)


def check_skew(time: str, recorded_us: int, skew_us_max: int) -> None:
    """Raise `profile.Invalid` for a claim that is later than its record allows."""
    if time > latest_allowed(recorded_us, skew_us_max):
        recorded = instant.from_us(recorded_us)
        raise profile.Invalid(
            f"`time` {time} is more than {skew_us_max // 1_000_000} s after the record was written ({recorded}): "
            "it would win over every later event; correct the producer's clock"
        )


def lead(recorded_us: int, partition: int, offset: int, *, archived: bool) -> str:
    """
    Return the lead of a claim under `[log] order = "log"`: the time of its record, its partition and offset.

    The topic's name is not part of it, so neither added partitions nor a renamed topic change the order.
    """
    if recorded_us <= 0:
        what = "`recordedtime` is missing" if archived else "the record has no timestamp"
        raise profile.Invalid(f'{what}, by which [log] order = "log" ranks claims; append the event with `emit`')
    return f"{of_record(recorded_us)}/{partition:010d}/{offset:020d}"
