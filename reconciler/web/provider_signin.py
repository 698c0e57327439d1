"""
Signing in with the identity provider: from our page to the provider and back (OpenID Connect code flow with PKCE).

The browser that comes back must be the one that left: it holds a sealed cookie for ten minutes, and the provider's
answer must match it. `state`, `nonce` and PKCE's verifier are derived from the random part of that cookie and our key,
so the server stores nothing, and the verifier stays secret until the end.

Browsers send this cookie when the provider redirects back (`SameSite=Lax`), but not the session cookie; hence the step
through a page of ours at the end (`signin.onward`). The sign-in starts with a link, not a form, because browsers apply
`form-action 'self'` to redirects of forms.
"""

import hmac
import re
import secrets
from typing import Final

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from reconciler.model.identity import Away, Flow, Rejected
from reconciler.web import signin
from reconciler.web.endpoint import Call, Endpoint, Query
from reconciler.web.page import formatting
from reconciler.web.responses import HttpError
from reconciler.web.services import Services
from reconciler.web.sessions import Cookie, Seal, Sessions

_log = structlog.get_logger(__name__)

PATH: Final = f"{signin.PATH}/provider"
BACK_PATH: Final = f"{signin.PATH}/callback"
COOKIE: Final = "reconciler_signin"
LASTS_S: Final = 600
_ERROR = re.compile(r"[a-z_]{1,40}")
_CODE_MAX = 4096
_UNREACHABLE = "the identity provider is unreachable; see the program's log"


class _Left(msgspec.Struct, frozen=True, array_like=True):
    """What the browser keeps in the cookie while it is at the provider."""

    random: str
    next: str
    ends_us: int


class Back(Query, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What the provider sends back (RFC 6749 section 4.1.2, RFC 9207); other parameters are ignored."""

    code: str = ""
    state: str = ""
    error: str = ""
    iss: str = ""


async def leave(services: Services, call: Call) -> Response:
    """Redirect the browser to the identity provider."""
    provider = services.access.provider
    if provider is None or not provider.identity.signs_in:
        raise HttpError(404, "sign-in with an identity provider is not configured")
    ends_us = services.clock.now_us() + LASTS_S * 1_000_000
    left = _Left(secrets.token_urlsafe(32), signin.own(call.query.next), ends_us)
    address = await provider.identity.address(_flow(services.access.sessions, left))
    if isinstance(address, Away):
        raise HttpError(
            503, "the identity provider is unreachable; see the program's log", headers={"Retry-After": "5"}
        )
    response = RedirectResponse(address, 303)
    text = _seal(services.access.sessions).seal(msgspec.json.encode(left))
    response.headers.append("set-cookie", _cookie(services.access.sessions).set(text, LASTS_S))
    return response


async def back(services: Services, call: Call) -> Response:
    """Handle the provider's answer, and start a session if its user has a role here."""
    response = await _come_back(services, call)
    response.headers.append("set-cookie", _cookie(services.access.sessions).dropped())
    return response


async def _come_back(services: Services, call: Call) -> Response:
    provider, sessions, said = services.access.provider, services.access.sessions, call.query
    if provider is None or not provider.identity.signs_in:
        raise HttpError(404, "sign-in with an identity provider is not configured")
    left = _found(sessions, call.request)
    if left is None or left.ends_us <= services.clock.now_us():
        return signin.refuse(services, call, "/", "this sign-in took too long or began in another browser; start again")
    flow = _flow(sessions, left)
    if not hmac.compare_digest(said.state.encode(errors="replace"), flow.state.encode()):
        return signin.refuse(services, call, left.next, "this answer belongs to another sign-in; start again")
    if said.iss not in ("", provider.identity.issuer):  # RFC 9207
        return signin.refuse(services, call, left.next, "the answer came from another identity provider")
    if said.error or not 0 < len(said.code) <= _CODE_MAX:
        why = said.error if _ERROR.fullmatch(said.error) else "no code"
        return signin.refuse(services, call, left.next, f"the identity provider did not sign you in ({why})")
    result = await provider.identity.exchange(said.code, flow)
    match result:
        case Away(reason):
            _log.warning("the identity provider is unreachable", reason=reason)
            raise HttpError(503, _UNREACHABLE)
        case Rejected(reason):
            what = f"the identity provider's answer was rejected: {reason}"
            return signin.refuse(services, call, left.next, what)
    session = services.access.sign_in_verified(result)
    if session is None:
        _log.warning("a sign-in was refused", who=result.name, reason="no role")
        said = (
            f"{formatting.plain(result.name)} has no role here; ask an administrator of the identity provider for one"
        )
        return signin.form(services, call, left.next, said, 403)
    _log.info("signed in", who=session.name, role=session.role.name.lower(), by="identity provider")
    return signin.with_session(services, signin.onward(services, call, left.next), session)


def _flow(sessions: Sessions, left: _Left) -> Flow:
    state, nonce, verifier = (Seal(sessions.key, f"signin {use}").mark(left.random) for use in ("s", "n", "v"))
    return Flow(sessions.browsing.external_url + BACK_PATH, state, nonce, verifier)


def _found(sessions: Sessions, request: Request) -> _Left | None:
    text = _cookie(sessions).given(request)
    body = None if text is None else _seal(sessions).unseal(text)
    try:
        return None if body is None else msgspec.json.decode(body, type=_Left)
    except (msgspec.DecodeError, UnicodeDecodeError):  # from another version, with the same key
        return None


def _seal(sessions: Sessions) -> Seal:
    return Seal(sessions.key, "signin")


def _cookie(sessions: Sessions) -> Cookie:
    return Cookie(COOKIE, sessions.browsing.secure, "Lax")


ENDPOINTS: Final = (
    Endpoint(path=PATH, role=None, handler=leave, query=signin.Wanted, page=True, linked=True),
    Endpoint(path=BACK_PATH, role=None, handler=back, query=Back, page=True, linked=True),
)
