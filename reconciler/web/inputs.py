"""
What clients send: JSON bodies, forms and cursors, each read with a limit. Members are only ever added.

A form holds the CSRF token that access control needs before the endpoint runs, so it is read once and kept with the
request. A cursor is an opaque text for the place where a page of a list ended.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl

import attrs
import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request

from reconciler.core.events.decode import KEY_LENGTH_MAX
from reconciler.model import action as actions
from reconciler.model import limits
from reconciler.web.responses import HttpError

REASON_MAX = 2000

Reason = Annotated[str, Meta(max_length=REASON_MAX, description="Why; recorded in the audit trail.")]
Seen = Annotated[str, Meta(max_length=100, description="`seen` of the preview that the decision is based on.")]

JSON = "application/json"
_REFERENCE = "#/components/schemas/{name}"
_AT = re.compile(r" - at `\$\.?(.*)`$")

_T = TypeVar("_T", bound=msgspec.Struct)


async def given(request: Request, wanted: type[_T], bytes_max: int) -> _T:
    """Return a JSON body; it may be empty if all members are optional. Raises HttpError naming the member."""
    text = await read(request, HttpError(413, f"the body is larger than {limits.size(bytes_max)}"), bytes_max)
    if not text:
        text = b"{}"
    elif content_type(request) != JSON:
        raise HttpError(415, f"send a JSON object as {JSON}")
    try:
        return msgspec.json.decode(text, type=wanted)
    except msgspec.ValidationError as error:
        said = str(error)
        at = _AT.search(said)
        raise HttpError(422, f"{at[1]}: {said[: at.start()]}" if at and at[1] else said) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, f"the body is not JSON: {error}") from error


async def read(request: Request, too_large: HttpError, bytes_max: int) -> bytes:
    """Return the body of a request; raises `too_large` if it has more bytes than this."""
    text = bytearray()
    async for piece in request.stream():
        text += piece
        if len(text) > bytes_max:
            raise too_large
    return bytes(text)


def described(wanted: type[msgspec.Struct]) -> Mapping[str, Mapping[str, Any]]:
    """Return the OpenAPI description of a body; `msgspec.Raw` is any value."""
    _, schemas = msgspec.json.schema_components([wanted], ref_template=_REFERENCE)
    schema = {name: said for name, said in schemas[wanted.__name__].items() if name != "title"}
    return {JSON: schema}


class Given(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A JSON body; unknown members are refused by name."""


class Nothing(Given, frozen=True, kw_only=True):
    """A body without members."""


class WithReason(Given, frozen=True, kw_only=True):
    """A body with an optional reason."""

    reason: Reason = ""


class Releasing(WithReason, frozen=True, kw_only=True):
    """What to release."""

    fields: Annotated[
        list[Annotated[str, Meta(max_length=1000)]], Meta(max_length=100, description="Only these fields; empty: all.")
    ] = []


class Taking(Given, frozen=True, kw_only=True):
    """
    Which value a field gets: `desired` (`ours`), `live` (`theirs`), or `value`. For a contested field also `accept`:
    Windchill's value counts as equal to the desired one from now on; and `retry`: the desired value is written again.
    """

    take: Literal["value", *actions.WAYS]  # type: ignore[valid-type]  # each name of a way
    value: Any | UnsetType = UNSET


class Resolving(Taking, frozen=True, kw_only=True):
    """A decision on a conflict."""

    reason: Reason = ""
    seen: Seen | None = None


class ResolvingMany(WithReason, frozen=True, kw_only=True):
    """A decision on the open conflicts of one field, or of one rule of the policy."""

    take: Literal[*actions.WAYS]  # type: ignore[valid-type]  # each name of a way
    field: str | None = None
    rule: str | None = None
    limit: Annotated[
        int,
        Meta(ge=1, le=actions.RESOLVED_MAX, description="The most conflicts to resolve; fewer if values are large."),
    ] = actions.RESOLVED_DEFAULT


class Discarding(Given, frozen=True, kw_only=True):
    """Why the dead letter is not needed."""

    reason: Annotated[str, Meta(min_length=1, max_length=REASON_MAX)]


class Resending(WithReason, frozen=True, kw_only=True):
    """A corrected event: a JSON object as schemas/event.schema.json describes it."""

    event: msgspec.Raw


class Comparing(Given, frozen=True, kw_only=True):
    """Which documents to compare."""

    documents: Annotated[
        Annotated[list[Annotated[str, Meta(max_length=KEY_LENGTH_MAX)]], Meta(max_length=1000)] | None,
        Meta(description="Only these documents; null: all."),
    ] = None


# ---------------------------------------------------------------------------------------------------------------- forms


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

    Raises HttpError if the request has no form, an unreadable one, or one of more bytes than this.
    """
    form = request.scope.get(_KEY)
    if not isinstance(form, _Form):
        form = await _read(request, bytes_max)
        request.scope[_KEY] = form
    if form.size > bytes_max:
        raise _too_large(bytes_max)
    return form.given


def holds_form(request: Request) -> bool:
    """Whether the body is a form, according to its content type."""
    return content_type(request) == FORM


def content_type(request: Request) -> str:
    """Return the media type of the body without parameters; empty if there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _read(request: Request, bytes_max: int) -> _Form:
    if not holds_form(request):
        raise HttpError(415, f"send a form as {FORM}")
    text = await read(request, _too_large(bytes_max), bytes_max)
    return _Form(_parsed(text), len(text))


def _parsed(body: bytes) -> Mapping[str, str]:
    try:
        text = body.decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_FIELDS_MAX)
    except ValueError as error:
        raise HttpError(400, "the form must be percent-encoded UTF-8") from error
    given: dict[str, Any] = {}
    for name, text in pairs:
        if name in given:
            raise HttpError(400, f"{name[:80]}: given twice")
        given[name] = text
    return given


def _too_large(bytes_max: int) -> HttpError:
    return HttpError(413, f"the form is larger than {limits.size(bytes_max)}")


# -------------------------------------------------------------------------------------------------------------- cursors


Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]  # the range that a store can compare

_LENGTH_MAX = 8192  # enough for a key of 512 escaped characters


def after(*place: object) -> str:
    """Return the cursor for a place in a list."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def place(cursor: str, wanted: Any) -> Any:
    """Return the place of a cursor as a tuple of this type; raises HttpError for any other text."""
    try:
        if len(cursor) > _LENGTH_MAX:
            raise ValueError
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = msgspec.json.decode(text, type=wanted)
        # Texts that `after` has not made are refused, even if they can be read.
        if after(*found) != cursor:
            raise ValueError
    except (msgspec.DecodeError, binascii.Error, ValueError, RecursionError) as error:
        raise HttpError(400, "after: not a cursor of this list; use `next` of the previous page") from error
    return found
