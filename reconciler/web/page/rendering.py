"""
Rendering of templates, and the style sheet, script and icon. Only this module uses Jinja.

Events decide how long a page is, and rendering must not block the event loop: pages are rendered in separate threads
(those of asyncio are needed to resolve host names).

An open page requests itself every few seconds. Its ETag is a digest of its content without relative times, so that all
replicas agree on it. The name of a static file contains a digest of its content, so browsers may cache it for ever.
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
from reconciler.views import service
from reconciler.web import responses
from reconciler.web.endpoint import Call
from reconciler.web.page import formatting, links, notices
from reconciler.web.principal import ANYONE, Role
from reconciler.web.responses import HttpError
from reconciler.web.services import Services

# --------------------------------------------------------------------------------------------------------------- assets

_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_FOR_GOOD: Final = "public, max-age=31536000, immutable"


@attrs.frozen
class Asset:
    """A static file; `name` contains the digest."""

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
    """Return the address of a static file."""
    return f"/static/{_ASSETS[name].name}"


async def serve(_: Services, call: Call) -> Response:
    """Serve a static file, also without a sign-in: the sign-in page needs it."""
    asset = _BY_ADDRESS.get(call.path["name"])
    if asset is None:
        raise HttpError(404, "no such file; reload the page")
    headers = {"cache-control": _FOR_GOOD, "etag": asset.etag}
    if asset.etag in call.request.headers.get("if-none-match", ""):
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
    "busy": "pending collecting running observed absent would_write",
    "warn": "held unknown throttled maintenance half-open",
    "heat": "contended version_conflict",
    "lock": "locked",
    "bad": "parked refused failed no_token not_available threshold down open",
}
# The colour of each status of a document, an attempt or a part of the daemon.
TONES: Final = {name: tone for tone, names in _TONES.items() for name in names.split()}
_ADVICE: Final = {
    400: "The address contains something that can't be read.",
    403: "You can still view other pages. An administrator can give you another role.",
    404: "Check the spelling. A document appears only after an event has named it.",
    405: "This address is only for a button on another page.",
    413: "Go back: what you typed is still there. Make it smaller and try again.",
    500: "This is an error in the program. See its log for the cause.",
    503: "Try again in a moment. The reconciler keeps working without this page; nothing is lost.",
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
        "known": formatting.is_known,
        "shown": formatting.value,
        "command": links.command,
        "quoted": shlex.quote,
        "document_at": links.document,
        "conflict_at": links.conflict,
        "letter_at": links.letter,
        "address": links.address,
    }
    environment.filters |= {
        "visible": formatting.visible,
        "short": lambda text, most: formatting.visible(formatting.clip(text, most).text),
        "number": "{:,}".format,
        "plain": formatting.plain,
        "json": formatting.of_json,
        "ago": formatting.ago,
        "span": formatting.span,
        "clock": formatting.clock,
    }
    return environment


_TEMPLATES: Final = _environment()
_PASSING: Final = re.compile(r"(?<= data-ago>)[^<]*|(?<= data-now=\")\d+")  # relative times, which the ETag ignores
_THREADS: Final = ThreadPoolExecutor(2, "page")


async def in_thread(function: Callable[..., _T], *given: object) -> _T:
    """Call a slow function in a thread of its own, so that the event loop is not blocked."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, function, *given)


_FRAME: Final[Mapping[str, Any]] = {
    "who": ANYONE,
    "may_act": False,
    "signed_in": False,
    "csrf": "",
    "path": "",
    "now_us": 0,
    "query": None,
    "notice": None,
    "stop": None,
    "stays": False,
}


def page(
    services: Services, call: Call, template: str, notice: notices.Notice | None = None, code: int = 200, **shown: Any
) -> Response:
    """Return a page; without a notice it shows the one that its query asks for."""
    frame = {
        "who": call.who,
        "may_act": call.who.role >= Role.OPERATOR,
        "signed_in": call.session is not None,
        "csrf": call.csrf,
        "path": call.request.url.path,
        "now_us": services.clock.now_us(),
        "query": call.query,
        "notice": notice or notices.of(call.query),
        "stop": None if (stop := services.readiness().stop) is None else service.write_stop(stop),
        "stays": call.request.method in ("GET", "HEAD"),  # the script may request it again
    }
    return _html(template, code, {}, frame | shown)


def refusal(status: int, detail: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """Return the page of an error."""
    shown = {"status": status, "heading": responses.title(status), "detail": detail, "advice": _ADVICE.get(status, "")}
    return _html("refusal.html", status, headers or {}, shown)


def redirect(address: str) -> Response:
    """Redirect to a page after an action, so that reloading does not repeat the action."""
    return RedirectResponse(address, 303)


def _html(template: str, code: int, headers: Mapping[str, str], shown: Mapping[str, Any]) -> Response:
    # Without a referrer, browsers would send `Origin: null` with our forms.
    own = {"content-security-policy": POLICY, "referrer-policy": "same-origin"}
    return _Rendered(_TEMPLATES.get_template(template), {**_FRAME, **shown}, code, {**own, **headers})


class _Rendered(Response):
    """A page that is rendered when it is sent."""

    def __init__(
        self, template: jinja2.Template, shown: Mapping[str, Any], code: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(None, code, headers, "text/html; charset=utf-8")
        self._template = template
        self._shown = shown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.body, etag = await in_thread(_rendered, self._template, self._shown)
        self.headers["content-length"] = str(len(self.body))
        if self.status_code == 200 and scope["method"] in ("GET", "HEAD"):
            self.headers["etag"] = etag
            if etag in Headers(scope=scope).get("if-none-match", ""):
                self.status_code, self.body = 304, b""
                del self.headers["content-length"]
        await super().__call__(scope, receive, send)


def _rendered(template: jinja2.Template, shown: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return a page and its ETag, which is weak because it ignores relative times."""
    text = template.render(shown)
    digest = hashlib.blake2b(_PASSING.sub("", text).encode(), digest_size=16).hexdigest()
    return text.encode(), f'W/"{digest}"'
