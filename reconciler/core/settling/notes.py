"""Notes: what caused a write, in a line for whoever reads the document's history in Windchill."""

from collections.abc import Callable, Sequence

from reconciler.model.desired import Desired, Field
from reconciler.model.plan import Decision, Patch
from reconciler.model.policy import OPERATORS
from reconciler.model.stamp import Stamp

CHARACTERS_MAX = 250  # what fits a check-in comment everywhere
_REASON_MAX = 60  # of one event, where there is no room for all that is said
_SHORT = 4  # letters: such a name of a system is an abbreviation

_Asking = tuple[Stamp, Sequence[Decision]]


def of(desired: Desired, plan: Patch) -> str:
    """
    Return which systems ask for a patch by which events, newest first: `ERP: ECN-2231 approved (Owner, CostCenter)`.

    An event goes by the reason that it gave, or else by its id. What does not fit is left out in order of worth: the
    fields, which the iteration shows anyway, the ends of long reasons, then the oldest events but for their number.
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
    """Return what people call the system that an event comes from: `//erp/prod` is `ERP`."""
    if source == OPERATORS:
        return "Operator"
    name = source.partition("//")[2].partition("/")[0] or source
    return name.upper() if name.isalpha() and len(name) <= _SHORT else name


def _joined(askings: Sequence[_Asking], said: Callable[[_Asking], str]) -> str:
    """Return the events by system, each system named once where its events stand together."""
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
    claims = [claim for claim in (field.register, *field.elements.values()) if claim is not None]
    return next((claim.reason for claim in claims if claim.stamp == stamp and claim.reason), "")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _stamp(asking: _Asking) -> Stamp:
    return asking[0]
