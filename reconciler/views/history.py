"""History: the attempts on documents, and a document's story in sentences."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from msgspec import UNSET, Meta

from reconciler.core.explain import narrative
from reconciler.core.planning import reasons
from reconciler.model import audit, instant
from reconciler.model.chain import CHECKPOINTS, Cut
from reconciler.views import shape
from reconciler.views.shape import Instant, Next, Shape, Value

_ARCHIVES = 3  # named at once

# --------------------------------------------------------------------------------------------------------------- story


class Reference(Shape, frozen=True, kw_only=True):
    """The evidence of a sentence: an event, a place in the log, a rule, a token, a record, a conflict or a command."""

    kind: str
    value: str


class Sentence(Shape, frozen=True, kw_only=True):
    """One thing that is told. `kind` is asked, acted, shown, decided, answered, again, stands, waits or clashes."""

    kind: str
    field: str | None
    text: str
    references: list[Reference]


class Chapter(Shape, frozen=True, kw_only=True):
    """One attempt, or several with the same result; or an operator action, with `audit` empty."""

    title: str
    at: Instant
    until: Instant
    result: str
    audit: list[int]
    sentences: list[Sentence]


class Archived(Shape, frozen=True, kw_only=True):
    """The archives that have records of before, the newest first; `explain --file` tells of one."""

    until: Annotated[Instant, Meta(description="The time of the latest record in an archive.")]
    files: list[str]
    more: Annotated[int, Meta(description="Number of older archives; `reconciler audit archives` lists them.")]


class Story(Shape, frozen=True, kw_only=True):
    """A summary of a document's fields, and the chapters that led to it, oldest first."""

    document: str
    now: list[Sentence]
    chapters: list[Chapter]
    left_out: Annotated[int, Meta(description="Number of earlier chapters left out.")]
    older: Annotated[bool, Meta(description="Whether older decisions exist that were not read for this.")]
    archived: Annotated[Archived | None, Meta(description="Where older decisions, of any document, are; null: none.")]


def archived(cuts: Sequence[Cut]) -> Archived | None:
    """Return which archives have records that are not in the store any more."""
    newest = sorted((cut for cut in cuts if cut.chain != CHECKPOINTS), key=lambda cut: cut.until_us, reverse=True)
    if not newest:
        return None
    files = [cut.file for cut in newest[:_ARCHIVES]]
    return Archived(until=instant.from_us(newest[0].until_us), files=files, more=len(newest) - len(files))


def told(found: narrative.Story, cuts: Sequence[Cut]) -> Story:
    """Return a story, of a store that has given these pieces of its trail to archives."""
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
    return shape.of(Story, found, now=_sentences(found.now), chapters=chapters, archived=archived(cuts))


def _sentences(found: Iterable[narrative.Sentence]) -> list[Sentence]:
    return [
        shape.of(Sentence, sentence, references=[shape.of(Reference, one) for one in sentence.references])
        for sentence in found
    ]


# ------------------------------------------------------------------------------------------------------------ attempts


class Verdict(Shape, frozen=True, kw_only=True):
    """A decision on one field, and its inputs."""

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
    repeats: Annotated[
        int, Meta(description="How often the previous attempt was repeated with the same result and without a record.")
    ]
    written: list[str]
    status: Annotated[int | None, Meta(description="HTTP status of Windchill's answer.")]
    message: str | None
    token_before: str | None
    token_after: str | None
    policy: Annotated[str, Meta(description="Digest of the policy in force.")]
    decisions: list[Verdict]


class AuditPage(Shape, frozen=True, kw_only=True):
    """Attempts, newest first."""

    items: list[AuditRow]
    next: Next


def attempt(record: audit.AuditRecord) -> AuditRow:
    """Return an attempt as a list row."""
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
