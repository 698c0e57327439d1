"""History: what was decided on documents, attempt by attempt and as a story."""

from collections.abc import Iterable
from typing import Annotated, Any

from msgspec import UNSET, Meta

from reconciler.core.explain import narrative
from reconciler.core.planning import reasons
from reconciler.model import audit, instant
from reconciler.views import shape
from reconciler.views.shape import Instant, Next, Shape, Value

# --------------------------------------------------------------------------------------------------------------- story


class Reference(Shape, frozen=True, kw_only=True):
    """What a sentence rests on: an event, a record's place, a rule, a token, an audit record, a conflict, a command."""

    kind: str
    value: str


class Sentence(Shape, frozen=True, kw_only=True):
    """One thing that is told. `kind` is asked, acted, shown, decided, answered, again, stands, waits or clashes."""

    kind: str
    field: str | None
    text: str
    references: list[Reference]


class Chapter(Shape, frozen=True, kw_only=True):
    """One attempt, or several that came to the same; or an action of a person, for which `audit` is empty."""

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


def told(found: narrative.Story) -> Story:
    """Return a story."""
    chapters = [
        shape.of(
            Chapter,
            chapter,
            at=instant.from_us(chapter.at_us),
            until=instant.from_us(chapter.until_us),
            audit=list(chapter.records),
            sentences=_sentences(chapter.sentences),
        )
        for chapter in found.chapters
    ]
    return shape.of(Story, found, now=_sentences(found.now), chapters=chapters)


def _sentences(found: Iterable[narrative.Sentence]) -> list[Sentence]:
    return [
        shape.of(Sentence, sentence, references=[shape.of(Reference, one) for one in sentence.references])
        for sentence in found
    ]


# ------------------------------------------------------------------------------------------------------------ attempts


class Verdict(Shape, frozen=True, kw_only=True):
    """What was decided on one field, and on what."""

    field: str
    decision: str
    desired: Any
    live: Any
    base: Value = UNSET
    reason: str
    codes: Annotated[list[str], Meta(description="The reason as stable codes.")]
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


def attempt(record: audit.AuditRecord) -> AuditRow:
    """Return an attempt as it is listed."""
    return shape.of(
        AuditRow,
        record,
        at=instant.from_us(record.at_us),
        written=sorted(record.patch or {}),
        message=record.message or None,
        token_before=record.snapshot.token,
        decisions=[
            shape.of(
                Verdict,
                verdict,
                decision=verdict.verb,
                base=verdict.base if verdict.has_base else UNSET,
                reason=reasons.text(verdict.reasons, later=verdict.later),
                codes=reasons.codes(verdict.reasons),
            )
            for verdict in record.decisions
        ],
    )
