"""
Watchdog: tells which of the daemon's loops hang.

Rules
-----
1. A loop calls `beat()` in each round. Between two beats it may do one piece of work.
2. A wait that may take for ever (for work, for the gate) is put inside `waiting()`.
3. A loop that does neither for `timeout_s` hangs, and only a restart helps. Nothing outside of this process counts:
   while Kafka or Windchill is down, loops still go round.

The current loop is known from the task's context, so loops take no watchdog as an argument, and run without one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import attrs

from reconciler.ports import Clock


@attrs.define
class _Heartbeat:
    _clock: Clock
    last_s: float | None = None  # None while it waits

    def beat(self) -> None:
        self.last_s = self._clock.monotonic_s()


_current: ContextVar[_Heartbeat | None] = ContextVar("heartbeat", default=None)


def beat() -> None:
    """Say that the current loop has begun a round."""
    heartbeat = _current.get()
    if heartbeat is not None:
        heartbeat.beat()


@contextmanager
def waiting() -> Iterator[None]:
    """Let the current loop wait for as long as it takes."""
    heartbeat = _current.get()
    if heartbeat is None:
        yield
        return
    heartbeat.last_s = None
    try:
        yield
    finally:
        heartbeat.beat()


@attrs.frozen
class Watchdog:
    """Watches loops. `timeout_s`: how long one piece of work may take."""

    _clock: Clock
    _timeout_s: float
    _heartbeats: dict[str, _Heartbeat] = attrs.field(init=False, factory=dict)

    async def watch(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """Run a loop to its end, and watch it meanwhile."""
        heartbeat = self._heartbeats[name] = _Heartbeat(self._clock, self._clock.monotonic_s())
        outer = _current.set(heartbeat)
        try:
            await loop()
        finally:
            _current.reset(outer)
            del self._heartbeats[name]

    def late(self) -> Mapping[str, float]:
        """Return the loops that hang, with the seconds since their last beat."""
        now_s = self._clock.monotonic_s()
        silent = {name: now_s - beat.last_s for name, beat in self._heartbeats.items() if beat.last_s is not None}
        return {name: silent_s for name, silent_s in sorted(silent.items()) if silent_s > self._timeout_s}


class IdleClock:
    """The `Clock` port with each wait inside `waiting()`, for loops whose waits may take long."""

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
