"""Jobs: long pieces of work, to be started, watched and cancelled."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from reconciler.model import instant
from reconciler.model.job import Job as Found
from reconciler.model.job import JobKind, NotNow
from reconciler.web import acting, shapes, showing
from reconciler.web.answers import Refused
from reconciler.web.endpoint import Asked, Endpoint
from reconciler.web.principal import Principal, Role
from reconciler.web.probes import Phase
from reconciler.web.reading import ROOT
from reconciler.web.sources import Sources

_BODY_BYTES_MAX = 4096


class Job(shapes.Shape, frozen=True, kw_only=True):
    """A job as it stands."""

    id: str
    kind: Annotated[
        str,
        Meta(
            description="resync: compare every document with Windchill again; replay: fold the whole change log again;"
            " catch-up: fold what came while the reconciler was away, which begins by itself."
        ),
    ]
    state: Annotated[str, Meta(description="running, done, cancelled or failed.")]
    started_at: shapes.Instant
    ended_at: shapes.Instant | None
    done: Annotated[int, Meta(description="Documents looked at, or records folded, so far.")]
    total: Annotated[int | None, Meta(description="Of how many; null: not known yet.")]
    estimate_s: Annotated[float | None, Meta(description="Seconds left at the pace so far; null: not known.")]
    by: Annotated[str, Meta(description="Who asked for it.")]
    message: str


class Jobs(shapes.Shape, frozen=True, kw_only=True):
    """Jobs under way and the last that have ended, newest first; kept in memory only."""

    items: list[Job]


class Wanted(shapes.Shape, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be begun."""

    kind: Literal["resync", "replay"]


async def jobs(sources: Sources, _: Asked) -> Jobs:
    """List long pieces of work: those under way, and the last that have ended."""
    return Jobs(items=_shown(sources.jobs.list()))


async def job(sources: Sources, asked: Asked) -> Job:
    """Show one job."""
    found = sources.jobs.find(asked.path["id"])
    if found is None:
        raise Refused(404, "there is no job of this id; ended ones are kept until the next start")
    return _job(found)


async def start_job(sources: Sources, asked: Asked) -> Job:
    """Begin a job: compare every document with Windchill again (resync), or fold the whole log again (replay)."""
    try:
        wanted = msgspec.json.decode(await _body(asked), type=Wanted)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(400, f'send {{"kind":"resync"}} or {{"kind":"replay"}}: {error}') from error
    return await begin(sources, JobKind(wanted.kind), asked.who)


async def begin(sources: Sources, kind: JobKind, who: Principal) -> Job:
    """Begin a job for somebody; raises Refused when that can't be now."""
    phase = sources.readiness().phase
    if phase is not Phase.READY:
        raise Refused(503, f"the reconciler is {phase.value}; try again", headers={"Retry-After": "5"})
    match sources.jobs.start(kind, who.name):
        case NotNow(reason):
            raise Refused(409, reason)
        case begun:
            await _note(sources, who, "job.start", begun)
            return _job(begun)


async def cancel_job(sources: Sources, asked: Asked) -> Job:
    """Let a job do no more; what it has begun stays begun."""
    return await cancel(sources, asked.path["id"], asked.who)


async def cancel(sources: Sources, job_id: str, who: Principal) -> Job:
    """Cancel a job for somebody; raises Refused when that can't be."""
    match sources.jobs.cancel(job_id, who.name):
        case None:
            raise Refused(404, "there is no job of this id; ended ones are kept until the next start")
        case NotNow(reason):
            raise Refused(409, reason)
        case cancelled:
            await _note(sources, who, "job.cancel", cancelled)
            return _job(cancelled)


async def _note(sources: Sources, who: Principal, kind: str, job: Found) -> None:
    """Record who did it, beside all else that people do."""
    await acting.acts_by(sources, who).note(who.name, kind, job.id, details={"kind": job.kind.value})


async def _body(asked: Asked) -> bytes:
    body = b""
    async for piece in asked.request.stream():
        body += piece
        if len(body) > _BODY_BYTES_MAX:
            raise Refused(413, f"such a request has at most {_BODY_BYTES_MAX} bytes")
    return body


def _shown(found: Sequence[Found]) -> list[Job]:
    return [_job(one) for one in found]


def _job(found: Found) -> Job:
    return Job(
        id=found.id,
        kind=found.kind.value,
        state=found.state.value,
        started_at=instant.from_us(found.started_us),
        ended_at=showing.at(found.ended_us),
        done=found.done,
        total=found.total,
        estimate_s=found.estimate_s,
        by=found.by,
        message=found.message,
    )


_WANTED = {
    "type": "object",
    "required": ["kind"],
    "properties": {"kind": {"enum": ["resync", "replay"]}},
    "additionalProperties": False,
}
_PATH = ROOT + "/jobs"

ENDPOINTS = (
    Endpoint(path=_PATH, role=Role.VIEWER, call=jobs, summary=(jobs.__doc__ or "").strip(), answer=Jobs),
    Endpoint(path=_PATH + "/{id}", role=Role.VIEWER, call=job, summary=(job.__doc__ or "").strip(), answer=Job),
    Endpoint(
        method="POST",
        path=_PATH,
        role=Role.OPERATOR,
        call=start_job,
        summary=(start_job.__doc__ or "").strip(),
        answer=Job,
        status=202,
        bodies={"application/json": _WANTED},
        problems=(409, 413),
    ),
    Endpoint(
        method="POST",
        path=_PATH + "/{id}/cancel",
        role=Role.OPERATOR,
        call=cancel_job,
        summary=(cancel_job.__doc__ or "").strip(),
        answer=Job,
        status=202,
        problems=(409,),
    ),
)
