"""
Due feeder: moves documents that are due from the store into the queue.

The store knows when each document is due: for a retry, after a cool-down, or to be compared with Windchill again. The
queue holds only the next few, so memory does not grow with the number of documents.

If the host's clock was ahead for a while, documents may have got due times years away. So no document waits longer from
now than the longest wait of its status; this is checked at the start, when the clock goes back, and once an hour.
"""

import asyncio

import attrs
import structlog

from reconciler.core.scheduling.queue import Queue
from reconciler.core.settling.cases import Pace
from reconciler.flows import watchdog
from reconciler.flows.reconcile import Reconciler
from reconciler.model import instant
from reconciler.model.document import Status
from reconciler.ports import Clock, Store

_log = structlog.get_logger(__name__)

_WAIT_S_MAX = 30.0  # a due time set by another process (a command) is noticed within this time
_WAIT_S_MIN = 0.5  # keeps documents that are due and still under way from being read over and over
_STEP_US = 1_000_000  # a clock that goes back by less has not been set
_CHECK_S = 3600.0  # between two checks of all waits
_AHEAD_US = 60_000_000  # a record may be this far in the future before the clock counts as wrong


def contradiction(last_us: int | None, now_us: int) -> str:
    """Say why the host's clock can't be right, by the time of the last audit record; empty if it can."""
    if last_us is None or last_us <= now_us + _AHEAD_US:
        return ""
    last, now = instant.from_us(last_us), instant.from_us(now_us)
    return (
        f"the newest audit record is from {last}, but this host's clock says {now}: the clock was ahead then, or is"
        " behind now; set it, and keep it right with NTP"
    )


@attrs.define(eq=False, slots=False)
class DueFeeder:
    """The loop that refills the queue from the store."""

    _ledger: Store
    _queue: Queue
    _reconciler: Reconciler
    _clock: Clock
    _pace: Pace
    refilled: bool = attrs.field(init=False, default=False)  # the queue knows what was due when this loop began
    clock_fault: str = attrs.field(init=False, default="")  # why the host's clock is, or was, wrong; empty: it is not
    _offset_us: int | None = attrs.field(init=False, default=None)  # of the clock against monotonic time
    _checked_s: float = attrs.field(init=False, default=0.0)
    _wake: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _stopping: bool = attrs.field(init=False, default=False)

    def stop(self) -> None:
        """End the loop."""
        self._stopping = True
        self._wake.set()

    def wake(self) -> None:
        """Look at the store now: a document has become due."""
        self._wake.set()

    async def run(self) -> None:
        """Refill until stopped."""
        while not self._stopping:
            watchdog.beat()
            await self._check_clock()
            fresh = await self.refill()
            self.refilled = True
            await self._clock.wait(self._wake, await self._wait_s(fresh))
            self._wake.clear()

    async def _check_clock(self) -> None:
        """Shorten waits that a wrong clock has set; see whether the clock can be right now."""
        now_us, now_s = self._clock.now_us(), self._clock.monotonic_s()
        offset_us = now_us - round(now_s * 1_000_000)
        stepped = self._offset_us is None or offset_us < self._offset_us - _STEP_US
        self._offset_us = offset_us
        if stepped or now_s - self._checked_s >= _CHECK_S:
            self._checked_s = now_s
            await self._shorten_waits(now_us)
        elif not self.clock_fault:
            return
        self.clock_fault = contradiction(await self._ledger.last_audited_us(), now_us)

    async def _shorten_waits(self, now_us: int) -> None:
        """Shorten waits that are too long: perhaps those of all documents, which takes minutes for a million."""
        longest_us = {status: self._pace.longest_us(status) for status in Status}
        total = 0
        while not self._stopping and (count := await self._ledger.bring_forward(now_us, longest_us)):
            watchdog.beat()
            total += count
        if total:
            _log.warning("shortened waits that were too long", documents=total)

    async def refill(self) -> int:
        """Offer the queue what is due in the store; return how many of them are new to it."""
        self._queue.spilled = False  # first: an offer refused from here on counts again
        before = len(self._queue)
        # The answer includes what waits or runs here already, so ask for that many more.
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
