"""Notes: what caused a write, in a line for whoever reads the document's history in Windchill."""

from reconciler.model.desired import Desired, Field
from reconciler.model.plan import Decision, Patch
from reconciler.model.stamp import Stamp

CHARACTERS_MAX = 250  # what fits a check-in comment everywhere
_BEGINS = "Reconciler: "


def of(desired: Desired, plan: Patch) -> str:
    """Return the fields of a patch with the events that ask for them and the reasons they gave, newest event first."""
    asked: dict[Stamp, list[Decision]] = {}
    for decision in plan.decisions:
        if decision.field in plan.fields:
            asked.setdefault(decision.stamp, []).append(decision)
    newest_first = sorted(asked, reverse=True)
    note = _BEGINS + "; ".join(_line(stamp, asked[stamp], desired) for stamp in newest_first)
    note = " ".join(note.split())  # a reason may hold line ends
    return note if len(note) <= CHARACTERS_MAX else note[: CHARACTERS_MAX - 1] + "…"


def _line(stamp: Stamp, decisions: list[Decision], desired: Desired) -> str:
    fields = ", ".join(decision.field for decision in decisions)
    reason = next(filter(None, (_reason(desired.fields.get(d.field), stamp) for d in decisions)), "")
    return f"{fields} by event {stamp.id} of {stamp.source}" + (f" ({reason})" if reason else "")


def _reason(field: Field | None, stamp: Stamp) -> str:
    if field is None:
        return ""
    claims = [claim for claim in (field.register, *field.elements.values()) if claim is not None]
    return next((claim.reason for claim in claims if claim.stamp == stamp and claim.reason), "")
