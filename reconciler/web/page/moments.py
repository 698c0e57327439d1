"""Moments: times and spans in the words that people use."""

from typing import Final

from reconciler.model import instant

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_SECOND_US: Final = 1_000_000


def ago(at: str, now_us: int) -> str:
    """Return how long ago a moment was, or how long it is until then."""
    seconds = (now_us - instant.to_us(at)) / _SECOND_US
    if abs(seconds) < 1:
        return "now"
    return f"{span(seconds)} ago" if seconds > 0 else f"in {span(-seconds)}"


def span(seconds: float) -> str:
    """Return a span in its largest unit, and in the next one while the first is small."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for number, (size, name) in enumerate(_UNITS):
        if whole < size:
            continue
        first, rest = divmod(whole, size)
        if number + 1 < len(_UNITS) and first < 10 and rest:
            below, unit = _UNITS[number + 1]
            more = rest // below
            return f"{first} {name} {more} {unit}" if more else f"{first} {name}"
        return f"{first} {name}"
    return f"{whole} s"


def clock(at: str) -> str:
    """Return a moment to the second."""
    return at[:19].replace("T", " ") + " UTC"
