"""
Crowd: who is served when more come than can be.

Rules of this file:
1. Who lets us wait makes room. When there is one connection too many, the one is closed that has been waited for the
   longest: for the head of a request or the rest of its body, or until an answer is taken. A connection for which we
   work is left alone. So no number of idle or slow clients keeps anyone out.
2. We work for so many requests at once, and more are answered 503. A request counts only while we work for it.
3. Probes always get their answer, which comes from memory: whoever asks them may restart us.

Why a probe is not driven out by those that come after it: in one turn of the event loop at most `BACKLOG` connections
are accepted, and what a client has sent is read two turns later. Fewer than `CONNECTIONS_MAX - REQUESTS_MAX` come in.
"""

import asyncio
import contextlib
import math
import resource
from collections.abc import Iterator

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.web import answers

_log = structlog.get_logger(__name__)

BACKLOG = 128
CONNECTIONS_MAX = 512
REQUESTS_MAX = 64
PROBES = (b"/livez", b"/readyz")
_TELL_S = 60.0


def connections_max() -> int:
    """Return how many connections are kept: at most half of the files that this process may open."""
    return min(CONNECTIONS_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


class Waiting:
    """Connections that we wait for, those first that we have been waiting for longest."""

    def __init__(self) -> None:
        self._transports: dict[asyncio.Transport, None] = {}
        self._telling = Bucket(1, _TELL_S)

    def begin(self, transport: asyncio.Transport) -> None:
        """Wait for a connection; where we do so already, since then."""
        self._transports.setdefault(transport)

    def end(self, transport: asyncio.Transport) -> None:
        """Wait for a connection no more."""
        self._transports.pop(transport, None)

    def make_room(self, now_s: float) -> None:
        """Close the connection that has been waited for longest."""
        longest = next(iter(self._transports), None)
        if longest is None:
            return
        self.end(longest)
        longest.abort()
        if not self._telling.wait_s(now_s):
            _log.warning("too many connections to the admin server: those that do nothing are closed")


class Bounded:
    """An application of which so many requests are worked on at once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._working = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["raw_path"] in PROBES:
            await self._app(scope, receive, send)
            return
        if self._working >= REQUESTS_MAX:
            refusal = answers.problem(503, "too many requests at once; try again", {"retry-after": "1"})
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


# -------------------------------------------------------------------------------------------------------------- bucket
# Bucket: how often something may happen.


class Bucket:
    """A token bucket: `burst` at once, then one each `period_s`."""

    def __init__(self, burst: int, period_s: float) -> None:
        self._burst = burst
        self._period_s = period_s
        self._level = float(burst)
        self._at_s = -math.inf

    def wait_s(self, now_s: float) -> float:
        """Take a token and return 0, or return in how many seconds there is one."""
        self._level = min(self._burst, self._level + (now_s - self._at_s) / self._period_s)
        self._at_s = now_s
        if self._level < 1:
            return (1 - self._level) * self._period_s
        self._level -= 1
        return 0.0
