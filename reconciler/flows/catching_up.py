"""Catching up: folds what came while the reconciler was away, before anything is written; and the end of `--once`."""

import asyncio
from collections.abc import Mapping

import attrs
import structlog

from reconciler.core.scheduling.breaker import Breaker
from reconciler.flows.ingest import Ingest
from reconciler.flows.reconcile import Reconciler
from reconciler.model.document import Lane, Status
from reconciler.model.stamp import Partition
from reconciler.ports import Clock, Views

_log = structlog.get_logger(__name__)

_LOOK_S = 0.2  # between two checks of how far the log is folded


@attrs.frozen
class CatchingUp:
    """
    Waits until the log is folded up to `ends`; later events count as fresh.

    Sets `writable` then, or once a partition has given nothing for `timeout_s` (None: never).
    """

    _ingest: Ingest
    _clock: Clock
    _writable: asyncio.Event

    async def run(self, ends: Mapping[Partition, int], stop: asyncio.Event, timeout_s: float | None) -> None:
        """Return when the log is folded, or `stop` is set."""
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

_PAGE = 100


@attrs.define
class Once:
    """
    Tells when a single pass is over: when no document is pending.

    It is also over when Windchill gives no usable answer, which may last for ever: when every attempt has failed for
    `timeout_s`, and each pending document has failed or Windchill as a whole is down.
    """

    _views: Views
    _reconciler: Reconciler
    _breaker: Breaker
    _clock: Clock
    _timeout_s: float
    _gained: int = -1  # `Reconciler.gained` when it grew last
    _gained_s: float = 0.0
    _failed_to: tuple[int, str] = (-1, "")  # every pending document up to this one has failed since then

    async def over(self) -> bool:
        """Whether nothing is left to do, or trying goes nowhere."""
        counts = await self._views.counts()
        if not counts.get(Status.PENDING, 0) and not counts.get(Status.COLLECTING, 0):
            return self._reconciler.idle
        now_s = self._clock.monotonic_s()
        if self._gained != self._reconciler.gained:
            self._gained, self._gained_s, self._failed_to = self._reconciler.gained, now_s, (-1, "")
        return now_s - self._gained_s >= self._timeout_s and (self._breaker.away or await self._all_have_failed())

    async def _all_have_failed(self) -> bool:
        """Whether every pending document has failed; the next call goes on where this one stopped."""
        while page := await self._views.list_waiting(Status.PENDING, self._failed_to, _PAGE):
            for document in page:
                if not document.agreement.failures:
                    return False
                self._failed_to = (document.pending_since_us or 0, document.key)
        return True
