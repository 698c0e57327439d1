"""
Rendering: from a template and what it shows to an answer; the one place that knows Jinja.

Who sends events decides how long a page is, and the loop that folds and writes must not wait for it: so pages are
rendered beside it, in threads of their own, as those that asyncio has are needed for names of hosts.

A page that is open asks for itself every few seconds. Its ETag is the digest of what it shows, so that every replica
gives the same one; that time has passed is no change.

Assets: the style sheet, the script and the icon, from this package.

Each is served under a name that holds a digest of its content, so that a browser may keep it for good and still never
has an old one.
"""

import asyncio
import hashlib
import re
import shlex
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any, Final, TypeVar

import attrs
import jinja2
from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from reconciler import __version__
from reconciler.web import answers
from reconciler.web.answers import HttpError
from reconciler.web.endpoint import Asked
from reconciler.web.page import looks, spelling
from reconciler.web.principal import ANYBODY, Role
from reconciler.web.sources import Sources

# --------------------------------------------------------------------------------------------------------------- assets

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_FOR_GOOD: Final = "public, max-age=31536000, immutable"


@attrs.frozen
class Asset:
    """A file as it is served; `name` is the one with the digest."""

    name: str
    content: bytes
    media_type: str
    etag: str


def _read() -> Mapping[str, Asset]:
    found = {}
    for file in resources.files("reconciler.web.page").joinpath("static").iterdir():
        stem, _, ending = file.name.rpartition(".")
        if ending in _TYPES:
            content = file.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:16]
            found[file.name] = Asset(f"{stem}.{digest}.{ending}", content, _TYPES[ending], f'"{digest}"')
    return found


_ASSETS: Final = _read()
_BY_ADDRESS: Final = {asset.name: asset for asset in _ASSETS.values()}


def address(name: str) -> str:
    """Return where the file of this name is served."""
    return f"/static/{_ASSETS[name].name}"


async def serve(_: Sources, asked: Asked) -> Response:
    """Answer with a file; it is no secret, and the sign-in page needs it before anybody has shown who they are."""
    asset = _BY_ADDRESS.get(asked.path["name"])
    if asset is None:
        raise HttpError(404, "there is no such file; load the page again")
    headers = {"cache-control": _FOR_GOOD, "etag": asset.etag}
    if asset.etag in asked.request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(asset.content, headers=headers | {"content-type": asset.media_type})


# ------------------------------------------------------------------------------------------------------------ rendering

_T = TypeVar("_T")

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_NAVIGATION: Final = (
    ("/", "Overview"),
    ("/documents", "Documents"),
    ("/conflicts", "Conflicts"),
    ("/dead-letters", "Dead letters"),
    ("/hotspots", "Hot spots"),
    ("/audit", "Audit"),
    ("/policy", "Policy"),
    ("/config", "Configuration"),
)
_TONES: Final = {
    "good": "synced in_sync written confirmed up closed ready done",
    "busy": "pending collecting running",
    "warn": "held unknown throttled maintenance half-open",
    "heat": "contended version_conflict",
    "lock": "locked",
    "bad": "parked refused failed no_token not_available threshold down open",
}
# Of what a document, an attempt or a part is, the colour that goes with it.
TONES: Final = {name: tone for tone, names in _TONES.items() for name in names.split()}
_ADVICE: Final = {
    400: "The address has something in it that can't be read.",
    403: "You may look at other pages; whoever runs this can give you another role.",
    404: "It may have been spelled otherwise, or no event has named it yet.",
    405: "This address is for a button of another page.",
    413: "Go back to the page before: what was typed there is still there to be made smaller.",
    500: "This is a fault of the program. Its log says what went wrong.",
    503: "Try again in a moment. Nothing is lost: the reconciler works without this page.",
}


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reconciler.web.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals |= {
        "static": address,
        "version": __version__,
        "navigation": _NAVIGATION,
        "tones": TONES,
        "known": looks.is_known,
        "shown": looks.value,
        "clip": looks.clip,
        "command": spelling.command,
        "quoted": shlex.quote,
        "document_at": spelling.document,
        "conflict_at": spelling.conflict,
        "letter_at": spelling.letter,
        "address": spelling.address,
    }
    environment.filters |= {
        "visible": looks.visible,
        "plain": looks.plain,
        "json": looks.of_json,
        "ago": looks.ago,
        "span": looks.span,
        "clock": looks.clock,
    }
    return environment


_TEMPLATES: Final = _environment()
_PASSING: Final = re.compile(r"(?<= data-ago>)[^<]*|(?<= data-now=\")\d+")  # what only says that time has passed
_BESIDE: Final = ThreadPoolExecutor(2, "page")


async def beside(call: Callable[..., _T], *given: object) -> _T:
    """Return what a call returns that may take long, and let the event loop go on meanwhile."""
    return await asyncio.get_running_loop().run_in_executor(_BESIDE, call, *given)


def page(asked: Asked, template: str, code: int = 200, **shown: Any) -> Response:
    """Return a page for whoever asks."""
    frame = {
        "who": asked.who,
        "may_act": asked.who.role >= Role.OPERATOR,
        "signed_in": asked.session is not None,
        "csrf": asked.csrf,
        "path": asked.request.url.path,
        "now_us": 0,
        "notice": None,
        "stays": asked.request.method in ("GET", "HEAD"),  # it can be asked for again, to see what has changed
    }
    return _html(template, code, {}, frame | shown)


def current(sources: Sources, asked: Asked, template: str, code: int = 200, **shown: Any) -> Response:
    """Return a page that tells how long ago things were."""
    return page(asked, template, code, now_us=sources.clock.now_us(), **shown)


def refusal(status: int, detail: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """Return the page that says why there is no other one."""
    frame: dict[str, Any] = {"who": ANYBODY, "may_act": False, "signed_in": False, "csrf": "", "path": "", "now_us": 0}
    frame |= {"notice": None, "stays": False}
    said = {"status": status, "heading": answers.title(status), "detail": detail, "advice": _ADVICE.get(status, "")}
    return _html("refusal.html", status, headers or {}, frame | said)


def elsewhere(address: str) -> Response:
    """Send the browser on to a page after an action, so that loading the page again does not repeat the action."""
    return RedirectResponse(address, 303)


def _html(template: str, code: int, headers: Mapping[str, str], shown: Mapping[str, Any]) -> Response:
    # With no referrer at all, a browser would not say of a form that it comes from here (`Origin: null`).
    own = {"content-security-policy": POLICY, "referrer-policy": "same-origin"}
    return _Rendered(_TEMPLATES.get_template(template), shown, code, {**own, **headers})


class _Rendered(Response):
    """A page that is rendered when it is sent."""

    def __init__(
        self, template: jinja2.Template, shown: Mapping[str, Any], code: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(None, code, headers, "text/html; charset=utf-8")
        self._template = template
        self._shown = shown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.body, etag = await beside(_rendered, self._template, self._shown)
        self.headers["content-length"] = str(len(self.body))
        if self.status_code == 200 and scope["method"] in ("GET", "HEAD"):
            self.headers["etag"] = etag
            if etag in Headers(scope=scope).get("if-none-match", ""):
                self.status_code, self.body = 304, b""
                del self.headers["content-length"]
        await super().__call__(scope, receive, send)


def _rendered(template: jinja2.Template, shown: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return a page and its ETag: a weak one, as what only says that time has passed is not part of it."""
    text = template.render(shown)
    digest = hashlib.blake2b(_PASSING.sub("", text).encode(), digest_size=16).hexdigest()
    return text.encode(), f'W/"{digest}"'
