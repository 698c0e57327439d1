"""
Signing in and out with a browser.

A wrong token is refused, too many of them with 429 and without a line in the log; a right one is always taken. A token
can't be guessed in any number of tries, so holding right ones back too would only let strangers lock people out.

The session's cookie is not sent where another site leads to us (`SameSite=Strict`), by a link in a mail for instance.
Whoever comes that way without it may be signed in all the same: the sign-in page then comes by a second step, which
begins at our own page, so that the cookie is sent if there is one.
"""

import math
import re
from typing import Final
from urllib.parse import quote

import structlog
from starlette.responses import RedirectResponse, Response

from reconciler.web import bodies
from reconciler.web.access import UNKNOWN
from reconciler.web.endpoint import Asked, Endpoint, Query
from reconciler.web.page import rendering
from reconciler.web.principal import Role
from reconciler.web.sessions import Session
from reconciler.web.sources import Sources

_log = structlog.get_logger(__name__)

PATH: Final = "/signin"
LEAVE_PATH: Final = "/signout"
# A path of ours and nothing else: browsers take `//host` and `/\host` for another host, and drop tabs and line ends.
_OWN_PATH = re.compile(r"/(?![/\\])[!-\[\]-~]*")
_NEXT_MAX = 2048


class Wanted(Query, frozen=True, kw_only=True):
    """Where somebody wanted to go."""

    next: str = "/"


def address(path: str, query: str = "") -> str:
    """Return where to sign in before a page is shown."""
    wanted = f"{path}?{query}" if query else path
    return PATH if wanted == "/" else f"{PATH}?next={quote(wanted, safe='/')}"


def own(wanted: str) -> str:
    """Return where to go after signing in: never to another site, and not back to where it began."""
    path = wanted.partition("?")[0]
    ours = path in (LEAVE_PATH, PATH) or path.startswith(f"{PATH}/")
    fits = len(wanted) <= _NEXT_MAX and _OWN_PATH.fullmatch(wanted) and not ours
    return wanted if fits else "/"


async def show(sources: Sources, asked: Asked) -> Response:
    """Show the page to sign in, unless that is done or not needed."""
    wanted = own(asked.query.next)
    if not sources.door.asks or sources.door.session(asked.request) is not None:
        return RedirectResponse(wanted, 303)
    if asked.request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        return onward(asked, address(wanted))
    return form(sources, asked, wanted)


async def enter(sources: Sources, asked: Asked) -> Response:
    """Take a token, and begin a session if it is known."""
    given = await bodies.fields(asked.request)
    wanted = own(given.get("next", "/"))
    if not sources.door.asks:
        return RedirectResponse(wanted, 303)
    session = sources.door.sign_in(given.get("token", "").strip())
    if session is None:
        return refuse(sources, asked, wanted, "this token is not known")
    _log.info("signed in", who=session.name, role=session.role.name.lower(), by="token")
    return with_session(sources, RedirectResponse(wanted, 303), session)


async def leave(sources: Sources, asked: Asked) -> Response:
    """End a session."""
    sessions = sources.door.sessions
    if asked.session is not None:
        sessions.end(asked.session)
        _log.info("signed out", who=asked.session.name)
    response = RedirectResponse(PATH, 303)
    response.headers.append("set-cookie", sessions.cookie.dropped())
    return response


def onward(asked: Asked, to: str) -> Response:
    """Lead somebody on by a page of ours, so that the next request begins here and not at another site."""
    response = rendering.page(asked, "onward.html", to=to)
    response.headers["refresh"] = f"0; url={to}"
    return response


def refuse(sources: Sources, asked: Asked, wanted: str, reason: str) -> Response:
    """Show the page to sign in once more, with the reason."""
    wait_s = sources.door.failures.wait_s(sources.clock.monotonic_s())
    if wait_s:
        seconds = math.ceil(wait_s)
        said = f"{reason}, and there were too many of that kind: try again in {seconds} s"
        response = form(sources, asked, wanted, said, 429)
        response.headers["retry-after"] = str(seconds)
        return response
    _log.warning("a sign-in was refused", reason=reason)
    response = form(sources, asked, wanted, reason, 401)
    response.headers["www-authenticate"] = UNKNOWN
    return response


def form(sources: Sources, asked: Asked, wanted: str, fault: str = "", status: int = 200) -> Response:
    """Return the page to sign in, with what is wrong so far."""
    door = sources.door
    provider = door.provider is not None and door.provider.identity.signs_in
    shown = {"next": wanted, "fault": fault, "provider": provider, "tokens": door.has_tokens}
    return rendering.page(asked, "signin.html", status, **shown)


def with_session(sources: Sources, response: Response, session: Session) -> Response:
    """Give a browser its session."""
    response.headers.append("set-cookie", sources.door.sessions.set_cookie(session))
    return response


ENDPOINTS: Final = (
    Endpoint(path=PATH, role=None, call=show, query=Wanted, page=True, linked=True),
    Endpoint(path=PATH, role=None, call=enter, method="POST", page=True),
    Endpoint(path=LEAVE_PATH, role=Role.VIEWER, call=leave, method="POST", page=True),
)
