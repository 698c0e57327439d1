"""Hot spots: where somebody else is often quicker, whether that is getting worse, and what would help."""

import msgspec
from starlette.responses import Response

from reconciler import views
from reconciler.web import reading
from reconciler.web.endpoint import Asked
from reconciler.web.page import plots, rendering
from reconciler.web.sources import Sources


async def show(sources: Sources, asked: Asked) -> Response:
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
