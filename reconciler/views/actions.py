"""Operators' actions and their results, as JSON."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from reconciler.model import action as actions
from reconciler.model import instant
from reconciler.views import shape
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
    """What an operator did."""

    id: int
    at: Instant
    who: str
    role: Annotated[str, Meta(description="producer, viewer, operator, admin; cli: by a command.")]
    issuer: Annotated[str | None, Meta(description="The identity provider that vouched for the name, if one did.")]
    kind: Annotated[str, Meta(description="retry, pause, resume, release, resolve, replay, discard, resend, emit, …")]
    target: str
    document: str | None
    details: dict[str, Any]
    result: Annotated[str, Meta(description="done; appended: in the log, and done when it is read.")]


class OperatorActionPage(Shape, frozen=True, kw_only=True):
    """Actions, newest first."""

    items: list[OperatorAction]
    next: Next


class Compared(Shape, frozen=True, kw_only=True):
    """How many documents were made due; those that wait after trouble, or are paused, are none of them."""

    documents: int


class Done(Shape, frozen=True, kw_only=True):
    """The targets that were changed."""

    done: list[str]


class AppendedEvent(Shape, frozen=True, kw_only=True):
    """An event that the log has acknowledged."""

    id: str
    document: str
    topic: str


class Appended(Shape, frozen=True, kw_only=True):
    """What was appended, in the order it was sent."""

    items: list[AppendedEvent]


class AppendedBy(Shape, frozen=True, kw_only=True):
    """Events that the log has; they take effect when they are read."""

    document: str
    events: Annotated[list[str], Meta(description="Their ids.")]


class Step(Shape, frozen=True, kw_only=True):
    """What is written: a field from one value to another; with `element`, whether it is there before and after."""

    field: str
    before: Any
    after: Any
    element: Any | UnsetType = UNSET


class Preview(Shape, frozen=True, kw_only=True):
    """What a decision would do. `seen` stands for what it rests on; hand it back when you decide."""

    conflict: str
    document: str
    field: str
    live: Any
    desired: Any
    token: str | None
    wanted: Any
    steps: Annotated[list[Step], Meta(description="None: Windchill has what is wanted.")]
    events: Annotated[list[dict[str, Any]], Meta(description="As they would be appended, but for id and time.")]
    command: Annotated[str, Meta(description="The command line that does the same.")]
    seen: str


class Resolved(Shape, frozen=True, kw_only=True):
    """A decision that is in the log."""

    conflict: str
    document: str
    field: str
    wanted: Any
    live: Any
    events: list[dict[str, Any]]


class ResolvedMany(Shape, frozen=True, kw_only=True):
    """Conflicts that were decided at once, and those that were left, with why."""

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


def settled(found: actions.ResolvedMany) -> ResolvedMany:
    """Return what was decided at once."""
    return shape.of(ResolvedMany, found, decided=[resolved(one) for one in found.decided])
