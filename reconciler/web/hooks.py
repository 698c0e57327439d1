"""
Hooks: other programs say that something has happened, and the daemon has a look for itself.

A hook only wakes. What it says is read and forgotten: whoever learns the secret can make us look more often, within
the rate limit, and nothing else. Without the right secret there is nothing here, not even a refusal.
"""

import hmac
import math

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from reconciler.ports import Clock
from reconciler.web.crowd import Bucket
from reconciler.web.sources import Wake

_log = structlog.get_logger(__name__)

BURST = 10
RATE_S = 1.0  # one more each second: wakes that come closer together are one look anyway
BODY_BYTES_MAX = 64 * 1024


class WindchillHook:
    """`POST /hooks/windchill/{secret}`."""

    def __init__(self, secret: str, wake: Wake, clock: Clock) -> None:
        assert secret, "without a secret there is no hook"
        self._secret = secret.encode()
        self._wake = wake
        self._clock = clock
        self._bucket = Bucket(BURST, RATE_S)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer any method: who does not know the secret must not learn from a 405 that there is a hook."""
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        given = str(request.path_params["secret"]).encode(errors="surrogateescape")
        if not hmac.compare_digest(given, self._secret):
            raise HTTPException(404)
        if request.method != "POST":
            raise HTTPException(405, headers={"Allow": "POST"})
        wait_s = self._bucket.wait_s(self._clock.monotonic_s())
        if wait_s:
            raise HTTPException(429, headers={"Retry-After": str(math.ceil(wait_s))})
        await _read_and_forget(request)
        self._wake()
        _log.debug("woken by a hook")
        return Response(status_code=202)  # it will be looked at, which is not to say that it has been


async def _read_and_forget(request: Request) -> None:
    left = BODY_BYTES_MAX
    async for piece in request.stream():
        left -= len(piece)
        if left < 0:
            raise HTTPException(413)
