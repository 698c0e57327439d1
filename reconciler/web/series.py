"""Series: what plots show, minute by minute."""

from typing import Annotated

from msgspec import Meta

from reconciler.core.series import STEP_S, Point
from reconciler.model import instant
from reconciler.web import shapes
from reconciler.web.endpoint import Asked, Endpoint, Query
from reconciler.web.principal import Role
from reconciler.web.reading import ROOT
from reconciler.web.sources import Sources

_HOURS_MAX = 24


class SeriesQuery(Query, frozen=True, kw_only=True):
    """How far back."""

    hours: Annotated[float, Meta(gt=0, le=_HOURS_MAX, description="How far back, 24 at most.")] = 6


class SeriesPoint(shapes.Shape, frozen=True, kw_only=True):
    """One step; null where nothing was measured."""

    at: Annotated[shapes.Instant, Meta(description="Where the step ends.")]
    events_per_s: float | None
    writes_per_s: Annotated[float | None, Meta(description="Writes that Windchill has accepted.")]
    convergence_p50_s: Annotated[
        float | None, Meta(description="Half of the documents agreed within that time from their event.")
    ]
    convergence_p95_s: float | None
    version_conflict_rate: Annotated[
        float | None, Meta(description="Of the writes that were tried, those that somebody else's came before: 0 to 1.")
    ]
    pending: Annotated[int | None, Meta(description="Documents pending at the end of the step.")]
    lag: Annotated[int | None, Meta(description="Records not folded at the end of the step.")]


class Series(shapes.Shape, frozen=True, kw_only=True):
    """Every step of that time, oldest first."""

    step_s: int
    points: list[SeriesPoint]


async def series(sources: Sources, asked: Asked) -> Series:
    """Show what plots need of the last hours, a point a minute, since this process began."""
    query: SeriesQuery = asked.query
    return Series(step_s=STEP_S, points=[_point(point) for point in sources.series(query.hours)])


def _point(point: Point) -> SeriesPoint:
    return SeriesPoint(
        at=instant.from_us(point.at_us),
        events_per_s=point.events_per_s,
        writes_per_s=point.writes_per_s,
        convergence_p50_s=point.convergence_p50_s,
        convergence_p95_s=point.convergence_p95_s,
        version_conflict_rate=point.version_conflict_rate,
        pending=point.pending,
        lag=point.lag,
    )


ENDPOINTS = (
    Endpoint(
        path=ROOT + "/series",
        role=Role.VIEWER,
        call=series,
        summary=(series.__doc__ or "").strip(),
        query=SeriesQuery,
        answer=Series,
    ),
)
