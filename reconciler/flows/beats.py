"""
Beats: whether the daemon's loops are alive.

Rules
-----
1. A loop says `turn()` whenever it comes round. Between two signs of life it may do one piece of work.
2. A wait that may rightly take for ever (for work, for one's turn at the gate) stands inside `waiting()`: who waits for
   others is not dead.
3. A loop that does neither for `patience_s` is late. Only a restart helps then, which is the one thing that a liveness
   probe can ask for. So nothing outside of this process counts: while Kafka or Windchill is away, loops come round.

Which loop is speaking is known from the task's context, so a loop needs nobody handed to it, and runs unwatched too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from reconciler.ports import Clock


class _Beat:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.last_s: float | None = clock.monotonic_s()  # None while it waits

    def turn(self) -> None:
        self.last_s = self._clock.monotonic_s()


_current: ContextVar[_Beat | None] = ContextVar("beat", default=None)


def turn() -> None:
    """Say that the loop which runs here has come round."""
    beat = _current.get()
    if beat is not None:
        beat.turn()


@contextmanager
def waiting() -> Iterator[None]:
    """Let the loop which runs here wait for as long as it takes."""
    beat = _current.get()
    if beat is None:
        yield
        return
    beat.last_s = None
    try:
        yield
    finally:
        beat.turn()


class Beats:
    """The loops that are watched. `patience_s`: how long one piece of work may take."""

    def __init__(self, clock: Clock, patience_s: float) -> None:
        self._clock = clock
        self._patience_s = patience_s
        self._beats: dict[str, _Beat] = {}

    async def watch(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """Run a loop to its end, and watch it meanwhile."""
        beat = self._beats[name] = _Beat(self._clock)
        outer = _current.set(beat)
        try:
            await loop()
        finally:
            _current.reset(outer)
            del self._beats[name]

    def late(self) -> Mapping[str, float]:
        """Return the loops of which nothing was heard for too long, with the seconds since."""
        now_s = self._clock.monotonic_s()
        silent = {name: now_s - beat.last_s for name, beat in self._beats.items() if beat.last_s is not None}
        return {name: silent_s for name, silent_s in sorted(silent.items()) if silent_s > self._patience_s}


class Unhurried:
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
