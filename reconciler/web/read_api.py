"""The read-only endpoints of the API."""

import asyncio
import typing
from typing import Annotated, Literal

import msgspec

from reconciler import __version__, views
from reconciler.core.explain import narrative
from reconciler.model import codec, instant
from reconciler.model.action import UNKNOWN_DOCUMENT, UNKNOWN_LETTER, UNLOGGED
from reconciler.model.document import Document, Status
from reconciler.model.policy import FALLBACK
from reconciler.model.standing import reaches
from reconciler.ports import authorship
from reconciler.ports import standing as counting
from reconciler.web import paging
from reconciler.web.endpoint import Call, Endpoint, Handler, Page, Query
from reconciler.web.principal import Role
from reconciler.web.probes import Health
from reconciler.web.responses import HttpError
from reconciler.web.services import Services

ROOT = "/api/v1"
_STORY_RECORDS = 500
_CHAPTERS = 100
_BYTES = 64 * 1024
_HOURS_MAX = 24
_BYTES_MAX = 1024 * 1024


class DocumentsQuery(Page, frozen=True, kw_only=True):
    """Which documents."""

    status: Annotated[Status | None, msgspec.Meta(description="Only documents with this status.")] = None


class StoryQuery(Query, frozen=True, kw_only=True):
    """Which part of a story."""

    field: Annotated[str | None, msgspec.Meta(description="Only this field.")] = None


class ConflictsQuery(Page, frozen=True, kw_only=True):
    """Which conflicts."""

    closed: Annotated[bool, msgspec.Meta(description="Include closed conflicts.")] = False


class LettersQuery(Page, frozen=True, kw_only=True):
    """Which dead letters."""

    status: Literal["open", "replayed", "discarded", "all"] = "open"


class LetterQuery(Query, frozen=True, kw_only=True):
    """How much of a dead letter."""

    bytes_max: Annotated[
        int,
        msgspec.Meta(
            ge=0, le=_BYTES_MAX, description="The most bytes to return of the key, the value and each header."
        ),
    ] = _BYTES


class HotSpotsQuery(Query, frozen=True, kw_only=True):
    """How many hot spots."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 50


class AuditQuery(Page, frozen=True, kw_only=True):
    """Which attempts."""

    document: Annotated[str | None, msgspec.Meta(description="Only this document.")] = None
    since: Annotated[str | None, msgspec.Meta(description="From this time on (RFC 3339).")] = None
    until: Annotated[str | None, msgspec.Meta(description="Before this time (RFC 3339).")] = None


class ActionsQuery(Page, frozen=True, kw_only=True):
    """Which operator actions."""

    document: Annotated[str | None, msgspec.Meta(description="Only this document.")] = None
    actor: Annotated[str | None, msgspec.Meta(description="Only actions of this operator.")] = None


class SeriesQuery(Query, frozen=True, kw_only=True):
    """How far back."""

    hours: Annotated[float, msgspec.Meta(gt=0, le=_HOURS_MAX, description="How many hours back, at most 24.")] = 6


async def status(services: Services, _: Call) -> views.service.Status:
    """Show the overall status: documents by status, open items, Windchill, the change log."""
    return await standing(services)


async def standing(services: Services) -> views.service.Status:
    """Return the overall status; all counts come from indexes."""
    engine, readiness = services.engine, services.readiness()
    reached, ends = engine.reached(), await services.ends()
    return views.service.status(
        await counting.of(services.store, services.clock.now_us()),
        reaches(reached, ends),
        engine.in_flight_max,
        version=__version__,
        phase=readiness.phase.value,
        windchill=readiness.windchill.value,
        maintenance=readiness.windchill is Health.MAINTENANCE,
        maintenance_until=views.shape.at(readiness.maintenance_until_us),
        breaker=engine.breaker.state.name.lower().replace("_", "-"),
        folding_waits=readiness.folding_waits or None,
        in_flight=engine.limiter.in_flight,
        in_flight_limit=engine.limiter.limit,
        queue={lane.name.lower(): depth for lane, depth in engine.queue.depth().items()},
        records=dict(engine.seen),
        log_reachable=ends is not None,
        disks=views.service.disks(services.spaces()),
    )


async def documents(services: Services, call: Call) -> views.documents.DocumentPage:
    """List documents in the order of their keys."""
    query: DocumentsQuery = call.query
    return await paging.documents(services.store, query.status, query.after, query.limit)


async def document(services: Services, call: Call) -> views.documents.Document:
    """Show one document with each field's desired, live and last agreed value, its events and its rule."""
    found = await _document(services, call)
    trail, _ = await paging.trail(services.store, found.key, views.documents.DECIDED_IN)
    return views.documents.whole(found, trail, services.policy, await authorship.paused(services.store, found))


async def document_story(services: Services, call: Call) -> views.history.Story:
    """Explain in sentences how a document came to its values, from the audit trail."""
    query: StoryQuery = call.query
    found = await _document(services, call)
    trail, has_older = await paging.trail(services.store, found.key, _STORY_RECORDS)
    policies = codec.readable_policies(await services.store.policy_texts())
    told = await asyncio.to_thread(
        narrative.tell,
        found.key,
        trail,
        policies,
        services.clock.now_us(),
        only=query.field,
        row=found,
        paused=await authorship.paused(services.store, found),
        released=await authorship.released(services.store, found),
        actions=await services.store.actions(document=found.key, kinds=UNLOGGED, limit=_CHAPTERS + 1),
        chapters_max=_CHAPTERS,
        older=has_older,
    )
    return views.history.told(told, await services.store.cuts())


async def document_audit(services: Services, call: Call) -> views.history.AuditPage:
    """List the attempts on a document, newest first."""
    found = await _document(services, call)
    return await paging.attempts(services.store, call.query.after, call.query.limit, found.key)


async def audit(services: Services, call: Call) -> views.history.AuditPage:
    """List attempts, newest first."""
    query: AuditQuery = call.query
    since_us, until_us = _moment("since", query.since), _moment("until", query.until)
    return await paging.attempts(
        services.store, query.after, query.limit, query.document, since_us=since_us or 0, until_us=until_us
    )


async def conflicts(services: Services, call: Call) -> views.open_items.ConflictPage:
    """List fields that are waiting for a decision, oldest first."""
    query: ConflictsQuery = call.query
    return await paging.conflicts(services.store, query.after, query.limit, closed=query.closed)


async def conflict(services: Services, call: Call) -> views.open_items.Conflict:
    """Show one conflict, open or closed."""
    found = await services.store.conflict(call.path["id"])
    if found is None:
        raise HttpError(404, "no conflict has this id")
    return views.open_items.conflict(found)


async def dead_letters(services: Services, call: Call) -> views.open_items.DeadLetterPage:
    """List records that could not be used, oldest first."""
    query: LettersQuery = call.query
    status = None if query.status == "all" else query.status
    return await paging.dead_letters(services.store, status, query.after, query.limit)


async def dead_letter(services: Services, call: Call) -> views.open_items.DeadLetter:
    """Show one dead letter with its original bytes; write the slashes of its id as %2F."""
    query: LetterQuery = call.query
    found = await services.store.dead_letter(call.path["id"])
    if found is None:
        raise HttpError(404, UNKNOWN_LETTER)
    return views.open_items.dead_letter(found, query.bytes_max, await authorship.closed(services.store, found))


async def hotspots(services: Services, call: Call) -> views.open_items.HotSpots:
    """List the documents and fields with the most version conflicts."""
    query: HotSpotsQuery = call.query
    found = await services.store.hotspots(services.clock.now_us(), query.limit)
    return views.open_items.HotSpots(items=[views.open_items.hot_spot(spot) for spot in found])


async def series(services: Services, call: Call) -> views.service.Series:
    """Show measurements of the last hours, one point per minute, since this process started."""
    query: SeriesQuery = call.query
    return views.service.series(services.series(query.hours))


async def list_acts(services: Services, call: Call) -> views.actions.OperatorActionPage:
    """List operator actions, newest first."""
    query: ActionsQuery = call.query
    return await paging.actions(services.store, query.after, query.limit, document=query.document, who=query.actor)


async def policy(services: Services, _: Call) -> views.service.Policy:
    """Show the rules in force."""
    rules = services.policy
    return views.service.Policy(
        digest=codec.policy_digest(rules),
        rules=[views.service.rule(rule) for rule in rules.rules],
        fallback=views.service.rule(FALLBACK),
    )


async def settings(services: Services, _: Call) -> views.service.Settings:
    """Show every effective setting and its origin; secrets are masked."""
    return views.service.Settings(
        items=[
            views.service.Setting(section=section, key=key, value=value, origin=origin)
            for section, key, value, origin in services.settings()
        ]
    )


async def _document(services: Services, call: Call) -> Document:
    key = call.path["document"]
    found = (await services.store.documents([key])).get(key)
    if found is None:
        raise HttpError(404, UNKNOWN_DOCUMENT)
    return found


def _moment(name: str, given: str | None) -> int | None:
    try:
        return None if given is None else instant.to_us(instant.canonical(given))
    except ValueError as error:
        raise HttpError(400, f"{name}: {error}; write 2026-11-22T10:00:00Z") from error


def _shows(path: str, handler: Handler, query: type[Query] = Query) -> Endpoint:
    answer = typing.get_type_hints(handler)["return"]
    return Endpoint(path=ROOT + path, role=Role.VIEWER, handler=handler, query=query, answer=answer)


ENDPOINTS = (
    _shows("/status", status),
    _shows("/documents", documents, DocumentsQuery),
    _shows("/documents/{document}", document),
    _shows("/documents/{document}/story", document_story, StoryQuery),
    _shows("/documents/{document}/audit", document_audit, Page),
    _shows("/conflicts", conflicts, ConflictsQuery),
    _shows("/conflicts/{id}", conflict),
    _shows("/dead-letters", dead_letters, LettersQuery),
    _shows("/dead-letters/{id}", dead_letter, LetterQuery),
    _shows("/hotspots", hotspots, HotSpotsQuery),
    _shows("/audit", audit, AuditQuery),
    _shows("/policy", policy),
    _shows("/series", series, SeriesQuery),
    _shows("/config", settings),
    _shows("/acts", list_acts, ActionsQuery),
)
