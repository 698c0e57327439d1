"""The clock (time, chance and waiting) and telemetry."""

import asyncio
from typing import Protocol


class Clock(Protocol):
    """The only way to time, chance and waiting."""

    def now_us(self) -> int:
        """Return wall time, microseconds since 1970."""

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never goes back."""

    def chance(self) -> float:
        """Return a random number in [0, 1)."""

    async def sleep(self, delay_s: float) -> None:
        """Wait; 0 lets other tasks run."""

    async def wait(self, event: asyncio.Event, timeout_s: float) -> None:
        """Wait until `event` is set, at most this long."""


class Telemetry(Protocol):
    """Counters, gauges and durations, with the names and labels of docs/observing.md, without the prefix."""

    def add(self, metric: str, amount: float = 1, **labels: str) -> None: ...

    def gauge(self, metric: str, value: float, **labels: str) -> None: ...

    def observe(self, metric: str, seconds: float, **labels: str) -> None: ...
