"""
Access: who asks, and whether they may.

Without tokens and without an identity provider everybody who reaches us is on this machine and may do everything; what
is to be kept out then are pages on the web that reach us through a browser here. Else everybody has to show a token, or
the session that a browser got for one.

What a browser sends by itself proves nothing about who wanted it: any page may have a browser send us a form, and it
adds the cookie. So whatever changes something has to come from a page of ours, and three things tell (of what only
shows something the first two, since a page elsewhere can't read it, but can ask for much; a link is free to lead to a
page of ours):

- `Sec-Fetch-Site`, which browsers send to https and to this machine, and no page can set;
- `Origin`, which they send with every POST, and no page can set either;
- a CSRF token, which stands in our pages only, and which no page of another origin can read.

The first two are believed when they are there. The third must be there, with two exceptions, both of which need a
header that no form can send, and that a script of another origin may send only after we have allowed it (a CORS
preflight, which we never grant):

- a bearer token in `Authorization`. It is not added by the browser, so whoever sends it has it.
- where nobody is asked who they are, a content type that no form has (forms have one of three), such as JSON, or an
  event's `ce-` header, in a request without `Origin`, `Sec-Fetch-Site` and `Cookie`: curl, or a program.
"""

import hmac
import ipaddress
import re
from typing import assert_never
from urllib.parse import urlsplit

import attrs
from starlette.requests import Request

from reconciler.errors import ConfigError
from reconciler.model.identity import Away, IdentityResult, Rejected, Verified
from reconciler.model.limits import EVENT_BYTES_MAX
from reconciler.ports import Clock
from reconciler.web import bodies
from reconciler.web.answers import HttpError
from reconciler.web.crowd import Bucket
from reconciler.web.identity import Provider
from reconciler.web.principal import ANYBODY, LOCAL, Principal, Role
from reconciler.web.sessions import PROVIDER, Browsing, Session, Sessions
from reconciler.web.tokens import Keyring, Token

CSRF_HEADER = "x-csrf-token"
CSRF_FIELD = "csrf"
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(:[0-9]{1,5})?", re.IGNORECASE)
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/=-]{1,8192})", re.IGNORECASE | re.ASCII)  # RFC 6750 section 2.1
# What a form can be sent as, and a script may send anywhere without asking (Fetch, "CORS-safelisted request-header").
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain", "")
SAFE = ("GET", "HEAD")
FAILURES_MAX, FAILURE_S = 10, 6.0  # so many failed sign-ins at once, then one more each six seconds
UNKNOWN = 'Bearer realm="reconciler"'  # RFC 6750 section 3
_INVALID = f'{UNKNOWN}, error="invalid_token"'
_TOKEN = "token:"  # noqa: S105  where a session came from, not a token


@attrs.frozen
class Admitted:
    """Somebody who may come in. `csrf` is what the forms of a page for them carry; empty: they need none."""

    who: Principal
    csrf: str = attrs.field(default="", repr=False)
    session: Session | None = attrs.field(default=None, repr=False)


class Door:
    """Lets in whoever may come in."""

    def __init__(
        self,
        clock: Clock,
        keyring: Keyring | None = None,
        browsing: Browsing | None = None,
        provider: Provider | None = None,
    ) -> None:
        self.provider = provider
        self.sessions = Sessions(clock, browsing or Browsing())
        self.failures = Bucket(FAILURES_MAX, FAILURE_S)
        self._keyring = keyring

    @property
    def asks(self) -> bool:
        """Whether anybody is asked who they are."""
        return self.has_tokens or self.provider is not None

    @property
    def has_tokens(self) -> bool:
        """Whether there is a file of tokens."""
        return self._keyring is not None

    async def admit(
        self, request: Request, role: Role | None, *, linked: bool = False, producers: bool = False
    ) -> Admitted:
        """Return who asks; raises HttpError unless they have this role (`None`: anybody may). See `Endpoint`."""
        unsafe = request.method not in SAFE
        open_to_sites = not unsafe and (_is_led_here(request) if linked else role is None)
        if not open_to_sites:
            _require_own_page(request, self.sessions.browsing.external_url)
        if role is None:
            return Admitted(ANYBODY)
        if not self.asks:
            return await self._local(request, unsafe=unsafe)
        if given := request.headers.getlist("authorization"):
            return Admitted(_able(await self._bearer(given), role, producers=producers))
        session = self.session(request)
        if session is None:
            raise _unknown("this needs a token: Authorization: Bearer TOKEN")
        admitted = Admitted(_able(session.who, role, producers=producers), self.sessions.csrf(session), session)
        if unsafe:
            await _require_csrf(request, admitted.csrf)
        return admitted

    def session(self, request: Request) -> Session | None:
        """Return whose session a request shows, if what it was made from would still do."""
        session = self.sessions.find(request)
        if session is None:
            return None
        if not session.source.startswith(_TOKEN):
            here = self.provider is not None and session.source == PROVIDER + self.provider.identity.issuer
            return session if here else None
        token = self._token(digest=session.source.removeprefix(_TOKEN))
        if token is None or token.who.name != session.name or token.who.role < session.role:
            return None
        return session if token.who.sources == session.speaks_for else None

    def sign_in(self, given: str) -> Session | None:
        """Return a new session for whoever shows a token, `None` if it is not known."""
        token = self._token(given=given)
        if token is not None and token.who.role is Role.PRODUCER:
            raise HttpError(403, "this token is for a program that appends events; nobody signs in with it")
        return None if token is None else self.sessions.begin(token.who, _TOKEN + token.digest)

    def sign_in_verified(self, verified: Verified) -> Session | None:
        """Return a new session for whom the provider vouches, `None` if they have no role here."""
        assert self.provider is not None
        who = self.provider.principal(verified)
        if who is None or who.role is Role.PRODUCER:
            return None
        return self.sessions.begin(who, PROVIDER + who.issuer)

    async def _local(self, request: Request, *, unsafe: bool) -> Admitted:
        _require_loopback(request.headers.getlist("host"))
        admitted = Admitted(LOCAL, self.sessions.csrf(None))
        if unsafe and not _is_program(request):
            await _require_csrf(request, admitted.csrf)
        return admitted

    async def _bearer(self, given: list[str]) -> Principal:
        found = _BEARER.fullmatch(given[0].strip()) if len(given) == 1 else None
        if self.provider is not None and found and found[1].count(".") == 2:  # a JWT; tokens of ours have no dots
            return _vouched(self.provider, await self.provider.identity.bearer(found[1]))
        token = self._token(given=found[1]) if found else None
        if token is None:
            raise _unknown("this token is not known", _INVALID)
        return token.who

    def _token(self, *, given: str = "", digest: str = "") -> Token | None:
        if self._keyring is None:
            return None
        try:
            return self._keyring.token(given) if given else self._keyring.with_digest(digest)
        except ConfigError as error:  # what it says is for the log: whoever asks has shown nothing yet
            raise HttpError(503, "the tokens can't be read; the log says why") from error


def _unknown(detail: str, challenge: str = UNKNOWN) -> HttpError:
    return HttpError(401, detail, headers={"WWW-Authenticate": challenge})


def _vouched(provider: Provider, result: IdentityResult) -> Principal:
    match result:
        case Away():
            what = "the identity provider can't be asked now; the log says why"
            raise HttpError(503, what, headers={"Retry-After": "5"})
        case Rejected(reason):
            raise _unknown(f"this token is not accepted: {reason}", _INVALID)
        case Verified(name):
            who = provider.principal(result)
            if who is None:
                raise HttpError(403, f"{name} has no role here")
            return who
        case _:
            assert_never(result)


def _able(who: Principal, role: Role, *, producers: bool) -> Principal:
    if who.role < role and not (producers and who.sources):
        raise HttpError(403, f"this needs the role {role.name.lower()}; {who.name} is {who.role.name.lower()}")
    return who


def _require_own_page(request: Request, external_url: str) -> None:
    """Refuse what a browser sends us from a page that is not ours."""
    site = request.headers.get("sec-fetch-site", "none")
    foreign = HttpError(403, "another site may not ask for this through your browser")
    if site not in ("none", "same-origin"):
        raise foreign
    for origin in request.headers.getlist("origin"):
        if origin == "null" and request.headers.get("sec-fetch-site") == "same-origin":
            continue  # a page of ours whose referrer policy keeps its address to itself
        # Which scheme a browser used is not to be seen behind a proxy that has TLS. The host is: a browser sends it.
        own = {request.headers.get("host", "").lower(), urlsplit(external_url).netloc.lower()} - {""}
        if not re.fullmatch(r"https?://[^/]+", origin) or urlsplit(origin).netloc.lower() not in own:
            raise foreign


def _is_led_here(request: Request) -> bool:
    """Whether a browser is to show the answer as a page of its own: a link was followed, whoever made it."""
    headers = request.headers
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


async def _require_csrf(request: Request, expected: str) -> None:
    given = request.headers.get(CSRF_HEADER)
    if given is None and bodies.holds_form(request):
        given = (await bodies.fields(request, EVENT_BYTES_MAX)).get(CSRF_FIELD)
    if given is None or not hmac.compare_digest(given.encode(errors="surrogateescape"), expected.encode()):
        raise HttpError(403, f"this must come from a page of ours: load the page again; programs: {_PROGRAMS}")


_PROGRAMS = "send an Authorization header, or JSON as application/json where nobody is asked for one"


def _is_program(request: Request) -> bool:
    """Whether a request can't have been sent by a browser for another site; see above."""
    headers = request.headers
    if any(name in headers for name in ("origin", "sec-fetch-site", "cookie")):
        return False
    return (
        bodies.content_type(request) not in _FORMS
        or any(name.startswith("ce-") for name in headers)
        or _BEARER.fullmatch(headers.get("authorization", "")) is not None
    )


def _require_loopback(hosts: list[str]) -> None:
    """
    Refuse a request that names another host than this machine.

    A page on the web can have its own name resolve to 127.0.0.1 and so reach us through a browser here (DNS rebinding);
    the name in `Host` is the one thing that it can't change.
    """
    found = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    name = found[1].strip("[]").lower() if found else ""
    if name == "localhost":
        return
    try:
        loopback = ipaddress.ip_address(name).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise HttpError(421, "without a sign-in (admin.tokens_file) only localhost or 127.0.0.1 is answered")
