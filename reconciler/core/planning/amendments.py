"""
Amendments: what operators change of many claims at once, as the data of events, and as rows that they see first.

Rules of this file:
1. A value that is replaced in Windchill is named in `expect`, so that an edit that comes between is not overwritten.
2. A field that can't be amended is left, with the reason; none is left unsaid.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import attrs
import msgspec

from reconciler.core.folding import fold, normalise
from reconciler.model import instant
from reconciler.model.audit import AttemptResult, AuditRecord
from reconciler.model.desired import Desired, Field
from reconciler.model.document import Document
from reconciler.model.policy import ListMode, Normaliser, Policy
from reconciler.model.snapshot import Snapshot
from reconciler.model.stamp import Stamp
from reconciler.model.value import MISSING, Json, same

_FIELDS = 200  # of one event, which may have 256

Data = Mapping[str, object]


@attrs.frozen
class Amended:
    """One field: the value that it has in Windchill or in the log, the one that it gets, or why it is left."""

    document: str
    field: str
    before: Json
    after: Json
    left: str = ""


@attrs.frozen
class Amendment:
    """What is said of one document: the data of each event, in order; none if all of it is left."""

    document: str
    rows: tuple[Amended, ...]
    said: tuple[Data, ...]
    asked_us: int  # the time of the newest claim that it follows
    releases: bool = False  # the last event releases the document
    since_us: int | None = None  # since when it holds; None: from now on


def newest_us(desired: Desired, names: Iterable[str]) -> int:
    """Return the time of the newest claim on some fields, 0 without any."""
    stamps = [fold.newest_stamp(desired.fields[name]) for name in names if name in desired.fields]
    times = [stamp.time for stamp in stamps] + ([] if desired.released is None else [desired.released.time])
    return max(map(instant.to_us, times), default=0)


# --------------------------------------------------------------------------------------------------------------- rename


def clash(old: Desired, new: Desired) -> str | None:
    """Return a field that both rows claim with different values, or a group that one has fields of; None: they join."""
    theirs = fold.managed(new)
    for name, field in sorted(fold.managed(old).items()):
        if name in theirs and not _says_the_same(field, theirs[name]):
            return name
        if any(name.startswith(f"{other}.") or other.startswith(f"{name}.") for other in theirs):
            return name
    return None


def renamed(document: Document, to: str, new: Desired) -> tuple[Amendment, Amendment]:
    """Return what is said of `to`, all that `document` is claimed to be, and of `document`, that it is released."""
    managed = fold.managed(document.desired)
    missing = {name: field for name, field in sorted(managed.items()) if name not in fold.managed(new)}
    rows = [Amended(to, name, None, _shown(field)) for name, field in missing.items()]
    asked_us = newest_us(document.desired, managed)
    said = (*_whole(missing), *_elements(missing))
    left = [Amended(document.key, name, _shown(field), None) for name, field in sorted(managed.items())]
    return (
        Amendment(to, tuple(rows), said, newest_us(new, missing)),
        Amendment(document.key, tuple(left), (), asked_us, releases=True),
    )


def _whole(fields: Mapping[str, Field]) -> Iterator[Data]:
    """Yield events that set whole values."""
    claims = {name: claim for name, (claim, *_) in fields.items() if claim is not None and claim.managed}
    names = list(claims)
    for start in range(0, len(names), _FIELDS):
        some = names[start : start + _FIELDS]
        expect = {name: claims[name].expect[0] for name in some if claims[name].expect}
        yield {"set": {name: claims[name].value for name in some}, "expect": expect}


def _elements(fields: Mapping[str, Field]) -> Iterator[Data]:
    """Yield an event for each field that is claimed by elements."""
    for name, field in fields.items():
        there: dict[bool, list[Json]] = {True: [], False: []}
        for text, element in field.elements.items():
            there[element.present].append(msgspec.json.decode(text))
        if field.elements:
            yield {
                "add": {name: there[True]} if there[True] else {},
                "remove": {name: there[False]} if there[False] else {},
            }


def _shown(field: Field) -> Json:
    """Return a field's value as people see it; of a list claimed by elements, those that are to be there."""
    if not field.elements:
        return None if field.register is None else field.register.value
    return [msgspec.json.decode(text) for text, element in field.elements.items() if element.present]


def _says_the_same(left: Field, right: Field) -> bool:
    if left.elements or right.elements or left.register is None or right.register is None:
        return False
    return same(left.register.value, right.register.value)


# --------------------------------------------------------------------------------------------------------------- revert


@attrs.frozen
class Batch:
    """Events of sources, by a glob, whose time is in a period: `since_us` is included, `until_us` is not."""

    source: str
    since_us: int
    until_us: int

    def has(self, stamp: Stamp) -> bool:
        """Whether a claim is of the batch."""
        return fnmatchcase(stamp.source, self.source) and self.since_us <= instant.to_us(stamp.time) < self.until_us


def touches(desired: Desired, batch: Batch) -> bool:
    """Whether a claim of a batch holds for a document now."""
    if desired.released is not None and batch.has(desired.released):
        return True
    return any(batch.has(claim.stamp) for field in desired.fields.values() for claim in field.claims)


def reverted(document: Document, records: Sequence[AuditRecord], batch: Batch, policy: Policy) -> Amendment:
    """
    Return what sets back the fields whose newest claim is of a batch; `records` are the document's, newest first.

    A field gets the value that Windchill had before the batch's first write to it. If the batch never wrote it, it is
    to stay as it is. A field that was changed since, by whomever, stays.
    """
    rows = [_reverted(document, name, records, batch, policy) for name in sorted(document.desired.fields)]
    if document.desired.released is not None and batch.has(document.desired.released):
        rows.append(
            Amended(document.key, "", None, None, "it was released, and what was asked for before is not stored")
        )
    found = tuple(row for row in rows if row is not None)
    back = [row for row in found if not row.left]
    said = tuple(_replacing(back[start : start + _FIELDS]) for start in range(0, len(back), _FIELDS))
    return Amendment(document.key, found, said, newest_us(document.desired, [row.field for row in back]))


def _reverted(
    document: Document, name: str, records: Sequence[AuditRecord], batch: Batch, policy: Policy
) -> Amended | None:
    field, snapshot = document.desired.fields[name], document.agreement.snapshot
    if not any(batch.has(claim.stamp) for claim in field.claims):
        return None
    claim = field.register
    now = None if snapshot is None else _plain(snapshot.value(name))
    if (
        claim is None
        or field.elements
        or policy.rule(name, None if snapshot is None else snapshot.type).list is ListMode.SET
    ):
        return Amended(document.key, name, now, None, "it is a list that is merged by element: set it back by hand")
    if not claim.managed:
        return Amended(document.key, name, now, None, "it was released, and what was asked for before is not stored")
    if snapshot is None:
        return Amended(document.key, name, None, None, "the document was not read yet, so its value is not known")
    return _set_back(document, name, now, _history(name, records, batch), batch)


def _set_back(document: Document, name: str, now: Json, run: Sequence[AuditRecord], batch: Batch) -> Amended | None:
    """Return the row of a field by the attempts that decided on it while its claim was of the batch, newest first."""
    agreed = document.agreement.base.fields.get(name)
    writes = [record for record in run if record.patch is not None and name in record.patch and _applied(record)]
    if not writes:
        if agreed is None or agreed.stamp is None or not batch.has(agreed.stamp):
            return Amended(document.key, name, now, now)  # it waits to be written, or was held
        if run:
            return None  # Windchill had the value already
        return Amended(document.key, name, now, None, "the value that it replaced is not recorded any more")
    if not normalise.equal(_plain(_patched(writes[0], name)), now, (Normaliser.NUMBER, Normaliser.INSTANT)):
        return Amended(document.key, name, now, None, "it was changed in Windchill since")
    former = _plain(writes[0].snapshot.value(name))
    for record in writes[1:]:
        if not normalise.equal(_plain(_patched(record, name)), former, ()):
            break  # a person changed it in between
        former = _plain(record.snapshot.value(name))
    if isinstance(former, dict) or isinstance(now, dict):
        return Amended(document.key, name, now, former, "it is a group of fields: set it back by hand")
    return None if same(former, now) else Amended(document.key, name, now, former)


def _history(name: str, records: Sequence[AuditRecord], batch: Batch) -> list[AuditRecord]:
    """Return the newest records whose claim on a field is of a batch, up to the first that is of another."""
    found = []
    for record in records:
        field = record.desired.fields.get(name)
        if field is None or not fold.is_managed(field) or not batch.has(fold.newest_stamp(field)):
            break
        found.append(record)
    return found


def _applied(record: AuditRecord) -> bool:
    return record.result in (AttemptResult.WRITTEN, AttemptResult.UNKNOWN)


def _patched(record: AuditRecord, name: str) -> Json:
    assert record.patch is not None
    return record.patch[name]


def _plain(value: object) -> Json:
    """Return a value as events say it: an enumeration that is shown as an object by its value alone."""
    return normalise.comparable(None if value is MISSING else value, (Normaliser.ENUM,))


def _replacing(rows: Sequence[Amended]) -> Data:
    return {"set": {row.field: row.after for row in rows}, "expect": {row.field: row.before for row in rows}}


# ---------------------------------------------------------------------------------------------------------------- adopt


def adopted(key: str, desired: Desired, snapshot: Snapshot, fields: Collection[str]) -> Amendment:
    """
    Return what claims the values that a document has now, of fields that nothing claims yet.

    They are claimed since the document was last modified: an event from after that, perhaps not folded yet, wins.
    """
    managed = fold.managed(desired)
    rows = [_adopted(key, name, managed, snapshot) for name in sorted(set(fields))]
    fresh = [row for row in rows if not row.left]
    said = tuple(_replacing(fresh[start : start + _FIELDS]) for start in range(0, len(fresh), _FIELDS))
    since_us = None if snapshot.modified_at is None else instant.to_us(snapshot.modified_at)
    asked_us = newest_us(desired, [row.field for row in fresh])
    return Amendment(key, tuple(rows), said, asked_us, since_us=since_us)


def _adopted(key: str, name: str, managed: Mapping[str, Field], snapshot: Snapshot) -> Amended:
    shown = snapshot.value(name)
    now = _plain(shown)
    if name in managed:
        return Amended(key, name, now, _shown(managed[name]), "an event claims it already")
    if shown is MISSING or name in snapshot.unreadable:
        return Amended(key, name, None, None, "the document shows no such field")
    if name in snapshot.read_only or name.partition(".")[0] in snapshot.read_only:
        return Amended(key, name, now, None, "Windchill lets no one write it")
    if isinstance(now, dict) or any(other.startswith(f"{name}.") or name.startswith(f"{other}.") for other in managed):
        return Amended(key, name, now, None, "it is a group of fields: name its fields")
    return Amended(key, name, now, now)
