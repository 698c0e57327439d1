"""
Documents: the list, and one with its three sides, its story and its history.

Steering: what an operator does with one document: look now, pause, resume, release.
"""

from typing import Annotated, Literal

import attrs
import msgspec
from starlette.responses import Response

from reconciler.model.action import Appended, Done, Gone, Unusable
from reconciler.model.document import Status
from reconciler.web import actions, bodies, lists, reading
from reconciler.web.endpoint import Asked, Page
from reconciler.web.page import differing, notices, rendering, spelling
from reconciler.web.sources import Sources

_PREFIX_MAX = 512
_OPEN = 25  # newest chapters; the others have to be opened


class DocumentsQuery(notices.ToldPage, frozen=True, kw_only=True):
    """Which documents; `status` may be empty, as a form sends it."""

    status: Literal["", *(status.value for status in Status)] = ""  # type: ignore[valid-type]  # the members, and none
    q: Annotated[str, msgspec.Meta(max_length=_PREFIX_MAX)] = ""


class DocumentQuery(notices.Told, frozen=True, kw_only=True):
    """What of a document."""

    field: Annotated[str, msgspec.Meta(max_length=_PREFIX_MAX)] = ""  # whose story is told; empty: of all


async def many(sources: Sources, asked: Asked) -> Response:
    """List documents in the order of their keys, by status and by how their keys begin."""
    query: DocumentsQuery = asked.query
    status = Status(query.status) if query.status else None
    before = _just_before(query.q) if query.q else ""
    after = bodies.place(query.after, tuple[str]) if query.after else (before,)
    page = await lists.documents(sources.store, status, after, query.limit, query.q)
    same = {"status": query.status, "q": query.q, "limit": "" if query.limit == Page().limit else query.limit}
    return rendering.current(
        sources,
        asked,
        "documents.html",
        notice=notices.of(query),
        counts={status.value: count for status, count in (await sources.store.counts()).items()},
        statuses=[status.value for status in Status],
        query=query,
        rows=page.items,
        next=page.next and spelling.address("/documents", **same, after=page.next),
        first=spelling.address("/documents", **same),
        command=spelling.command("docs", "list", *(("--status", query.status) if query.status else ())),
    )


def _just_before(prefix: str) -> str:
    """Return a text that sorts before all that begin with `prefix`, and after (nearly) everything else that does."""
    last = ord(prefix[-1])
    if not last:
        return prefix[:-1]
    return prefix[:-1] + chr(0xD7FF if last == 0xE000 else last - 1) + "\U0010ffff"


async def one(sources: Sources, asked: Asked) -> Response:
    """Show one document: its fields, its story, and what was done."""
    return await shown(sources, asked, notices.of(asked.query))


async def shown(sources: Sources, asked: Asked, notice: notices.Notice | None, code: int = 200) -> Response:
    """Show one document with a notice."""
    query: DocumentQuery = asked.query
    found = await reading.document(sources, asked)
    wanted = attrs.evolve(asked, query=reading.StoryQuery(field=query.field or None))
    story = await reading.document_story(sources, wanted)
    history = story.chapters[::-1]
    return rendering.current(
        sources,
        asked,
        "document.html",
        code,
        notice=notice,
        document=found,
        fields=await rendering.beside(differing.fields, found),
        story=story,
        told={attempt for chapter in history for attempt in chapter.audit},
        only=query.field,
        history=history[:_OPEN],
        earlier=history[_OPEN:],
    )


# ------------------------------------------------------------------------------------------------------------- steering


async def retry(sources: Sources, asked: Asked) -> Response:
    """Have a document looked at now."""
    done = await actions.actions_of(sources, asked).retry(asked.who.name, [asked.path["document"]])
    return await _after(sources, asked, done, "retried")


async def compare(sources: Sources, asked: Asked) -> Response:
    """Have every document compared."""
    count = await actions.actions_of(sources, asked).compare(asked.who.name, None)
    return rendering.elsewhere(spelling.address("/documents", done="compared", n=str(count)))


async def pause(sources: Sources, asked: Asked) -> Response:
    """Let a document alone until it is resumed."""
    reason = notices.reason(await bodies.fields(asked.request))
    done = await actions.actions_of(sources, asked).pause(asked.who.name, [asked.path["document"]], reason)
    return await _after(sources, asked, done, "paused")


async def resume(sources: Sources, asked: Asked) -> Response:
    """End a pause."""
    done = await actions.actions_of(sources, asked).resume(asked.who.name, [asked.path["document"]])
    return await _after(sources, asked, done, "resumed")


async def release(sources: Sources, asked: Asked) -> Response:
    """Stop managing a document."""
    reason = notices.reason(await bodies.fields(asked.request))
    done = await actions.actions_on_log(sources, asked).release(asked.who.name, asked.path["document"], reason)
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
    asked = attrs.evolve(asked, query=DocumentQuery())
    return await shown(sources, asked, notices.refused(said), 409)
