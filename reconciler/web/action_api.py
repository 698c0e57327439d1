"""
Every endpoint by which an operator does something, and the action log.

The work is done by `flows.actions.OperatorActions`. The value that it returns becomes an answer: gone is 404, stale or
in the wrong state 409, unusable 422.
"""

import typing
from typing import TypeVar

import msgspec

from reconciler import views
from reconciler.core.events import change_events
from reconciler.flows.actions import OperatorActions
from reconciler.model import action as actions
from reconciler.model.limits import EVENT_BYTES_MAX
from reconciler.web import inputs
from reconciler.web.endpoint import Call, Endpoint, Handler
from reconciler.web.principal import Principal, Role
from reconciler.web.probes import Phase
from reconciler.web.responses import HttpError
from reconciler.web.services import Services

ROOT = "/api/v1"
STOP_PATIENCE_S = 10.0  # for writes under way, while someone waits for the answer

_T = TypeVar("_T")


def actions_of(services: Services, call: Call) -> OperatorActions:
    """Return the actions, to be recorded with the role and the issuer of the caller."""
    return services.actions.as_role(call.who.role.name.lower(), call.who.issuer)


def actions_on_log(services: Services, call: Call) -> OperatorActions:
    """Return the actions that append to the log; raises HttpError until the daemon is ready."""
    require_log(services)
    return actions_of(services, call)


def require_log(services: Services) -> None:
    """Raise HttpError until the daemon is ready to append to the log."""
    phase = services.readiness().phase
    if phase is not Phase.READY:
        raise HttpError(503, f"the reconciler is {phase.value}; try again", headers={"Retry-After": "5"})


def require_sayable(who: Principal, event: bytes) -> None:
    """Raise HttpError for an event of a source that the caller may not use."""
    source = change_events.source_of(event)
    if source and (reason := who.refusal(source)):
        raise HttpError(403, f"{reason}; nothing was appended")


def found(value: "_T | actions.Gone | actions.Unusable | actions.Stale") -> _T:
    """Return the result of an action; raises HttpError if nothing was done."""
    match value:
        case actions.Gone(reason):
            raise HttpError(404, reason)
        case actions.Unusable(reason):
            raise HttpError(422, reason)
        case actions.Stale(preview):
            said = "a value has changed since the preview; check the new preview and decide again"
            raise HttpError(409, said, preview=views.actions.preview(preview))
        case _:
            return value


def done_one(done: actions.Done) -> views.actions.Done:
    """Return the result of an action on one target; raises HttpError if nothing was done."""
    for reason in done.left.values():
        raise HttpError(404 if reason in _ABSENT else 409, reason)
    return views.actions.Done(done=list(done.done))


def refusal(outcome: object, target: str) -> str | None:
    """Return why an action was not done on its target; None: it was done."""
    match outcome:
        case actions.Gone(reason) | actions.Unusable(reason):
            return reason
        case actions.Done(left=left):
            return left.get(target)
        case _:
            return None


_ABSENT = (actions.UNKNOWN_DOCUMENT, actions.UNKNOWN_LETTER)


async def retry(services: Services, call: Call) -> views.actions.Done:
    """Reconcile a document now, ahead of all others."""
    return done_one(await actions_of(services, call).retry(call.who.name, [call.path["document"]]))


async def compare(services: Services, call: Call) -> views.actions.Compared:
    """Compare these documents, or all, with Windchill again, after all more urgent work."""
    body: inputs.Comparing = call.body
    return views.actions.Compared(documents=await actions_of(services, call).compare(call.who.name, body.documents))


async def pause(services: Services, call: Call) -> views.actions.Done:
    """Pause a document: it is not read or written until resumed. Its events are still read from the log."""
    body: inputs.WithReason = call.body
    return done_one(await actions_of(services, call).pause(call.who.name, [call.path["document"]], body.reason))


async def resume(services: Services, call: Call) -> views.actions.Done:
    """Resume a paused document; it is due at once."""
    return done_one(await actions_of(services, call).resume(call.who.name, [call.path["document"]]))


async def stop_writes(services: Services, call: Call) -> views.actions.Writes:
    """
    Stop all writes to Windchill, in all replicas, until they are resumed. Events are still read and folded.

    The answer comes when nothing changes Windchill any more, or after ten seconds, with those that may still write.
    """
    body: inputs.WithReason = call.body
    operator = actions_of(services, call)
    stop = await operator.stop_writes(call.who.name, body.reason)
    return views.actions.writes(stop, await operator.despite_stop(stop, STOP_PATIENCE_S))


async def resume_writes(services: Services, call: Call) -> views.actions.Writes:
    """Let all replicas write again."""
    body: inputs.WithReason = call.body
    if not await actions_of(services, call).resume_writes(call.who.name, body.reason):
        raise HttpError(409, "writes are not stopped")
    return views.actions.writes(None, ())


async def release(services: Services, call: Call) -> views.actions.AppendedBy:
    """Stop managing a document or some of its fields, by appending an event. Windchill keeps its values."""
    body: inputs.Releasing = call.body
    who, key = call.who.name, call.path["document"]
    return _appended(await actions_on_log(services, call).release(who, key, body.reason, body.fields))


async def preview(services: Services, call: Call) -> views.actions.Preview:
    """Preview a decision on a conflict: the value, the writes and the events. Changes nothing."""
    body: inputs.Taking = call.body
    return views.actions.preview(found(await services.actions.preview(call.path["id"], _take(body))))


async def resolve(services: Services, call: Call) -> views.actions.Resolved:
    """Resolve a conflict. With `seen`, answers 409 and a new preview if a value has changed since the preview."""
    body: inputs.Resolving = call.body
    require_log(services)
    who, wanted = call.who.name, _take(body)
    done = await actions_of(services, call).resolve(who, call.path["id"], wanted, body.reason, body.seen)
    return views.actions.resolved(found(done))


async def resolve_many(services: Services, call: Call) -> views.actions.ResolvedMany:
    """Resolve the open conflicts of one field or one rule in the same way; unclear ones are left open."""
    body: inputs.ResolvingMany = call.body
    if (body.field is None) is (body.rule is None):
        raise HttpError(422, "give either `field` or `rule`")
    resolved = await actions_on_log(services, call).resolve_many(
        call.who.name, actions.WAYS[body.take], body.reason, field=body.field, rule=body.rule, limit=body.limit
    )
    return views.actions.resolved_many(resolved)


async def replay_letter(services: Services, call: Call) -> views.actions.Done:
    """Append the original record of a dead letter to the log again."""
    body: inputs.WithReason = call.body
    return done_one(await actions_on_log(services, call).replay_letters(call.who.name, [call.path["id"]], body.reason))


async def discard_letter(services: Services, call: Call) -> views.actions.Done:
    """Discard a dead letter; it stays listed as discarded."""
    body: inputs.Discarding = call.body
    return done_one(await actions_of(services, call).discard_letters(call.who.name, [call.path["id"]], body.reason))


async def resend_letter(services: Services, call: Call) -> views.actions.AppendedBy:
    """Append a corrected event in place of a dead letter; the caller is its actor."""
    body: inputs.Resending = call.body
    require_log(services)
    require_sayable(call.who, bytes(body.event))
    event = bytes(body.event)
    return _appended(await actions_of(services, call).resend(call.who.name, call.path["id"], event, body.reason))


def _take(body: inputs.Taking) -> actions.Take:
    if body.take != "value":
        if body.value is not msgspec.UNSET:
            raise HttpError(422, f"value: only allowed with take=value, not take={body.take}")
        return actions.WAYS[body.take]
    if body.value is msgspec.UNSET:
        raise HttpError(422, "value: missing; take=value needs one")
    return actions.Other(body.value)


def _appended(value: actions.Appended | actions.Gone | actions.Unusable) -> views.actions.AppendedBy:
    appended: actions.Appended = found(value)
    return views.actions.appended(appended)


def _does(
    path: str, handler: Handler, body: type[msgspec.Struct], *problems: int, bytes_max: int = 64 * 1024
) -> Endpoint:
    return Endpoint(
        method="POST",
        path=ROOT + path,
        role=Role.OPERATOR,
        handler=handler,
        body=body,
        body_bytes_max=bytes_max,
        answer=typing.get_type_hints(handler)["return"],
        problems=(413, 415, 422, *problems),
    )


ENDPOINTS = (
    _does("/compare", compare, inputs.Comparing),
    _does("/writes/stop", stop_writes, inputs.WithReason),
    _does("/writes/resume", resume_writes, inputs.WithReason, 409),
    _does("/documents/{document}/retry", retry, inputs.Nothing, 409),
    _does("/documents/{document}/pause", pause, inputs.WithReason, 409),
    _does("/documents/{document}/resume", resume, inputs.Nothing, 409),
    _does("/documents/{document}/release", release, inputs.Releasing),
    _does("/conflicts/resolve", resolve_many, inputs.ResolvingMany),
    _does("/conflicts/{id}/preview", preview, inputs.Taking),
    _does("/conflicts/{id}/resolve", resolve, inputs.Resolving, 409),
    _does("/dead-letters/{id}/replay", replay_letter, inputs.WithReason),
    _does("/dead-letters/{id}/discard", discard_letter, inputs.Discarding),
    _does("/dead-letters/{id}/resend", resend_letter, inputs.Resending, bytes_max=EVENT_BYTES_MAX),
)
