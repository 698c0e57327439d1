"""
HTTP: one client for every dialect, and the only module that knows the HTTP library.

Theory of operation. httpx's own connection pool costs CPU quadratically in concurrent requests, so aiohttp is used
below it (`httpx-aiohttp`). Its `AsyncClient` costs more than the request itself, for redirects, cookies and
authentication that we don't want, so requests go straight to the transport. The client adds:

- A deadline for every call, from the first byte sent to the last one read; a dripping reply is cut off.
- A limit on every body.
- Whether a failed request can have been carried out: `Failed` means surely not, `Lost` means perhaps.
- A refusal counts by its status as soon as the status is there, even if its text breaks off.
- Nothing is sent twice without our knowledge: no redirect is followed, and no write is repeated after a broken
  connection. One exception, RFC 9110 section 15.5.2: a 401 was not carried out, so the request is sent once more with
  new credentials.
- Whether we may send at all is looked up last, when there are credentials and nothing is left to wait for but the
  connection: the process may have slept since anything earlier (`flows/lease.py`).
"""

import asyncio
import re
import zlib
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import attrs

# Why not httpx2, and when: docs/decisions/0011.
import httpx
from httpx_aiohttp import AiohttpTransport
from msgspec import structs

from reconciler.adapters import credentials, replies, tls
from reconciler.adapters.credentials import Auth, Grant, Headers, NoAuth
from reconciler.adapters.replies import Exchange, Lost, Reply, Unusable
from reconciler.model.answer import Failed, NotSent, Unauthorised
from reconciler.ports import Clock, Telemetry
from reconciler.tracing import NO_TRACING, RequestSpan, Tracing

_REFUSAL_BYTES_MAX = 64 * 1024
_REFUSAL_S_MAX = 2.0  # for the text of a refusal; the deadline of the call would take its status with it
_SECRETS_MAX = 3  # the one in use, and those of replies that are still to come
_BROKEN = (httpx.HTTPError, aiohttp.ClientError, OSError)
# aiohttp quotes answers that it can't read; they may contain anything, even our own secrets.
_QUOTED = re.compile(r""":?\s*\bb['"].*""")
_CERTIFICATE = "a client certificate, or another one? See cert_file"
# aiohttp's errors before anything was sent; httpx's own errors mix these with broken connections.
_NOT_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)


def without_slash(url: str) -> str:
    """Return a base address to append paths to."""
    return url.rstrip("/")


def plain_url(_: object, __: "attrs.Attribute[str]", url: str) -> None:
    """Raise ValueError for what is no base address."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("base_url must be http://… or https://… without query and fragment")
    if "@" in parts.netloc:
        raise ValueError("base_url must not hold credentials; they have settings of their own")


@attrs.frozen(kw_only=True)
class HttpOptions:
    """How to talk to one server."""

    timeout_s: float
    """Deadline of one call, new credentials included. A write that meets it has an unknown result."""
    connect_timeout_s: float = 10.0
    """For connecting, at most half the deadline, so that an unreachable server can be told from a slow one."""
    keepalive_s: float = 4.0
    """How long idle connections are kept. Below the 5 s of Apache's `KeepAliveTimeout`: a connection that the server
    closes while a write goes out makes that write's result unknown."""
    body_bytes_max: int
    """The largest reply that is read."""
    user_agent: str = "windchill-reconciler"
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    cert_file: Path | None = None
    """Our own certificate, where the server asks for one; with `key_file`."""
    key_file: Path | None = None
    """Its private key, without a password. All three files are read again when replaced."""


class HttpClient:
    """
    Sends requests to one server, from one event loop. It does not limit concurrency; its caller does.

    `may_send` tells whether a request may be sent at this moment; if not, the answer is `NotSent`.

    `telemetry` gets `http_requests_total` and `http_request_seconds` (docs/observing.md). Raises ConfigError when
    a certificate's file can't be used.
    """

    def __init__(
        self,
        options: HttpOptions,
        clock: Clock,
        auth: Auth | None = None,
        telemetry: Telemetry | None = None,
        tracing: Tracing = NO_TRACING,
        *,
        may_send: Callable[[], bool] = lambda: True,
    ) -> None:
        self._options = options
        self._tracing = tracing
        self._clock = clock
        self._telemetry = telemetry
        self._may_send = may_send
        self._keeper = credentials.keeper(auth or NoAuth(), self._send, clock)
        self._trust = tls.Trust(tls.Files(options.ca_file, options.cert_file, options.key_file))
        self._transport = _transport(options, self._trust)
        self._extensions = {"timeout": {"connect": min(options.connect_timeout_s, options.timeout_s / 2)}}
        self._user_agent = ((b"user-agent", options.user_agent.encode()),)
        self._grants: deque[Grant] = deque(maxlen=_SECRETS_MAX)

    async def exchange(self, method: str, url: str, headers: Headers, content: bytes = b"") -> Exchange:
        """
        Send a request with credentials and return what came of it, all within the deadline.

        A 401 is answered with new credentials, once; a reply with status 401 means that they didn't help.
        """
        under_way = False
        try:
            async with asyncio.timeout(self._options.timeout_s):
                grant = await self._keeper.current()
                if not isinstance(grant, Grant):
                    return grant
                under_way = True
                reply = await self._as(grant, method, url, headers, content)
                if not isinstance(reply, Reply) or reply.status != 401:
                    return reply
                under_way = False
                renewed = await self._keeper.renewed(grant)
                if not isinstance(renewed, Grant):
                    return renewed or reply
                under_way = True
                return await self._as(renewed, method, url, headers, content)
        except TimeoutError:
            if under_way:
                return Lost(f"no whole answer within {self._options.timeout_s:g} s")
            return Failed(f"no credentials within {self._options.timeout_s:g} s: does oauth2_token_url answer?")

    def message(self, reply: Reply) -> str:
        """Return a reply's text, short enough to be stored and without the secrets that we sent."""
        return replies.cut(self.hidden(replies.message(reply)))

    def hidden(self, said: str) -> str:
        """Return a server's text without the secrets that we sent."""
        for grant in sorted(self._grants, key=lambda grant: len(grant.secret), reverse=True):  # one may begin another
            said = grant.hidden(said)
        return said

    def retry_after_s(self, reply: Reply) -> float | None:
        """Return for how long the server asks us to wait."""
        return replies.retry_after_s(reply, self._clock.now_us())

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def _as(self, grant: Grant, method: str, url: str, headers: Headers, content: bytes) -> Exchange:
        if grant.secret and all(grant.secret != known.secret for known in self._grants):
            self._grants.append(grant)
        if grant.authorization is not None:
            headers = (*headers, (b"authorization", grant.authorization))
        if not self._may_send():
            return NotSent()
        return await self._send(method, url, headers, content)

    async def _send(self, method: str, url: str, headers: Headers, content: bytes) -> Exchange:
        with self._tracing.request(method, url) as followed:
            return await self._sent(method, url, (*headers, *followed.headers), content, followed)

    async def _sent(self, method: str, url: str, headers: Headers, content: bytes, followed: RequestSpan) -> Exchange:
        began_s = self._clock.monotonic_s()
        status = "none"
        self._trust.refresh()
        try:
            # Not `content=`: that derives headers which aiohttp derives again, and costs more than all the rest of it.
            request = httpx.Request(
                method,
                _parsed(url),
                headers=(*headers, *self._user_agent),
                stream=httpx.ByteStream(content),
                extensions=self._extensions,
            )
            request.read()
            response = await self._transport.handle_async_request(request)
            status = str(response.status_code)
            followed.answered(response.status_code)
            try:
                return await self._received(response)
            finally:
                await response.aclose()
        except (*_BROKEN, httpx.InvalidURL) as error:
            return _came_to_nothing(error, secure=url.startswith("https:"))
        finally:
            self._observe(method, status, began_s)

    async def _received(self, response: httpx.Response) -> Exchange:
        named = [(name.lower(), value) for name, value in response.headers.raw]
        headers = dict(reversed(named))
        cookies = tuple(value for name, value in named if name == b"set-cookie") if b"set-cookie" in headers else ()
        if response.status_code >= 400:
            return structs.replace(await self._refused(response, headers), cookies=cookies)
        limit = self._options.body_bytes_max
        too_large = Unusable(f"the answer is larger than {limit} bytes (status {response.status_code})")
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > limit:
            return too_large
        pieces: list[bytes] = []
        if not await _fits(response, limit, pieces):
            return too_large
        body = _plain(b"".join(pieces), headers, limit)
        if body is None:
            return Unusable(f"the answer came compressed, unasked, and can't be read (status {response.status_code})")
        return Reply(response.status_code, headers, body, cookies=cookies)

    async def _refused(self, response: httpx.Response, headers: dict[bytes, bytes]) -> Reply:
        """Read a refusal: its status counts, and the beginning of its text is enough."""
        limit = min(self._options.body_bytes_max, _REFUSAL_BYTES_MAX)
        pieces: list[bytes] = []
        whole = True
        try:
            async with asyncio.timeout(min(_REFUSAL_S_MAX, self._options.timeout_s / 4)):
                await _fits(response, limit, pieces)
        except _BROKEN:
            whole = False
        return Reply(response.status_code, headers, _plain(b"".join(pieces), headers, limit) or b"", whole)

    def _observe(self, method: str, status: str, began_s: float) -> None:
        if self._telemetry is not None:
            self._telemetry.add("http_requests_total", method=method, status=status)
            self._telemetry.observe("http_request_seconds", self._clock.monotonic_s() - began_s)


# A document is read and then written. Parsing its URL is the largest part of httpx's cost, so it is done once.
@lru_cache(maxsize=4096)
def _parsed(url: str) -> httpx.URL:
    return httpx.URL(url)


def _transport(options: HttpOptions, trust: tls.Trust) -> AiohttpTransport:
    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,  # the caller limits; a queue here would use up deadlines
            keepalive_timeout=options.keepalive_s,
            ssl=trust.context,
        )
        return aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), middlewares=(_sent_once,)
        )

    return AiohttpTransport(verify=trust.context, client=session)


async def _sent_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """
    Keep aiohttp from repeating a PUT whose connection broke (RFC 9110 section 9.2.2 lets it).

    The first may have been carried out. The second would then fail its own guard, and our write would look like someone
    else's. Repeating a GET is fine.

    Also drop the reason phrase, which a client should ignore (RFC 9112 section 4): the transport encodes it as UTF-8
    and fails on anything else, such as a Latin-1 "Ungültig".
    """
    try:
        response = await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        if request.method == "GET":
            raise
        raise aiohttp.ClientPayloadError(str(error) or "the connection broke") from error
    response.reason = None
    return response


async def _fits(response: httpx.Response, limit: int, pieces: list[bytes]) -> bool:
    """Read a body piece by piece; return whether it has at most `limit` bytes."""
    assert isinstance(response.stream, httpx.AsyncByteStream)
    left = limit
    async for piece in response.stream:
        pieces.append(piece)
        left -= len(piece)
        if left < 0:
            return False
    return True


def _came_to_nothing(error: Exception, *, secure: bool) -> Failed | Lost | Unauthorised:
    cause = error.__cause__ or error
    if (refusal := tls.refusal(error)) is not None:
        return Unauthorised(refusal)
    said = tls.disagreement(error) or _QUOTED.sub("", " ".join(f"{type(cause).__name__}: {cause}".split()))
    # Some servers refuse a certificate by hanging up, in the handshake or, with TLS 1.3, after it.
    if secure and isinstance(cause, aiohttp.ClientConnectorError) and isinstance(cause.os_error, ConnectionResetError):
        said = f"the server hung up during the TLS handshake: does it want {_CERTIFICATE}"
    elif secure and isinstance(cause, aiohttp.ServerDisconnectedError):
        said = f"the server hung up; if it keeps doing so, does it want {_CERTIFICATE}"
    if isinstance(cause, _NOT_SENT) or isinstance(error, httpx.InvalidURL):
        return Failed(replies.cut(f"no connection: {said}"))
    return Lost(replies.cut(f"the connection broke before the answer was whole: {said}"))


def _plain(body: bytes, headers: dict[bytes, bytes], limit: int) -> bytes | None:
    """Return a body, unpacked if it came compressed without being asked for; None if it can't be unpacked."""
    if headers.get(b"content-encoding", b"identity").lower() == b"identity":
        return body
    stream = zlib.decompressobj(wbits=47)  # gzip or zlib, by its first bytes
    try:
        plain = stream.decompress(body, limit)
    except zlib.error:
        return None
    return None if stream.unconsumed_tail else plain
