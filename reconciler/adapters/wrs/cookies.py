"""
Cookies: the HTTP session that all requests share, so that the server does not open one for each.

Rules
- A cookie that a reply sets goes with every later request to this origin, as long as it is valid (RFC 6265: Path,
  Secure, Max-Age, Expires). A cookie without a path is meant for the whole service.
- While no session is known, one request is sent alone, and the others wait for its reply, a few seconds at most.
- When a session ends, several requests may each be answered with a new one. The first is kept: an answer's cookies
  count only if no other answer has set any since its request was sent.
- A refusal of our credentials or a page, such as a login page, sets nothing.
- A cookie is a secret: it is sent, and never shown.
"""

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import attrs

from reconciler.adapters import replies
from reconciler.adapters.credentials import Headers
from reconciler.adapters.replies import Exchange, Reply
from reconciler.ports import Clock

_FIRST_S_MAX = 5.0  # for the request that is sent alone
_KEPT_MAX = 20  # cookies; a session needs no more
_SECRETS_MAX = 16  # values that later replies may quote
_SECRET_CHARACTERS_MIN = 8  # shorter ones are names of nodes, and could be part of any word
# RFC 6265 section 4.1.1: a name, a value, and then attributes.
_COOKIE = re.compile(
    rb"(?P<name>[\w!#$%&'*+.^`|~-]{1,256})=(?P<value>[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]{0,4096})\s*(?:;|$)"
)
_SESSION = re.compile(rb"sess", re.IGNORECASE)  # JSESSIONID, and the names of other servers


@asynccontextmanager
async def passed(lock: asyncio.Lock, is_doubtful: Callable[[], bool], wait_s: float | None) -> AsyncIterator[None]:
    """
    Send a request within this: alone while `is_doubtful`, which is asked again when the request's turn comes.

    After `wait_s` in the queue a request is sent all the same, so that a slow server does not stop all. None: it waits.
    """
    ahead = is_doubtful()
    if ahead:
        try:
            async with asyncio.timeout(wait_s):
                await lock.acquire()
        except TimeoutError:
            ahead = False
    if ahead and not is_doubtful():
        lock.release()
        ahead = False
    try:
        yield
    finally:
        if ahead:
            lock.release()


@attrs.frozen
class _Cookie:
    name: bytes
    value: bytes = attrs.field(repr=False)
    path: str
    until_s: float | None  # by the monotonic clock; None: as long as the session


class Cookies:
    """The cookies of one origin."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[tuple[bytes, str], _Cookie] = {}
        self._secrets: deque[str] = deque(maxlen=_SECRETS_MAX)
        self._known = False  # whether a reply has shown if there is a session
        self._first = asyncio.Lock()

    @property
    def session(self) -> tuple[bytes, ...]:
        """The values of the session cookies, which tell one session from another."""
        return tuple(cookie.value for cookie in self._kept.values() if _SESSION.search(cookie.name))

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not be shown."""
        return tuple(self._secrets)

    def sending(self) -> AbstractAsyncContextManager[None]:
        """Send within this: one request alone, until it is known whether the server keeps a session."""
        return passed(self._first, lambda: not self._known, _FIRST_S_MAX)

    def header(self, url: str) -> Headers:
        """Return the cookie header for a request to this URL."""
        now_s, parts = self._clock.monotonic_s(), urlsplit(url)
        fit = [
            cookie
            for cookie in self._kept.values()
            if (cookie.until_s is None or now_s < cookie.until_s) and _within(parts.path, cookie.path)
        ]
        fit.sort(key=lambda cookie: -len(cookie.path))  # section 5.4
        return ((b"cookie", b"; ".join(cookie.name + b"=" + cookie.value for cookie in fit)),) if fit else ()

    def take(self, url: str, sent: Headers, exchange: Exchange) -> None:
        """Keep the cookies that the answer to a request with the cookies `sent` sets."""
        if not isinstance(exchange, Reply) or exchange.status == 401 or replies.is_html(exchange):
            return
        if self.header(url) != sent:
            return
        self._known = True
        for said in exchange.cookies:
            self._set(said, secure=url.startswith("https:"))

    def forget(self) -> None:
        """Start a new session with the next request."""
        self._kept.clear()
        self._known = False

    def _set(self, said: bytes, *, secure: bool) -> None:
        found = _COOKIE.match(said)
        if found is None:
            return
        given = [part.partition(b"=") for part in said[found.end() :].split(b";")]
        attributes = {name.strip().lower(): value.strip() for name, _, value in reversed(given)}
        if b"secure" in attributes and not secure:
            return
        path = attributes.get(b"path", b"/").decode("latin-1")
        path = path if path.startswith("/") else "/"
        cookie = _Cookie(found["name"], found["value"], path, self._until_s(attributes))
        self._kept.pop((cookie.name, path), None)
        if cookie.value == b"" or (cookie.until_s is not None and cookie.until_s <= self._clock.monotonic_s()):
            return
        if len(self._kept) < _KEPT_MAX:
            self._kept[cookie.name, path] = cookie
        secret = cookie.value.decode()
        if len(secret) >= _SECRET_CHARACTERS_MIN and secret not in self._secrets:
            self._secrets.append(secret)

    def _until_s(self, attributes: dict[bytes, bytes]) -> float | None:
        """Return when a cookie expires, None: with the session. Max-Age overrides Expires (section 5.3)."""
        now_s = self._clock.monotonic_s()
        if re.fullmatch(rb"-?\d{1,12}", attributes.get(b"max-age", b"")):
            return now_s + int(attributes[b"max-age"])
        try:
            moment = parsedate_to_datetime(attributes[b"expires"].decode("latin-1"))
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return now_s + moment.timestamp() - self._clock.now_us() / 1_000_000
        except (KeyError, ValueError, OverflowError):
            return None


def _within(path: str, of: str) -> bool:
    """Whether a cookie's path covers a request's (RFC 6265 section 5.1.4)."""
    return path == of or path.startswith(of if of.endswith("/") else f"{of}/")
