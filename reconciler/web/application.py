"""The application: all routes, security headers, errors as problem details, a time limit, and Windchill's hook."""

import asyncio
import hmac
import math
from collections.abc import Mapping
from typing import Any, Final

import structlog
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler.errors import LogError, RecordTooLargeError, StoreError
from reconciler.ports import Clock
from reconciler.web import action_api, event_api, openapi, probes, provider_signin, read_api, responses, signin
from reconciler.web.endpoint import Call, Endpoint
from reconciler.web.limits import Bucket
from reconciler.web.page import rendering
from reconciler.web.page.endpoints import ENDPOINTS as PAGES
from reconciler.web.principal import Role
from reconciler.web.responses import HttpError
from reconciler.web.router import Router
from reconciler.web.services import Engine, Services, Wake

__all__ = ["ENDPOINTS", "HEAD_BYTES_MAX", "Engine", "Services", "application"]

_log = structlog.get_logger(__name__)

REQUEST_S_MAX = 10.0
HEAD_BYTES_MAX = 16 * 1024

_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


async def _livez(services: Services, _: Call) -> Response:
    return probes.live(services.late())


async def _readyz(services: Services, _: Call) -> Response:
    return probes.ready(services.readiness())


async def _metrics(services: Services, call: Call) -> Response:
    text, content_type = await services.metrics(call.request.headers.get("accept", ""))
    return Response(text, headers={"content-type": content_type})


# Every address with its role, except for the hook, which has a secret instead.
ENDPOINTS: Final = (
    Endpoint(path="/livez", role=None, handler=_livez),
    Endpoint(path="/readyz", role=None, handler=_readyz),
    Endpoint(path="/metrics", role=Role.VIEWER, handler=_metrics),
    *openapi.with_document(
        # Actions first: /conflicts/resolve must match before /conflicts/{id}.
        (
            *action_api.ENDPOINTS,
            *read_api.ENDPOINTS,
            *event_api.ENDPOINTS,
        )
    ),
    *PAGES,
    *signin.ENDPOINTS,
    *provider_signin.ENDPOINTS,
)


def application(services: Services) -> ASGIApp:
    """Return the whole application."""
    routes: list[BaseRoute] = []
    if services.hook_secret:
        hook = WindchillHook(services.hook_secret, services.wake, services.clock)
        routes.append(Route("/hooks/windchill/{secret}", hook))
    app = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _unknown,
            HttpError: _refused,
            StoreError: _unavailable,
            LogError: _unavailable,
            RecordTooLargeError: _too_large,
            Exception: _failed,
        },
    )
    app.router.default = Router(ENDPOINTS, services)
    app.router.redirect_slashes = False  # a second address for everything would have to be protected too
    return _Guarded(app)


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _refusal(request, error.status_code, headers=error.headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HttpError)
    return _refusal(request, error.status, error.detail, error.headers, **error.more)


async def _unavailable(request: Request, error: Exception) -> Response:
    return _refusal(request, 503, str(error))


async def _too_large(request: Request, error: Exception) -> Response:
    return _refusal(request, 413, str(error))


async def _failed(request: Request, __: Exception) -> Response:
    return _refusal(request, 500)


def _refusal(
    request: Request, status: int, detail: str = "", headers: Mapping[str, str] | None = None, **more: Any
) -> Response:
    """Return an error as a page to a browser, as a problem to a program."""
    if getattr(request.state, "page", False) or (status == 404 and _is_for_a_person(request)):
        return rendering.refusal(status, detail, headers)
    return responses.problem(status, detail, headers, **more)


def _is_for_a_person(request: Request) -> bool:
    """Whether a person may have mistyped an address in a browser."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")


def _head_bytes(scope: Scope) -> int:
    headers = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    return headers + len(scope["raw_path"]) + len(scope["query_string"])


class _Guarded:
    """Applies headers and limits to every request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _head_bytes(scope) > HEAD_BYTES_MAX:  # it arrived in one piece, so the server's own limit did not apply
            await responses.problem(431, headers={"connection": "close", **_HEADERS})(scope, receive, send)
            return
        begun = False
        has_body = any(
            (name == b"content-length" and value != b"0") or name == b"transfer-encoding"
            for name, value in scope["headers"]
        )

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if has_body and message["status"] >= 400:
                    headers["connection"] = "close"  # the rest of the body is not read
            if not message.get("more_body"):
                await send(message)
                return
            # A streamed answer has this time for each piece; the server limits how long a client may take to read one.
            limit.reschedule(None)
            await send(message)
            limit.reschedule(asyncio.get_running_loop().time() + REQUEST_S_MAX)

        try:
            async with asyncio.timeout(REQUEST_S_MAX) as limit:
                await self._app(scope, receive, sending)
        except TimeoutError:
            _log.warning("a request took too long", method=scope["method"], limit_s=REQUEST_S_MAX)
            if not begun:
                await _refusal(Request(scope), 503, "the request took too long; try again")(scope, receive, sending)
        except ClientDisconnect:
            return


# ----------------------------------------------------------------------------------------------------- Windchill's hook


HOOK_BURST = 10
HOOK_RATE_S = 1.0  # one more each second: wakes that come closer together are one look anyway
HOOK_BODY_BYTES_MAX = 64 * 1024


class WindchillHook:
    """`POST /hooks/windchill/{secret}`."""

    def __init__(self, secret: str, wake: Wake, clock: Clock) -> None:
        assert secret, "without a secret there is no hook"
        self._secret = secret.encode()
        self._wake = wake
        self._clock = clock
        self._bucket = Bucket(HOOK_BURST, HOOK_RATE_S)

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
    left = HOOK_BODY_BYTES_MAX
    async for piece in request.stream():
        left -= len(piece)
        if left < 0:
            raise HTTPException(413)
