"""Bodies: a JSON object that is sent, read with a bound, as a type of ours has it."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from reconciler.web import forms
from reconciler.web.answers import Refused

JSON = "application/json"
_REFERENCE = "#/components/schemas/{name}"
_AT = re.compile(r" - at `\$\.?(.*)`$")

_T = TypeVar("_T", bound=msgspec.Struct)


async def given(request: Request, wanted: type[_T], bytes_max: int) -> _T:
    """Return a request's body; where all members may be left out, it may be. Raises Refused naming the fault."""
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > bytes_max:
            raise Refused(413, f"a request has at most {bytes_max} bytes")
        pieces.append(piece)
    text = b"".join(pieces)
    if not text:
        text = b"{}"
    elif forms.content_type(request) != JSON:
        raise Refused(415, f"send a JSON object as {JSON}")
    try:
        return msgspec.json.decode(text, type=wanted)
    except msgspec.ValidationError as error:
        said = str(error)
        at = _AT.search(said)
        raise Refused(422, f"{at[1]}: {said[: at.start()]}" if at and at[1] else said) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}") from error


def described(wanted: type[msgspec.Struct]) -> Mapping[str, Mapping[str, Any]]:
    """Return how OpenAPI describes such a body; `msgspec.Raw` is any value there."""
    _, schemas = msgspec.json.schema_components([wanted], ref_template=_REFERENCE)
    schema = {name: said for name, said in schemas[wanted.__name__].items() if name != "title"}
    return {JSON: schema}
