"""Documents: the list, and one with its three sides, its story and what was done."""

from typing import Annotated, Literal

import attrs
import msgspec
from starlette.responses import Response

from reconciler import views
from reconciler.model.document import Status
from reconciler.web import cursors, lists, reading
from reconciler.web.endpoint import Asked, Page, Query
from reconciler.web.page import notices, rendering, sides, spelling, timeline
from reconciler.web.sources import Sources

_PREFIX_MAX = 512
_ATTEMPTS = 25
_ACTS = 50


class DocumentsQuery(notices.ToldPage, frozen=True, kw_only=True):
    """Which documents; `status` may be empty, as a form sends it."""

    status: Literal["", *(status.value for status in Status)] = ""  # type: ignore[valid-type]  # the members, and none
    q: Annotated[str, msgspec.Meta(max_length=_PREFIX_MAX)] = ""


class DocumentQuery(notices.Told, frozen=True, kw_only=True):
    """What of a document."""

    after: str = ""  # further attempts
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
    attempts = await reading.document_audit(sources, _as(asked, Page(after=query.after, limit=_ATTEMPTS)))
    story = await reading.document_story(sources, _as(asked, reading.StoryQuery(field=query.field or None)))
    held = [await _conflict(sources, field.conflict) for field in found.fields if field.conflict]
    acts = await lists.acts(sources.store, None, _ACTS, document=found.document)
    address = spelling.document(found.document)
    return rendering.current(
        sources,
        asked,
        "document.html",
        code,
        notice=notice,
        document=found,
        fields=await rendering.beside(sides.fields, found),
        story=story,
        only=query.field,
        moments=timeline.of(found, attempts.items, [one for one in held if one], acts.items, whole=not query.after),
        next=attempts.next and spelling.address(address, field=query.field, after=attempts.next) + "#line",
        first=spelling.address(address, field=query.field) + "#line",
        is_first=not query.after,
    )


async def _conflict(sources: Sources, id: str) -> views.waiting.Conflict | None:
    found = await sources.store.conflict(id)
    return None if found is None else views.waiting.conflict(found)


def _as(asked: Asked, query: Query) -> Asked:
    """Return the same request with another query, for what reads one part of what is shown."""
    return attrs.evolve(asked, query=query)
