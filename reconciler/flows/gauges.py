"""
Gauges: what no loop reports because it is there to be seen: backlog, lag, queue, load.

Looked at only when somebody asks, and at most every few seconds, however many ask. A look costs three small queries
and one request to the broker; the log gets little time for its answer, because a scrape must not wait for Kafka.
"""

import asyncio
import math
from collections.abc import Callable, Mapping

from reconciler.core.breaker import Breaker
from reconciler.core.limiter import Limiter
from reconciler.core.queue import Queue
from reconciler.errors import LogError
from reconciler.flows.ingest import Ingest
from reconciler.flows.notify import Backlog
from reconciler.model.document import Status
from reconciler.model.stamp import Partition
from reconciler.ports import Clock, EventLog, Telemetry, Views

_AGE_S_MAX = 5.0  # a third of the usual scrape interval
_LOG_S_MAX = 2.0


class Gauges:
    """Sets the gauges of `telemetry` to what is there now."""

    def __init__(
        self,
        views: Views,
        log: EventLog,
        ingest: Ingest,
        clock: Clock,
        telemetry: Telemetry,
        *,
        queue: Queue,
        limiter: Limiter,
        breaker: Breaker,
        backlog: Callable[[], Backlog],
    ) -> None:
        self._views = views
        self._log = log
        self._ingest = ingest
        self._clock = clock
        self._telemetry = telemetry
        self._queue = queue
        self._limiter = limiter
        self._breaker = breaker
        self._backlog = backlog
        self._looking = asyncio.Lock()
        self._looked_s: float | None = None

    async def refresh(self) -> None:
        """Look again, unless somebody just did. Raises StoreError."""
        async with self._looking:
            now_s = self._clock.monotonic_s()
            if self._looked_s is not None and now_s - self._looked_s < _AGE_S_MAX:
                return
            await self._look()
            self._looked_s = now_s

    async def _look(self) -> None:
        gauge = self._telemetry.gauge
        counts = await self._views.counts()
        for status in Status:
            gauge("documents", counts.get(status, 0), status=status.value)
        since_us = await self._views.oldest_pending_us()
        waited_us = 0 if since_us is None else max(0, self._clock.now_us() - since_us)
        gauge("oldest_pending_seconds", waited_us / 1_000_000)
        gauge("dead_letters", await self._views.count_dead_letters())
        for lane, depth in self._queue.depth().items():
            gauge("queue_depth", depth, lane=lane.name.lower())
        gauge("in_flight", self._limiter.in_flight)
        gauge("in_flight_limit", self._limiter.limit)
        gauge("breaker_open", float(self._breaker.away))
        waiting, oldest_s = self._backlog()
        gauge("notifications_waiting", waiting)
        gauge("notifications_oldest_seconds", oldest_s)
        found = await lags(self._log, self._ingest) or {}
        for place in {**self._ingest.reached, **found}:
            gauge("log_lag", found.get(place, math.nan), topic=place.topic, partition=str(place.partition))


async def lags(log: EventLog, ingest: Ingest) -> Mapping[Partition, int] | None:
    """Return of each partition how many records are not folded yet; None when the log does not say so in time."""
    if not ingest.reached:  # the log is not open yet
        return None
    try:
        async with asyncio.timeout(_LOG_S_MAX):
            ends = dict(await log.ends())
    except (LogError, TimeoutError):
        return None
    reached = ingest.reached
    return {place: max(0, end - reached.get(place, 0)) for place, end in ends.items()}
