"""
Signing in and out with a browser.

Wrong tokens are refused, too many of them with 429 and without a log entry. A correct token is always accepted: tokens
can't be guessed, so a limit on correct ones would only let strangers lock people out.

Browsers don't send the session cookie when another site links to us (`SameSite=Strict`). The sign-in page then comes in
a second step that starts at our own page, so that a person who is signed in already goes straight through.
"""

import math
import re
from typing import Final
from urllib.parse import quote

import structlog
from starlette.responses import RedirectResponse, Response

from reconciler.web import inputs
from reconciler.web.access import UNKNOWN
from reconciler.web.endpoint import Call, Endpoint, Query
from reconciler.web.page import rendering
from reconciler.web.principal import Role
from reconciler.web.services import Services
from reconciler.web.sessions import Session

_log = structlog.get_logger(__name__)

PATH: Final = "/signin"
LEAVE_PATH: Final = "/signout"
# Only a path of ours: browsers read `//host` and `/\host` as another host, and drop tabs and line ends.
_OWN_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")
_NEXT_MAX = 2048


class Wanted(Query, frozen=True, kw_only=True):
    """Where to go after signing in."""

    next: str = "/"


def address(path: str, query: str = "") -> str:
    """Return the address of the sign-in page that leads back to this path."""
    wanted = f"{path}?{query}" if query else path
    return PATH if wanted == "/" else f"{PATH}?next={quote(wanted, safe='/')}"


def own(wanted: str) -> str:
    """Return where to go after signing in: never to another site or back to the sign-in pages."""
    path = wanted.partition("?")[0]
    ours = path in (LEAVE_PATH, PATH) or path.startswith(f"{PATH}/")
    fits = len(wanted) <= _NEXT_MAX and _OWN_PATH.fullmatch(wanted) and not ours
    return wanted if fits else "/"


async def show(services: Services, call: Call) -> Response:
    """Show the sign-in page, unless it is not needed."""
    wanted = own(call.query.next)
    if not services.access.requires_sign_in or services.access.session(call.request) is not None:
        return RedirectResponse(wanted, 303)
    if call.request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        return onward(services, call, address(wanted))
    return form(services, call, wanted)


async def enter(services: Services, call: Call) -> Response:
    """Start a session for a known token."""
    given = await inputs.fields(call.request)
    wanted = own(given.get("next", "/"))
    if not services.access.requires_sign_in:
        return RedirectResponse(wanted, 303)
    session = services.access.sign_in(given.get("token", "").strip())
    if session is None:
        return refuse(services, call, wanted, "unknown token")
    _log.info("signed in", who=session.name, role=session.role.name.lower(), by="token")
    return with_session(services, RedirectResponse(wanted, 303), session)


async def leave(services: Services, call: Call) -> Response:
    """End a session."""
    sessions = services.access.sessions
    if call.session is not None:
        sessions.end(call.session)
        _log.info("signed out", who=call.session.name)
    response = RedirectResponse(PATH, 303)
    response.headers.append("set-cookie", sessions.cookie.dropped())
    return response


def onward(services: Services, call: Call, to: str) -> Response:
    """Continue from a page of ours, so that the next request comes from here and not from another site."""
    response = rendering.page(services, call, "onward.html", to=to)
    response.headers["refresh"] = f"0; url={to}"
    return response


def refuse(services: Services, call: Call, wanted: str, reason: str) -> Response:
    """Show the sign-in page again with the reason."""
    wait_s = services.access.failures.wait_s(services.clock.monotonic_s())
    if wait_s:
        seconds = math.ceil(wait_s)
        said = f"{reason}; too many failed sign-ins: try again in {seconds} s"
        response = form(services, call, wanted, said, 429)
        response.headers["retry-after"] = str(seconds)
        return response
    _log.warning("a sign-in was refused", reason=reason)
    response = form(services, call, wanted, reason, 401)
    response.headers["www-authenticate"] = UNKNOWN
    return response


def form(services: Services, call: Call, wanted: str, fault: str = "", status: int = 200) -> Response:
    """Return the sign-in page, with an error if there is one."""
    door = services.access
    provider = door.provider is not None and door.provider.identity.signs_in
    shown = {"next": wanted, "fault": fault, "provider": provider, "tokens": door.has_tokens}
    return rendering.page(services, call, "signin.html", None, status, **shown)


def with_session(services: Services, response: Response, session: Session) -> Response:
    """Set the session cookie."""
    response.headers.append("set-cookie", services.access.sessions.set_cookie(session))
    return response


ENDPOINTS: Final = (
    Endpoint(path=PATH, role=None, handler=show, query=Wanted, page=True, linked=True),
    Endpoint(path=PATH, role=None, handler=enter, method="POST", page=True),
    Endpoint(path=LEAVE_PATH, role=Role.VIEWER, handler=leave, method="POST", page=True),
)
