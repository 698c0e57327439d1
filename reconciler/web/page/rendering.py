"""Rendering: from a template and what it shows to an answer; the one place that knows Jinja."""

from collections.abc import Mapping
from typing import Any, Final

import jinja2
from starlette.responses import RedirectResponse, Response

from reconciler import __version__
from reconciler.web import answers
from reconciler.web.endpoint import Asked
from reconciler.web.page import assets
from reconciler.web.principal import ANYBODY, Role

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
    ("/jobs", "Jobs"),
    ("/audit", "Audit"),
    ("/policy", "Policy"),
    ("/config", "Configuration"),
)
_ADVICE: Final = {
    400: "The address has something in it that can't be read.",
    403: "You may look at other pages; whoever runs this can give you another role.",
    404: "It may have been spelled otherwise, or no event has named it yet.",
    405: "This address is for a button of another page.",
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
    environment.globals |= {"static": assets.address, "version": __version__, "navigation": _NAVIGATION}
    return environment


_TEMPLATES: Final = _environment()


def page(asked: Asked, template: str, status: int = 200, **shown: Any) -> Response:
    """Return a page for whoever asks."""
    may_act = asked.who.role >= Role.OPERATOR
    path = asked.request.url.path
    signed_in = asked.session is not None
    known = {"who": asked.who, "may_act": may_act, "signed_in": signed_in, "csrf": asked.csrf, "path": path}
    return _html(template, status, None, **known, **shown)


def refusal(status: int, detail: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """Return the page that says why there is no other one."""
    return _html(
        "refusal.html",
        status,
        headers,
        who=ANYBODY,
        may_act=False,
        signed_in=False,
        csrf="",
        path="",
        status=status,
        heading=answers.title(status),
        detail=detail,
        advice=_ADVICE.get(status, ""),
    )


def elsewhere(address: str) -> Response:
    """Send whoever has acted on to a page, so that loading it again does not act again."""
    return RedirectResponse(address, 303)


def _html(template: str, code: int, headers: Mapping[str, str] | None, **shown: Any) -> Response:
    text = _TEMPLATES.get_template(template).render(shown)
    # With no referrer at all, a browser would not say of a form that it comes from here (`Origin: null`).
    own = {"content-security-policy": POLICY, "referrer-policy": "same-origin"}
    return Response(text, code, {**own, **(headers or {})}, "text/html; charset=utf-8")
