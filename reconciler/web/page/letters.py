"""Dead letters: records that could not be used, and one of them with its bytes, shown safely."""

import base64
from collections.abc import Iterator
from typing import Final

import attrs
from starlette.responses import Response

from reconciler.web import reading, shapes
from reconciler.web.endpoint import Asked
from reconciler.web.page import rendering, spelling
from reconciler.web.sources import Sources

_SHOWN_MAX: Final = 16 * 1024
_HEX_MAX: Final = 2 * 1024
_HEX_ROW: Final = 16


@attrs.frozen
class Bytes:
    """Bytes as text and in hexadecimal; of either perhaps only the beginning."""

    text: str
    hex: str
    length: int
    is_utf8: bool
    is_cut: bool


async def many(sources: Sources, asked: Asked) -> Response:
    """List records that could not be used, oldest first."""
    query: reading.LettersQuery = asked.query
    found = await reading.dead_letters(sources, asked)
    status = "" if query.status == "open" else query.status
    return rendering.current(
        sources,
        asked,
        "letters.html",
        query=query,
        rows=found.items,
        next=found.next and spelling.address("/dead-letters", status=status, after=found.next),
        first=spelling.address("/dead-letters", status=status),
        command=spelling.command("dead-letters", "list"),
    )


async def one(sources: Sources, asked: Asked) -> Response:
    """Show one dead letter."""
    query = reading.LetterQuery(bytes_max=_SHOWN_MAX)
    found = await reading.dead_letter(sources, attrs.evolve(asked, query=query))
    return rendering.current(
        sources,
        asked,
        "letter.html",
        letter=found,
        value=None if found.value is None else readable(found.value),
        key=None if found.key is None else readable(found.key),
        headers=[
            (header.name, None if header.value is None else readable(header.value)) for header in found.headers[:50]
        ],
        headers_left_out=found.headers_left_out + max(0, len(found.headers) - 50),
    )


def readable(content: shapes.Content) -> Bytes:
    r"""Return bytes as they may be read: what is no UTF-8 is spelled as \xNN."""
    raw = base64.b64decode(content.base64)
    try:
        (raw[:-3] if content.truncated else raw).decode()
        is_utf8 = True
    except UnicodeDecodeError:
        is_utf8 = False
    text = raw.decode(errors="backslashreplace")
    return Bytes(text, "\n".join(_rows(raw[:_HEX_MAX])), content.bytes, is_utf8, content.truncated)


def _rows(raw: bytes) -> Iterator[str]:
    for begin in range(0, len(raw), _HEX_ROW):
        row = raw[begin : begin + _HEX_ROW]
        said = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{begin:06x}  {row.hex(' '):<{3 * _HEX_ROW - 1}}  {said}"
