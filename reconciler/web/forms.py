"""
Forms: what a browser sends when somebody presses a button.

Whoever may come in is found out before an address does its work, and the form holds what is needed for that: so it is
read once and kept with the request.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import attrs
from starlette.requests import Request

from reconciler.web.answers import Refused

FORM = "application/x-www-form-urlencoded"
BYTES_MAX = 64 * 1024
_FIELDS_MAX = 1000
_KEY = "reconciler.form"


@attrs.frozen
class _Form:
    given: Mapping[str, str]
    size: int


async def fields(request: Request, bytes_max: int = BYTES_MAX) -> Mapping[str, str]:
    """
    Return the fields of a form, each given once.

    Raises Refused when the request holds no form, one that can't be read, or one of more bytes than this.
    """
    form = request.scope.get(_KEY)
    if not isinstance(form, _Form):
        form = await _read(request, bytes_max)
        request.scope[_KEY] = form
    if form.size > bytes_max:
        raise _too_large(bytes_max)
    return form.given


def holds_form(request: Request) -> bool:
    """Whether a request says that its body is a form."""
    return content_type(request) == FORM


def content_type(request: Request) -> str:
    """Return the media type of a request's body, without its parameters; empty: it names none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _read(request: Request, bytes_max: int) -> _Form:
    if not holds_form(request):
        raise Refused(415, f"send a form as {FORM}")
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > bytes_max:
            raise _too_large(bytes_max)
        pieces.append(piece)
    return _Form(_parsed(b"".join(pieces)), size)


def _parsed(body: bytes) -> Mapping[str, str]:
    try:
        text = body.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_FIELDS_MAX)
    except ValueError as error:
        raise Refused(400, "the form can't be read: it must be UTF-8 in percent-encoding") from error
    given: dict[str, Any] = {}
    for name, text in pairs:
        if name in given:
            raise Refused(400, f"{name[:80]}: is given twice")
        given[name] = text
    return given


def _too_large(bytes_max: int) -> Refused:
    return Refused(413, f"a form has at most {bytes_max} bytes here")
