"""Hot spots: where somebody else has been quicker, of all time and lately."""

from typing import Final

import attrs

HOUR_US: Final = 3_600_000_000
DAY_H: Final = 24
KEPT_H: Final = 7 * DAY_H  # what is older is forgotten hour by hour
# A rate is ranked as if so many more attempts had gone well: one conflict in one attempt is no worse than 400 in 1,000.
DOUBT: Final = 10


@attrs.frozen
class HotSpot:
    """
    A document or a field with version conflicts.

    The days are clock hours: the present hour and the 23 before it, and the 24 before those. Attempts on a document
    are counted by the hour from its first version conflict on.
    """

    kind: str  # "document" or "field"
    name: str
    conflicts: int
    attempts: int
    day_conflicts: int = 0
    day_attempts: int = 0
    before_conflicts: int = 0
    before_attempts: int = 0
    hours: tuple[tuple[int, int], ...] = ()  # of both days: how many hours ago, and how many conflicts, none left out


def hour_of(at_us: int) -> int:
    """Return the hour that a moment belongs to."""
    return at_us // HOUR_US
