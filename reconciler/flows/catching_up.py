"""Catching up: what came while we were away is folded before anything is written."""

import asyncio
from collections.abc import Mapping

import structlog

from reconciler.flows.ingest import Ingest
from reconciler.model.document import Lane
from reconciler.model.stamp import Partition
from reconciler.ports import Clock

_log = structlog.get_logger(__name__)

_LOOK_S = 0.2  # between two looks at how far the log is folded


class CatchingUp:
    """
    Waits until the log is folded up to `ends`; from then on events are fresh.

    Writing waits for that, but no longer than `patience_s` for a partition that can't be read (None: as long as it
    takes).
    """

    def __init__(self, ingest: Ingest, clock: Clock, *, writable: asyncio.Event) -> None:
        self._ingest = ingest
        self._clock = clock
        self._writable = writable

    async def run(self, ends: Mapping[Partition, int], stop: asyncio.Event, patience_s: float | None) -> None:
        """Return when it is done, or `stop` is set."""
        reached, since_s = self._ingest.reached, self._clock.monotonic_s()
        while not stop.is_set() and self._left(ends):
            now_s = self._clock.monotonic_s()
            if self._ingest.reached != reached:
                reached, since_s = self._ingest.reached, now_s
            elif patience_s is not None and now_s - since_s > patience_s and not self._writable.is_set():
                _log.warning("the log can't be read to its end; going on with what is folded")
                self._writable.set()
            await self._clock.wait(stop, _LOOK_S)
        self._ingest.lane = Lane.EVENT
        self._writable.set()
        _log.info("caught up with the log")

    def _left(self, ends: Mapping[Partition, int]) -> int:
        reached = self._ingest.reached
        return sum(max(0, end - reached.get(place, 0)) for place, end in ends.items())
