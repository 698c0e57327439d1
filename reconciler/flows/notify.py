"""
Notify: posts notifications to a receiver (docs/decisions/0010). `flows/watch.py` finds what to tell.

A notification is posted again, under the same id, until its receiver accepts it or has refused it ten times.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

import attrs
import structlog

from reconciler.core.explain.notices import FIRST, Batch, Fault, Kind, Notification, Undelivered
from reconciler.core.explain.routing import Route
from reconciler.core.scheduling import backoff
from reconciler.flows import watchdog
from reconciler.model.notified import WEBHOOK
from reconciler.ports import Clock, Telemetry

_log = structlog.get_logger(__name__)

_BACKOFF_S, _BACKOFF_S_MAX = 2.0, 900.0
_FAILURES = 3  # in a row, after which a receiver counts as broken
_REFUSALS_MAX = 10  # of one notification, before it is given up so that it does not block later ones


class Webhook(Protocol):
    """Where notifications are posted: a webhook, or whatever takes them in its place."""

    async def post(self, notification: Notification) -> Undelivered | None:
        """Post once; return why it was not accepted, None if it was."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


@attrs.frozen
class NotifyOptions:
    """How notifications are posted."""

    source: str  # who tells: "//reconciler/<group>"
    most: int  # notices posted one by one; more become a digest
    window_s: float  # between two rounds
    first: int = FIRST  # notices that a digest shows whole
    look_s: float = 1.0  # between two looks for what to tell


@attrs.frozen
class Receiver:
    """One who is told, by a name that stays the same over restarts, and what of."""

    name: str
    webhook: Webhook
    options: NotifyOptions
    route: Route | None = None  # None: everything


class Backlog(NamedTuple):
    """How many notices a receiver has not accepted yet, and for how long the oldest has been posted."""

    waiting: int
    oldest_s: float


@attrs.define(eq=False, slots=False)
class Post:
    """Delivers notifications, however long it takes. `stopping` ends every wait."""

    _webhook: Webhook
    _clock: Clock
    _telemetry: Telemetry
    _stopping: asyncio.Event
    name: str = WEBHOOK
    _note: Callable[[int], Awaitable[None]] | None = None  # stores since when it has been broken; 0: not
    _waiting: tuple[float, int] | None = attrs.field(init=False, default=None)  # since when, and how many notices
    _broken: bool | None = attrs.field(init=False, default=None)  # None: as the store says

    def backlog(self) -> Backlog:
        """Return what waits for the receiver."""
        if self._waiting is None:
            return Backlog(0, 0.0)
        since_s, count = self._waiting
        return Backlog(count, self._clock.monotonic_s() - since_s)

    async def deliver(self, batch: Batch) -> bool:
        """Return whether all of it was accepted or given up; False when stopped before."""
        self._waiting = self._clock.monotonic_s(), len(batch)
        try:
            for notification in batch.notifications():
                if not await self._deliver(notification):
                    return False
            return True
        finally:
            self._waiting = None

    async def _deliver(self, notification: Notification) -> bool:
        failures = refusals = 0
        while True:
            watchdog.beat()
            failure = await self._webhook.post(notification)
            if failure is None:
                result = "digested" if notification.kind is Kind.DIGEST else "delivered"
                self._telemetry.add("notifications_total", result=result, to=self.name)
                await self._mark(broken=False)
                return True
            failures += 1
            refusals += failure.fault is Fault.CONTENT
            given_up = refusals >= _REFUSALS_MAX
            self._telemetry.add("notifications_total", result="refused" if given_up else "failed", to=self.name)
            if failures >= _FAILURES or failure.fault is Fault.GONE:
                await self._mark(broken=True)
            about = {"to": self.name, "id": notification.id, "type": notification.kind.value}
            told = {**about, "why": failure.why, "failures": failures}
            if given_up:
                _log.error("gave up a notification that its receiver keeps refusing", **told)
                return True
            if failure.fault is Fault.GONE:
                _log.error("no more notifications until a restart: the webhook is gone (410)", **told)
                with watchdog.waiting():
                    await self._stopping.wait()
            else:
                _log.warning("a notification was not accepted; retrying", **told)
                await self._clock.wait(self._stopping, self._wait_s(failures, failure.retry_after_s))
            if self._stopping.is_set():  # it is posted after the next start
                return False

    def _wait_s(self, failures: int, at_least_s: float | None) -> float:
        wait_s = backoff.delay_s(failures, _BACKOFF_S, _BACKOFF_S_MAX, self._clock.chance())
        return min(_BACKOFF_S_MAX, max(wait_s, at_least_s or 0.0))

    async def _mark(self, *, broken: bool) -> None:
        """Have it stored when the receiver turns out to be broken, or to be well again."""
        if broken is not self._broken and self._note is not None:
            await self._note(self._clock.now_us() if broken else 0)
        self._broken = broken
