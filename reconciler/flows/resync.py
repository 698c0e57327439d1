"""
Resync: brings documents back whose time has come.

The store remembers when each document is to be looked at again: retries, cool-downs, and the adaptive, jittered
interval after which a settled document is compared with Windchill once more. This loop moves what is due into the
queue, which is only a window on it: with a million documents nothing is held in memory but the few that are next.
"""

import asyncio

from reconciler.core.queue import Queue
from reconciler.flows import beats
from reconciler.flows.reconcile import Reconciler
from reconciler.ports import Clock, Ledger

_WAIT_S_MAX = 30.0  # a due time set by another process (an operator's command) is noticed within this
_WAIT_S_MIN = 0.5  # what is due but still under way would otherwise be read over and over


class Resync:
    """The loop that refills the queue from the store."""

    def __init__(self, ledger: Ledger, queue: Queue, reconciler: Reconciler, clock: Clock) -> None:
        self._ledger = ledger
        self._queue = queue
        self._reconciler = reconciler
        self._clock = clock
        self._wake = asyncio.Event()
        self._stopping = False

    def stop(self) -> None:
        """End the loop."""
        self._stopping = True
        self._wake.set()

    def wake(self) -> None:
        """Look at the store now: something has been made due."""
        self._wake.set()

    async def run(self) -> None:
        """Refill until stopped."""
        while not self._stopping:
            beats.turn()
            fresh = await self.refill()
            await self._clock.wait(self._wake, await self._wait_s(fresh))
            self._wake.clear()

    async def refill(self) -> int:
        """Offer the queue what the store has as due; return how many of these it did not know of."""
        self._queue.spilled = False  # first: an offer refused from here on counts again
        before = len(self._queue)
        # The answer repeats what already waits or runs here, so ask for that much more.
        for due in await self._ledger.due(self._clock.now_us(), self._queue.capacity + len(self._queue.running)):
            if due.key not in self._queue.running:
                self._reconciler.offer(due)
        return max(0, len(self._queue) - before)

    async def _wait_s(self, fresh: int) -> float:
        next_us = await self._ledger.next_due_us()
        if next_us is None:
            return _WAIT_S_MAX
        wait_s = (next_us - self._clock.now_us()) / 1_000_000
        if wait_s > 0:
            return min(wait_s, _WAIT_S_MAX)
        return _WAIT_S_MIN if fresh or self._queue.spilled else 4 * _WAIT_S_MIN
