"""
Gauges: what no loop reports because it is there to be seen: backlog, lag, queue, load.

Looked at only when somebody asks, and at most every few seconds, however many ask. A look costs a few small queries
and one request to the broker; the log gets little time for its answer, because a scrape must not wait for Kafka.
"""

import asyncio
import math
from collections.abc import Callable

from reconciler.core.breaker import Breaker
from reconciler.core.limiter import Limiter
from reconciler.core.queue import Queue
from reconciler.flows.ingest import Ingest
from reconciler.flows.notify import Backlog
from reconciler.model.standing import reaches
from reconciler.ports import Clock, EventLog, Store, Telemetry, standing

_AGE_S_MAX = 5.0  # a third of the usual scrape interval


class Gauges:
    """Sets the gauges of `telemetry` to what is there now."""

    def __init__(
        self,
        store: Store,
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
        self._store = store
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
        found = await standing.of(self._store, self._clock.now_us())
        for status, count in found.documents.items():
            gauge("documents", count, status=status.value)
        gauge("oldest_pending_seconds", found.oldest_pending_s or 0.0)
        gauge("dead_letters", found.dead_letters)
        for lane, depth in self._queue.depth().items():
            gauge("queue_depth", depth, lane=lane.name.lower())
        gauge("in_flight", self._limiter.in_flight)
        gauge("in_flight_limit", self._limiter.limit)
        gauge("breaker_open", float(self._breaker.away))
        waiting, oldest_s = self._backlog()
        gauge("notifications_waiting", waiting)
        gauge("notifications_oldest_seconds", oldest_s)
        ends = await standing.ends(self._log, self._ingest.reached)
        for one in reaches(self._ingest.reached, ends):
            gauge("log_lag", math.nan if one.lag is None else one.lag, topic=one.topic, partition=str(one.partition))
