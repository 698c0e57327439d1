"""
Dead letters: records that could not be used, and one of them with its bytes, shown safely.

Mending: what an operator does with a dead letter: append it again, send it mended, or let it go.
"""

import base64
from collections.abc import Iterator
from typing import Final, Literal

import attrs
from starlette.responses import Response

from reconciler import views
from reconciler.model.action import Appended, Done, Gone, Unusable
from reconciler.model.limits import EVENT_BYTES_MAX
from reconciler.web import actions, bodies, reading
from reconciler.web.endpoint import Asked
from reconciler.web.page import looks, notices, rendering, spelling
from reconciler.web.sources import Sources

SENT_MAX: Final = 256 * 1024  # of what can be mended on a page: a form of it fits, in percent-encoding too
_SHOWN_MAX: Final = 16 * 1024
_HEADERS_MAX: Final = 50
_HEX_MAX: Final = 2 * 1024
_HEX_ROW: Final = 16


class LettersQuery(notices.ToldPage, frozen=True, kw_only=True):
    """Which dead letters."""

    status: Literal["open", "replayed", "discarded", "all"] = "open"


class LetterQuery(notices.Told, frozen=True, kw_only=True):
    """One dead letter."""


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
    query: LettersQuery = asked.query
    found = await reading.dead_letters(sources, asked)
    status = "" if query.status == "open" else query.status
    return rendering.current(
        sources,
        asked,
        "letters.html",
        notice=notices.of(query),
        query=query,
        rows=found.items,
        next=found.next and spelling.address("/dead-letters", status=status, after=found.next),
        first=spelling.address("/dead-letters", status=status),
        command=spelling.command("dead-letters", "list"),
    )


async def one(sources: Sources, asked: Asked) -> Response:
    """Show one dead letter."""
    return await shown(sources, asked, notices.of(asked.query))


async def shown(
    sources: Sources, asked: Asked, notice: notices.Notice | None, code: int = 200, mended: str | None = None
) -> Response:
    """Show one dead letter with a notice, and with what somebody has made of it so far."""
    query = reading.LetterQuery(bytes_max=SENT_MAX)
    found = await reading.dead_letter(sources, attrs.evolve(asked, query=query))
    value = None if found.value is None else readable(found.value)
    headers = found.headers[:_HEADERS_MAX]
    return rendering.current(
        sources,
        asked,
        "letter.html",
        code,
        notice=notice,
        letter=found,
        value=value,
        mendable=_mendable(found.value) if mended is None else mended,
        key=None if found.key is None else readable(found.key),
        headers=[(header.name, None if header.value is None else readable(header.value)) for header in headers],
        headers_left_out=found.headers_left_out + len(found.headers) - len(headers),
    )


def _mendable(content: views.waiting.Content | None) -> str | None:
    """
    Return what somebody mends: `None` where it is too long for that, nothing where it is no text to begin with.

    What can't be seen, or turns the text around it, is spelled as JSON spells it: somebody is to see what they send.
    """
    if content is None:
        return ""
    if content.truncated:
        return None
    try:
        return looks.mendable(base64.b64decode(content.base64).decode())
    except UnicodeDecodeError:
        return ""


def readable(content: views.waiting.Content) -> Bytes:
    r"""Return bytes as they may be read: what is no UTF-8 is spelled as \xNN."""
    whole = base64.b64decode(content.base64)
    raw = whole[:_SHOWN_MAX]
    is_cut = content.bytes > len(raw)
    try:
        (raw[:-3] if is_cut else raw).decode()  # a character may have been cut
        is_utf8 = True
    except UnicodeDecodeError:
        is_utf8 = False
    text = raw.decode(errors="backslashreplace")
    return Bytes(text, "\n".join(_rows(raw[:_HEX_MAX])), content.bytes, is_utf8, is_cut)


def _rows(raw: bytes) -> Iterator[str]:
    for begin in range(0, len(raw), _HEX_ROW):
        row = raw[begin : begin + _HEX_ROW]
        said = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{begin:06x}  {row.hex(' '):<{3 * _HEX_ROW - 1}}  {said}"


# -------------------------------------------------------------------------------------------------------------- mending


async def replay(sources: Sources, asked: Asked) -> Response:
    """Append a letter to the log again, as it was."""
    reason = notices.reason(await bodies.fields(asked.request))
    done = await actions.actions_on_log(sources, asked).replay_letters(asked.who.name, [asked.path["id"]], reason)
    return await _after(sources, asked, done, "replayed")


async def discard(sources: Sources, asked: Asked) -> Response:
    """Let a letter go, with a reason."""
    reason = notices.reason(await bodies.fields(asked.request))
    if not reason:
        said = "say why nobody will miss it; the reason is kept with the record of it"
        return await shown(sources, asked, notices.refused(said), 422)
    done = await actions.actions_of(sources, asked).discard_letters(asked.who.name, [asked.path["id"]], reason)
    return await _after(sources, asked, done, "discarded")


async def resend(sources: Sources, asked: Asked) -> Response:
    """Append a mended event in a letter's place."""
    form = await bodies.fields(asked.request, EVENT_BYTES_MAX)
    value, reason = form.get("value", ""), notices.reason(form)
    actions.require_sayable(asked.who, value.encode())
    done = await actions.actions_on_log(sources, asked).resend(asked.who.name, asked.path["id"], value.encode(), reason)
    return await _after(sources, asked, done, "resent", value)


async def _after(
    sources: Sources, asked: Asked, done: Done | Appended | Gone | Unusable, code: str, mended: str | None = None
) -> Response:
    match done:
        case Gone(reason):
            return await shown(sources, asked, notices.refused(reason), 409)
        case Unusable(reason):
            return await shown(sources, asked, notices.refused(reason), 422, mended)
        case Done(left=left) if left:
            return await shown(sources, asked, notices.refused(left[asked.path["id"]]), 409)
        case _:
            return rendering.elsewhere(spelling.address(spelling.letter(asked.path["id"]), done=code))
