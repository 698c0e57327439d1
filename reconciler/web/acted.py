"""Acted: the shapes of what is done through the API, and of the record of it. Members are only ever added."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from reconciler.core.decode import KEY_LENGTH_MAX
from reconciler.model import act as acts
from reconciler.model import instant
from reconciler.model.value import MISSING
from reconciler.ports import RESOLVED_MAX
from reconciler.web.shapes import Instant, Next, Shape

REASON_MAX = 2000

Reason = Annotated[str, Meta(max_length=REASON_MAX, description="Why; kept with the record of it.")]
Seen = Annotated[str, Meta(max_length=100, description="`seen` of the preview that was decided on.")]


class Given(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is sent: anything that is not a member is refused by name."""


class Nothing(Given, frozen=True, kw_only=True):
    """No member is known."""


class WithReason(Given, frozen=True, kw_only=True):
    """Why."""

    reason: Reason = ""


class Releasing(WithReason, frozen=True, kw_only=True):
    """What is released."""

    fields: Annotated[
        list[Annotated[str, Meta(max_length=1000)]], Meta(max_length=100, description="Only these; none: all.")
    ] = []


class Taking(Given, frozen=True, kw_only=True):
    """
    Which value a field gets: the desired one (`ours`), the live one (`theirs`), or `value`. `accept`, of a contested
    field: what Windchill stores counts as the desired value from now on; `retry`: the desired one is written again.
    """

    take: Literal["value", *acts.WAYS]  # type: ignore[valid-type]  # each name of a way
    value: Any | UnsetType = UNSET


class Resolving(Taking, frozen=True, kw_only=True):
    """A decision on a conflict."""

    reason: Reason = ""
    seen: Seen | None = None


class ResolvingMany(WithReason, frozen=True, kw_only=True):
    """A decision on the open conflicts of one field, or of one rule of the policy."""

    take: Literal[*acts.WAYS]  # type: ignore[valid-type]  # each name of a way
    field: str | None = None
    rule: str | None = None
    limit: Annotated[
        int, Meta(ge=1, le=RESOLVED_MAX, description="How many, at most; fewer where values are large.")
    ] = 100


class Discarding(Given, frozen=True, kw_only=True):
    """Why nobody will miss it."""

    reason: Annotated[str, Meta(min_length=1, max_length=REASON_MAX)]


class Resending(WithReason, frozen=True, kw_only=True):
    """A mended event: a JSON object as schemas/event.schema.json describes it."""

    event: msgspec.Raw


class Comparing(Given, frozen=True, kw_only=True):
    """What is compared."""

    documents: Annotated[
        Annotated[list[Annotated[str, Meta(max_length=KEY_LENGTH_MAX)]], Meta(max_length=1000)] | None,
        Meta(description="Only these; null: every document."),
    ] = None


class Compared(Shape, frozen=True, kw_only=True):
    """How many documents were made due; those that wait after trouble, or are paused, are none of them."""

    documents: int


class Done(Shape, frozen=True, kw_only=True):
    """What the act was done on."""

    done: list[str]


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


class Settled(Shape, frozen=True, kw_only=True):
    """Conflicts that were decided at once, and those that were left, with why."""

    decided: list[Resolved]
    left: dict[str, str]
    more: bool


class Act(Shape, frozen=True, kw_only=True):
    """What somebody did."""

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


class ActPage(Shape, frozen=True, kw_only=True):
    """Acts, newest first."""

    items: list[Act]
    next: Next


def preview(found: acts.Preview) -> Preview:
    """Return a preview."""
    steps = [
        Step(
            field=step.field,
            before=step.before,
            after=step.after,
            element=UNSET if step.element is MISSING else step.element,
        )
        for step in found.steps
    ]
    return Preview(
        conflict=found.conflict,
        document=found.document,
        field=found.field,
        live=found.live,
        desired=found.desired,
        token=found.token,
        wanted=found.wanted,
        steps=steps,
        events=list(found.events),
        command=found.command,
        seen=found.seen,
    )


def resolved(found: acts.Resolved) -> Resolved:
    """Return a decision."""
    return Resolved(
        conflict=found.conflict,
        document=found.document,
        field=found.field,
        wanted=found.wanted,
        live=found.live,
        events=list(found.events),
    )


def act(found: acts.Act) -> Act:
    """Return an act."""
    return Act(
        id=found.id,
        at=instant.from_us(found.at_us),
        who=found.who,
        role=found.role,
        issuer=found.issuer or None,
        kind=found.kind,
        target=found.target,
        document=found.document or None,
        details=found.details,
        result=found.result,
    )
