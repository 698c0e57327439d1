"""Operator actions: what was done, and previews."""

from collections.abc import Iterable
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from reconciler.model import action as actions
from reconciler.model import instant, standing
from reconciler.views import service, shape
from reconciler.views.shape import Instant, Next, Shape


class By(Shape, frozen=True, kw_only=True):
    """Who did something, when and why; `act` is its number in the audit trail."""

    act: int
    who: str
    role: str
    issuer: str | None
    at: Instant
    kind: str
    reason: str | None


class OperatorAction(Shape, frozen=True, kw_only=True):
    """One operator action."""

    id: int
    at: Instant
    who: str
    role: Annotated[str, Meta(description="producer, viewer, operator, admin, or cli: by a command.")]
    issuer: Annotated[str | None, Meta(description="The identity provider that authenticated the operator, if any.")]
    kind: Annotated[str, Meta(description="retry, pause, resume, release, resolve, replay, discard, resend, emit, …")]
    target: str
    document: str | None
    details: dict[str, Any]
    result: Annotated[
        str, Meta(description="done, or appended: takes effect when the reconciler reads it from the log.")
    ]


class OperatorActionPage(Shape, frozen=True, kw_only=True):
    """Operator actions, newest first."""

    items: list[OperatorAction]
    next: Next


class Compared(Shape, frozen=True, kw_only=True):
    """How many documents were made due; paused ones and those waiting after an error are not."""

    documents: int


class Done(Shape, frozen=True, kw_only=True):
    """The targets of the action."""

    done: list[str]


class AppendedEvent(Shape, frozen=True, kw_only=True):
    """An event that the log has acknowledged."""

    id: str
    document: str
    topic: str


class Appended(Shape, frozen=True, kw_only=True):
    """The appended events, in the order they were sent."""

    items: list[AppendedEvent]


class AppendedBy(Shape, frozen=True, kw_only=True):
    """Events in the log; they take effect when the reconciler reads them."""

    document: str
    events: Annotated[list[str], Meta(description="Ids of the events.")]


class Writes(Shape, frozen=True, kw_only=True):
    """Whether all writes are stopped."""

    write_stop: service.WriteStop | None
    writing: Annotated[
        list[str], Meta(description="Replicas that may still write: ask again. Empty: nothing changes Windchill now.")
    ]


class Step(Shape, frozen=True, kw_only=True):
    """One write: a field from one value to another; with `element`, whether it is in the list before and after."""

    field: str
    before: Any
    after: Any
    element: Any | UnsetType = UNSET


class Preview(Shape, frozen=True, kw_only=True):
    """What a decision would do. Send `seen` with the decision to bind it to these values."""

    conflict: str
    document: str
    field: str
    live: Any
    desired: Any
    token: str | None
    wanted: Any
    steps: Annotated[list[Step], Meta(description="Empty: Windchill already has this value.")]
    events: Annotated[list[dict[str, Any]], Meta(description="The events to append, without id and time.")]
    command: Annotated[str, Meta(description="The command that does the same.")]
    seen: str


class Resolved(Shape, frozen=True, kw_only=True):
    """A decision in the log."""

    conflict: str
    document: str
    field: str
    wanted: Any
    live: Any
    events: list[dict[str, Any]]


class ResolvedMany(Shape, frozen=True, kw_only=True):
    """Conflicts that were resolved together, and those left open, with the reason."""

    decided: list[Resolved]
    left: dict[str, str]
    more: bool


def by(found: actions.OperatorAction | None) -> By | None:
    """Return who did something."""
    if found is None:
        return None
    reason = found.details.get("reason")
    return shape.of(
        By,
        found,
        act=found.id,
        issuer=found.issuer or None,
        at=instant.from_us(found.at_us),
        reason=reason if isinstance(reason, str) else None,
    )


def action(found: actions.OperatorAction) -> OperatorAction:
    """Return an action."""
    return shape.of(
        OperatorAction,
        found,
        at=instant.from_us(found.at_us),
        issuer=found.issuer or None,
        document=found.document or None,
    )


def writes(stop: standing.WriteStop | None, despite: Iterable[standing.Replica]) -> Writes:
    """Return whether all writes are stopped, and who may still write despite that."""
    said = None if stop is None else service.write_stop(stop)
    return Writes(write_stop=said, writing=[one.name for one in despite])


def appended(found: actions.Appended) -> AppendedBy:
    """Return what was appended."""
    return shape.of(AppendedBy, found, events=list(found.events))


def preview(found: actions.Preview) -> Preview:
    """Return a preview."""
    steps = [shape.of(Step, step, element=shape.known(step.element)) for step in found.steps]
    return shape.of(Preview, found, steps=steps, events=list(found.events))


def resolved(found: actions.Resolved) -> Resolved:
    """Return a decision."""
    return shape.of(Resolved, found, events=list(found.events))


def resolved_many(found: actions.ResolvedMany) -> ResolvedMany:
    """Return the result of resolving many."""
    return shape.of(ResolvedMany, found, decided=[resolved(one) for one in found.decided])
