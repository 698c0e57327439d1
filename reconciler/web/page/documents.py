"""Documents: the list, and one with its three sides, its story and its history."""

from typing import Annotated, Literal

import attrs
import msgspec
from starlette.responses import Response

from reconciler.model.document import Status
from reconciler.web import cursors, lists, reading
from reconciler.web.endpoint import Asked, Page
from reconciler.web.page import notices, rendering, sides, spelling
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
    after = cursors.place(query.after, tuple[str]) if query.after else (before,)
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
        fields=await rendering.beside(sides.fields, found),
        story=story,
        told={attempt for chapter in history for attempt in chapter.audit},
        only=query.field,
        history=history[:_OPEN],
        earlier=history[_OPEN:],
    )
