"""The overview: whether Windchill agrees with the log, and what needs a person."""

from starlette.responses import Response

from reconciler.web import reading
from reconciler.web.endpoint import Asked
from reconciler.web.page import rendering
from reconciler.web.sources import Sources


async def show(sources: Sources, asked: Asked) -> Response:
    """Show where everything stands."""
    return rendering.page(asked, "overview.html", now=await reading.status(sources, asked))
