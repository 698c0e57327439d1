"""
Sessions: who is signed in with a browser.

A session is a sealed cookie; nothing is kept here but which ones were ended before their time. What a session came from
is looked up again with each request (`access.Door`): one made from a token ends with that token's line.

Cookies: what a browser keeps for us, in a form that only we can have made.

A sealed text is `v1.BODY.MAC`, body and MAC in base64url without padding. The MAC is HMAC-SHA256 over `v1.BODY` with a
key made for one purpose, so that what is sealed for one can't be shown for another. Whoever has it can read what is in
it: it holds no secret.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from typing import Final

import attrs
import msgspec
from starlette.requests import Request

from reconciler.ports import Clock
from reconciler.web.principal import Principal, Role

COOKIE: Final = "reconciler_session"
PROVIDER: Final = "oidc:"  # begins the source of a session that an identity provider vouched for
ENDED_MAX = 10_000
_ID_BYTES = 16


@attrs.frozen(kw_only=True)
class Browsing:
    """How browsers are let in."""

    external_url: str = ""
    """How browsers reach us, such as https://reconciler.example.com; empty: as they say themselves, by http."""
    key: str = attrs.field(default="", repr=False)
    """What cookies are sealed with; empty: something random, so that sessions end with the process."""
    lasts_s: float = 8 * 3600.0

    @property
    def secure(self) -> bool:
        """Whether browsers reach us by https."""
        return self.external_url.lower().startswith("https:")


class Session(msgspec.Struct, frozen=True, array_like=True):
    """
    Somebody who is signed in. `source` tells what with: `token:HASH` or `oidc:ISSUER`.

    `speaks_for` are the sources of the events that they may append (`Principal.sources`).
    """

    name: str
    role: Role
    source: str
    ends_us: int
    id: str
    speaks_for: tuple[str, ...] = ()

    @property
    def who(self) -> Principal:
        """Who it is."""
        issuer = self.source.removeprefix(PROVIDER) if self.source.startswith(PROVIDER) else ""
        return Principal(self.name, self.role, issuer, self.speaks_for)


class Sessions:
    """Begins sessions, knows them again, ends them."""

    def __init__(self, clock: Clock, browsing: Browsing) -> None:
        key = browsing.key.encode() or secrets.token_bytes(32)
        self.browsing = browsing
        self.cookie = Cookie(COOKIE, browsing.secure, "Strict")
        self.key = key  # further cookies are sealed with it, each for its own purpose
        self._clock = clock
        self._seal = Seal(key, "session")
        self._csrf = Seal(key, "csrf")
        self._ended: dict[str, int] = {}  # id → when it would have ended anyway
        self._floor_us = 0  # whatever ends by then has ended: what stood for it in `_ended` is forgotten

    def begin(self, who: Principal, source: str) -> Session:
        """Return a new session."""
        ends_us = self._clock.now_us() + round(self.browsing.lasts_s * 1e6)
        return Session(who.name, who.role, source, ends_us, secrets.token_urlsafe(_ID_BYTES), who.sources)

    def set_cookie(self, session: Session) -> str:
        """Return the value of `Set-Cookie` that a browser shows a session with from now on."""
        seconds = (session.ends_us - self._clock.now_us()) // 1_000_000
        return self.cookie.set(self._seal.seal(msgspec.json.encode(session)), seconds)

    def find(self, request: Request) -> Session | None:
        """Return the session that a request shows, if there is one that is ours and has not ended."""
        text = self.cookie.given(request)
        body = None if text is None else self._seal.unseal(text)
        if body is None:
            return None
        try:
            session = msgspec.json.decode(body, type=Session)
        except (msgspec.DecodeError, UnicodeDecodeError):  # of another version of ours, with the same key
            return None
        over = session.ends_us <= max(self._clock.now_us(), self._floor_us)
        return None if over or session.id in self._ended else session

    def end(self, session: Session) -> None:
        """
        End a session before its time.

        Only so many are remembered. Beyond, the one that would end first is forgotten, and with it every session that
        would have ended by then: those people sign in again, but no session that was ended comes back.
        """
        now_us = self._clock.now_us()
        self._ended[session.id] = session.ends_us
        if len(self._ended) > ENDED_MAX:
            self._ended = {one: ends_us for one, ends_us in self._ended.items() if ends_us > now_us}
        if len(self._ended) > ENDED_MAX:
            first = min(self._ended, key=self._ended.__getitem__)
            self._floor_us = max(self._floor_us, self._ended.pop(first))

    def csrf(self, session: Session | None) -> str:
        """
        Return what forms of a session carry to show that they are ours; `None`: where nobody is asked who they are.

        No page of another site can read it, and it is of no use with another session.
        """
        return self._csrf.mark("local" if session is None else f"session:{session.id}")


# -------------------------------------------------------------------------------------------------------------- cookies


_VERSION = "v1"
_SEALED_MAX = 4096  # what a browser keeps at most
_SEALED = re.compile(rf"({_VERSION}\.[A-Za-z0-9_-]*)\.([A-Za-z0-9_-]{{43}})")


class Seal:
    """Seals texts for one purpose."""

    def __init__(self, key: bytes, purpose: str) -> None:
        self._key = hmac.digest(key, purpose.encode(), hashlib.sha256)

    def seal(self, body: bytes) -> str:
        """Return a text that `unseal` takes back."""
        content = f"{_VERSION}.{_encoded(body)}"
        return f"{content}.{self.mark(content)}"

    def unseal(self, text: str) -> bytes | None:
        """Return what was sealed; `None` for anything that `seal` has not made with this key."""
        found = _SEALED.fullmatch(text) if len(text) <= _SEALED_MAX else None
        if found is None or not hmac.compare_digest(self.mark(found[1]), found[2]):
            return None
        body = found[1].removeprefix(f"{_VERSION}.")
        try:
            return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        except binascii.Error:  # nothing that we have sealed, but a MAC proves only that the key was there
            return None

    def mark(self, text: str) -> str:
        """Return 43 letters that follow from a text, and that nobody knows who has not the key."""
        return _encoded(hmac.digest(self._key, text.encode(), hashlib.sha256))


@attrs.frozen
class Cookie:
    """
    A cookie of ours: for the whole host, out of reach of scripts.

    `secure` says that browsers reach us by https: then the name has the prefix that keeps other hosts of our domain,
    and plain http, from setting one.
    """

    name: str
    secure: bool
    same_site: str

    @property
    def full_name(self) -> str:
        """The name as browsers have it."""
        return f"__Host-{self.name}" if self.secure else self.name

    def given(self, request: Request) -> str | None:
        """
        Return what a browser sends under this name, if it sends exactly one.

        Without the prefix, another program on another port of the same host can set a second one under the same name;
        which of the two is ours can't be told.
        """
        found = list(_values(request.headers.getlist("cookie"), self.full_name))
        return found[0] if len(found) == 1 else None

    def set(self, text: str, seconds: int) -> str:
        """Return the value of `Set-Cookie` that makes a browser keep a text."""
        secure = "; Secure" if self.secure else ""
        return f"{self.full_name}={text}; Path=/; Max-Age={seconds}; HttpOnly; SameSite={self.same_site}{secure}"

    def dropped(self) -> str:
        """Return the value of `Set-Cookie` that makes a browser forget it."""
        return self.set("", 0)


def _values(headers: Iterable[str], name: str) -> Iterable[str]:
    for header in headers:
        for pair in header.split(";"):
            given, _, text = pair.strip().partition("=")
            if given == name:
                yield text


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
