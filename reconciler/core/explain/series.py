"""
Series: the points of a plot, minute by minute, from running counts.

Rules of this file:
1. A point tells what happened within its step, or null where that was not measured: before the process began, after the
   machine slept, where a count went back. It is zero only for a count of zero.
2. No value is negative, whatever the counts do.
3. Steps follow the wall clock, so that the points of several processes line up.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate

import attrs

STEP_S = 60
_STEP_US = STEP_S * 1_000_000
_LATE = 1.5  # steps between two samples; if they lie further apart, the counts belong to no single step
_EARLY_S = 1.0  # less of a step gives no rate

P50, P95 = 0.5, 0.95


@attrs.frozen(kw_only=True)
class Sample:
    """Counts up to one moment, and the state at it. A count goes down only by a fault."""

    at_us: int
    monotonic_s: float
    events: float = 0.0  # taken from the change log
    writes: float = 0.0  # that Windchill has accepted
    conflicts: float = 0.0  # writes that failed because someone else wrote first
    took: tuple[int, ...] = ()  # convergences by how long they took: one count a class
    pending: int | None = None
    lag: int | None = None  # records of the log not folded yet; None: unknown


@attrs.frozen(kw_only=True)
class Point:
    """One step, with the time of its end; None where nothing was measured."""

    at_us: int
    events_per_s: float | None = None
    writes_per_s: float | None = None
    convergence_p50_s: float | None = None
    convergence_p95_s: float | None = None
    version_conflict_rate: float | None = None  # share of the tried writes
    pending: int | None = None
    lag: int | None = None


def step_of(at_us: int) -> int:
    """Return the number of the step whose end is nearest."""
    return (at_us + _STEP_US // 2) // _STEP_US


def wait_s(at_us: int) -> float:
    """Return the seconds until the end of the step after the one that ends nearest."""
    return ((step_of(at_us) + 1) * _STEP_US - at_us) / 1_000_000


def point(before: Sample, now: Sample, bounds_s: Sequence[float]) -> Point:
    """Return the point between two samples, as the step that ended nearest to the later one."""
    standing = Point(at_us=step_of(now.at_us) * _STEP_US, pending=now.pending, lag=now.lag)
    elapsed_s = now.monotonic_s - before.monotonic_s
    if not _EARLY_S <= elapsed_s <= _LATE * STEP_S:
        return standing
    writes, conflicts = _grown(before.writes, now.writes), _grown(before.conflicts, now.conflicts)
    took = _classes(before.took, now.took)
    return attrs.evolve(
        standing,
        events_per_s=_rate(_grown(before.events, now.events), elapsed_s),
        writes_per_s=_rate(writes, elapsed_s),
        convergence_p50_s=quantile(took, bounds_s, P50),
        convergence_p95_s=quantile(took, bounds_s, P95),
        version_conflict_rate=(
            None if writes is None or conflicts is None or not writes + conflicts else conflicts / (writes + conflicts)
        ),
    )


def quantile(classes: Sequence[int], bounds_s: Sequence[float], share: float) -> float | None:
    """
    Return the value that `share` of all do not exceed, None if there are none.

    Values count as spread evenly within a class. The last class has no upper bound, so its lower one is returned.
    """
    rank = share * sum(classes)
    if not rank:
        return None
    number, upto = next((number, upto) for number, upto in enumerate(accumulate(classes)) if upto >= rank)
    if number >= len(bounds_s):
        return bounds_s[-1]
    below = upto - classes[number]
    lower = bounds_s[number - 1] if number else 0.0
    return lower + (bounds_s[number] - lower) * (rank - below) / classes[number]


def window(points: Iterable[Point], now_us: int, steps: int) -> list[Point]:
    """Return the last `steps` steps up to now, oldest first; steps without a point are empty."""
    known = {step_of(found.at_us): found for found in points}
    last = now_us // _STEP_US
    return [known.get(step) or Point(at_us=step * _STEP_US) for step in range(last - steps + 1, last + 1)]


def _grown(before: float, now: float) -> float | None:
    return now - before if now >= before else None


def _rate(count: float | None, elapsed_s: float) -> float | None:
    return None if count is None else count / elapsed_s


def _classes(before: Sequence[int], now: Sequence[int]) -> list[int]:
    """Return the increase of each class; nothing if a count went back."""
    known = list(before) + [0] * (len(now) - len(before))
    grown = [after - earlier for earlier, after in zip(known, now, strict=False)]
    return grown if all(count >= 0 for count in grown) else []
