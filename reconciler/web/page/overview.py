"""The overview: whether Windchill agrees with the log, and what needs a person."""

import attrs
from starlette.responses import Response

from reconciler.model.document import Document, Status
from reconciler.web import reading, series, showing
from reconciler.web.endpoint import Asked
from reconciler.web.page import attention, plots, rendering
from reconciler.web.sources import Sources

_EACH_MAX = 30  # of each kind of trouble
_SHOWN_MAX = 15
_RECENT = 8
_HOURS = 6
_TROUBLED = (Status.PARKED, Status.CONTENDED)


async def show(sources: Sources, asked: Asked) -> Response:
    """Show where everything stands, what needs a person, and what was done last."""
    store, now_us = sources.store, sources.clock.now_us()
    now = await reading.status(sources, asked)
    troubled: list[Document] = []
    for status in _TROUBLED:
        if now.documents.get(status.value):
            troubled += await store.list_documents(status, "", _EACH_MAX)
    stuck = await store.list_documents(Status.PENDING, "", _EACH_MAX) if attention.is_old(now) else []
    found = attention.found(
        now,
        now_us=now_us,
        late=sources.late(),
        conflicts=[showing.conflict(row) for row in await store.conflicts(limit=_EACH_MAX)],
        letters=[showing.dead_letter_row(one) for one in await store.list_dead_letters("open", "", _EACH_MAX)],
        documents=[showing.document_row(one) for one in (*troubled, *stuck)],
    )
    recent = [showing.audit_row(record) for record in await store.audit(limit=_RECENT)]
    measured = await series.series(sources, attrs.evolve(asked, query=series.SeriesQuery(hours=_HOURS)))
    return rendering.current(
        sources,
        asked,
        "overview.html",
        now=now,
        verdict=attention.verdict(now),
        needs=found[:_SHOWN_MAX],
        more=max(0, len(found) - _SHOWN_MAX),
        recent=recent,
        plots=plots.of(measured.points),
        hours=_HOURS,
    )
