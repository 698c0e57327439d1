"""The clock: the only module that may ask for time or chance, or wait."""

import asyncio
import random
import time

# Linux's CLOCK_MONOTONIC stands still while a virtual machine is suspended: a replica that wakes must see that time has
# passed, or it would go on writing under a lease that has ended.
_AWAKE_OR_NOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The `Clock` port with the machine's own time, chance and waiting."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.clock_gettime(_AWAKE_OR_NOT)

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
