"""Steering: what an operator does with one document: look now, pause, resume, release."""

import attrs
from starlette.responses import Response

from reconciler.model.act import Appended, Done, Gone, Unusable
from reconciler.web import forms
from reconciler.web.endpoint import Asked
from reconciler.web.page import documents, notices, rendering, spelling
from reconciler.web.sources import Sources


async def retry(sources: Sources, asked: Asked) -> Response:
    """Have a document looked at now."""
    done = await notices.acts(sources, asked).retry(asked.who.name, [asked.path["document"]])
    return await _after(sources, asked, done, "retried")


async def compare(sources: Sources, asked: Asked) -> Response:
    """Have every document compared."""
    count = await notices.acts(sources, asked).compare(asked.who.name, None)
    return rendering.elsewhere(spelling.address("/documents", done="compared", n=str(count)))


async def pause(sources: Sources, asked: Asked) -> Response:
    """Let a document alone until it is resumed."""
    reason = notices.reason(await forms.fields(asked.request))
    done = await notices.acts(sources, asked).pause(asked.who.name, [asked.path["document"]], reason)
    return await _after(sources, asked, done, "paused")


async def resume(sources: Sources, asked: Asked) -> Response:
    """End a pause."""
    done = await notices.acts(sources, asked).resume(asked.who.name, [asked.path["document"]])
    return await _after(sources, asked, done, "resumed")


async def release(sources: Sources, asked: Asked) -> Response:
    """Stop managing a document."""
    reason = notices.reason(await forms.fields(asked.request))
    done = await notices.acts_on_log(sources, asked).release(asked.who.name, asked.path["document"], reason)
    return await _after(sources, asked, done, "released")


async def _after(sources: Sources, asked: Asked, done: Done | Appended | Gone | Unusable, code: str) -> Response:
    key = asked.path["document"]
    match done:
        case Gone(reason) | Unusable(reason):
            said = reason
        case Done(left=left) if key in left:
            said = left[key]
        case _:
            return rendering.elsewhere(spelling.address(spelling.document(key), done=code))
    asked = attrs.evolve(asked, query=documents.DocumentQuery())
    return await documents.shown(sources, asked, notices.refused(said), 409)
