"""Mending: what an operator does with a dead letter: append it again, send it mended, or let it go."""

import attrs
from starlette.responses import Response

from reconciler.model.act import Appended, Done, Gone, Unusable
from reconciler.web import acting, forms
from reconciler.web.endpoint import Asked
from reconciler.web.page import letters, notices, rendering, spelling
from reconciler.web.sources import Sources

_FORM_BYTES_MAX = 1024 * 1024


async def replay(sources: Sources, asked: Asked) -> Response:
    """Append a letter to the log again, as it was."""
    reason = notices.reason(await forms.fields(asked.request))
    done = await notices.acts_on_log(sources, asked).replay_letters(asked.who.name, [asked.path["id"]], reason)
    return await _after(sources, asked, done, "replayed")


async def discard(sources: Sources, asked: Asked) -> Response:
    """Let a letter go, with a reason."""
    reason = notices.reason(await forms.fields(asked.request))
    if not reason:
        said = "say why nobody will miss it; the reason is kept with the record of it"
        return await _shown(sources, asked, notices.refused(said), 422)
    done = await notices.acts(sources, asked).discard_letters(asked.who.name, [asked.path["id"]], reason)
    return await _after(sources, asked, done, "discarded")


async def resend(sources: Sources, asked: Asked) -> Response:
    """Append a mended event in a letter's place."""
    form = await forms.fields(asked.request, _FORM_BYTES_MAX)
    value, reason = form.get("value", ""), notices.reason(form)
    acting.require_sayable(asked.who, value.encode())
    done = await notices.acts_on_log(sources, asked).resend(asked.who.name, asked.path["id"], value.encode(), reason)
    return await _after(sources, asked, done, "resent", value)


async def _after(
    sources: Sources, asked: Asked, done: Done | Appended | Gone | Unusable, code: str, mended: str | None = None
) -> Response:
    match done:
        case Gone(reason):
            return await _shown(sources, asked, notices.refused(reason), 409)
        case Unusable(reason):
            return await _shown(sources, asked, notices.refused(reason), 422, mended)
        case Done(left=left) if left:
            return await _shown(sources, asked, notices.refused(left[asked.path["id"]]), 409)
        case _:
            return rendering.elsewhere(spelling.address(spelling.letter(asked.path["id"]), done=code))


async def _shown(
    sources: Sources, asked: Asked, notice: notices.Notice, code: int, mended: str | None = None
) -> Response:
    asked = attrs.evolve(asked, query=letters.LetterQuery())
    return await letters.shown(sources, asked, notice, code, mended)
