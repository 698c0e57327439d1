"""
Limits on connections and requests, and a rate limiter.

1. Idle clients make room. If there is one connection too many, the server closes the one that has kept it waiting
   longest: for the head or the body of a request, or to read an answer. Connections with a request in progress stay
   open. So no number of idle or slow clients can lock others out.
2. A limited number of requests is processed at once; others get a 503. A request counts only while it is processed.
3. Probes are always answered, from memory, because the caller may restart the daemon if they fail.

A burst of new connections can't push out a probe: one turn of the event loop accepts at most `BACKLOG` connections, a
request is read two turns after its connection, and that is fewer than `CONNECTIONS_MAX - REQUESTS_MAX`.
"""

import asyncio
import contextlib
import math
import resource
from collections.abc import Iterator

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.web import responses

_log = structlog.get_logger(__name__)

BACKLOG = 128
CONNECTIONS_MAX = 512
REQUESTS_MAX = 64
PROBES = (b"/livez", b"/readyz")
_TELL_S = 60.0


def connections_max() -> int:
    """Return the limit on connections: at most half of the files that this process may open."""
    return min(CONNECTIONS_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


class Waiting:
    """Connections whose client the server is waiting for, longest first."""

    def __init__(self) -> None:
        self._transports: dict[asyncio.Transport, None] = {}
        self._telling = Bucket(1, _TELL_S)

    def begin(self, transport: asyncio.Transport) -> None:
        """Note that a client keeps the server waiting, unless that is noted already."""
        self._transports.setdefault(transport)

    def end(self, transport: asyncio.Transport) -> None:
        """Note that a client no longer keeps the server waiting."""
        self._transports.pop(transport, None)

    def make_room(self, now_s: float) -> None:
        """Close the connection whose client has kept the server waiting longest."""
        longest = next(iter(self._transports), None)
        if longest is None:
            return
        self.end(longest)
        longest.abort()
        if not self._telling.wait_s(now_s):
            _log.warning("too many connections to the admin server: idle ones are closed")


class Bounded:
    """Limits how many requests an application processes at once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._working = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["raw_path"] in PROBES:
            await self._app(scope, receive, send)
            return
        if self._working >= REQUESTS_MAX:
            refusal = responses.problem(503, "too many requests at once; try again", {"retry-after": "1"})
            await refusal(scope, receive, send)
            return

        async def receiving() -> Message:
            with self._counted(-1):
                return await receive()

        async def sending(message: Message) -> None:
            with self._counted(-1):
                await send(message)

        with self._counted(1):
            await self._app(scope, receiving, sending)

    @contextlib.contextmanager
    def _counted(self, more: int) -> Iterator[None]:
        self._working += more
        try:
            yield
        finally:
            self._working -= more


class Bucket:
    """A token bucket: `burst` at once, then one every `period_s`."""

    def __init__(self, burst: int, period_s: float) -> None:
        self._burst = burst
        self._period_s = period_s
        self._level = float(burst)
        self._at_s = -math.inf

    def wait_s(self, now_s: float) -> float:
        """Take a token and return 0, or return the seconds until the next one."""
        self._level = min(self._burst, self._level + (now_s - self._at_s) / self._period_s)
        self._at_s = now_s
        if self._level < 1:
            return (1 - self._level) * self._period_s
        self._level -= 1
        return 0.0
