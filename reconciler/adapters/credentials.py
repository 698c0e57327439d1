"""
Credentials: what we sign in with, and how it is renewed when the server no longer accepts it.

Rules
- One call renews for all callers that wait (single-flight), even if renewing fails.
- A turn is one finished attempt to renew. A caller that was refused names the turn of the credentials it used; if there
  was another turn since, its result is the answer.
- A caller that renews may be cancelled by its own deadline. The turn then stays as it is, and the next caller renews.
- A file with a secret is read when it is first needed, and again when the server refuses the secret. It can be replaced
  without a restart, as Kubernetes does, and may be missing for a moment.
"""

import asyncio
import base64
import html
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, quote_plus, urlencode

import attrs

from reconciler.adapters import replies
from reconciler.adapters.replies import Exchange, Lost, Reply, Unusable
from reconciler.model.answer import Failed, NotSent, Throttled, Unauthorised
from reconciler.model.limits import SECRET_BYTES_MAX
from reconciler.ports import Clock

_EXPIRY_MARGIN_S = 30.0  # a request under way must not outlive its token
_LIFETIME_S_MAX = 1e9  # longer ones are no lifetimes, and the largest are no floats either


@attrs.frozen
class NoAuth:
    """No credentials."""


@attrs.frozen
class SecretFile:
    """A file that holds one secret and may be replaced at any time."""

    path: Path


Secret = str | SecretFile


@attrs.frozen
class Basic:
    """A user name and password (RFC 7617)."""

    username: str
    password: Secret = attrs.field(repr=False)


@attrs.frozen
class Bearer:
    """A bearer token from the configuration (RFC 6750)."""

    token: Secret = attrs.field(repr=False)


@attrs.frozen
class ClientCredentials:
    """OAuth 2.0 client credentials (RFC 6749 section 4.4), sent as HTTP Basic (section 2.3.1)."""

    token_url: str
    client_id: str
    client_secret: Secret = attrs.field(repr=False)
    scope: str = ""


Auth = NoAuth | Basic | Bearer | ClientCredentials
Trouble = Unauthorised | Throttled | Failed | NotSent  # why there are no credentials; the request was not sent
Headers = tuple[tuple[bytes, bytes], ...]


@attrs.frozen
class Grant:
    """The value of `Authorization`, if any, and the turn in which it was obtained."""

    authorization: bytes | None = attrs.field(repr=False)
    turn: int = 0
    secret: str = attrs.field(default="", repr=False)  # never shown, even when a server echoes it

    @property
    def spellings(self) -> tuple[str, ...]:
        """The secret as a server may echo it: in a header, a form, an address or a page, longest first."""
        if not self.secret:
            return ()
        sent = (self.authorization or b"").decode(errors="replace").partition(" ")[2]
        spelt = {self.secret, quote(self.secret, safe=""), quote_plus(self.secret), html.escape(self.secret), sent}
        return tuple(sorted(filter(None, spelt), key=len, reverse=True))

    def hidden(self, said: str) -> str:
        """Return a server's text without the secret."""
        for spelling in self.spellings:
            said = said.replace(spelling, "***")
        return said


class Send(Protocol):
    """Sends one request as it is, without credentials of its own."""

    async def __call__(self, method: str, url: str, headers: Headers, content: bytes) -> Exchange: ...


class Keeper(Protocol):
    """Keeps the credentials of one server."""

    async def current(self) -> Grant | Trouble:
        """Return what to send now."""
        ...

    async def renewed(self, refused: Grant) -> Grant | Trouble | None:
        """Return what to send instead of refused credentials, None when there is nothing else."""
        ...


def keeper(auth: Auth, send: Send, clock: Clock) -> Keeper:
    """Return the keeper of these credentials."""
    match auth:
        case NoAuth():
            return _Fixed(Grant(None))
        case Basic(username, password):
            return _keeper(password, lambda secret: _basic(username, secret), clock)
        case Bearer(token):
            return _keeper(token, _token, clock)
        case ClientCredentials():
            return _Renewable(lambda: _from_token_endpoint(auth, send, clock), clock)


def _keeper(secret: Secret, grant: Callable[[str], Grant | None], clock: Clock) -> Keeper:
    if isinstance(secret, SecretFile):
        return _Renewable(lambda: _from_file(secret, grant), clock)
    return _Fixed(grant(secret) or Unauthorised("the bearer token must be one token and nothing else"))


class _Fixed:
    """Credentials that can't be renewed."""

    def __init__(self, grant: Grant | Unauthorised) -> None:
        self._grant = grant

    async def current(self) -> Grant | Unauthorised:
        return self._grant

    async def renewed(self, refused: Grant) -> None:  # noqa: ARG002  part of the protocol
        return None


@attrs.frozen
class _Obtained:
    grant: Grant
    expires_s: float | None = None  # on the monotonic clock


class _Renewable:
    """Credentials that can be obtained again."""

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
        # If the file still holds the same secret, sending it again would only fill the server's security log.
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


async def _from_file(file: SecretFile, grant: Callable[[str], Grant | None]) -> _Obtained | Trouble:
    secret = await _read(file)
    if isinstance(secret, Unauthorised):
        return secret
    made = grant(secret)
    return _Obtained(made) if made else Unauthorised(f"{file.path} must hold one token and nothing else")


async def _read(file: SecretFile) -> str | Unauthorised:
    """Return a secret without the line end that editors and `echo` add."""

    def read() -> bytes:
        with file.path.open("rb") as opened:
            return opened.read(SECRET_BYTES_MAX + 1)

    try:
        content = await asyncio.to_thread(read)
        secret = content.decode().rstrip("\r\n")
    except OSError as error:
        return Unauthorised(f"{file.path} can't be read: {error.strerror or error}")
    except UnicodeDecodeError:
        return Unauthorised(f"{file.path} is not text in UTF-8")
    if not secret or len(content) > SECRET_BYTES_MAX or not secret.isprintable():
        return Unauthorised(f"{file.path} must hold one secret on one line")
    return secret


async def _from_token_endpoint(auth: ClientCredentials, send: Send, clock: Clock) -> _Obtained | Trouble:
    # The file is read for each token: tokens live long enough, and the file holds the secret that is valid now.
    secret = await _read(auth.client_secret) if isinstance(auth.client_secret, SecretFile) else auth.client_secret
    if isinstance(secret, Unauthorised):
        return secret
    form = {"grant_type": "client_credentials"} | ({"scope": auth.scope} if auth.scope else {})
    # RFC 6749 section 2.3.1: both are form-encoded before they are put together.
    client = _basic(quote_plus(auth.client_id), quote_plus(secret))
    shown = attrs.evolve(client, secret=secret)
    headers = (
        (b"authorization", client.authorization or b""),
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"accept", b"application/json"),
    )
    asked_s = clock.monotonic_s()
    match await send("POST", auth.token_url, headers, urlencode(form).encode()):
        case Reply(status=status) as reply if 200 <= status < 300:
            return _granted(reply, asked_s, shown)
        case Reply(status=status) as reply:
            return _refused(reply, status, clock, shown)
        case Lost(message) | Unusable(message):
            return Failed(f"no token from the authorisation server: {message}")
        case Failed() | Throttled() | Unauthorised() | NotSent() as trouble:
            return trouble


def _granted(reply: Reply, asked_s: float, client: Grant) -> _Obtained | Trouble:
    body = replies.json_object(reply) or {}
    secret, lifetime_s = body.get("access_token"), body.get("expires_in")
    grant = _token(secret) if isinstance(secret, str) else None
    if grant is None:
        # Show only what can't hold a token: a form that we don't understand may contain one.
        error = body.get("error")
        kind = replies.text(reply, b"content-type") or "no content type"
        shows = replies.message(reply) if replies.is_html(reply) else error if isinstance(error, str) else kind
        said = client.hidden(shows)
        return Failed(replies.cut(f"the authorisation server answered {reply.status} without a token: {said}"))
    if not isinstance(lifetime_s, int | float) or not 0 < lifetime_s < _LIFETIME_S_MAX:
        return _Obtained(grant)  # good until it is refused
    # For short lifetimes the margin is half of them; a longer one would mean renewing before every request.
    return _Obtained(grant, asked_s + max(lifetime_s - _EXPIRY_MARGIN_S, lifetime_s / 2))


def _refused(reply: Reply, status: int, clock: Clock, client: Grant) -> Trouble:
    said = replies.cut(f"the authorisation server refused: {client.hidden(replies.message(reply))}")
    if status in (429, 503):
        return Throttled(status, said, replies.retry_after_s(reply, clock.now_us()))
    if 300 <= status < 400:  # following it would give our secret to another address
        return Failed(f"the authorisation server redirects to {replies.redirect(reply)}", status)
    return Unauthorised(said) if 400 <= status < 500 else Failed(said, status)


def _basic(username: str, password: str) -> Grant:
    return Grant(b"Basic " + base64.b64encode(f"{username}:{password}".encode()), secret=password)


def _bearer(secret: str) -> Grant:
    return Grant(b"Bearer " + secret.encode(), secret=secret)


def _token(secret: str) -> Grant | None:
    """Return the credentials for a token, None if it is not one."""
    word = secret.strip()
    return _bearer(word) if len(word.split()) == 1 and word.isprintable() else None
