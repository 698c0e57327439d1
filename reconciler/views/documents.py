"""Documents: list rows, and one document with its fields."""

from collections.abc import Iterable
from typing import Annotated, TypeVar

import msgspec
from msgspec import UNSET, Meta

from reconciler.core.folding import fold
from reconciler.core.planning import elements, reasons
from reconciler.model import action, desired, document, instant, policy
from reconciler.model.audit import AuditRecord, Verdict
from reconciler.model.stamp import Stamp
from reconciler.model.value import MISSING
from reconciler.views import actions, shape
from reconciler.views.actions import By
from reconciler.views.shape import Instant, Next, Shape, Value

DECIDED_IN = 20  # newest records searched for the last decision on a field


class Origin(Shape, frozen=True, kw_only=True):
    """An event and its place in the log."""

    event: str
    source: str
    actor: str | None
    reason: str | None
    time: str
    sequence: str | None
    topic: str
    partition: int
    offset: int


_Said = TypeVar("_Said", bound=Origin)


class Claim(Origin, frozen=True, kw_only=True):
    """What one event does to a field: set or release it, or add or remove an element."""

    kind: str
    value: Value = UNSET
    element: Value = UNSET
    expect: Value = UNSET


class Decision(Shape, frozen=True, kw_only=True):
    """The last decision on a field."""

    decision: str
    reason: str
    at: Instant
    audit: int
    event: str
    result: str
    token_before: str | None
    token_after: str | None


class Field(Shape, frozen=True, kw_only=True):
    """A field with its desired, live and last agreed value, its events and its rule."""

    field: str
    managed: bool
    desired: Value = UNSET
    live: Value = UNSET
    base: Value = UNSET
    claims: list[Claim]
    rule: str
    strategy: str
    decision: Decision | None
    conflict: Annotated[str | None, Meta(description="The id of the open conflict on this field.")]


class DocumentRow(Shape, frozen=True, kw_only=True):
    """A document in a list."""

    document: str
    status: str
    reason: str | None
    lane: str
    due_at: Instant | None
    pending_since: Instant | None
    attempts: int
    conflicts: Annotated[int, Meta(description="Number of attempts that met a version conflict.")]
    token: str | None
    modified_at: Instant | None
    modified_by: str | None


class DocumentPage(Shape, frozen=True, kw_only=True):
    """Documents in the order of their keys."""

    items: list[DocumentRow]
    next: Next


class Document(DocumentRow, frozen=True, kw_only=True):
    """One document with its fields."""

    paused: Annotated[By | None, Meta(description="Who paused the document, while it is paused.")]
    released: Annotated[str | None, Meta(description="When the whole document was released.")]
    fields: list[Field]


class Superseded(Shape, frozen=True, kw_only=True):
    """Events that changed nothing: how many, the last one, and the event that it lost to."""

    events: int
    last: Origin
    by: Origin


def row(found: document.Document) -> DocumentRow:
    """Return a document as a list row."""
    return shape.of(DocumentRow, found, **_standing(found))


def whole(
    found: document.Document,
    trail: Iterable[AuditRecord],
    rules: policy.Policy,
    paused: action.OperatorAction | None = None,
) -> Document:
    """Return a document with its fields; `trail` are its newest audit records."""
    decided: dict[str, tuple[AuditRecord, Verdict]] = {}
    for record in sorted(trail, key=lambda one: one.id, reverse=True):
        for verdict in record.decisions:
            decided.setdefault(verdict.field, (record, verdict))
    released = found.desired.released
    return shape.of(
        Document,
        found,
        **_standing(found),
        released=None if released is None else released.time,
        paused=actions.by(paused),
        fields=[_field(found, name, decided.get(name), rules) for name in sorted(found.desired.fields)],
    )


def superseded(found: document.Superseded | None) -> Superseded | None:
    """Return the events that changed nothing."""
    if found is None:
        return None
    return Superseded(events=found.count, last=_from(Origin, found.last), by=_from(Origin, found.by))


def _standing(found: document.Document) -> dict[str, object]:
    snapshot = found.agreement.snapshot
    return {
        "document": found.key,
        "status": found.status.value,
        "reason": found.reason or None,
        "lane": found.lane.name.lower(),
        "due_at": shape.at(found.due_us),
        "pending_since": shape.at(found.pending_since_us),
        "token": None if snapshot is None else snapshot.token,
        "modified_at": None if snapshot is None else snapshot.modified_at,
        "modified_by": None if snapshot is None else snapshot.modified_by,
    }


def _field(
    found: document.Document, name: str, decided: tuple[AuditRecord, Verdict] | None, rules: policy.Policy
) -> Field:
    field, snapshot = found.desired.fields[name], found.agreement.snapshot
    agreed = found.agreement.base.fields.get(name)
    managed = fold.is_managed(field)
    rule = rules.rule(name, None if snapshot is None else snapshot.type)
    return Field(
        field=name,
        managed=managed,
        desired=_desired(field) if managed else UNSET,
        live=shape.known(MISSING if snapshot is None else snapshot.value(name)),
        base=shape.known(elements.known(agreed)),
        claims=list(_claims(field)),
        rule=rule.name if decided is None else decided[1].rule,
        strategy=rule.strategy.value if decided is None else decided[1].strategy,
        decision=None if decided is None else _decision(*decided),
        conflict=next((conflict.id for conflict in found.agreement.held if conflict.field == name), None),
    )


def _desired(field: desired.Field) -> object:
    """Return the desired value; for a list with claims on elements only, the elements to add and to remove."""
    if field.register is not None and field.register.managed:
        return elements.whole(field, ())
    said = sorted(field.elements.items())
    return {
        verb: [msgspec.json.decode(text) for text, element in said if element.present is present]
        for verb, present in (("add", True), ("remove", False))
    }


def _claims(field: desired.Field) -> Iterable[Claim]:
    register = field.register
    if register is not None:
        kind, value = ("set", register.value) if register.managed else ("release", UNSET)
        expect = register.expect[0] if register.expect else UNSET
        yield _from(Claim, register.stamp, register, kind=kind, value=value, element=UNSET, expect=expect)
    for text, element in sorted(field.elements.items()):
        kind, value = "add" if element.present else "remove", msgspec.json.decode(text)
        yield _from(Claim, element.stamp, element, kind=kind, value=UNSET, element=value, expect=UNSET)


def _from(
    said: type[_Said], stamp: Stamp, claim: desired.Register | desired.Element | None = None, **members: object
) -> _Said:
    return shape.of(
        said,
        stamp,
        event=stamp.id,
        actor=(claim and claim.actor) or None,
        reason=(claim and claim.reason) or None,
        sequence=stamp.sequence or None,
        **members,
    )


def _decision(record: AuditRecord, verdict: Verdict) -> Decision:
    return Decision(
        decision=verdict.verb,
        reason=reasons.text(verdict.reasons, later=verdict.later),
        at=instant.from_us(record.at_us),
        audit=record.id,
        event=verdict.event,
        result=record.result,
        token_before=record.snapshot.token,
        token_after=record.token_after,
    )
