"""Showing: from the model's values to the API's shapes."""

import base64
from collections.abc import Iterable
from typing import Any

import msgspec

from reconciler.core import elements, fold, hotspots
from reconciler.model import desired, document, event, instant, policy, story
from reconciler.model.act import Act
from reconciler.model.audit import AuditRecord, Verdict
from reconciler.model.hotspot import HotSpot
from reconciler.model.stamp import Stamp
from reconciler.model.value import MISSING, Json, Missing
from reconciler.ports import ConflictRow
from reconciler.web import shapes

HEADERS_MAX = 100


def at(instant_us: int | None) -> str | None:
    """Return a moment that may not be known."""
    return None if instant_us is None else instant.from_us(instant_us)


# ----------------------------------------------------------------------------------------------------------- documents


def document_row(found: document.Document) -> shapes.DocumentRow:
    """Return a document as it is listed."""
    return shapes.DocumentRow(**_row(found))


def whole_document(
    found: document.Document, trail: Iterable[AuditRecord], rules: policy.Policy, paused: Act | None = None
) -> shapes.Document:
    """Return a document with its fields; `trail` are its newest audit records, newest first."""
    decided: dict[str, tuple[AuditRecord, Verdict]] = {}
    for record in trail:
        for verdict in record.decisions:
            decided.setdefault(verdict.field, (record, verdict))
    released = found.desired.released
    fields = [_field(found, name, decided.get(name), rules) for name in sorted(found.desired.fields)]
    since = None if released is None else released.time
    return shapes.Document(**_row(found), released=since, paused=by(paused), fields=fields)


def by(found: Act | None) -> shapes.By | None:
    """Return who did something."""
    if found is None:
        return None
    reason = found.details.get("reason")
    return shapes.By(
        act=found.id,
        who=found.who,
        role=found.role,
        issuer=found.issuer or None,
        at=instant.from_us(found.at_us),
        kind=found.kind,
        reason=reason if isinstance(reason, str) else None,
    )


def _row(found: document.Document) -> dict[str, Any]:
    snapshot = found.agreement.snapshot
    return {
        "document": found.key,
        "status": found.status.value,
        "reason": found.reason or None,
        "lane": found.lane.name.lower(),
        "due_at": at(found.due_us),
        "pending_since": at(found.pending_since_us),
        "attempts": found.attempts,
        "conflicts": found.conflicts,
        "token": None if snapshot is None else snapshot.token,
        "modified_at": None if snapshot is None else snapshot.modified_at,
        "modified_by": None if snapshot is None else snapshot.modified_by,
    }


def _field(
    found: document.Document, name: str, decided: tuple[AuditRecord, Verdict] | None, rules: policy.Policy
) -> shapes.Field:
    field, snapshot = found.desired.fields[name], found.agreement.snapshot
    agreed = found.agreement.base.fields.get(name)
    managed = fold.is_managed(field)
    rule = rules.rule(name, None if snapshot is None else snapshot.type)
    return shapes.Field(
        field=name,
        managed=managed,
        desired=_desired(field) if managed else msgspec.UNSET,
        live=_known(MISSING if snapshot is None else snapshot.value(name)),
        base=_known(elements.known(agreed)),
        claims=list(_claims(field)),
        rule=rule.name if decided is None else decided[1].rule,
        strategy=rule.strategy.value if decided is None else decided[1].strategy,
        decision=None if decided is None else _decision(*decided),
        conflict=next((conflict.id for conflict in found.agreement.held if conflict.field == name), None),
    )


def _known(value: Json | Missing) -> object:
    return msgspec.UNSET if value is MISSING else value


def _desired(field: desired.Field) -> object:
    """Return what a field should be in one value; of a list known by its elements only, what was said of each."""
    if field.register is not None and field.register.managed:
        return elements.whole(field, ())
    said = sorted(field.elements.items())
    return {
        verb: [msgspec.json.decode(text) for text, element in said if element.present is present]
        for verb, present in (("add", True), ("remove", False))
    }


def _claims(field: desired.Field) -> Iterable[shapes.Claim]:
    register = field.register
    if register is not None:
        kind, value = ("set", register.value) if register.managed else ("release", msgspec.UNSET)
        expect = register.expect[0] if register.expect else msgspec.UNSET
        yield _claim(kind, register.stamp, register.actor, register.reason, value=value, expect=expect)
    for text, element in sorted(field.elements.items()):
        kind = "add" if element.present else "remove"
        yield _claim(kind, element.stamp, element.actor, element.reason, element=msgspec.json.decode(text))


def _claim(kind: str, stamp: Stamp, actor: str, reason: str, **said: object) -> shapes.Claim:
    return shapes.Claim(
        kind=kind,
        event=stamp.id,
        source=stamp.source,
        actor=actor or None,
        reason=reason or None,
        time=stamp.time,
        sequence=stamp.sequence or None,
        topic=stamp.topic,
        partition=stamp.partition,
        offset=stamp.offset,
        **said,
    )


def _decision(record: AuditRecord, verdict: Verdict) -> shapes.Decision:
    return shapes.Decision(
        decision=verdict.verb,
        reason=verdict.reason,
        at=instant.from_us(record.at_us),
        audit=record.id,
        event=verdict.event,
        result=record.result,
        token_before=record.snapshot.token,
        token_after=record.token_after,
    )


# ------------------------------------------------------------------------------------------------------- story, audit


def told(found: story.Story, *, older: bool) -> shapes.Story:
    """Return a story."""
    chapters = [
        shapes.Chapter(
            title=chapter.title,
            at=instant.from_us(chapter.at_us),
            until=instant.from_us(chapter.until_us),
            result=chapter.result,
            audit=list(chapter.records),
            sentences=_sentences(chapter.sentences),
        )
        for chapter in found.chapters
    ]
    now = _sentences(found.now)
    return shapes.Story(document=found.document, now=now, chapters=chapters, left_out=found.left_out, older=older)


def _sentences(found: Iterable[story.Sentence]) -> list[shapes.Sentence]:
    return [
        shapes.Sentence(
            kind=sentence.kind,
            field=sentence.field,
            text=sentence.text,
            references=[shapes.Reference(kind=kind, value=value) for kind, value in sentence.references],
        )
        for sentence in found
    ]


def audit_row(record: AuditRecord) -> shapes.AuditRow:
    """Return an attempt as it is listed."""
    return shapes.AuditRow(
        id=record.id,
        at=instant.from_us(record.at_us),
        document=record.document,
        cause=record.cause,
        attempt=record.attempt,
        result=record.result,
        repeats=record.repeats,
        written=sorted(record.patch or {}),
        status=record.status,
        message=record.message or None,
        token_before=record.snapshot.token,
        token_after=record.token_after,
        policy=record.policy,
        decisions=[_verdict(verdict) for verdict in record.decisions],
    )


def _verdict(verdict: Verdict) -> shapes.Verdict:
    return shapes.Verdict(
        field=verdict.field,
        decision=verdict.verb,
        desired=verdict.desired,
        live=verdict.live,
        base=verdict.base if verdict.has_base else msgspec.UNSET,
        reason=verdict.reason,
        rule=verdict.rule,
        strategy=verdict.strategy,
        event=verdict.event,
        source=verdict.source,
    )


# --------------------------------------------------------------------------------------------- what waits for a person


def conflict(found: ConflictRow) -> shapes.Conflict:
    """Return a conflict."""
    said = found.conflict
    return shapes.Conflict(
        id=said.id,
        document=found.document,
        field=said.field,
        base=said.base,
        has_base=said.has_base,
        desired=said.desired,
        live=said.live,
        opened_at=instant.from_us(said.opened_at_us),
        closed_at=at(found.closed_at_us),
        reason=said.reason,
        hold=said.hold,
        event=said.stamp.id,
        source=said.stamp.source,
    )


def dead_letter_row(letter: event.DeadLetter) -> shapes.DeadLetterRow:
    """Return a dead letter as it is listed."""
    return shapes.DeadLetterRow(**_letter(letter))


def dead_letter(letter: event.DeadLetter, bytes_max: int, settled: Act | None) -> shapes.DeadLetter:
    """Return a dead letter with its bytes, of each value not more than `bytes_max`."""
    shown = letter.headers[:HEADERS_MAX]
    return shapes.DeadLetter(
        **_letter(letter),
        key=_content(letter.key, bytes_max),
        value=_content(letter.value, bytes_max),
        headers=[shapes.Header(name=name, value=_content(value, bytes_max)) for name, value in shown],
        headers_left_out=len(letter.headers) - len(shown),
        settled=by(settled),
    )


def _letter(letter: event.DeadLetter) -> dict[str, Any]:
    try:
        recorded = at(letter.timestamp * 1000) if letter.timestamp > 0 else None
    except OverflowError:  # the timestamp may be what is wrong with it
        recorded = None
    return {
        "id": letter.id,
        "reason": letter.reason,
        "stage": letter.stage,
        "status": letter.status,
        "topic": letter.place.topic,
        "partition": letter.place.partition,
        "offset": letter.place.offset,
        "refused_at": at(letter.refused_at_us),
        "recorded_at": recorded,
    }


def _content(content: bytes | None, bytes_max: int) -> shapes.Content | None:
    if content is None:
        return None
    shown = base64.b64encode(content[:bytes_max]).decode()
    return shapes.Content(base64=shown, bytes=len(content), truncated=len(content) > bytes_max)


def hot_spot(spot: HotSpot) -> shapes.HotSpot:
    """Return a hot spot."""
    where = {spot.kind: spot.name}  # kind is "document" or "field"
    return shapes.HotSpot(
        conflicts=spot.conflicts,
        attempts=spot.attempts,
        rate=hotspots.rate(spot.conflicts, spot.attempts),
        day=_period(spot.day_conflicts, spot.day_attempts),
        day_before=_period(spot.before_conflicts, spot.before_attempts),
        hours=hotspots.by_hour(spot),
        trend=hotspots.trend(spot),
        advice=hotspots.advice(spot),
        **where,
    )


def _period(conflicts: int, attempts: int) -> shapes.Period:
    return shapes.Period(conflicts=conflicts, attempts=attempts, rate=hotspots.rate(conflicts, attempts))


# ------------------------------------------------------------------------------------------------------- configuration


def rule(found: policy.Rule) -> shapes.Rule:
    """Return a row of the policy."""
    return shapes.Rule(
        name=found.name,
        fields=found.fields,
        strategy=found.strategy.value,
        on_overlap=found.on_overlap.value,
        on_adopt=None if found.on_adopt is None else found.on_adopt.value,
        list=found.list.value,
        normalise=tuple(normaliser.value for normaliser in found.normalise),
        types=found.types,
        sources=found.sources,
    )
