"""Counters: telemetry kept in memory, for commands to show and tests to read."""

from collections import defaultdict

Labels = tuple[tuple[str, str], ...]


class Counters:
    """
    The `Telemetry` port over plain dictionaries.

    Durations are kept as count and sum. Memory: one number for each metric and combination of labels; labels are closed
    sets (never a document's key), so it is bounded.
    """

    def __init__(self) -> None:
        self.counts: defaultdict[tuple[str, Labels], float] = defaultdict(float)
        self.gauges: dict[tuple[str, Labels], float] = {}
        self.durations: defaultdict[tuple[str, Labels], tuple[int, float]] = defaultdict(lambda: (0, 0.0))

    def add(self, metric: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self.counts[metric, _key(labels)] += amount

    def gauge(self, metric: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self.gauges[metric, _key(labels)] = value

    def observe(self, metric: str, seconds: float, **labels: str) -> None:
        """Put a duration into a histogram."""
        count, total_s = self.durations[metric, _key(labels)]
        self.durations[metric, _key(labels)] = (count + 1, total_s + seconds)

    def total(self, metric: str, **labels: str) -> float:
        """Return the sum of a counter over all labels that include `labels`."""
        wanted = set(labels.items())
        return sum(value for (name, key), value in self.counts.items() if name == metric and wanted <= set(key))


def _key(labels: dict[str, str]) -> Labels:
    return tuple(sorted(labels.items()))
