"""Hot spots: where somebody else is often quicker, whether that is getting worse, and what would help."""

from starlette.responses import Response

from reconciler.web import reading
from reconciler.web.endpoint import Asked
from reconciler.web.page import rendering, trends
from reconciler.web.sources import Sources

_RECORDS = 1_000


async def show(sources: Sources, asked: Asked) -> Response:
    """List documents and fields by their version conflicts, with the trend among the newest attempts."""
    found = (await reading.hotspots(sources, asked)).items
    trail = await sources.store.audit(limit=_RECORDS)
    return rendering.current(
        sources,
        asked,
        "hotspots.html",
        documents=trends.of_documents(found, trail),
        fields=trends.of_fields(found, trail),
        period=trends.period(trail),
    )
