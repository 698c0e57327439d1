"""
The overview: whether Windchill agrees with the log, and what needs a person.

Hot spots: where somebody else is often quicker, whether that is getting worse, and what would help.

Settings: the policy and the configuration in force, with where each value comes from.
"""

import itertools

import attrs
import msgspec
from starlette.responses import Response

from reconciler import views
from reconciler.core.explain import phrases
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
        headline=attention.headline(now, late),
        needs=found[:_SHOWN_MAX],
        more=max(0, len(found) - _SHOWN_MAX),
        recent=recent,
        plots=plots.of(measured.points),
        hours=_HOURS,
    )


async def hotspots(sources: Sources, asked: Asked) -> Response:
    """List documents and fields by their version conflicts, with those of the last day and of the day before."""
    found = (await reading.hotspots(sources, asked)).items
    return rendering.current(
        sources,
        asked,
        "hotspots.html",
        documents=[_row(spot.document, spot) for spot in found if spot.document is not msgspec.UNSET],
        fields=[_row(spot.field, spot) for spot in found if spot.field is not msgspec.UNSET],
    )


def _row(name: str, spot: views.waiting.HotSpot) -> tuple[str, views.waiting.HotSpot, plots.Strip]:
    return name, spot, plots.strip(spot.hours)


async def policy(sources: Sources, asked: Asked) -> Response:
    """Show the rules in force, in their order."""
    found = await reading.policy(sources, asked)
    return rendering.current(sources, asked, "policy.html", policy=found, meanings=phrases.STRATEGIES)


async def config(sources: Sources, asked: Asked) -> Response:
    """Show every effective setting."""
    found = (await reading.settings(sources, asked)).items
    sections = [(name, list(group)) for name, group in itertools.groupby(found, key=lambda setting: setting.section)]
    return rendering.current(sources, asked, "config.html", sections=sections)
