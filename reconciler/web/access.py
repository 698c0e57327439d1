"""
Access control: who sends a request, and whether they may.

Without tokens and without an identity provider, every client is on this machine and may do everything; only web
pages that use a browser here must be kept out. Otherwise every request needs a token, or the session from one.

Any web page can make a browser send us a form, cookie included. So a request that changes something must come from a
page of ours, which three things prove. Requests that only read are checked for the first two (links to our pages are
allowed):

- `Sec-Fetch-Site`, which browsers send over https and to this machine, and which no page can set;
- `Origin`, which browsers send with every POST, and which no page can set;
- a CSRF token, which only our pages contain, and which pages of other origins can't read.

The first two are checked if present. The third is required, with two exceptions. Both need a header that no form can
send, and that a script of another origin may send only after a CORS preflight, which we never grant:

- a bearer token in `Authorization`: browsers don't add it by themselves;
- without a sign-in: a content type that no form can have, such as JSON, or a `ce-` header, in a request without
  `Origin`, `Sec-Fetch-Site` and `Cookie`, as curl and other programs send it.
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
from reconciler.web import inputs
from reconciler.web.limits import Bucket
from reconciler.web.principal import ANYONE, LOCAL, Principal, Provider, Role
from reconciler.web.responses import HttpError
from reconciler.web.sessions import PROVIDER, Browsing, Session, Sessions
from reconciler.web.tokens import Token, TokenFile

CSRF_HEADER = "x-csrf-token"
CSRF_FIELD = "csrf"
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(:[0-9]{1,5})?", re.IGNORECASE)
_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/=-]{1,8192})", re.IGNORECASE | re.ASCII)  # RFC 6750 section 2.1
# The content types of forms, which scripts may send anywhere (Fetch, "CORS-safelisted request-header").
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain", "")
SAFE = ("GET", "HEAD")
FAILURES_MAX, FAILURE_S = 10, 6.0  # ten failed sign-ins at once, then one every six seconds
UNKNOWN = 'Bearer realm="reconciler"'  # RFC 6750 section 3
_INVALID = f'{UNKNOWN}, error="invalid_token"'
_TOKEN = "token:"  # noqa: S105  where a session came from, not a token


@attrs.frozen
class Admitted:
    """A client with access. `csrf` is the token for their forms; empty: they need none."""

    who: Principal
    csrf: str = attrs.field(default="", repr=False)
    session: Session | None = attrs.field(default=None, repr=False)


class AccessControl:
    """Decides who has access."""

    def __init__(
        self,
        clock: Clock,
        token_file: TokenFile | None = None,
        browsing: Browsing | None = None,
        provider: Provider | None = None,
    ) -> None:
        self.provider = provider
        self.sessions = Sessions(clock, browsing or Browsing())
        self.failures = Bucket(FAILURES_MAX, FAILURE_S)
        self._token_file = token_file

    @property
    def requires_sign_in(self) -> bool:
        """Whether a sign-in is required."""
        return self.has_tokens or self.provider is not None

    @property
    def has_tokens(self) -> bool:
        """Whether a token file is configured."""
        return self._token_file is not None

    async def admit(
        self, request: Request, role: Role | None, *, linked: bool = False, producers: bool = False
    ) -> Admitted:
        """Return who sends a request; raises HttpError without this role (`None`: no role needed). See `Endpoint`."""
        unsafe = request.method not in SAFE
        open_to_sites = not unsafe and (_is_led_here(request) if linked else role is None)
        if not open_to_sites:
            _require_own_page(request, self.sessions.browsing.external_url)
        if role is None:
            return Admitted(ANYONE)
        if not self.requires_sign_in:
            return await self._local(request, unsafe=unsafe)
        if given := request.headers.getlist("authorization"):
            return Admitted(_able(await self._bearer(given), role, producers=producers))
        session = self.session(request)
        if session is None:
            raise _unknown("send a token: Authorization: Bearer TOKEN")
        admitted = Admitted(_able(session.who, role, producers=producers), self.sessions.csrf(session), session)
        if unsafe:
            await _require_csrf(request, admitted.csrf)
        return admitted

    def session(self, request: Request) -> Session | None:
        """Return the session of a request, if its token or identity provider is still valid."""
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
        """Return a new session for a token, `None` if it is unknown."""
        token = self._token(given=given)
        if token is not None and token.who.role is Role.PRODUCER:
            raise HttpError(403, "this token is for a program that appends events; it can't be used to sign in")
        return None if token is None else self.sessions.begin(token.who, _TOKEN + token.digest)

    def sign_in_verified(self, verified: Verified) -> Session | None:
        """Return a new session for a person the provider has authenticated, `None` if they have no role here."""
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
            raise _unknown("unknown token", _INVALID)
        return token.who

    def _token(self, *, given: str = "", digest: str = "") -> Token | None:
        if self._token_file is None:
            return None
        try:
            return self._token_file.token(given) if given else self._token_file.with_digest(digest)
        except ConfigError as error:  # the details are for the log only: the client is unknown
            raise HttpError(503, "the token file can't be read; see the program's log") from error


def _unknown(detail: str, challenge: str = UNKNOWN) -> HttpError:
    return HttpError(401, detail, headers={"WWW-Authenticate": challenge})


def _vouched(provider: Provider, result: IdentityResult) -> Principal:
    match result:
        case Away():
            what = "the identity provider is unreachable; see the program's log"
            raise HttpError(503, what, headers={"Retry-After": "5"})
        case Rejected(reason):
            raise _unknown(f"token rejected: {reason}", _INVALID)
        case Verified(name):
            who = provider.principal(result)
            if who is None:
                raise HttpError(403, f"{name} has no role here")
            return who
        case _:
            assert_never(result)


def _able(who: Principal, role: Role, *, producers: bool) -> Principal:
    if who.role < role and not (producers and who.sources):
        raise HttpError(403, f"this needs the role {role.name.lower()}; {who.name} has {who.role.name.lower()}")
    return who


def _require_own_page(request: Request, external_url: str) -> None:
    """Refuse a request that a browser sends from a page of another site."""
    site = request.headers.get("sec-fetch-site", "none")
    foreign = HttpError(403, "another site may not send this request through your browser")
    if site not in ("none", "same-origin"):
        raise foreign
    for origin in request.headers.getlist("origin"):
        if origin == "null" and request.headers.get("sec-fetch-site") == "same-origin":
            continue  # a page of ours with a strict referrer policy
        # Behind a TLS proxy the scheme is unknown, but browsers always send the host.
        own = {request.headers.get("host", "").lower(), urlsplit(external_url).netloc.lower()} - {""}
        if not re.fullmatch(r"https?://[^/]+", origin) or urlsplit(origin).netloc.lower() not in own:
            raise foreign


def _is_led_here(request: Request) -> bool:
    """Whether a browser has followed a link, from any site."""
    headers = request.headers
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


async def _require_csrf(request: Request, expected: str) -> None:
    given = request.headers.get(CSRF_HEADER)
    if given is None and inputs.holds_form(request):
        given = (await inputs.fields(request, EVENT_BYTES_MAX)).get(CSRF_FIELD)
    if given is None or not hmac.compare_digest(given.encode(errors="surrogateescape"), expected.encode()):
        raise HttpError(403, f"the CSRF token is missing or wrong: reload the page; programs: {_PROGRAMS}")


_PROGRAMS = "send an Authorization header, or JSON as application/json if no sign-in is configured"


def _is_program(request: Request) -> bool:
    """Whether a request can't come from a browser on behalf of another site; see above."""
    headers = request.headers
    if any(name in headers for name in ("origin", "sec-fetch-site", "cookie")):
        return False
    return (
        inputs.content_type(request) not in _FORMS
        or any(name.startswith("ce-") for name in headers)
        or _BEARER.fullmatch(headers.get("authorization", "")) is not None
    )


def _require_loopback(hosts: list[str]) -> None:
    """
    Refuse a request whose `Host` is not this machine.

    A web page can make its own name resolve to 127.0.0.1 and reach us through a browser here (DNS rebinding), but it
    can't change `Host`.
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
        raise HttpError(421, "without a sign-in (admin.tokens_file) only localhost and 127.0.0.1 are served")
