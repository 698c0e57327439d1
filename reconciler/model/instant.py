"""
Instants: points on the time line as canonical text, and as whole microseconds.

Canonical text is UTC with microseconds, `2026-11-22T10:00:00.000001Z`: always 27 characters, so that its order as text
is its order in time. Inside the program wall time is an integer of microseconds since 1970 (`_us`).
"""

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)
_MICROSECOND = timedelta(microseconds=1)
_CANONICAL_LENGTH = 27
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def canonical(text: str) -> str:
    """
    Return an RFC 3339 timestamp (any offset, any precision) in canonical form; digits past microseconds are cut.

    Raises ValueError for anything else, and for a time without an offset: its meaning would depend on the reader.
    """
    moment = datetime.fromisoformat(text)  # it also takes much of ISO 8601 that RFC 3339 leaves out: see below
    # Producers that already write the canonical form are the hot path of a replay: check the layout, keep the string.
    if len(text) == _CANONICAL_LENGTH and text[-1] == "Z" and text[19] == "." and text[10] == "T" and text[7] == "-":
        return text
    if moment.tzinfo is None:
        raise ValueError("it has no offset; write it in UTC with a final 'Z'")
    if _RFC_3339.fullmatch(text) is None:
        raise ValueError("it is not an RFC 3339 date-time such as 2026-11-22T10:00:00.000001Z")
    try:
        return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").zfill(_CANONICAL_LENGTH)
    except OverflowError as error:
        raise ValueError("it is out of range") from error


def from_us(instant_us: int) -> str:
    """Return the canonical text of microseconds since 1970."""
    moment = _NAIVE_EPOCH + timedelta(microseconds=instant_us)  # naive: `isoformat` would add `+00:00`
    return moment.isoformat(timespec="microseconds") + "Z"


def to_us(canonical_text: str) -> int:
    """Return microseconds since 1970 of a canonical text."""
    return (datetime.fromisoformat(canonical_text) - _EPOCH) // _MICROSECOND


def local(instant_us: int) -> str:
    """Return a short text for people, in UTC to the second."""
    moment = (_EPOCH + timedelta(microseconds=instant_us)).astimezone(UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")
