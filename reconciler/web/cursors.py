"""Cursors: where a page ended, in a text that means nothing to whoever hands it back."""

import base64
import binascii
from typing import Annotated, Any

import msgspec

from reconciler.web.answers import Refused

Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]  # what a store can compare with

_LENGTH_MAX = 8192  # a key of 512 characters, each escaped, is far below that


def after(*place: object) -> str:
    """Return the cursor of what stands at this place in its list."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def place(cursor: str, wanted: Any) -> Any:
    """Return the place that a cursor stands for, as a tuple of this type; raises Refused for any other text."""
    try:
        if len(cursor) > _LENGTH_MAX:
            raise ValueError
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = msgspec.json.decode(text, type=wanted)
        # What no `after` of ours has made is refused, even where it could be read.
        if after(*found) != cursor:
            raise ValueError
    except (msgspec.DecodeError, binascii.Error, ValueError, RecursionError) as error:
        raise Refused(400, "after: this is no cursor of this list; take `next` of the page before") from error
    return found
