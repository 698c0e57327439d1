"""
Trends: version conflicts among the newest attempts, in two halves of their time.

The store counts version conflicts for ever and says nothing of when. So the trend is told from the newest audit records
alone, and from when on they are is told with it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import attrs
import msgspec

from reconciler.model import instant
from reconciler.model.audit import AuditRecord
from reconciler.web import shapes

_CLASH = "version_conflict"
_OFTEN = 0.2  # of the attempts
_FEW = 3


@attrs.frozen
class Hot:
    """A document or a field; `earlier` and `later` are its version conflicts in the two halves of the period."""

    name: str
    spot: shapes.HotSpot
    earlier: int
    later: int
    trend: str
    advice: str


@attrs.frozen
class Period:
    """The time that trends are told of."""

    since: str
    until: str
    attempts: int


def period(trail: Sequence[AuditRecord]) -> Period | None:
    """Return what time the records, newest first, are of."""
    if not trail:
        return None
    return Period(instant.from_us(trail[-1].at_us), instant.from_us(trail[0].at_us), len(trail))


def of_documents(spots: Iterable[shapes.HotSpot], trail: Sequence[AuditRecord]) -> list[Hot]:
    """Return the documents among the hot spots."""
    halves = [Counter(record.document for record in half) for half in _halves(trail)]
    return [
        _hot(spot.document, spot, halves, _advice_on_document(spot))
        for spot in spots
        if spot.document is not msgspec.UNSET
    ]


def of_fields(spots: Iterable[shapes.HotSpot], trail: Sequence[AuditRecord]) -> list[Hot]:
    """Return the fields among the hot spots."""
    halves = [
        Counter(verdict.field for record in half for verdict in record.decisions if verdict.verb == "write")
        for half in _halves(trail)
    ]
    return [_hot(spot.field, spot, halves, _advice_on_field(spot)) for spot in spots if spot.field is not msgspec.UNSET]


def _halves(trail: Sequence[AuditRecord]) -> tuple[list[AuditRecord], list[AuditRecord]]:
    """Return the attempts that met a version conflict, of the earlier and of the later half of the time."""
    if not trail:
        return [], []
    middle_us = (trail[0].at_us + trail[-1].at_us) // 2
    clashed = [record for record in trail if record.result == _CLASH]
    return (
        [record for record in clashed if record.at_us <= middle_us],
        [record for record in clashed if record.at_us > middle_us],
    )


def _hot(name: str, spot: shapes.HotSpot, halves: Sequence[Counter[str]], advice: str) -> Hot:
    earlier, later = (half[name] for half in halves)
    if earlier + later < _FEW:
        trend = "quiet" if not earlier + later else "too few to tell"
    elif later > earlier * 1.5:
        trend = "rising"
    elif earlier > later * 1.5:
        trend = "falling"
    else:
        trend = "steady"
    return Hot(name, spot, earlier, later, trend, advice)


def _advice_on_document(spot: shapes.HotSpot) -> str:
    if spot.rate < _OFTEN:
        return "Nothing to do: collisions are settled by trying again."
    return (
        "Somebody edits it while events come: slow the source for this document, or pause it until they are done. "
        "If it is a program, have it append events too."
    )


def _advice_on_field(spot: shapes.HotSpot) -> str:
    if spot.rate < _OFTEN:
        return "Nothing to do: collisions are settled by trying again."
    return (
        'Two write it. Give it to one of them by a rule (external or preserve); for a list use list = "set", so that '
        "elements are merged; if it says two things, split it into two fields; or have the source send less often."
    )
