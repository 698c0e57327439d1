"""
Roundtrip: signing in by way of the identity provider, from our page to its pages and back.

The browser that comes back must be the one that left: it has a cookie, sealed and for ten minutes, and what it brings
from the provider must fit to it. `state`, `nonce` and PKCE's verifier all follow from the random part of that cookie
and our key, so nothing of it is kept here, and the verifier never leaves us before the end.

That cookie is sent when the provider's page leads back to us (`SameSite=Lax`); the session's own is not, hence the step
by a page of ours at the end (`signin.onward`). The way out begins with a link and not with a form, since browsers hold
`form-action 'self'` against redirects of forms.
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
from reconciler.web.answers import HttpError
from reconciler.web.endpoint import Asked, Endpoint, Query
from reconciler.web.page import looks
from reconciler.web.sessions import Cookie, Seal, Sessions
from reconciler.web.sources import Sources

_log = structlog.get_logger(__name__)

PATH: Final = f"{signin.PATH}/provider"
BACK_PATH: Final = f"{signin.PATH}/callback"
COOKIE: Final = "reconciler_signin"
LASTS_S: Final = 600
_ERROR = re.compile(r"[a-z_]{1,40}")
_CODE_MAX = 4096


class _Left(msgspec.Struct, frozen=True, array_like=True):
    """What a browser keeps while it is away."""

    random: str
    next: str
    ends_us: int


class Back(Query, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """What the provider sends back (RFC 6749 section 4.1.2, RFC 9207), and whatever else it likes to add."""

    code: str = ""
    state: str = ""
    error: str = ""
    iss: str = ""


async def leave(sources: Sources, asked: Asked) -> Response:
    """Send a browser to the identity provider."""
    provider = sources.door.provider
    if provider is None or not provider.identity.signs_in:
        raise HttpError(404, "nobody signs in that way here")
    ends_us = sources.clock.now_us() + LASTS_S * 1_000_000
    left = _Left(secrets.token_urlsafe(32), signin.own(asked.query.next), ends_us)
    address = await provider.identity.address(_flow(sources.door.sessions, left))
    if isinstance(address, Away):
        raise HttpError(503, "the identity provider can't be asked now; the log says why", headers={"Retry-After": "5"})
    response = RedirectResponse(address, 303)
    text = _seal(sources.door.sessions).seal(msgspec.json.encode(left))
    response.headers.append("set-cookie", _cookie(sources.door.sessions).set(text, LASTS_S))
    return response


async def back(sources: Sources, asked: Asked) -> Response:
    """Take what the identity provider has sent, and begin a session if it vouches for somebody with a role here."""
    response = await _come_back(sources, asked)
    response.headers.append("set-cookie", _cookie(sources.door.sessions).dropped())
    return response


async def _come_back(sources: Sources, asked: Asked) -> Response:
    provider, sessions, said = sources.door.provider, sources.door.sessions, asked.query
    if provider is None or not provider.identity.signs_in:
        raise HttpError(404, "nobody signs in that way here")
    left = _found(sessions, asked.request)
    if left is None or left.ends_us <= sources.clock.now_us():
        return signin.refuse(sources, asked, "/", "this sign-in took too long or began elsewhere; begin again")
    flow = _flow(sessions, left)
    if not hmac.compare_digest(said.state.encode(errors="replace"), flow.state.encode()):
        return signin.refuse(sources, asked, left.next, "this is the end of another sign-in; begin again")
    if said.iss not in ("", provider.identity.issuer):  # RFC 9207: another provider's answer
        return signin.refuse(sources, asked, left.next, "another identity provider has answered")
    if said.error or not 0 < len(said.code) <= _CODE_MAX:
        why = said.error if _ERROR.fullmatch(said.error) else "no code"
        return signin.refuse(sources, asked, left.next, f"the identity provider has not signed you in ({why})")
    result = await provider.identity.exchange(said.code, flow)
    match result:
        case Away(reason):
            _log.warning("the identity provider can't be asked", reason=reason)
            raise HttpError(503, "the identity provider can't be asked now; the log says why")
        case Rejected(reason):
            what = f"what the identity provider said is not accepted: {reason}"
            return signin.refuse(sources, asked, left.next, what)
    session = sources.door.sign_in_verified(result)
    if session is None:
        _log.warning("a sign-in was refused", who=result.name, reason="no role")
        said = (
            f"you have no role here as {looks.plain(result.name)}; whoever runs the identity provider can give you one"
        )
        return signin.form(sources, asked, left.next, said, 403)
    _log.info("signed in", who=session.name, role=session.role.name.lower(), by="identity provider")
    return signin.with_session(sources, signin.onward(asked, left.next), session)


def _flow(sessions: Sessions, left: _Left) -> Flow:
    state, nonce, verifier = (Seal(sessions.key, f"signin {use}").mark(left.random) for use in ("s", "n", "v"))
    return Flow(sessions.browsing.external_url + BACK_PATH, state, nonce, verifier)


def _found(sessions: Sessions, request: Request) -> _Left | None:
    text = _cookie(sessions).given(request)
    body = None if text is None else _seal(sessions).unseal(text)
    try:
        return None if body is None else msgspec.json.decode(body, type=_Left)
    except (msgspec.DecodeError, UnicodeDecodeError):  # of another version of ours, with the same key
        return None


def _seal(sessions: Sessions) -> Seal:
    return Seal(sessions.key, "signin")


def _cookie(sessions: Sessions) -> Cookie:
    return Cookie(COOKIE, sessions.browsing.secure, "Lax")


ENDPOINTS: Final = (
    Endpoint(path=PATH, role=None, call=leave, query=signin.Wanted, page=True, linked=True),
    Endpoint(path=BACK_PATH, role=None, call=back, query=Back, page=True, linked=True),
)
