"""Time that moves only when told, and chance from a seed: the `Clock` port for tests."""

import asyncio
import heapq
import itertools
import random
from typing import Any

START_US = 1_795_341_600_000_000  # 2026-11-22T10:00:00Z
TURNS = 50  # of the event loop, for what was woken to come to rest; work in threads is not waited for


class VirtualClock:
    def __init__(self, seed: int = 0, start_us: int = START_US) -> None:
        self._start_us = self._now_us = start_us
        self.ahead_us = 0  # by which the host's clock is wrong; time passes as ever
        self._random = random.Random(seed)
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def now_us(self) -> int:
        return self._now_us + self.ahead_us

    def monotonic_s(self) -> float:
        return (self._now_us - self._start_us) / 1e6

    def chance(self) -> float:
        return self._random.random()

    async def sleep(self, delay_s: float) -> None:
        if delay_s <= 0:
            await asyncio.sleep(0)
        else:
            await self._timer(delay_s)

    async def wait(self, event: asyncio.Event, timeout_s: float) -> None:
        timer, waiter = self._timer(timeout_s), asyncio.ensure_future(event.wait())
        either: list[asyncio.Future[Any]] = [timer, waiter]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            waiter.cancel()

    async def advance(self, delay_s: float) -> None:
        """Let time pass: sleepers are woken one by one, in the order of their times, and run until they wait again."""
        until_us = self._now_us + round(delay_s * 1e6)
        await self._come_to_rest()
        while self._sleepers and self._sleepers[0][0] <= until_us:
            due_us, _, timer = heapq.heappop(self._sleepers)
            if not timer.done():
                self._now_us = max(self._now_us, due_us)
                timer.set_result(None)
                await self._come_to_rest()
        self._now_us = until_us

    def next_wake_s(self) -> float | None:
        """In how many seconds the next sleeper is due: what to advance by in a simulation."""
        due_us = min((due_us for due_us, _, timer in self._sleepers if not timer.done()), default=None)
        return None if due_us is None else (due_us - self._now_us) / 1e6

    def _timer(self, delay_s: float) -> asyncio.Future[None]:
        timer = asyncio.get_running_loop().create_future()
        # A wait for less than a microsecond takes one: else a moment given in floating point is never reached.
        delay_us = max(1, round(delay_s * 1e6)) if delay_s > 0 else 0
        heapq.heappush(self._sleepers, (self._now_us + delay_us, next(self._numbers), timer))
        return timer

    async def _come_to_rest(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
