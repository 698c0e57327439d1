"""Shapes: what the API says, member by member. The OpenAPI document is made from them; members are only ever added."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

Instant = Annotated[str, Meta(description="RFC 3339, UTC, microseconds.", extra_json_schema={"format": "date-time"})]
Next = Annotated[str | None, Meta(description="`after` of the next page, however few are on this; null: the last.")]
Value = Annotated[Any, Meta(description="Any JSON value; left out where none is known.")]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What all have in common."""


class RefusedEvent(Shape, frozen=True, kw_only=True):
    """An event that can't be used; `number` counts those of the request from 0."""

    number: int
    reason: str


class Problem(Shape, frozen=True, kw_only=True):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str | UnsetType = UNSET
    errors: list[RefusedEvent] | UnsetType = UNSET
    preview: Annotated[Any | UnsetType, Meta(description="With 409: what a decision would do now.")] = UNSET


# -------------------------------------------------------------------------------------------------------------- events


class AppendedEvent(Shape, frozen=True, kw_only=True):
    """An event that the log has acknowledged."""

    id: str
    document: str
    topic: str


class Appended(Shape, frozen=True, kw_only=True):
    """What was appended, in the order it was sent."""

    items: list[AppendedEvent]


# -------------------------------------------------------------------------------------------------------------- status


class LogPartition(Shape, frozen=True, kw_only=True):
    """How far one partition of the change log is folded."""

    topic: str
    partition: int
    position: int
    end: int | None
    lag: int | None


class Status(Shape, frozen=True, kw_only=True):
    """Where everything stands."""

    version: str
    phase: Annotated[str, Meta(description="starting, recovering, connecting, ready or stopping.")]
    windchill: Annotated[str, Meta(description="up, down or maintenance.")]
    maintenance: bool
    breaker: Annotated[str, Meta(description="closed, open or half-open: whether Windchill is asked.")]
    folding_waits: Annotated[str | None, Meta(description="Why no event is folded for now; null: they are.")]
    in_flight: int
    in_flight_limit: float
    documents: Annotated[dict[str, int], Meta(description="How many documents, by status.")]
    oldest_pending_at: Instant | None
    oldest_pending_seconds: float | None
    conflicts: Annotated[int, Meta(description="Open ones.")]
    dead_letters: int
    comparisons_due: Annotated[int, Meta(description="Documents that are to be compared with Windchill now.")]
    queue: Annotated[dict[str, int], Meta(description="Documents that wait in memory, by lane.")]
    log_reachable: bool
    log: list[LogPartition]


# ----------------------------------------------------------------------------------------------------------- documents


class Claim(Shape, frozen=True, kw_only=True):
    """What one event says of a field: set it, release it, or add or remove an element."""

    kind: str
    value: Value = UNSET
    element: Value = UNSET
    expect: Value = UNSET
    event: str
    source: str
    actor: str | None
    reason: str | None
    time: str
    sequence: str | None
    topic: str
    partition: int
    offset: int


class Decision(Shape, frozen=True, kw_only=True):
    """What was last decided on a field."""

    decision: str
    reason: str
    at: Instant
    audit: int
    event: str
    result: str
    token_before: str | None
    token_after: str | None


class Field(Shape, frozen=True, kw_only=True):
    """A field on all three sides, with where its value comes from and who decides."""

    field: str
    managed: bool
    desired: Value = UNSET
    live: Value = UNSET
    base: Value = UNSET
    claims: list[Claim]
    rule: str
    strategy: str
    decision: Decision | None
    conflict: Annotated[str | None, Meta(description="The id of the open conflict on it.")]


class DocumentRow(Shape, frozen=True, kw_only=True):
    """A document as it is listed."""

    document: str
    status: str
    reason: str | None
    lane: str
    due_at: Instant | None
    pending_since: Instant | None
    attempts: int
    conflicts: Annotated[int, Meta(description="Attempts that met a version conflict.")]
    token: str | None
    modified_at: Instant | None
    modified_by: str | None


class DocumentPage(Shape, frozen=True, kw_only=True):
    """Documents in the order of their keys."""

    items: list[DocumentRow]
    next: Next


class By(Shape, frozen=True, kw_only=True):
    """Who did something, when and why; `act` is its number in the record of acts."""

    act: int
    who: str
    role: str
    issuer: str | None
    at: Instant
    kind: str
    reason: str | None


class Document(DocumentRow, frozen=True, kw_only=True):
    """One document with its fields."""

    paused: Annotated[By | None, Meta(description="Who paused it, while it is paused.")]
    released: Annotated[str | None, Meta(description="Since when the whole document is not managed.")]
    fields: list[Field]


# ------------------------------------------------------------------------------------------------------- story, audit


class Reference(Shape, frozen=True, kw_only=True):
    """What a sentence rests on: an event, a record's place, a rule, a token, an audit record, a conflict, a command."""

    kind: str
    value: str


class Sentence(Shape, frozen=True, kw_only=True):
    """One thing that is told. `kind` is asked, shown, decided, answered, again, stands, waits or clashes."""

    kind: str
    field: str | None
    text: str
    references: list[Reference]


class Chapter(Shape, frozen=True, kw_only=True):
    """One attempt, or several that came to the same."""

    title: str
    at: Instant
    until: Instant
    result: str
    audit: list[int]
    sentences: list[Sentence]


class Story(Shape, frozen=True, kw_only=True):
    """How a document's fields stand, and the chapters that led there, oldest first."""

    document: str
    now: list[Sentence]
    chapters: list[Chapter]
    left_out: Annotated[int, Meta(description="Earlier chapters that are not told.")]
    older: Annotated[bool, Meta(description="Whether there are decisions older than all that was read for this.")]


class Verdict(Shape, frozen=True, kw_only=True):
    """What was decided on one field, and on what."""

    field: str
    decision: str
    desired: Any
    live: Any
    base: Value = UNSET
    reason: str
    rule: str
    strategy: str
    event: str
    source: str


class AuditRow(Shape, frozen=True, kw_only=True):
    """One attempt."""

    id: int
    at: Instant
    document: str
    cause: str
    attempt: int
    result: str
    repeats: Annotated[int, Meta(description="How often the document's record before came again without a record.")]
    written: list[str]
    status: Annotated[int | None, Meta(description="The HTTP status that Windchill answered with.")]
    message: str | None
    token_before: str | None
    token_after: str | None
    policy: Annotated[str, Meta(description="The digest of the policy that decided.")]
    decisions: list[Verdict]


class AuditPage(Shape, frozen=True, kw_only=True):
    """Attempts, newest first."""

    items: list[AuditRow]
    next: Next


# --------------------------------------------------------------------------------------------- what waits for a person


class Conflict(Shape, frozen=True, kw_only=True):
    """A field that waits for a person. `live` is what Windchill had when this was opened."""

    id: str
    document: str
    field: str
    base: Any
    has_base: bool
    desired: Any
    live: Any
    opened_at: Instant
    closed_at: Instant | None
    reason: str
    hold: Annotated[str, Meta(description="decide, refused or contested: which ways out there are.")]
    event: str
    source: str


class ConflictPage(Shape, frozen=True, kw_only=True):
    """Conflicts, oldest first."""

    items: list[Conflict]
    next: Next


class DeadLetterRow(Shape, frozen=True, kw_only=True):
    """A record of the change log that could not be used."""

    id: str
    reason: str
    stage: str
    status: Annotated[str, Meta(description="open, replayed or discarded.")]
    topic: str
    partition: int
    offset: int
    refused_at: Instant
    recorded_at: Instant | None


class DeadLetterPage(Shape, frozen=True, kw_only=True):
    """Dead letters, oldest first."""

    items: list[DeadLetterRow]
    next: Next


class Content(Shape, frozen=True, kw_only=True):
    """Bytes as they were, or their beginning."""

    base64: str
    bytes: Annotated[int, Meta(description="How many there are in all.")]
    truncated: bool


class Header(Shape, frozen=True, kw_only=True):
    """A header of a record."""

    name: str
    value: Content | None


class DeadLetter(DeadLetterRow, frozen=True, kw_only=True):
    """A dead letter with its original bytes."""

    key: Content | None
    value: Content | None
    headers: list[Header]
    headers_left_out: int
    settled: Annotated[By | None, Meta(description="Who discarded, replayed or mended it.")]


class Period(Shape, frozen=True, kw_only=True):
    """Version conflicts of 24 clock hours; attempts on a document count from its first version conflict on."""

    conflicts: int
    attempts: int
    rate: float


class HotSpot(Shape, frozen=True, kw_only=True):
    """A document or a field, and how often somebody else was quicker there."""

    document: str | UnsetType = UNSET
    field: str | UnsetType = UNSET
    conflicts: int
    attempts: int
    rate: float
    day: Annotated[Period, Meta(description="The present clock hour and the 23 before it.")]
    day_before: Annotated[Period, Meta(description="The 24 hours before those.")]
    hours: Annotated[list[int], Meta(description="Version conflicts of each clock hour of both days, oldest first.")]
    trend: Annotated[str, Meta(description="quiet, too few to tell, new, rising, falling or steady.")]
    advice: str


class HotSpots(Shape, frozen=True, kw_only=True):
    """Hot spots, the highest rate of the last day first; a rate of few attempts counts for less."""

    items: list[HotSpot]


# ------------------------------------------------------------------------------------------------------- configuration


class Rule(Shape, frozen=True, kw_only=True):
    """One row of the policy."""

    name: str
    fields: tuple[str, ...]
    strategy: str
    on_overlap: str
    on_adopt: str | None
    list: str
    normalise: tuple[str, ...]
    types: tuple[str, ...]
    sources: tuple[str, ...]


class Policy(Shape, frozen=True, kw_only=True):
    """The rules in order; the first that covers a field decides it, and the fallback covers the rest."""

    digest: str
    rules: list[Rule]
    fallback: Rule


class Setting(Shape, frozen=True, kw_only=True):
    """One effective value; `origin` is "default", "file", "env VARIABLE" or "secret file PATH"."""

    section: str
    key: str
    value: Any
    origin: str


class Settings(Shape, frozen=True, kw_only=True):
    """Every effective value; secrets are masked."""

    items: list[Setting]
