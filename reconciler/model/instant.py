"""
Instants: points on the time line as canonical text, and as whole microseconds.

Canonical text is UTC with microseconds, `2026-11-22T10:00:00.000001Z`: always 27 characters, so that its order as text
is its order in time. Inside the program wall time is an integer of microseconds since 1970 (`_us`).
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)
_MICROSECOND = timedelta(microseconds=1)
_CANONICAL_LENGTH = 27
_RFC_3339 = re.compile(  # section 5.6; "T" and "Z" may be lower case
    r"\d{4}-\d\d-\d\d[Tt]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)


SECOND_US = 1_000_000


def after_us(instant_us: int, wait_s: float) -> int:
    """Return the moment `wait_s` seconds after another one."""
    return instant_us + round(wait_s * SECOND_US)


def canonical(text: str) -> str:
    """
    Return an RFC 3339 timestamp (any offset, any precision) in canonical form; digits past microseconds are cut.

    A leap second (`23:59:60` in UTC, with any fraction) counts as the last microsecond before it. Raises ValueError for
    anything else, and for a time without an offset: its meaning would depend on the reader.
    """
    found = _RFC_3339.fullmatch(text)
    if found is None:
        if _RFC_3339.fullmatch(f"{text}Z") is not None:
            raise ValueError("it has no offset; write it in UTC with a final 'Z'")
        raise ValueError("it is not an RFC 3339 date-time such as 2026-11-22T10:00:00.000001Z")
    leaps = found[2] == "60"
    written = f"{text[:17]}59{text[19:]}" if leaps else text
    moment = datetime.fromisoformat(written.upper())  # raises for a day that its month does not have
    # Producers that already write the canonical form are the hot path of a replay: keep the string.
    if len(text) == _CANONICAL_LENGTH and text[-1] == "Z" and text[10] == "T" and not leaps:
        return text
    try:
        moment = moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("it is out of range") from error
    if leaps:
        if (moment.hour, moment.minute) != (23, 59):
            raise ValueError("second 60 is a leap second, and there is none at that time")
        moment = moment.replace(microsecond=999_999)
    return _written(moment.replace(tzinfo=None))


@lru_cache(maxsize=1024)  # an attempt writes the same few instants several times
def from_us(instant_us: int) -> str:
    """Return the canonical text of microseconds since 1970; raises OverflowError beyond the years 1 to 9999."""
    return _written(_NAIVE_EPOCH + timedelta(microseconds=instant_us))


def _written(naive: datetime) -> str:
    return naive.isoformat(timespec="microseconds") + "Z"


def to_us(canonical_text: str) -> int:
    """Return microseconds since 1970 of a canonical text; raises ValueError for any other text."""
    moment = datetime.fromisoformat(canonical_text)
    if moment.tzinfo is None:
        raise ValueError("it has no offset")
    return (moment - _EPOCH) // _MICROSECOND


def local(instant_us: int) -> str:
    """Return a short text for people, in UTC to the second."""
    moment = (_EPOCH + timedelta(microseconds=instant_us)).astimezone(UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")
