"""
Due feeder: moves documents that are due from the store into the queue.

The store remembers when each document is to be looked at again: retries, cool-downs, and the adaptive, jittered
interval after which a settled document is compared with Windchill once more. This loop moves what is due into the
queue, which is only a window on it: with a million documents nothing is held in memory but the few that are next.

A host's clock may go ahead and come back. What was told to wait in between would then wait for years, so no wait may be
longer from now than the longest of its kind: all are looked at when this loop starts, when the clock is seen to have
gone back, and once an hour.
"""

import asyncio

import structlog

from reconciler.core.scheduling.queue import Queue
from reconciler.core.settling.cases import Pace
from reconciler.flows import watchdog
from reconciler.flows.reconcile import Reconciler
from reconciler.model import instant
from reconciler.model.document import Status
from reconciler.ports import Clock, Store

_log = structlog.get_logger(__name__)

_WAIT_S_MAX = 30.0  # a due time set by another process (an operator's command) is noticed within this
_WAIT_S_MIN = 0.5  # what is due but still under way would otherwise be read over and over
_STEP_US = 1_000_000  # by which a clock has to go back for that to be a step
_CHECK_S = 3600.0  # between two looks at all waits, for what was under way when the clock went back
_AHEAD_US = 60_000_000  # by which a record may be of a time to come before that is a fault


def contradiction(last_us: int | None, now_us: int) -> str:
    """Say how the time of the last audit record contradicts the host's clock; empty if it does not."""
    if last_us is None or last_us <= now_us + _AHEAD_US:
        return ""
    last, now = instant.from_us(last_us), instant.from_us(now_us)
    return (
        f"the newest record of the audit trail is of {last}, and this host's clock says {now}: it was ahead then, or is"
        " behind now; set it right, and have it kept so (NTP)"
    )


class DueFeeder:
    """The loop that refills the queue from the store."""

    def __init__(self, store: Store, queue: Queue, reconciler: Reconciler, clock: Clock, pace: Pace) -> None:
        self._ledger = store
        self._longest_us = {status: pace.longest_us(status) for status in Status}
        self._offset_us: int | None = None  # of the clock against time as it passes, at the last look
        self._checked_s = 0.0
        self.refilled = False  # whether the queue has been told of what was due when this loop began
        self.clock_fault = ""  # why the host's clock can't be right, or was not; empty: nothing speaks against it
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
            watchdog.beat()
            await self._mind_the_clock()
            fresh = await self.refill()
            self.refilled = True
            await self._clock.wait(self._wake, await self._wait_s(fresh))
            self._wake.clear()

    async def _mind_the_clock(self) -> None:
        """Let nothing wait for a time that only a wrong clock has told; see whether this one can be right."""
        now_us, now_s = self._clock.now_us(), self._clock.monotonic_s()
        offset_us = now_us - round(now_s * 1_000_000)
        stepped = self._offset_us is None or offset_us < self._offset_us - _STEP_US
        self._offset_us = offset_us
        if stepped or now_s - self._checked_s >= _CHECK_S:
            self._checked_s = now_s
            if count := await self._ledger.bring_forward(now_us, self._longest_us):
                _log.warning("waits that are too long by this clock and configuration are cut short", documents=count)
        elif not self.clock_fault:
            return
        last_us = await self._ledger.last_audited_us()
        self.clock_fault = contradiction(last_us, now_us)

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
