"""Conflicts: fields that wait for a person, and one of them."""

from starlette.responses import Response

from reconciler.web import reading
from reconciler.web.endpoint import Asked, Page
from reconciler.web.page import differing, rendering, spelling
from reconciler.web.sources import Sources


class ConflictsQuery(Page, frozen=True, kw_only=True):
    """Which conflicts."""

    closed: bool = False


async def many(sources: Sources, asked: Asked) -> Response:
    """List fields that wait for a person, oldest first."""
    query: ConflictsQuery = asked.query
    found = await reading.conflicts(sources, asked)
    closed = "true" if query.closed else ""
    return rendering.current(
        sources,
        asked,
        "conflicts.html",
        query=query,
        rows=found.items,
        next=found.next and spelling.address("/conflicts", closed=closed, after=found.next),
        first=spelling.address("/conflicts", closed=closed),
    )


async def one(sources: Sources, asked: Asked) -> Response:
    """Show one conflict: what the log wants, what Windchill had, and what both last agreed on."""
    found = await reading.conflict(sources, asked)
    return rendering.current(
        sources,
        asked,
        "conflict.html",
        conflict=found,
        desired=differing.parts(found.desired, found.live),
        live=differing.parts(found.live, found.desired),
        base=differing.parts(found.base, found.live) if found.has_base else (),
    )
