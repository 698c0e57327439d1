"""
Every endpoint by which an operator does something, and the action log.

The work is done by `flows.actions.OperatorActions`. The value that it returns becomes an answer: gone is 404, stale or
in the wrong state 409, unusable 422.
"""

from collections.abc import Sequence
from typing import Annotated, TypeVar

import msgspec

from reconciler import views
from reconciler.core.events import change_events
from reconciler.flows.actions import OperatorActions
from reconciler.model import action as actions
from reconciler.model.limits import EVENT_BYTES_MAX
from reconciler.web import bodies, lists
from reconciler.web.answers import HttpError
from reconciler.web.endpoint import Asked, Call, Endpoint, Page
from reconciler.web.principal import Principal, Role
from reconciler.web.probes import Phase
from reconciler.web.sources import Sources

ROOT = "/api/v1"
_BYTES_MAX = 64 * 1024

_T = TypeVar("_T")


class ActionsQuery(Page, frozen=True, kw_only=True):
    """Which actions."""

    document: Annotated[str | None, msgspec.Meta(description="Only on this document.")] = None
    actor: Annotated[str | None, msgspec.Meta(description="Only of this person.")] = None


def actions_of(sources: Sources, asked: Asked) -> OperatorActions:
    """Return what whoever asks can do, recorded with their role and with who vouches for their name."""
    return sources.actions.as_role(asked.who.role.name.lower(), asked.who.issuer)


def actions_on_log(sources: Sources, asked: Asked) -> OperatorActions:
    """Return the same for what appends to the log; raises HttpError while nothing can be appended in good order."""
    require_log(sources)
    return actions_of(sources, asked)


def require_log(sources: Sources) -> None:
    """Raise HttpError while nothing can be appended to the log in good order."""
    phase = sources.readiness().phase
    if phase is not Phase.READY:
        raise HttpError(503, f"the reconciler is {phase.value}; try again", headers={"Retry-After": "5"})


def require_sayable(who: Principal, event: bytes) -> None:
    """Raise HttpError for an event of a source that somebody may not speak for; one that can't be read says none."""
    source = change_events.source_of(event)
    if source and (reason := who.refusal(source)):
        raise HttpError(403, f"{reason}; nothing was appended")


def found(value: "_T | actions.Gone | actions.Unusable | actions.Stale") -> _T:
    """Return what came of an action; raises HttpError where nothing was done."""
    match value:
        case actions.Gone(reason):
            raise HttpError(404, reason)
        case actions.Unusable(reason):
            raise HttpError(422, reason)
        case actions.Stale(preview):
            said = "what this was decided on has moved since; look at it again"
            raise HttpError(409, said, preview=views.actions.preview(preview))
        case _:
            return value


def done_one(done: actions.Done) -> views.actions.Done:
    """Return what came of an action on one thing; raises HttpError where nothing was done."""
    for reason in done.left.values():
        raise HttpError(404 if reason in _ABSENT else 409, reason)
    return views.actions.Done(done=list(done.done))


_ABSENT = (actions.UNKNOWN_DOCUMENT, actions.UNKNOWN_LETTER)


async def retry(sources: Sources, asked: Asked) -> views.actions.Done:
    """Have a document looked at now, before all others."""
    await bodies.given(asked.request, bodies.Nothing, _BYTES_MAX)
    return done_one(await actions_of(sources, asked).retry(asked.who.name, [asked.path["document"]]))


async def compare(sources: Sources, asked: Asked) -> views.actions.Compared:
    """Have documents compared with Windchill again, after everything more urgent: these, or every one."""
    body = await bodies.given(asked.request, bodies.Comparing, _BYTES_MAX)
    return views.actions.Compared(documents=await actions_of(sources, asked).compare(asked.who.name, body.documents))


async def pause(sources: Sources, asked: Asked) -> views.actions.Done:
    """Neither read nor write a document until it is resumed; what the log says of it is folded all the same."""
    body = await bodies.given(asked.request, bodies.WithReason, _BYTES_MAX)
    return done_one(await actions_of(sources, asked).pause(asked.who.name, [asked.path["document"]], body.reason))


async def resume(sources: Sources, asked: Asked) -> views.actions.Done:
    """End the pause of a document: it is looked at now."""
    await bodies.given(asked.request, bodies.Nothing, _BYTES_MAX)
    return done_one(await actions_of(sources, asked).resume(asked.who.name, [asked.path["document"]]))


async def release(sources: Sources, asked: Asked) -> views.actions.AppendedBy:
    """Stop managing a document, or some fields of it, by an event; Windchill keeps what it has."""
    body = await bodies.given(asked.request, bodies.Releasing, _BYTES_MAX)
    who, key = asked.who.name, asked.path["document"]
    return _appended(await actions_on_log(sources, asked).release(who, key, body.reason, body.fields))


async def preview(sources: Sources, asked: Asked) -> views.actions.Preview:
    """Say what deciding a conflict would do: what is wanted, what is written, which events. Nothing is done."""
    body = await bodies.given(asked.request, bodies.Taking, _BYTES_MAX)
    return views.actions.preview(found(await sources.actions.preview(asked.path["id"], _take(body))))


async def resolve(sources: Sources, asked: Asked) -> views.actions.Resolved:
    """Decide a conflict; with `seen`, only if nothing that the preview rests on has moved, else 409 with a new one."""
    body = await bodies.given(asked.request, bodies.Resolving, _BYTES_MAX)
    require_log(sources)
    who, wanted = asked.who.name, _take(body)
    call = actions_of(sources, asked).resolve(who, asked.path["id"], wanted, body.reason, body.seen)
    return views.actions.resolved(found(await call))


async def resolve_many(sources: Sources, asked: Asked) -> views.actions.ResolvedMany:
    """Decide the open conflicts of one field, or of one rule, for one side; those that need a look are left."""
    body = await bodies.given(asked.request, bodies.ResolvingMany, _BYTES_MAX)
    if (body.field is None) is (body.rule is None):
        raise HttpError(422, "give either field or rule")
    settled = await actions_on_log(sources, asked).resolve_many(
        asked.who.name, actions.WAYS[body.take], body.reason, field=body.field, rule=body.rule, limit=body.limit
    )
    return views.actions.settled(settled)


async def replay_letter(sources: Sources, asked: Asked) -> views.actions.Done:
    """Append a dead letter to the change log again, as it was."""
    body = await bodies.given(asked.request, bodies.WithReason, _BYTES_MAX)
    return done_one(
        await actions_on_log(sources, asked).replay_letters(asked.who.name, [asked.path["id"]], body.reason)
    )


async def discard_letter(sources: Sources, asked: Asked) -> views.actions.Done:
    """Let a dead letter go: it stays listed as discarded."""
    body = await bodies.given(asked.request, bodies.Discarding, _BYTES_MAX)
    return done_one(await actions_of(sources, asked).discard_letters(asked.who.name, [asked.path["id"]], body.reason))


async def resend_letter(sources: Sources, asked: Asked) -> views.actions.AppendedBy:
    """Append a mended event in the place of a dead letter; its actor is whoever asks."""
    body = await bodies.given(asked.request, bodies.Resending, EVENT_BYTES_MAX)
    require_log(sources)
    require_sayable(asked.who, bytes(body.event))
    call = actions_of(sources, asked).resend(asked.who.name, asked.path["id"], bytes(body.event), body.reason)
    return _appended(await call)


async def list_acts(sources: Sources, asked: Asked) -> views.actions.OperatorActionPage:
    """List what operators did, newest first."""
    query: ActionsQuery = asked.query
    before = bodies.place(query.after, tuple[bodies.Number]) if query.after else None
    page = await lists.actions(sources.store, before, query.limit, document=query.document, who=query.actor)
    return views.actions.OperatorActionPage(items=[views.actions.action(one) for one in page.items], next=page.next)


def _take(body: bodies.Taking) -> actions.Take:
    if body.take != "value":
        if body.value is not msgspec.UNSET:
            raise HttpError(422, f"value: is only given with take value, not {body.take}")
        return actions.WAYS[body.take]
    if body.value is msgspec.UNSET:
        raise HttpError(422, "value: is missing; take value needs one")
    return actions.Other(body.value)


def _appended(value: actions.Appended | actions.Gone | actions.Unusable) -> views.actions.AppendedBy:
    appended: actions.Appended = found(value)
    return views.actions.appended(appended)


def _does(
    path: str, call: Call, body: type[msgspec.Struct], answer: type[msgspec.Struct], problems: Sequence[int]
) -> Endpoint:
    return Endpoint(
        method="POST",
        path=ROOT + path,
        role=Role.OPERATOR,
        call=call,
        summary=(call.__doc__ or "").strip(),
        answer=answer,
        bodies=bodies.described(body),
        problems=(413, 415, 422, *problems),
    )


_LISTED = Endpoint(
    path=f"{ROOT}/acts",
    role=Role.VIEWER,
    call=list_acts,
    summary=(list_acts.__doc__ or "").strip(),
    query=ActionsQuery,
    answer=views.actions.OperatorActionPage,
)
ENDPOINTS = (
    _does("/compare", compare, bodies.Comparing, views.actions.Compared, []),
    _does("/documents/{document}/retry", retry, bodies.Nothing, views.actions.Done, [409]),
    _does("/documents/{document}/pause", pause, bodies.WithReason, views.actions.Done, [409]),
    _does("/documents/{document}/resume", resume, bodies.Nothing, views.actions.Done, [409]),
    _does("/documents/{document}/release", release, bodies.Releasing, views.actions.AppendedBy, []),
    _does("/conflicts/resolve", resolve_many, bodies.ResolvingMany, views.actions.ResolvedMany, []),
    _does("/conflicts/{id}/preview", preview, bodies.Taking, views.actions.Preview, []),
    _does("/conflicts/{id}/resolve", resolve, bodies.Resolving, views.actions.Resolved, [409]),
    _does("/dead-letters/{id}/replay", replay_letter, bodies.WithReason, views.actions.Done, []),
    _does("/dead-letters/{id}/discard", discard_letter, bodies.Discarding, views.actions.Done, []),
    _does("/dead-letters/{id}/resend", resend_letter, bodies.Resending, views.actions.AppendedBy, []),
    _LISTED,
)
