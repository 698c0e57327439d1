"""
Stream: `GET /api/v1/stream` says what changes as it changes (server-sent events), for a page or a wallboard.

Whoever reads slowly loses what lay between, never what is newest: a state is composed only when the client has taken
the one before. A stream ends when the daemon stops, when who asked may not come in any more, and when the store can't
be read; the client then comes again by itself and is told why.
"""

import msgspec
import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from reconciler import views
from reconciler.errors import StoreError
from reconciler.web import reading
from reconciler.web.answers import Refused
from reconciler.web.endpoint import Asked, Endpoint
from reconciler.web.principal import Role
from reconciler.web.reading import ROOT
from reconciler.web.sources import Sources
from reconciler.web.watching import Seen

_log = structlog.get_logger(__name__)

MEDIA = "text/event-stream"
_TICK_S = 1.0
_QUIET_S = 10.0  # after which something is said, so that proxies and the client know that we are there
_AGAIN_S = 30.0  # after which who asked is asked again
_RETRY_MS = 3000
_HEADERS = {"x-accel-buffering": "no"}  # for nginx, which else keeps events back until it has a page of them


async def stream(sources: Sources, asked: Asked) -> Response:
    """
    Say how everything stands, now and whenever it has changed, as server-sent events.

    `event: status` has the answer of `/status` for its data, `event: audit` an object with the number of the newest
    audit record as `newest`. A status is sent once a second at most; that time has passed is no change.
    """
    if asked.request.method == "HEAD":
        return Response(None, headers=_HEADERS, media_type=MEDIA)
    if sources.stopping.is_set():
        raise Refused(503, "the reconciler is stopping; try again", headers={"Retry-After": "5"})
    return _Stream(sources, asked)


class _Stream(Response):
    """The answer that goes on."""

    def __init__(self, sources: Sources, asked: Asked) -> None:
        super().__init__(None, headers=_HEADERS, media_type=MEDIA)
        del self.headers["content-length"]
        self._sources = sources
        self._asked = asked
        self._last: Seen | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  as ASGI has it
        with self._sources.watching.counted():
            await _seen(self._sources)  # so that what goes wrong is said as a problem, and not within the stream
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await _say(send, f"retry: {_RETRY_MS}\n\n".encode())
            await self._go_on(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _go_on(self, send: Send) -> None:
        clock = self._sources.clock
        said_s = asked_s = clock.monotonic_s()
        while not self._sources.stopping.is_set() and not await self._asked.request.is_disconnected():
            await _say(send, b"")  # returns when the client has taken what it was sent: nothing is composed before
            now_s = clock.monotonic_s()
            if now_s - asked_s >= _AGAIN_S:
                if not await self._may_still():
                    return
                asked_s = now_s
            try:
                text = self._news(await _seen(self._sources))
            except StoreError as error:
                _log.warning("a stream ends: nothing can be told", error=str(error))
                return
            if not text and now_s - said_s >= _QUIET_S:
                text = b":\n\n"
            if text:
                await _say(send, text)
                said_s = now_s
            await clock.wait(self._sources.stopping, _TICK_S)

    async def _may_still(self) -> bool:
        try:
            await self._asked.again()
        except Refused:
            return False
        return True

    def _news(self, seen: Seen) -> bytes:
        last, self._last = self._last, seen
        text = b""
        if last is None or last.told != seen.told:
            text += b"event: status\ndata: " + seen.status + b"\n\n"
        if last is None or last.audit != seen.audit:
            text += f'event: audit\ndata: {{"newest":{seen.audit}}}\n\n'.encode()
        return text


async def _seen(sources: Sources) -> Seen:
    async def look() -> Seen:
        status, head = await reading.standing(sources), await sources.store.audit_head()
        lasting = msgspec.structs.replace(status, oldest_pending_seconds=None)
        return Seen(msgspec.json.encode(status), msgspec.json.encode(lasting), 0 if head is None else head.number)

    return await sources.watching.look(sources.clock, look)


async def _say(send: Send, text: bytes) -> None:
    await send({"type": "http.response.body", "body": text, "more_body": True})


ENDPOINTS = (
    Endpoint(
        path=ROOT + "/stream",
        role=Role.VIEWER,
        call=stream,
        summary=" ".join((stream.__doc__ or "").split()),
        answer=views.service.Status,
        media=MEDIA,
    ),
)
