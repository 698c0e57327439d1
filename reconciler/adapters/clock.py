"""The clock: the only module that may ask for time or chance, or wait."""

import asyncio
import random
import time


class SystemClock:
    """The `Clock` port with the machine's own time, chance and waiting."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()

    def chance(self) -> float:
        return random.random()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)

    async def wait(self, event: asyncio.Event, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            return
