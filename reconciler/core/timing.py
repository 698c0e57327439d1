"""
Timing: what a record's own timestamp and an event's `time` say, and what they may not say.

A claim may not lie in the future: it would win over every later one (DESIGN section 4, Clocks). Text in canonical form
compares as time does (`model/instant.py`).
"""

import functools

from reconciler.core import profile
from reconciler.model import instant


def canonical(text: str, attribute: str) -> str:
    """Return a time in canonical form; raises `profile.Invalid` for what is none."""
    try:
        return instant.canonical(text)
    except ValueError as error:
        raise profile.Invalid(f"`{attribute}` is {text!r}: {error}") from error


def of_record(recorded_us: int) -> str:
    """Return the time of a record's timestamp, which in Kafka is any number that the producer chose."""
    try:
        return instant.from_us(recorded_us)
    except OverflowError as error:
        raise profile.Invalid("the record's timestamp is beyond the year 9999; mend the producer's clock") from error


@functools.lru_cache(maxsize=8)  # records of one batch share their millisecond: format the limit once
def latest_allowed(recorded_us: int, skew_us_max: int) -> str:
    """Return the latest time that an event may have whose record was written at `recorded_us`."""
    return of_record(recorded_us + skew_us_max)


def check_skew(time: str, recorded_us: int, skew_us_max: int) -> None:
    """Raise `profile.Invalid` for a claim that is later than its record allows."""
    if time > latest_allowed(recorded_us, skew_us_max):
        recorded = instant.from_us(recorded_us)
        raise profile.Invalid(
            f"`time` {time} is more than {skew_us_max // 1_000_000} s after the record was written ({recorded}): "
            "it would win over every later event; mend the producer's clock"
        )


def lead(recorded_us: int, partition: int, offset: int, *, archived: bool) -> str:
    """
    Return what ranks a claim first under `[log] order = "log"`: when its record was written, its partition and offset.

    The topic's name has no say in it, so neither added partitions nor a renamed topic turn the order round.
    """
    if recorded_us <= 0:
        what = "`recordedtime` is missing" if archived else "the record has no timestamp"
        raise profile.Invalid(f'{what}, by which [log] order = "log" ranks claims; append the event with `emit`')
    return f"{of_record(recorded_us)}/{partition:010d}/{offset:020d}"
