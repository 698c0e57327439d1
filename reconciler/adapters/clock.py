"""The clock: the only module that may ask for time or chance, or wait."""

import asyncio
import random
import time


class SystemClock:
    """The `Clock` port with the machine's own time, chance and waiting."""

    def now_us(self) -> int:
        """Return wall time, microseconds since 1970."""
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never goes back."""
        return time.monotonic()

    def chance(self) -> float:
        """Return a random number in [0, 1)."""
        return random.random()

    async def sleep(self, delay_s: float) -> None:
        """Wait; 0 lets other tasks run."""
        await asyncio.sleep(delay_s)

    async def wait(self, event: asyncio.Event, timeout_s: float) -> None:
        """Wait until `event` is set, at most this long."""
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            return
