"""Reading: every endpoint that shows something and changes nothing."""

import asyncio
from typing import Annotated, Literal

import msgspec

from reconciler import __version__, views
from reconciler.core.explain import narrative
from reconciler.model import codec, instant
from reconciler.model.action import UNLOGGED
from reconciler.model.document import Document, Status
from reconciler.model.policy import FALLBACK
from reconciler.model.standing import reaches
from reconciler.ports import authorship
from reconciler.ports import standing as counting
from reconciler.web import bodies, lists
from reconciler.web.answers import HttpError
from reconciler.web.endpoint import Asked, Call, Endpoint, Page, Query
from reconciler.web.principal import Role
from reconciler.web.probes import Health
from reconciler.web.sources import Sources

ROOT = "/api/v1"
_STORY_RECORDS = 500
_CHAPTERS = 100
_BYTES = 64 * 1024
_HOURS_MAX = 24
_BYTES_MAX = 1024 * 1024


class DocumentsQuery(Page, frozen=True, kw_only=True):
    """Which documents."""

    status: Annotated[Status | None, msgspec.Meta(description="Only documents that stand there.")] = None


class StoryQuery(Query, frozen=True, kw_only=True):
    """What of a story."""

    field: Annotated[str | None, msgspec.Meta(description="Only what concerns this field.")] = None


class ConflictsQuery(Page, frozen=True, kw_only=True):
    """Which conflicts."""

    closed: Annotated[bool, msgspec.Meta(description="Also those that are closed.")] = False


class LettersQuery(Page, frozen=True, kw_only=True):
    """Which dead letters."""

    status: Literal["open", "replayed", "discarded", "all"] = "open"


class LetterQuery(Query, frozen=True, kw_only=True):
    """How much of a dead letter."""

    bytes_max: Annotated[
        int, msgspec.Meta(ge=0, le=_BYTES_MAX, description="How many bytes of key, value and each header.")
    ] = _BYTES


class HotSpotsQuery(Query, frozen=True, kw_only=True):
    """How many hot spots."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 50


class AuditQuery(Page, frozen=True, kw_only=True):
    """Which attempts."""

    document: Annotated[str | None, msgspec.Meta(description="Only on this document.")] = None
    since: Annotated[str | None, msgspec.Meta(description="From this time on, in RFC 3339.")] = None
    until: Annotated[str | None, msgspec.Meta(description="Before this time, in RFC 3339.")] = None


class SeriesQuery(Query, frozen=True, kw_only=True):
    """How far back."""

    hours: Annotated[float, msgspec.Meta(gt=0, le=_HOURS_MAX, description="How far back, 24 at most.")] = 6


async def status(sources: Sources, _: Asked) -> views.service.Status:
    """Show where everything stands."""
    return await standing(sources)


async def standing(sources: Sources) -> views.service.Status:
    """Return where everything stands. A second's work for nobody: what it asks of the store is counted by indexes."""
    engine, readiness = sources.engine, sources.readiness()
    reached, ends = engine.reached(), await sources.ends()
    return views.service.status(
        await counting.of(sources.store, sources.clock.now_us()),
        reaches(reached, ends),
        version=__version__,
        phase=readiness.phase.value,
        windchill=readiness.windchill.value,
        maintenance=readiness.windchill is Health.MAINTENANCE,
        breaker=engine.breaker.state.name.lower().replace("_", "-"),
        folding_waits=readiness.folding_waits or None,
        in_flight=engine.limiter.in_flight,
        in_flight_limit=engine.limiter.limit,
        queue={lane.name.lower(): depth for lane, depth in engine.queue.depth().items()},
        log_reachable=ends is not None,
    )


async def documents(sources: Sources, asked: Asked) -> views.documents.DocumentPage:
    """List documents in the order of their keys."""
    query: DocumentsQuery = asked.query
    after = bodies.place(query.after, tuple[str]) if query.after else ("",)
    page = await lists.documents(sources.store, query.status, after, query.limit)
    return views.documents.DocumentPage(items=page.items, next=page.next)


async def document(sources: Sources, asked: Asked) -> views.documents.Document:
    """Show one document: each field as desired, live and last agreed, where its value comes from and who decides."""
    found = await _document(sources, asked)
    trail = await lists.trail(sources.store, found.key, views.documents.DECIDED_IN)
    return views.documents.whole(found, trail.items, sources.policy, await authorship.paused(sources.store, found))


async def document_story(sources: Sources, asked: Asked) -> views.history.Story:
    """Tell in sentences where a document's values come from, from the audit trail."""
    query: StoryQuery = asked.query
    found = await _document(sources, asked)
    trail = await lists.trail(sources.store, found.key, _STORY_RECORDS)
    policies = codec.readable_policies(await sources.store.policy_texts())
    told = await asyncio.to_thread(
        narrative.tell,
        found.key,
        trail.items,
        policies,
        sources.clock.now_us(),
        only=query.field,
        row=found,
        paused=await authorship.paused(sources.store, found),
        released=await authorship.released(sources.store, found),
        actions=await sources.store.actions(document=found.key, kinds=UNLOGGED, limit=_CHAPTERS + 1),
        chapters_max=_CHAPTERS,
        older=trail.next is not None,
    )
    return views.history.told(told)


async def document_audit(sources: Sources, asked: Asked) -> views.history.AuditPage:
    """List the attempts on a document, newest first."""
    found = await _document(sources, asked)
    return await _attempts(sources, asked.query, found.key, 0, None)


async def audit(sources: Sources, asked: Asked) -> views.history.AuditPage:
    """List attempts, newest first."""
    query: AuditQuery = asked.query
    since_us, until_us = _moment("since", query.since), _moment("until", query.until)
    return await _attempts(sources, query, query.document, since_us or 0, until_us)


async def conflicts(sources: Sources, asked: Asked) -> views.waiting.ConflictPage:
    """List fields that wait for a person, oldest first."""
    query: ConflictsQuery = asked.query
    after = bodies.place(query.after, tuple[bodies.Number, str]) if query.after else (-1, "")
    page = await lists.conflicts(sources.store, after, query.limit, closed=query.closed)
    return views.waiting.ConflictPage(items=page.items, next=page.next)


async def conflict(sources: Sources, asked: Asked) -> views.waiting.Conflict:
    """Show one conflict, open or closed."""
    found = await sources.store.conflict(asked.path["id"])
    if found is None:
        raise HttpError(404, "there is no conflict of this id")
    return views.waiting.conflict(found)


async def dead_letters(sources: Sources, asked: Asked) -> views.waiting.DeadLetterPage:
    """List events that could not be used, oldest first."""
    query: LettersQuery = asked.query
    after = bodies.place(query.after, tuple[str]) if query.after else ("",)
    page = await lists.letters(sources.store, None if query.status == "all" else query.status, after, query.limit)
    return views.waiting.DeadLetterPage(items=page.items, next=page.next)


async def dead_letter(sources: Sources, asked: Asked) -> views.waiting.DeadLetter:
    """Show one dead letter with its original bytes; the slashes of its id are written %2F."""
    query: LetterQuery = asked.query
    found = await sources.store.dead_letter(asked.path["id"])
    if found is None:
        raise HttpError(404, "there is no dead letter of this id")
    return views.waiting.dead_letter(found, query.bytes_max, await authorship.settled(sources.store, found))


async def hotspots(sources: Sources, asked: Asked) -> views.waiting.HotSpots:
    """List where version conflicts happen most."""
    query: HotSpotsQuery = asked.query
    found = await sources.store.hotspots(sources.clock.now_us(), query.limit)
    return views.waiting.HotSpots(items=[views.waiting.hot_spot(spot) for spot in found])


async def series(sources: Sources, asked: Asked) -> views.service.Series:
    """Show what plots need of the last hours, a point a minute, since this process began."""
    query: SeriesQuery = asked.query
    return views.service.series(sources.series(query.hours))


async def policy(sources: Sources, _: Asked) -> views.service.Policy:
    """Show the rules in force."""
    rules = sources.policy
    return views.service.Policy(
        digest=codec.policy_digest(rules),
        rules=[views.service.rule(rule) for rule in rules.rules],
        fallback=views.service.rule(FALLBACK),
    )


async def settings(sources: Sources, _: Asked) -> views.service.Settings:
    """Show every effective setting and where it came from; secrets are masked."""
    return views.service.Settings(
        items=[
            views.service.Setting(section=section, key=key, value=value, origin=origin)
            for section, key, value, origin in sources.settings()
        ]
    )


async def _document(sources: Sources, asked: Asked) -> Document:
    key = asked.path["document"]
    found = (await sources.store.documents([key])).get(key)
    if found is None:
        raise HttpError(404, "no event has named this document so far")
    return found


async def _attempts(
    sources: Sources, page: Page, document: str | None, since_us: int, until_us: int | None
) -> views.history.AuditPage:
    before = bodies.place(page.after, tuple[bodies.Number, bodies.Number]) if page.after else None
    found = await lists.attempts(
        sources.store, before, page.limit, document=document, since_us=since_us, until_us=until_us
    )
    return views.history.AuditPage(items=found.items, next=found.next)


def _moment(name: str, given: str | None) -> int | None:
    try:
        return None if given is None else instant.to_us(instant.canonical(given))
    except ValueError as error:
        raise HttpError(400, f"{name}: {error}; write 2026-11-22T10:00:00Z") from error


def _shows(path: str, call: Call, answer: type[msgspec.Struct], query: type[Query] = Query) -> Endpoint:
    summary = (call.__doc__ or "").strip()
    return Endpoint(path=ROOT + path, role=Role.VIEWER, call=call, summary=summary, query=query, answer=answer)


ENDPOINTS = (
    _shows("/status", status, views.service.Status),
    _shows("/documents", documents, views.documents.DocumentPage, DocumentsQuery),
    _shows("/documents/{document}", document, views.documents.Document),
    _shows("/documents/{document}/story", document_story, views.history.Story, StoryQuery),
    _shows("/documents/{document}/audit", document_audit, views.history.AuditPage, Page),
    _shows("/conflicts", conflicts, views.waiting.ConflictPage, ConflictsQuery),
    _shows("/conflicts/{id}", conflict, views.waiting.Conflict),
    _shows("/dead-letters", dead_letters, views.waiting.DeadLetterPage, LettersQuery),
    _shows("/dead-letters/{id}", dead_letter, views.waiting.DeadLetter, LetterQuery),
    _shows("/hotspots", hotspots, views.waiting.HotSpots, HotSpotsQuery),
    _shows("/audit", audit, views.history.AuditPage, AuditQuery),
    _shows("/policy", policy, views.service.Policy),
    _shows("/series", series, views.service.Series, SeriesQuery),
    _shows("/config", settings, views.service.Settings),
)
