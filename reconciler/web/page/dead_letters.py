"""Dead letters: the list, one with its bytes shown safely, and the actions: resend corrected, replay, discard."""

import base64
from collections.abc import Iterator
from typing import Final, Literal

import attrs
from starlette.responses import Response

from reconciler import views
from reconciler.model.action import Unusable
from reconciler.model.limits import EVENT_BYTES_MAX
from reconciler.web import action_api, inputs, read_api
from reconciler.web.endpoint import Call
from reconciler.web.page import formatting, links, notices, rendering
from reconciler.web.services import Services

SENT_MAX: Final = 256 * 1024  # of a value that can be edited here: its form fits, even percent-encoded
_SHOWN_MAX: Final = 16 * 1024
_HEADERS_MAX: Final = 50
_HEX_MAX: Final = 2 * 1024
_HEX_ROW: Final = 16


class LettersQuery(notices.PageWithNotice, frozen=True, kw_only=True):
    """Which dead letters."""

    status: Literal["open", "replayed", "discarded", "all"] = "open"


class LetterQuery(notices.WithNotice, frozen=True, kw_only=True):
    """One dead letter."""


@attrs.frozen
class Bytes:
    """Bytes as text and in hexadecimal, both possibly cut."""

    text: str
    hex: str
    length: int
    is_utf8: bool
    is_cut: bool


async def show_list(services: Services, call: Call) -> Response:
    """List records that could not be used, oldest first."""
    query: LettersQuery = call.query
    found = await read_api.dead_letters(services, call)
    status = "" if query.status == "open" else query.status
    return rendering.page(
        services,
        call,
        "dead_letters.html",
        filters=[
            (
                links.address("/dead-letters", status=name if name != "open" else ""),
                name.capitalize(),
                name == query.status,
            )
            for name in ("open", "replayed", "discarded", "all")
        ],
        rows=found.items,
        **links.pages("/dead-letters", found.next, status=status),
        command=links.command("dead-letters", "list"),
    )


async def show_one(
    services: Services, call: Call, notice: notices.Notice | None = None, code: int = 200, corrected: str | None = None
) -> Response:
    """Show one dead letter, and the operator's correction so far."""
    query = read_api.LetterQuery(bytes_max=SENT_MAX)
    found = await read_api.dead_letter(services, attrs.evolve(call, query=query))
    value = None if found.value is None else readable(found.value)
    headers = found.headers[:_HEADERS_MAX]
    return rendering.page(
        services,
        call,
        "dead_letter.html",
        notice,
        code,
        letter=found,
        value=value,
        editable=_editable(found.value) if corrected is None else corrected,
        key=None if found.key is None else readable(found.key),
        headers=[(header.name, None if header.value is None else readable(header.value)) for header in headers],
        headers_left_out=found.headers_left_out + len(found.headers) - len(headers),
    )


def _editable(content: views.open_items.Content | None) -> str | None:
    """
    Return the text to edit: `None` if it is too long, empty if the value is not text.

    Invisible characters and those that reverse text are escaped as in JSON, so that operators see what they send.
    """
    if content is None:
        return ""
    if content.truncated:
        return None
    try:
        return formatting.mendable(base64.b64decode(content.base64).decode())
    except UnicodeDecodeError:
        return ""


def readable(content: views.open_items.Content) -> Bytes:
    r"""Return bytes as text; those that are not UTF-8 are shown as \xNN."""
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


async def replay(services: Services, call: Call) -> Response:
    """Append the original record to the log again."""
    reason = notices.reason(await inputs.fields(call.request))
    done = await action_api.actions_on_log(services, call).replay_letters(call.who.name, [call.path["id"]], reason)
    return await _after(services, call, done, "replayed")


async def discard(services: Services, call: Call) -> Response:
    """Discard a dead letter, with a reason."""
    reason = notices.reason(await inputs.fields(call.request))
    if not reason:
        said = "give a reason why no one needs this record; the reason is recorded"
        return await show_one(services, call, notices.refused(said), 422)
    done = await action_api.actions_of(services, call).discard_letters(call.who.name, [call.path["id"]], reason)
    return await _after(services, call, done, "discarded")


async def resend(services: Services, call: Call) -> Response:
    """Append a corrected event in place of a dead letter."""
    form = await inputs.fields(call.request, EVENT_BYTES_MAX)
    value, reason = form.get("value", ""), notices.reason(form)
    action_api.require_sayable(call.who, value.encode())
    done = await action_api.actions_on_log(services, call).resend(
        call.who.name, call.path["id"], value.encode(), reason
    )
    return await _after(services, call, done, "resent", value)


async def _after(services: Services, call: Call, outcome: object, done: str, corrected: str | None = None) -> Response:
    refusal = action_api.refusal(outcome, call.path["id"])
    if refusal is None:
        return rendering.redirect(links.address(links.letter(call.path["id"]), done=done))
    code = 422 if isinstance(outcome, Unusable) else 409
    return await show_one(services, call, notices.refused(refusal), code, corrected if code == 422 else None)
