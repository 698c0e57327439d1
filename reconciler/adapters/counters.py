"""Counters: telemetry in memory, for metrics, commands and tests."""

from bisect import bisect_left
from collections import Counter
from typing import Final

import attrs

Labels = tuple[tuple[str, str], ...]

OTHER = "other"
COMBINATIONS_MAX = 500  # of labels for a counter: fields' names come from outside, and memory must not grow
BOUNDS_S: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    *(120.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0),
)
"""Upper bounds of the classes of durations, from a quick request to an event that took a day."""


@attrs.define
class Durations:
    """How many durations fell into each class (the last is beyond every bound), and their sum."""

    classes: list[int] = attrs.field(factory=lambda: [0] * (len(BOUNDS_S) + 1))
    total_s: float = 0.0


class Counters:
    """
    The `Telemetry` port over plain dictionaries: it is on the hot path, so it formats and locks nothing.

    Each metric has one number for each combination of labels. A counter with `COMBINATIONS_MAX` of them counts further
    ones as "other".
    """

    bounds_s = BOUNDS_S

    def __init__(self) -> None:
        self.counts: dict[tuple[str, Labels], float] = {}
        self.gauges: dict[tuple[str, Labels], float] = {}
        self.durations: dict[tuple[str, Labels], Durations] = {}
        self._combinations: Counter[str] = Counter()

    def add(self, metric: str, amount: float = 1, **labels: str) -> None:
        key = metric, _key(labels)
        if key not in self.counts:
            key = self._admitted(*key)
        self.counts[key] += amount

    def gauge(self, metric: str, value: float, **labels: str) -> None:
        self.gauges[metric, _key(labels)] = value

    def observe(self, metric: str, seconds: float, **labels: str) -> None:
        key = metric, _key(labels)
        kept = self.durations.get(key)
        if kept is None:
            kept = self.durations[key] = Durations()
        kept.classes[bisect_left(BOUNDS_S, seconds)] += 1
        kept.total_s += seconds

    def total(self, metric: str, **labels: str) -> float:
        """Return the sum of a counter over all labels that include `labels`."""
        wanted = set(labels.items())
        return sum(value for (name, key), value in self.counts.items() if name == metric and wanted <= set(key))

    def classes(self, metric: str) -> tuple[int, ...]:
        """Return how many durations of a histogram fell into each class, over all labels."""
        kept = [found.classes for (name, _), found in self.durations.items() if name == metric]
        return tuple(sum(counts) for counts in zip(*kept, strict=True)) if kept else (0,) * (len(BOUNDS_S) + 1)

    def _admitted(self, metric: str, labels: Labels) -> tuple[str, Labels]:
        """Return the labels that a new combination is counted under."""
        if self._combinations[metric] >= COMBINATIONS_MAX:
            labels = tuple((name, OTHER) for name, _ in labels)
        else:
            self._combinations[metric] += 1
        self.counts.setdefault((metric, labels), 0.0)
        return metric, labels


def _key(labels: dict[str, str]) -> Labels:
    return tuple(sorted(labels.items()) if len(labels) > 1 else labels.items())
