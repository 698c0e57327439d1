"""
Hot spots: the trend of version conflicts, and advice against them.

Rule: a trend compares rates, not counts: twice the attempts with twice the conflicts is nothing new. With too few
conflicts there is no trend.
"""

from typing import Final

from reconciler.model.standing import DAY_H, HotSpot

_FEW: Final = 3  # conflicts of both days
_CLEARLY: Final = 1.5  # times the other rate
_OFTEN: Final = 0.2  # of the attempts


def rate(conflicts: int, attempts: int) -> float:
    """Return the share of attempts with a version conflict: at most 1, though others change unwritten fields too."""
    return conflicts / max(attempts, conflicts, 1)


def trend(spot: HotSpot) -> str:
    """Compare the last day with the one before: quiet, too few to tell, new, rising, falling or steady."""
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
    """Return the conflicts of each clock hour of both days, oldest first; the last one is the present hour."""
    counts = dict(spot.hours)
    return [counts.get(ago, 0) for ago in range(2 * DAY_H - 1, -1, -1)]


def advice(spot: HotSpot) -> str:
    """Return advice, by the conflicts of the last day."""
    if spot.day_conflicts < _FEW or rate(spot.day_conflicts, spot.day_attempts) < _OFTEN:
        return "Nothing to do: the reconciler tries again, and that resolves such collisions."
    if spot.kind == "document":
        return (
            "Someone edits it while events arrive: slow the source for this document, or pause it until they are done. "
            "If a program edits it, let it append events instead."
        )
    return (
        "Two sides write this field. Give it to one of them by a rule (external or preserve); for a list, set "
        'list = "set", which merges elements; if it holds two things, split it into two fields; or have the source '
        "send less often."
    )
