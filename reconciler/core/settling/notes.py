"""
Notes: the text that we leave in Windchill with a check-out or check-in.

A *note* is the comment of a check-in: which events caused the write, for the readers of the document's history.

A *mark* is in the note of a check-out, and proves that check-out ours:

    rec-9f86d081884c-1a2b3c4d
    └─ of the document ┘ └─ of this one write

The first part is derived from our name and the document, so even a store that was lost and rebuilt knows it. The second
part tells one check-out of ours from the next, and from a note that a later working copy has inherited.
"""

import hashlib
from collections.abc import Callable, Sequence

from reconciler.core.settling.cases import Case
from reconciler.model.desired import Desired, Field
from reconciler.model.plan import Decision, Patch
from reconciler.model.policy import OPERATORS
from reconciler.model.stamp import Stamp
from reconciler.model.value import canonical

CHARACTERS_MAX = 250  # a check-in comment of this length fits everywhere
_REASON_MAX = 60  # of one event, where there is no room for all of it
_SHORT = 4  # letters: such a name of a system is an abbreviation
_DOCUMENT_CHARACTERS = 12
_WRITE_CHARACTERS = 8

_Asking = tuple[Stamp, Sequence[Decision]]


def mark(case: Case) -> str:
    """Return the mark of a check-out that this attempt may make: a new one for each attempt."""
    key = case.document.key
    document = _digest(case.options.source, key)[:_DOCUMENT_CHARACTERS]
    return f"rec-{document}-{_digest(key, case.now_us, case.chance)[:_WRITE_CHARACTERS]}"


def of(desired: Desired, plan: Patch) -> str:
    """
    Return the systems and events behind a patch, newest first: `ERP: ECN-2231 approved (Owner, CostCenter)`.

    An event goes by its reason, or else by its id. If the note is too long, it drops first the fields, which the
    iteration shows anyway, then the ends of long reasons, then the oldest events (but keeps their number).
    """
    asked: dict[Stamp, list[Decision]] = {}
    for decision in plan.decisions:
        if decision.field in plan.fields:
            asked.setdefault(decision.stamp, []).append(decision)
    askings: list[_Asking] = sorted(asked.items(), key=_stamp, reverse=True)
    note = _joined(askings, lambda one: f"{_event(one, desired)} ({', '.join(d.field for d in one[1])})")
    if len(note) <= CHARACTERS_MAX:
        return note
    note = _joined(askings, lambda one: _event(one, desired))
    for shown in range(len(askings), 0, -1):
        if len(note) <= CHARACTERS_MAX:
            break
        more = len(askings) - shown
        note = _joined(askings[:shown], lambda one: _cut(_event(one, desired), _REASON_MAX))
        note += f"; and {more} more" if more else ""
    return _cut(note, CHARACTERS_MAX)


def system(source: str) -> str:
    """Return people's name for the system that an event comes from: `//erp/prod` is `ERP`."""
    if source == OPERATORS:
        return "Operator"
    name = source.partition("//")[2].partition("/")[0] or source
    return name.upper() if name.isalpha() and len(name) <= _SHORT else name


def _joined(askings: Sequence[_Asking], said: Callable[[_Asking], str]) -> str:
    """Return the events by system; a system is named once for several of its events in a row."""
    parts: list[str] = []
    before = ""
    for asking in askings:
        by = system(asking[0].source)
        parts.append(said(asking) if by == before else f"{by}: {said(asking)}")
        before = by
    return " ".join("; ".join(dict.fromkeys(parts)).split())  # a reason may hold line ends


def _event(asking: _Asking, desired: Desired) -> str:
    stamp, decisions = asking
    return next(filter(None, (_reason(desired.fields.get(d.field), stamp) for d in decisions)), f"event {stamp.id}")


def _reason(field: Field | None, stamp: Stamp) -> str:
    if field is None:
        return ""
    return next((claim.reason for claim in field.claims if claim.stamp == stamp and claim.reason), "")


def _digest(*parts: object) -> str:
    return hashlib.sha256(canonical([*parts]).encode()).hexdigest()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _stamp(asking: _Asking) -> Stamp:
    return asking[0]
