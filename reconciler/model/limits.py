"""Limits: those that several places share, and a size in words."""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024**2
GIB: Final = 1024**3

EVENT_BYTES_MAX: Final = MIB
"""Of an event that a person mends, of a request with events, and what brokers accept by default."""
CLOCK_SKEW_S_MAX: Final = 300.0
"""How far ahead a claim's time may be by default."""
SESSION_S: Final = 8 * 3600.0
"""How long a browser session lasts by default."""
SECRET_BYTES_MAX: Final = 64 * KIB
"""Of a file that should hold one secret: a wrong path must not bring a log file into memory."""


def size(count: int) -> str:
    """Return a number of bytes as people read it: "64 MiB", "1,000 bytes"."""
    for of_unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count >= of_unit and count % of_unit == 0:
            return f"{count // of_unit:,} {name}"
    return f"{count:,} bytes"
