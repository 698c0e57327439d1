"""
Gauges: backlog, lag, queue and load, read when someone asks; and their series for plots.

They are read at most every few seconds, however many ask: that costs a few small queries and one request to the broker,
which gets little time, because a scrape must not wait for Kafka.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import attrs

from reconciler.core.explain import series
from reconciler.core.explain.series import Point, Sample
from reconciler.core.scheduling.breaker import Breaker
from reconciler.core.scheduling.limiter import Limiter
from reconciler.core.scheduling.queue import Queue
from reconciler.flows import watchdog
from reconciler.flows.ingest import Ingest
from reconciler.flows.notify import Backlog
from reconciler.flows.writes import Writes
from reconciler.model.audit import AttemptResult
from reconciler.model.document import Status
from reconciler.model.standing import Space, reaches
from reconciler.ports import Clock, EventLog, Store, Telemetry, Views, standing

_AGE_S_MAX = 5.0  # a third of the usual scrape interval


@attrs.define(eq=False, slots=False)
class Gauges:
    """Sets the gauges of `telemetry` to their present values."""

    _store: Store
    _log: EventLog
    _ingest: Ingest
    _clock: Clock
    _telemetry: Telemetry
    _queue: Queue
    _limiter: Limiter
    _breaker: Breaker
    _backlogs: Callable[[], Mapping[str, Backlog]]
    _writes: Writes
    _spaces: Callable[[], Iterable[Space]]
    _refreshing: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)
    _refreshed_s: float | None = attrs.field(init=False, default=None)

    async def refresh(self) -> None:
        """Set the gauges, unless that was just done. Raises StoreError."""
        async with self._refreshing:
            now_s = self._clock.monotonic_s()
            if self._refreshed_s is not None and now_s - self._refreshed_s < _AGE_S_MAX:
                return
            await self._refresh()
            self._refreshed_s = now_s

    async def _refresh(self) -> None:
        gauge = self._telemetry.gauge
        found = await standing.of(self._store, self._clock.now_us())
        for status, count in found.documents.items():
            gauge("documents", count, status=status.value)
        gauge("oldest_pending_seconds", found.oldest_pending_s or 0.0)
        gauge("dead_letters", found.dead_letters)
        for lane, depth in self._queue.depth().items():
            gauge("queue_depth", depth, lane=lane.name.lower())
        gauge("in_flight", self._limiter.in_flight)
        gauge("in_flight_limit", self._limiter.limit)
        gauge("writes_stopped", float(self._writes.stop is not None))
        gauge("breaker_open", float(self._breaker.away))
        for name, (waiting, oldest_s) in self._backlogs().items():
            gauge("notifications_waiting", waiting, to=name)
            gauge("notifications_oldest_seconds", oldest_s, to=name)
        for space in self._spaces():
            gauge("disk_free_bytes", space.free, of=space.of)
            gauge("disk_size_bytes", space.size, of=space.of)
        ends = await standing.ends(self._log, self._ingest.reached)
        for one in reaches(self._ingest.reached, ends):
            gauge("log_lag", math.nan if one.lag is None else one.lag, topic=one.topic, partition=str(one.partition))


# --------------------------------------------------------------------------------------------------------------- series


HOURS_MAX = 24
_STEPS_MAX = HOURS_MAX * 3600 // series.STEP_S
_ACCEPTED = (AttemptResult.WRITTEN, AttemptResult.CONFIRMED)  # ends of attempts that made one write each


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


@attrs.define(eq=False, slots=False)
class Series:
    """The last day, a point a minute, for plots. It is kept in memory and begins again with each start."""

    _counted: Counted
    _views: Views
    _log: EventLog
    _ingest: Ingest
    _clock: Clock
    _points: deque[Point] = attrs.field(init=False, factory=lambda: deque(maxlen=_STEPS_MAX))
    _stopping: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    def stop(self) -> None:
        """End the loop."""
        self._stopping.set()

    async def run(self) -> None:
        """Take samples until stopped."""
        before = await self._sample()
        while True:
            watchdog.beat()
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
