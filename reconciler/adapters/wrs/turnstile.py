"""Turnstile: one request goes ahead where that may spare the others something, and they wait for it, for a while."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


@asynccontextmanager
async def passed(lock: asyncio.Lock, is_doubtful: Callable[[], bool], wait_s: float | None) -> AsyncIterator[None]:
    """
    Send within this: alone as long as `is_doubtful` says so, which is asked again when it is one's turn.

    After `wait_s` in the queue a request goes all the same: a slow server is not to be made slower. None: it waits.
    """
    ahead = is_doubtful()
    if ahead:
        try:
            async with asyncio.timeout(wait_s):
                await lock.acquire()
        except TimeoutError:
            ahead = False
    if ahead and not is_doubtful():
        lock.release()
        ahead = False
    try:
        yield
    finally:
        if ahead:
            lock.release()
