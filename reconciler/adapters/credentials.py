"""
Credentials: who we say we are, and how to say it anew once the server no longer believes it.

Rules
- What can be renewed is renewed by one call alone for all that wait (single-flight), also when renewing fails.
- A turn is one finished attempt to renew. Whoever was refused names the turn of the credentials it used; if the turn
  has moved on since, somebody has renewed already, and their result is the answer.
- The one who renews may be cancelled by its own deadline. Then the turn has not moved and the next in line renews.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import quote_plus, urlencode

import attrs

from reconciler.adapters import replies
from reconciler.adapters.replies import Exchange, Lost, Reply, Unusable
from reconciler.model.answer import Failed, Throttled, Unauthorised
from reconciler.ports import Clock

_EXPIRY_MARGIN_S = 30.0  # a request under way must not outlive its token
_LIFETIME_S_MAX = 1e9  # longer ones are no lifetimes, and the largest are no floats either


@attrs.frozen
class NoAuth:
    """No credentials."""


@attrs.frozen
class Basic:
    """A user name and password (RFC 7617)."""

    username: str
    password: str = attrs.field(repr=False)


@attrs.frozen
class Bearer:
    """A fixed token (RFC 6750)."""

    token: str = attrs.field(repr=False)


@attrs.frozen
class BearerFile:
    """A token in a file that somebody else replaces, as Kubernetes does; read again when it is refused."""

    path: Path


@attrs.frozen
class ClientCredentials:
    """OAuth 2.0 client credentials (RFC 6749 section 4.4), the client known by HTTP Basic (section 2.3.1)."""

    token_url: str
    client_id: str
    client_secret: str = attrs.field(repr=False)
    scope: str = ""


Auth = NoAuth | Basic | Bearer | BearerFile | ClientCredentials
Trouble = Unauthorised | Throttled | Failed  # why there are no credentials; the request was not sent
Headers = tuple[tuple[bytes, bytes], ...]


@attrs.frozen
class Grant:
    """The value of `Authorization`, if any, and the turn it is of."""

    authorization: bytes | None = attrs.field(repr=False)
    turn: int = 0
    secret: str = attrs.field(default="", repr=False)  # never to be shown, even when a server echoes it


class Send(Protocol):
    """Sends one request as it is, without credentials of its own."""

    async def __call__(self, method: str, url: str, headers: Headers, content: bytes) -> Exchange: ...


class Keeper(Protocol):
    """Keeps the credentials of one server."""

    async def current(self) -> Grant | Trouble:
        """Return what to send now."""
        ...

    async def renewed(self, refused: Grant) -> Grant | Trouble | None:
        """Return what to send instead of what was refused, None when there is nothing else."""
        ...


def keeper(auth: Auth, send: Send, clock: Clock) -> Keeper:
    """Return what keeps these credentials."""
    match auth:
        case NoAuth():
            return _Fixed(Grant(None))
        case Basic(username, password):
            return _Fixed(Grant(_basic(username, password), secret=password))
        case Bearer(secret):
            return _Fixed(_bearer(secret))
        case BearerFile(path):
            return _Renewable(lambda: _from_file(path), clock)
        case ClientCredentials():
            return _Renewable(lambda: _from_token_endpoint(auth, send, clock), clock)


class _Fixed:
    """Credentials that are all there is."""

    def __init__(self, grant: Grant) -> None:
        self._grant = grant

    async def current(self) -> Grant:
        return self._grant

    async def renewed(self, refused: Grant) -> None:  # noqa: ARG002  it is the protocol's, and there is nothing to renew
        return None


@attrs.frozen
class _Obtained:
    grant: Grant
    expires_s: float | None = None  # on the monotonic clock


class _Renewable:
    """Credentials that can be had anew."""

    def __init__(self, obtain: Callable[[], Awaitable[_Obtained | Trouble]], clock: Clock) -> None:
        self._obtain = obtain
        self._clock = clock
        self._lock = asyncio.Lock()
        self._turn = 0
        self._latest: _Obtained | Trouble | None = None

    async def current(self) -> Grant | Trouble:
        latest = self._latest
        if isinstance(latest, _Obtained) and not self._expired(latest):
            return latest.grant
        return await self._renew(self._turn)

    async def renewed(self, refused: Grant) -> Grant | Trouble | None:
        grant = await self._renew(refused.turn)
        # The same file with the same token in it: sending that once more would only fill the server's security log.
        same = isinstance(grant, Grant) and grant.authorization == refused.authorization
        return None if same else grant

    async def _renew(self, turn: int) -> Grant | Trouble:
        async with self._lock:
            if turn == self._turn or self._latest is None:
                latest = await self._obtain()
                self._turn += 1
                if isinstance(latest, _Obtained):
                    latest = attrs.evolve(latest, grant=attrs.evolve(latest.grant, turn=self._turn))
                self._latest = latest
            return self._latest.grant if isinstance(self._latest, _Obtained) else self._latest

    def _expired(self, obtained: _Obtained) -> bool:
        return obtained.expires_s is not None and self._clock.monotonic_s() >= obtained.expires_s


async def _from_file(path: Path) -> _Obtained | Trouble:
    try:
        secret = (await asyncio.to_thread(path.read_text, "utf-8")).strip()
    except (OSError, UnicodeDecodeError) as error:
        return Unauthorised(replies.cut(f"the token file {path} can't be read: {error}"))
    if not _is_token(secret):
        return Unauthorised(f"the token file {path} must hold one token and nothing else")
    return _Obtained(_bearer(secret))


async def _from_token_endpoint(auth: ClientCredentials, send: Send, clock: Clock) -> _Obtained | Trouble:
    form = {"grant_type": "client_credentials"} | ({"scope": auth.scope} if auth.scope else {})
    # RFC 6749 section 2.3.1: both are form-encoded before they are put together.
    client = _basic(quote_plus(auth.client_id), quote_plus(auth.client_secret))
    headers = (
        (b"authorization", client),
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"accept", b"application/json"),
    )
    asked_s = clock.monotonic_s()
    match await send("POST", auth.token_url, headers, urlencode(form).encode()):
        case Reply(status=200) as reply:
            return _granted(reply, asked_s)
        case Reply(status=status) as reply:
            return _refused(reply, status, clock, auth.client_secret)
        case Lost(message) | Unusable(message):
            return Failed(f"no token from the authorisation server: {message}")
        case Failed() | Throttled() | Unauthorised() as trouble:
            return trouble


def _granted(reply: Reply, asked_s: float) -> _Obtained | Trouble:
    body = replies.json_object(reply) or {}
    secret, lifetime_s = body.get("access_token"), body.get("expires_in")
    if not isinstance(secret, str) or not _is_token(secret):
        return Failed(replies.cut(f"the authorisation server answered without a token: {replies.message(reply)}"))
    if not isinstance(lifetime_s, int | float) or not 0 < lifetime_s < _LIFETIME_S_MAX:
        return _Obtained(_bearer(secret))  # good until it is refused
    # Half of a short lifetime is margin enough; more would renew before every request.
    return _Obtained(_bearer(secret), asked_s + max(lifetime_s - _EXPIRY_MARGIN_S, lifetime_s / 2))


def _refused(reply: Reply, status: int, clock: Clock, secret: str) -> Trouble:
    said = replies.cut(f"the authorisation server refused: {replies.message(reply)}".replace(secret or "\0", "***"))
    if status in (429, 503):
        return Throttled(status, said, replies.retry_after_s(reply, clock.now_us()))
    return Unauthorised(said) if 400 <= status < 500 else Failed(said, status)


def _basic(username: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{username}:{password}".encode())


def _is_token(secret: str) -> bool:
    return len(secret.split()) == 1 and secret.isprintable()


def _bearer(secret: str) -> Grant:
    return Grant(b"Bearer " + secret.encode(), secret=secret)
