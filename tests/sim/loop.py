"""
An event loop without a machine under it: time jumps to the next timer when nothing is ready.

There is no selector and no thread, so the order of callbacks depends on nothing but the program and the seed. What
would run on a thread runs in one go at a seeded later moment, which is all that a thread promises.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

_THREAD_S_MAX = 0.002
_TURNS_MAX = 100_000  # of the loop without any time between them; a busy world makes some hundreds


class Deadlock(Exception):
    """Nothing is ready, no timer runs, and someone still waits."""


class Standstill(Exception):
    """Something is always ready, and time does not move: someone goes round in circles."""


class _Jump:
    """Stands where the selector would: instead of waiting for sockets it moves time."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._moved_s = 0.0
        self._turns = 0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Deadlock
        if timeout > 0:
            self._loop.jump()
        self._turns += 1
        if self._loop.time() > self._moved_s:
            self._moved_s, self._turns = self._loop.time(), 0
        if self._turns > _TURNS_MAX:
            raise Standstill(f"{_TURNS_MAX} turns at {self._moved_s} s")
        return []


class SimLoop(asyncio.BaseEventLoop):
    """`rng` is drawn from for the moments at which work on threads is done."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._selector = _Jump(self)
        self._virtual_s = 0.0
        self._rng = rng

    def time(self) -> float:
        return self._virtual_s

    def jump(self) -> None:
        """Let time pass until the next timer."""
        self._virtual_s = max(self._virtual_s, self._scheduled[0].when())

    def run_in_executor(  # type: ignore[override]  # what it returns is not tied to `func`'s type here
        self, executor: Any, func: Any, *args: Any
    ) -> asyncio.Future[Any]:
        future = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:  # noqa: BLE001  whatever a thread raises goes to who waits for it
                future.set_exception(error)

        self.call_later(self._rng.uniform(0, _THREAD_S_MAX), work)
        return future

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list, "nothing outside can happen"

    def _write_to_self(self) -> None:
        pass
