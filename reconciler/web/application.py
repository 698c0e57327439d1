"""Application: the routes, and what holds for all of them: security headers, errors as problems, a time limit."""

import asyncio
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
from reconciler.web import actions, answers, events, openapi, probes, reading, roundtrip, signin
from reconciler.web.answers import HttpError
from reconciler.web.endpoint import Asked, Endpoint
from reconciler.web.hooks import WindchillHook
from reconciler.web.page import rendering
from reconciler.web.page.endpoints import ENDPOINTS as PAGES
from reconciler.web.principal import Role
from reconciler.web.router import Router
from reconciler.web.sources import Engine, Sources

__all__ = ["ENDPOINTS", "HEAD_BYTES_MAX", "Engine", "Sources", "application"]

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


async def _livez(sources: Sources, _: Asked) -> Response:
    return probes.live(sources.late())


async def _readyz(sources: Sources, _: Asked) -> Response:
    return probes.ready(sources.readiness())


async def _metrics(sources: Sources, asked: Asked) -> Response:
    text, content_type = await sources.metrics(asked.request.headers.get("accept", ""))
    return Response(text, headers={"content-type": content_type})


# The one place where every address and its role is to be found; only the hook, which has its secret, is beside it.
ENDPOINTS: Final = (
    Endpoint(path="/livez", role=None, call=_livez),
    Endpoint(path="/readyz", role=None, call=_readyz),
    Endpoint(path="/metrics", role=Role.VIEWER, call=_metrics),
    *openapi.with_document(
        # Actions first: what has a fixed name, /conflicts/resolve, is found before what has a name in braces.
        (
            *actions.ENDPOINTS,
            *reading.ENDPOINTS,
            *events.ENDPOINTS,
        )
    ),
    *PAGES,
    *signin.ENDPOINTS,
    *roundtrip.ENDPOINTS,
)


def application(sources: Sources) -> ASGIApp:
    """Return the whole application."""
    routes: list[BaseRoute] = []
    if sources.hook_secret:
        hook = WindchillHook(sources.hook_secret, sources.wake, sources.clock)
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
    app.router.default = Router(ENDPOINTS, sources)
    app.router.redirect_slashes = False  # a second address for everything is one more to protect
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
    """Say no in the form that whoever asks can read: a page to a browser that asked for one, else a problem."""
    if getattr(request.state, "page", False) or (status == 404 and _is_for_a_person(request)):
        return rendering.refusal(status, detail, headers)
    return answers.problem(status, detail, headers, **more)


def _is_for_a_person(request: Request) -> bool:
    """Tell whether somebody has typed an address that is none into a browser."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")


def _head_bytes(scope: Scope) -> int:
    headers = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    return headers + len(scope["raw_path"]) + len(scope["query_string"])


class _Guarded:
    """What holds for every request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _head_bytes(scope) > HEAD_BYTES_MAX:  # it came at once, so that the server did not notice
            await answers.problem(431, headers={"connection": "close", **_HEADERS})(scope, receive, send)
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
                    headers["connection"] = "close"  # whatever else of the body is on its way is not waited for
            if not message.get("more_body"):
                await send(message)
                return
            # An answer in pieces has that time for each; how long a client may take over one the server knows.
            limit.reschedule(None)
            await send(message)
            limit.reschedule(asyncio.get_running_loop().time() + REQUEST_S_MAX)

        try:
            async with asyncio.timeout(REQUEST_S_MAX) as limit:
                await self._app(scope, receive, sending)
        except TimeoutError:
            _log.warning("a request took too long", method=scope["method"], limit_s=REQUEST_S_MAX)
            if not begun:
                await _refusal(Request(scope), 503, "this took too long; try again")(scope, receive, sending)
        except ClientDisconnect:
            return  # nobody is there to be answered
