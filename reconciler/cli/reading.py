"""Reading documents from Windchill by commands: a bounded number at a time, and again when the server is busy."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs

from reconciler.adapters.clock import SystemClock
from reconciler.config import Config
from reconciler.errors import ReconcilerError
from reconciler.model.answer import Broken, NotAvailable, ReadAnswer, Throttled
from reconciler.model.snapshot import Snapshot

if TYPE_CHECKING:
    from reconciler.ports import Clock, Windchill

_RETRIES_MAX = 5  # after which a throttled document counts as unreadable
_WAIT_S_MAX = 30.0


@attrs.frozen
class Reader:
    """Reads documents."""

    windchill: "Windchill"
    clock: "Clock"
    room: asyncio.Semaphore

    async def read(self, key: str, known: Snapshot | None = None) -> ReadAnswer:
        """Read one document, conditionally if it is `known`."""
        async with self.room:
            for _ in range(_RETRIES_MAX):
                answer = await self.windchill.read(key, known)
                if not isinstance(answer, Throttled):
                    return answer
                await self.clock.sleep(min(answer.retry_after_s or 1.0, _WAIT_S_MAX))
            return answer


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Reader]:
    """Connect to the configured Windchill."""
    from reconciler import factory
    from reconciler.adapters.counters import Counters

    clock = SystemClock()
    windchill = factory.make_windchill(config, clock, Counters())
    try:
        yield Reader(windchill, clock, asyncio.Semaphore(config.windchill.in_flight_max))
    finally:
        await windchill.close()


def trouble(config: Config, answer: ReadAnswer) -> str:
    """Return why one document can't be read; raises ReconcilerError if Windchill as a whole can't."""
    match answer:
        case NotAvailable(status, message):
            return f"{status}: {message}"
        case Broken(message):
            return message
        case _:
            raise unreachable(config, answer)


def unreachable(config: Config, answer: ReadAnswer) -> ReconcilerError:
    """Return the error for an answer that is about Windchill as a whole."""
    said = getattr(answer, "message", "")
    return ReconcilerError(
        f"Windchill at {config.windchill.base_url} can't be read: {said}; `reconciler doctor` says more"
    )
