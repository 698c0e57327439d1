"""
Watchdog: tells which of the daemon's loops hang.

Rules
-----
1. A loop calls `beat()` in each round. Between two signs of life it may do one piece of work.
2. A wait that may rightly take for ever (for work, for one's turn at the gate) stands inside `waiting()`: who waits for
   others is not dead.
3. A loop that does neither for `timeout_s` is late. Only a restart helps then, which is the one thing that a liveness
   probe can ask for. So nothing outside of this process counts: while Kafka or Windchill is away, loops come round.

Which loop is speaking is known from the task's context, so a loop needs nobody handed to it, and runs unwatched too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from reconciler.ports import Clock


class _Heartbeat:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.last_s: float | None = clock.monotonic_s()  # None while it waits

    def beat(self) -> None:
        self.last_s = self._clock.monotonic_s()


_current: ContextVar[_Heartbeat | None] = ContextVar("heartbeat", default=None)


def beat() -> None:
    """Say that the loop which runs here has come round."""
    heartbeat = _current.get()
    if heartbeat is not None:
        heartbeat.beat()


@contextmanager
def waiting() -> Iterator[None]:
    """Let the loop which runs here wait for as long as it takes."""
    heartbeat = _current.get()
    if heartbeat is None:
        yield
        return
    heartbeat.last_s = None
    try:
        yield
    finally:
        heartbeat.beat()


class Watchdog:
    """The loops that are watched. `timeout_s`: how long one piece of work may take."""

    def __init__(self, clock: Clock, timeout_s: float) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._heartbeats: dict[str, _Heartbeat] = {}

    async def watch(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """Run a loop to its end, and watch it meanwhile."""
        heartbeat = self._heartbeats[name] = _Heartbeat(self._clock)
        outer = _current.set(heartbeat)
        try:
            await loop()
        finally:
            _current.reset(outer)
            del self._heartbeats[name]

    def late(self) -> Mapping[str, float]:
        """Return the loops of which nothing was heard for too long, with the seconds since."""
        now_s = self._clock.monotonic_s()
        silent = {name: now_s - beat.last_s for name, beat in self._heartbeats.items() if beat.last_s is not None}
        return {name: silent_s for name, silent_s in sorted(silent.items()) if silent_s > self._timeout_s}


class IdleClock:
    """A clock for those whose waits may rightly take long: the `Clock` port, each wait inside `waiting()`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.now_us = clock.now_us
        self.monotonic_s = clock.monotonic_s
        self.chance = clock.chance

    async def sleep(self, delay_s: float) -> None:
        """Wait; 0 gives other tasks their turn."""
        with waiting():
            await self._clock.sleep(delay_s)

    async def wait(self, event: asyncio.Event, timeout_s: float) -> None:
        """Wait until `event` is set or the time is over, whichever comes first."""
        with waiting():
            await self._clock.wait(event, timeout_s)
