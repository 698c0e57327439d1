"""Observation: what would have been written to a document that is only observed, and what people did meanwhile."""

import enum
from collections.abc import Iterable

import attrs

from reconciler.core.folding import normalise
from reconciler.model.audit import AttemptResult, AuditRecord
from reconciler.model.document import Document
from reconciler.model.value import Json, or_null


class Meanwhile(enum.StrEnum):
    """What became of a field since it would have been written for the first time."""

    OPEN = "open"  # the value is still the one that we would have replaced
    SAME = "same"  # Windchill has our value now: someone did by hand what we would have done
    OTHER = "other"  # someone set another value; whether we replace it is for the policy


@attrs.frozen
class Observed:
    """A field that would have been written: our first value, what it would have replaced, and what is there now."""

    document: str
    field: str
    at_us: int
    ours: Json
    then: Json
    now: Json
    meanwhile: Meanwhile


def compared(document: Document, records: Iterable[AuditRecord]) -> list[Observed]:
    """Compare the first write of each field that did not happen with the last read; `records` are newest first."""
    first = {
        field: record
        for record in records
        if record.result is AttemptResult.WOULD_WRITE
        for field in record.patch or {}
    }
    return [_compared(document, record, field) for field, record in sorted(first.items())]


def _compared(document: Document, record: AuditRecord, field: str) -> Observed:
    assert record.patch is not None
    ours, then = record.patch[field], or_null(record.snapshot.value(field))
    last = document.agreement.snapshot or record.snapshot
    now = or_null(last.value(field))
    if normalise.equal(now, ours, ()):
        meanwhile = Meanwhile.SAME
    else:
        meanwhile = Meanwhile.OPEN if normalise.equal(now, then, ()) else Meanwhile.OTHER
    return Observed(document.key, field, record.at_us, ours, then, now, meanwhile)
