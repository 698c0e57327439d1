"""Jobs: comparing everything again, folding everything again, and how far that is."""

from starlette.responses import Response

from reconciler.model.job import JobKind
from reconciler.web import jobs
from reconciler.web.answers import Refused
from reconciler.web.endpoint import Asked
from reconciler.web.page import notices, rendering, spelling
from reconciler.web.sources import Sources


async def show(sources: Sources, asked: Asked) -> Response:
    """List long pieces of work."""
    return await _shown(sources, asked, notices.of(asked.query))


async def start(sources: Sources, asked: Asked) -> Response:
    """Begin a job."""
    kind = asked.path["kind"]
    if kind not in ("resync", "replay"):
        raise Refused(404, "jobs are of the kind resync or replay")
    try:
        await jobs.begin(sources, JobKind(kind), asked.who)
    except Refused as refused:
        return await _shown(sources, asked, notices.refused(refused.detail), refused.status)
    return rendering.elsewhere(spelling.address("/jobs", done="begun"))


async def cancel(sources: Sources, asked: Asked) -> Response:
    """Let a job do no more."""
    try:
        await jobs.cancel(sources, asked.path["id"], asked.who)
    except Refused as refused:
        return await _shown(sources, asked, notices.refused(refused.detail), refused.status)
    return rendering.elsewhere(spelling.address("/jobs", done="cancelled"))


async def _shown(sources: Sources, asked: Asked, notice: notices.Notice | None, code: int = 200) -> Response:
    found = await jobs.jobs(sources, asked)
    origin = (sources.door.sessions.browsing.external_url or str(asked.request.base_url)).rstrip("/")

    def call(path: str, body: str = "{}") -> str:
        return spelling.call(origin, path, body, with_token=sources.door.asks)

    return rendering.current(sources, asked, "jobs.html", code, notice=notice, rows=found.items, call=call)
