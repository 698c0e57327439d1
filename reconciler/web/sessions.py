"""
Browser sessions and sealed cookies.

A session is a sealed cookie; the server stores only which sessions were ended early. Each request checks the origin of
its session again (`access.AccessControl`): a session from a token ends when the token's line is removed.

A sealed text is `v1.BODY.MAC`, body and MAC in base64url without padding. The MAC is HMAC-SHA256 over `v1.BODY` with a
key for one purpose, so a text sealed for one purpose is not valid for another. The body is not secret.
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

from reconciler.model.limits import SESSION_S
from reconciler.ports import Clock
from reconciler.web.principal import Principal, Role

COOKIE: Final = "reconciler_session"
PROVIDER: Final = "oidc:"  # begins the source of a session that an identity provider vouched for
ENDED_MAX = 10_000
_ID_BYTES = 16


@attrs.frozen(kw_only=True)
class Browsing:
    """Settings for browser sessions."""

    external_url: str = ""
    """The address that browsers use, such as https://reconciler.example.com; empty: http, at the host they name."""
    key: str = attrs.field(default="", repr=False)
    """The key that seals cookies; empty: a random one, so sessions end with the process."""
    lasts_s: float = SESSION_S

    @property
    def secure(self) -> bool:
        """Whether browsers use https."""
        return self.external_url.lower().startswith("https:")


class Session(msgspec.Struct, frozen=True, array_like=True):
    """
    A signed-in person. `source` is how they signed in: `token:HASH` or `oidc:ISSUER`.

    `speaks_for` are the sources whose events they may append (`Principal.sources`).
    """

    name: str
    role: Role
    source: str
    ends_us: int
    id: str
    speaks_for: tuple[str, ...] = ()

    @property
    def who(self) -> Principal:
        """The person as a principal."""
        issuer = self.source.removeprefix(PROVIDER) if self.source.startswith(PROVIDER) else ""
        return Principal(self.name, self.role, issuer, self.speaks_for)


class Sessions:
    """Starts, recognises and ends sessions."""

    def __init__(self, clock: Clock, browsing: Browsing) -> None:
        key = browsing.key.encode() or secrets.token_bytes(32)
        self.browsing = browsing
        self.cookie = Cookie(COOKIE, browsing.secure, "Strict")
        self.key = key  # also seals other cookies, each for its own purpose
        self._clock = clock
        self._seal = Seal(key, "session")
        self._csrf = Seal(key, "csrf")
        self._ended: dict[str, int] = {}  # id → when it expires
        self._floor_us = 0  # sessions that expire before this count as ended; see `end`

    def begin(self, who: Principal, source: str) -> Session:
        """Return a new session."""
        ends_us = self._clock.now_us() + round(self.browsing.lasts_s * 1e6)
        return Session(who.name, who.role, source, ends_us, secrets.token_urlsafe(_ID_BYTES), who.sources)

    def set_cookie(self, session: Session) -> str:
        """Return the value of `Set-Cookie` for a session."""
        seconds = (session.ends_us - self._clock.now_us()) // 1_000_000
        return self.cookie.set(self._seal.seal(msgspec.json.encode(session)), seconds)

    def find(self, request: Request) -> Session | None:
        """Return the valid session of a request, if it has one."""
        text = self.cookie.given(request)
        body = None if text is None else self._seal.unseal(text)
        if body is None:
            return None
        try:
            session = msgspec.json.decode(body, type=Session)
        except (msgspec.DecodeError, UnicodeDecodeError):  # from another version, with the same key
            return None
        over = session.ends_us <= max(self._clock.now_us(), self._floor_us)
        return None if over or session.id in self._ended else session

    def end(self, session: Session) -> None:
        """
        End a session early.

        Only `ENDED_MAX` are remembered. Beyond that, the one that expires first is forgotten, and all sessions that
        expire before it count as ended: those people sign in again, but no ended session becomes valid.
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
        Return the CSRF token of a session; `None`: the one used without a sign-in.

        Pages of other sites can't read it, and it is valid for this session only.
        """
        return self._csrf.mark("local" if session is None else f"session:{session.id}")


# -------------------------------------------------------------------------------------------------------------- cookies


_VERSION = "v1"
_SEALED_MAX = 4096  # the limit of browsers
_SEALED = re.compile(rf"({_VERSION}\.[A-Za-z0-9_-]*)\.([A-Za-z0-9_-]{{43}})")


class Seal:
    """Seals texts for one purpose."""

    def __init__(self, key: bytes, purpose: str) -> None:
        self._key = hmac.digest(key, purpose.encode(), hashlib.sha256)

    def seal(self, body: bytes) -> str:
        """Return the sealed text of a body."""
        content = f"{_VERSION}.{_encoded(body)}"
        return f"{content}.{self.mark(content)}"

    def unseal(self, text: str) -> bytes | None:
        """Return the sealed body; `None` for a text that was not sealed with this key."""
        found = _SEALED.fullmatch(text) if len(text) <= _SEALED_MAX else None
        if found is None or not hmac.compare_digest(self.mark(found[1]), found[2]):
            return None
        body = found[1].removeprefix(f"{_VERSION}.")
        try:
            return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        except binascii.Error:  # the MAC proves only that the sender had the key
            return None

    def mark(self, text: str) -> str:
        """Return the MAC of a text, in 43 letters."""
        return _encoded(hmac.digest(self._key, text.encode(), hashlib.sha256))


@attrs.frozen
class Cookie:
    """
    A cookie for the whole host, hidden from scripts.

    With `secure` (https), its name has the prefix `__Host-`, so that neither other hosts of the domain nor plain http
    can set it.
    """

    name: str
    secure: bool
    same_site: str

    @property
    def full_name(self) -> str:
        """The name with its prefix."""
        return f"__Host-{self.name}" if self.secure else self.name

    def given(self, request: Request) -> str | None:
        """
        Return the value that a browser sends, if it sends exactly one.

        Without the prefix, a program on another port of the host can set a second cookie of this name, and there is no
        way to tell which one is ours.
        """
        found = list(_values(request.headers.getlist("cookie"), self.full_name))
        return found[0] if len(found) == 1 else None

    def set(self, text: str, seconds: int) -> str:
        """Return the value of `Set-Cookie` that stores a text."""
        secure = "; Secure" if self.secure else ""
        return f"{self.full_name}={text}; Path=/; Max-Age={seconds}; HttpOnly; SameSite={self.same_site}{secure}"

    def dropped(self) -> str:
        """Return the value of `Set-Cookie` that deletes the cookie."""
        return self.set("", 0)


def _values(headers: Iterable[str], name: str) -> Iterable[str]:
    for header in headers:
        for pair in header.split(";"):
            given, _, text = pair.strip().partition("=")
            if given == name:
                yield text


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
