"""
Watching: what all event streams show, looked at once for all of them.

Nothing runs here by itself: a stream that finds the last look too old takes another, and those that come meanwhile wait
for it. So there is one look a second however many watch, and none while nobody does.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import attrs

from reconciler.ports import Clock
from reconciler.web.answers import Refused

STREAMS_MAX = 16  # of the connections that the server takes; the others are left to requests
_AGE_S = 1.0


@attrs.frozen
class Seen:
    """How everything stood at one moment."""

    status: bytes  # the answer of `/api/v1/status`
    told: bytes  # the same without what only says that time has passed
    audit: int  # number of the newest audit record; 0: there is none


class Watching:
    """The streams of one server, and what they have seen last."""

    def __init__(self) -> None:
        self._streams = 0
        self._looking = asyncio.Lock()
        self._seen: Seen | None = None
        self._looked_s = 0.0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count a stream for as long as the block takes; raises Refused when there are enough."""
        if self._streams >= STREAMS_MAX:  # asked in the same moment as counted: many may come at once
            reason = f"{STREAMS_MAX} streams are open, which is the most; close one, or ask /status now and then"
            raise Refused(503, reason, headers={"Retry-After": "30"})
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    async def look(self, clock: Clock, look: Callable[[], Awaitable[Seen]]) -> Seen:
        """Return how everything stands, as of a second ago at most: looked at anew if need be."""
        async with self._looking:
            now_s = clock.monotonic_s()
            if self._seen is None or now_s - self._looked_s >= _AGE_S:
                self._seen = await look()
                self._looked_s = now_s
            return self._seen
