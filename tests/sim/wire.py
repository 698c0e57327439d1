"""
The real HTTP adapter in a simulated world: requests and replies as messages, and no socket below them.

`DocumentsWindchill` and the `HttpClient` of the program are at work; what is replaced is the transport of httpx, the
one object that would open connections. Requests are evaluated from what stands in them: method, path, conditions, and
the merge patch, which must say just what was decided.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import aiohttp
import httpx

from reconciler.adapters.documents import DocumentsWindchill
from reconciler.adapters.http import HttpClient
from reconciler.model.answer import (
    Locked,
    NotAvailable,
    Refused,
    Throttled,
    Unauthorised,
    Unguarded,
    VersionConflict,
    Written,
)
from reconciler.model.snapshot import Snapshot, Token
from reconciler.ports import Clock
from tests import defaults

_ROOT = "http://windchill.sim"
_JSON = {"content-type": "application/json"}


class NotSentError(Exception):
    """The request never got as far as sending."""


class LostError(Exception):
    """No answer came."""


class Wire(httpx.AsyncBaseTransport):
    """The transport: `exchanges` says what becomes of a request, by method and document; one of a kind is under way."""

    def __init__(self) -> None:
        self.exchanges: dict[tuple[str, str], Callable[[httpx.Request], Awaitable[httpx.Response]]] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises what aiohttp's transport would."""
        try:
            return await self.exchanges.pop((request.method, key_of(request)))(request)
        except NotSentError as error:
            raise httpx.ConnectError("refused") from aiohttp.ConnectionTimeoutError(str(error))
        except LostError as error:
            raise httpx.ReadError(str(error)) from None


def connected(clock: Clock, timeout_s: float) -> tuple[DocumentsWindchill, Wire]:
    """Return the adapter with the transport below it."""
    wire = Wire()
    client = HttpClient(defaults.http(timeout_s=timeout_s), clock)
    client._transport = wire  # type: ignore[assignment]  # the one object that would open connections
    return DocumentsWindchill(client, defaults.documents(base_url=_ROOT)), wire


def key_of(request: httpx.Request) -> str:
    """The document that a request is about."""
    return unquote(request.url.path.rsplit("/", 1)[1])


def token_of(request: httpx.Request, header: str) -> Token | None:
    """The token in a condition."""
    found = request.headers.get(header)
    return None if found is None else Token(found)


def fields_of(request: httpx.Request) -> dict[str, Any]:
    """What a merge patch sets, by dotted name."""
    assert request.headers["content-type"].endswith("json")
    return dict(_leaves(json.loads(request.content), ""))


def _leaves(patch: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in patch.items():
        found += _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else [(prefix + name, value)]
    return found


def reply(answer: Any) -> httpx.Response:
    """An answer as HTTP says it."""
    match answer:
        case Snapshot():
            return _shown(answer, answer.token)
        case Written(snapshot=None, token=token):
            return httpx.Response(204, headers={} if token is None else {"etag": token})
        case Written(snapshot=snapshot, token=token):
            assert snapshot is not None
            return _shown(snapshot, token)
        case Refused(status, message, fields):
            return _said(status, {"message": message} | ({"fields": list(fields)} if fields else {}))
        case VersionConflict(status, message) | NotAvailable(status, message):
            return _said(status, {"message": message})
        case Locked(status, message, holder):
            return _said(status, {"message": message, "lockedBy": holder})
        case Throttled(status, message, after_s):
            return _said(status, {"message": message}, {} if after_s is None else {"retry-after": f"{after_s:g}"})
        case Unauthorised(message):
            return _said(401, {"message": message})
        case Unguarded(status, message):
            return _said(status, {"message": message})
    raise AssertionError(answer)


def unchanged(token: Token) -> httpx.Response:
    """A 304."""
    return httpx.Response(304, headers={"etag": token})


def login_page() -> httpx.Response:
    """What is no answer of the protocol."""
    return httpx.Response(200, headers={"content-type": "text/html"}, content=b"<html>Please sign in</html>")


def _shown(snapshot: Snapshot, token: Token | None) -> httpx.Response:
    headers = _JSON | ({} if token is None else {"etag": token})
    return httpx.Response(200, headers=headers, content=json.dumps(snapshot.body).encode())


def _said(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, headers=_JSON | (headers or {}), content=json.dumps(body).encode())
