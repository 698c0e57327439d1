"""The overview: whether Windchill agrees with the log, and what needs a person."""

import attrs
from starlette.responses import Response

from reconciler import views
from reconciler.model.document import Status
from reconciler.web import lists, reading
from reconciler.web.endpoint import Asked
from reconciler.web.page import attention, plots, rendering
from reconciler.web.sources import Sources

_EACH_MAX = 30  # of each kind of trouble, the oldest; the oldest of all are among them
_SHOWN_MAX = 15
_RECENT = 8
_HOURS = 6
_TROUBLED = (Status.PARKED, Status.CONTENDED)


async def show(sources: Sources, asked: Asked) -> Response:
    """Show where everything stands, what needs a person, and what was done last."""
    store, now_us = sources.store, sources.clock.now_us()
    now = await reading.status(sources, asked)
    late = sources.late()
    troubled: list[views.documents.DocumentRow] = []
    for status in (*_TROUBLED, *((Status.PENDING,) if attention.is_old(now) else ())):
        if now.documents.get(status.value):
            troubled += (await lists.waiting(store, status, _EACH_MAX)).items
    found = attention.found(
        now,
        now_us=now_us,
        late=late,
        conflicts=(await lists.conflicts(store, (-1, ""), _EACH_MAX)).items,
        letters=(await lists.letters(store, "open", ("",), _EACH_MAX)).items,
        documents=troubled,
    )
    recent = (await lists.attempts(store, None, _RECENT)).items
    measured = await reading.series(sources, attrs.evolve(asked, query=reading.SeriesQuery(hours=_HOURS)))
    return rendering.current(
        sources,
        asked,
        "overview.html",
        now=now,
        verdict=attention.verdict(now, late),
        needs=found[:_SHOWN_MAX],
        more=max(0, len(found) - _SHOWN_MAX),
        recent=recent,
        plots=plots.of(measured.points),
        hours=_HOURS,
    )
