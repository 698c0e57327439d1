"""
Hot spots: whether version conflicts get more or fewer, and what would help.

Rule. A trend compares rates, not counts: twice the attempts with twice the conflicts is nothing new. Where too little
has happened, that is said instead.
"""

from typing import Final

from reconciler.model.standing import DAY_H, HotSpot

_FEW: Final = 3  # conflicts of both days
_CLEARLY: Final = 1.5  # times the other rate
_OFTEN: Final = 0.2  # of the attempts


def rate(conflicts: int, attempts: int) -> float:
    """Return the share of attempts that met a version conflict; a field can be moved that was not to be written."""
    return conflicts / max(attempts, conflicts, 1)


def trend(spot: HotSpot) -> str:
    """Return the last day against the one before: quiet, too few to tell, new, rising, falling or steady."""
    both = spot.day_conflicts + spot.before_conflicts
    if both < _FEW:
        return "too few to tell" if both else "quiet"
    if not spot.before_attempts and not spot.before_conflicts:
        return "new"
    now, before = rate(spot.day_conflicts, spot.day_attempts), rate(spot.before_conflicts, spot.before_attempts)
    if now > before * _CLEARLY:
        return "rising"
    return "falling" if before > now * _CLEARLY else "steady"


def by_hour(spot: HotSpot) -> list[int]:
    """Return how many conflicts each clock hour of both days had, oldest first; the last one is the present hour."""
    counts = dict(spot.hours)
    return [counts.get(ago, 0) for ago in range(2 * DAY_H - 1, -1, -1)]


def advice(spot: HotSpot) -> str:
    """Return what would help, by what the last day was like."""
    if spot.day_conflicts < _FEW or rate(spot.day_conflicts, spot.day_attempts) < _OFTEN:
        return "Nothing to do: collisions are settled by trying again."
    if spot.kind == "document":
        return (
            "Somebody edits it while events come: slow the source for this document, or pause it until they are done. "
            "If it is a program, have it append events too."
        )
    return (
        'Two write it. Give it to one of them by a rule (external or preserve); for a list use list = "set", so that '
        "elements are merged; if it says two things, split it into two fields; or have the source send less often."
    )
