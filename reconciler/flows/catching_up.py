"""Catching up: what came while we were away is folded before anything is written; and when a single pass is over."""

import asyncio
from collections.abc import Mapping

import structlog

from reconciler.core.scheduling.breaker import Breaker
from reconciler.flows.ingest import Ingest
from reconciler.flows.reconcile import Reconciler
from reconciler.model.document import Lane, Status
from reconciler.model.stamp import Partition
from reconciler.ports import Clock, Views

_log = structlog.get_logger(__name__)

_LOOK_S = 0.2  # between two looks at how far the log is folded


class CatchingUp:
    """
    Waits until the log is folded up to `ends`; from then on events are fresh.

    Writing waits for that, but no longer than `timeout_s` for a partition that can't be read (None: as long as it
    takes).
    """

    def __init__(self, ingest: Ingest, clock: Clock, *, writable: asyncio.Event) -> None:
        self._ingest = ingest
        self._clock = clock
        self._writable = writable

    async def run(self, ends: Mapping[Partition, int], stop: asyncio.Event, timeout_s: float | None) -> None:
        """Return when it is done, or `stop` is set."""
        reached, since_s = self._ingest.reached, self._clock.monotonic_s()
        while not stop.is_set() and self._left(ends):
            now_s = self._clock.monotonic_s()
            if self._ingest.reached != reached:
                reached, since_s = self._ingest.reached, now_s
            elif timeout_s is not None and now_s - since_s > timeout_s and not self._writable.is_set():
                _log.warning("the log can't be read to its end; going on with what is folded")
                self._writable.set()
            await self._clock.wait(stop, _LOOK_S)
        self._ingest.lane = Lane.EVENT
        self._writable.set()
        _log.info("caught up with the log")

    def _left(self, ends: Mapping[Partition, int]) -> int:
        reached = self._ingest.reached
        return sum(max(0, end - reached.get(place, 0)) for place, end in ends.items())


# ---------------------------------------------------------------------------------------------------------------- once
# Once: when a single pass is over.
#
# It is over when no document is pending: each is settled, or waits for a person, for somebody's lock, for access. It is
# also over when nothing comes of it any more, because a Windchill that gives no usable answer may go on so for ever:
# when for `timeout_s` every attempt has failed, and each pending document is among those that have, or Windchill as a
# whole is away. What is still pending then counts as unsettled; the store remembers when it is tried next.

_PAGE = 100


class Once:
    """Tells when a pass that begins now is over."""

    def __init__(
        self, views: Views, reconciler: Reconciler, breaker: Breaker, clock: Clock, *, timeout_s: float
    ) -> None:
        self._views = views
        self._reconciler = reconciler
        self._breaker = breaker
        self._clock = clock
        self._timeout_s = timeout_s
        self._gained = -1  # what was gained when something was gained last
        self._gained_s = 0.0
        self._failed_to = (-1, "")  # every pending document up to this one has failed since then

    async def over(self) -> bool:
        """Whether nothing is left to be done, or nothing comes of it."""
        counts = await self._views.counts()
        if not counts.get(Status.PENDING, 0) and not counts.get(Status.COLLECTING, 0):
            return self._reconciler.idle
        now_s = self._clock.monotonic_s()
        if self._gained != self._reconciler.gained:
            self._gained, self._gained_s, self._failed_to = self._reconciler.gained, now_s, (-1, "")
        return now_s - self._gained_s >= self._timeout_s and (self._breaker.away or await self._all_have_failed())

    async def _all_have_failed(self) -> bool:
        """Walk over the pending documents as far as they have failed; go on from there at the next look."""
        while page := await self._views.list_waiting(Status.PENDING, self._failed_to, _PAGE):
            for document in page:
                if not document.agreement.failures:
                    return False
                self._failed_to = (document.pending_since_us or 0, document.key)
        return True
