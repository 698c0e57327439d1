"""
Series: takes a sample of what is counted once a minute, for plots of the last day.

Fixed memory: one small value a minute, whatever happens. A sample costs one small query and one request to the broker;
a restart begins anew, and what was before it is not known here (that is what Prometheus is for).
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from reconciler.core import series
from reconciler.core.series import Point, Sample
from reconciler.flows import beats
from reconciler.flows.ingest import Ingest
from reconciler.model.document import Status
from reconciler.model.standing import reaches
from reconciler.ports import Clock, EventLog, Views, standing

HOURS_MAX = 24
_STEPS_MAX = HOURS_MAX * 3600 // series.STEP_S
_ACCEPTED = ("written", "confirmed")  # ends of attempts that made one write each


class Counted(Protocol):
    """What has been counted so far."""

    @property
    def bounds_s(self) -> Sequence[float]:
        """The upper bounds of the classes that durations fall into."""
        ...

    def total(self, metric: str, **labels: str) -> float:
        """Return the sum of a counter over all labels that include these."""
        ...

    def classes(self, metric: str) -> tuple[int, ...]:
        """Return how many durations fell into each class, the last being those above every bound."""
        ...


class Series:
    """The last day, a point a minute. `run` goes on until `stop`."""

    def __init__(self, counted: Counted, views: Views, log: EventLog, ingest: Ingest, clock: Clock) -> None:
        self._counted = counted
        self._views = views
        self._log = log
        self._ingest = ingest
        self._clock = clock
        self._points: deque[Point] = deque(maxlen=_STEPS_MAX)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End the loop."""
        self._stopping.set()

    async def run(self) -> None:
        """Take samples until stopped."""
        before = await self._sample()
        while True:
            beats.turn()
            await self._clock.wait(self._stopping, series.wait_s(self._clock.now_us()))
            if self._stopping.is_set():
                return
            now = await self._sample()
            self._points.append(series.point(before, now, self._counted.bounds_s))
            before = now

    def last(self, hours: float) -> list[Point]:
        """Return every minute of the last hours, at most a day of them, oldest first."""
        steps = min(_STEPS_MAX, max(1, round(hours * 3600 / series.STEP_S)))
        return series.window(self._points, self._clock.now_us(), steps)

    async def _sample(self) -> Sample:
        counts = await self._views.counts()
        ends = await standing.ends(self._log, self._ingest.reached)
        total = self._counted.total
        return Sample(
            at_us=self._clock.now_us(),
            monotonic_s=self._clock.monotonic_s(),
            events=total("events_total"),
            writes=sum(total("attempts_total", result=result) for result in _ACCEPTED),
            conflicts=total("version_conflicts_total"),
            took=self._counted.classes("convergence_seconds"),
            pending=counts.get(Status.PENDING, 0),
            lag=None if ends is None else sum(one.lag or 0 for one in reaches(self._ingest.reached, ends)),
        )
