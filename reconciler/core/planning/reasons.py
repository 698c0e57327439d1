"""Reasons in words: one line that says why a field was decided as it was."""

from collections.abc import Iterable

from reconciler.core.folding import fold
from reconciler.model.plan import Reason, ReasonCode, TieBreak

_TEXTS = {
    ReasonCode.AGREED: "both sides agree",
    ReasonCode.OURS: "only events changed it",
    ReasonCode.THEIRS: "only Windchill changed it",
    ReasonCode.BOTH: "events and Windchill both changed it",
    ReasonCode.NEITHER: "nothing changed since Windchill's value was kept",
    ReasonCode.ADOPTED_AGREED: "first seen, both sides agree",
    ReasonCode.ADOPTED_OURS: "first seen, Windchill's value is older or was expected",
    ReasonCode.ADOPTED_MODIFIED_SINCE: "first seen, the document was modified after the event",
    ReasonCode.ADOPTED_UNTIMED: "first seen, the server does not say when the document was modified",
    ReasonCode.HIDDEN: "the server hides this field's value, so a write would replace a value we can't see",
    ReasonCode.READ_ONLY: "it identifies the document, or only the server sets it, so no write can change it: release"
    " the field",
    ReasonCode.NOT_AN_OBJECT: "`{about}` is not an object in Windchill, and a write within it would replace its value",
    ReasonCode.GROUP: "it is a group of fields, so events must name its fields, as in `{about}`; to drop this claim:"
    " {message}",
    ReasonCode.CROWDED: f"more than {fold.EVENTS_MAX} events claim it for one `time` without a `sequence` to rank them:"
    " have their source send finer times, or a sequence",
    ReasonCode.REFUSED: "Windchill refused it: {message}",
    ReasonCode.CONTESTED: "Windchill does not keep it: {message}",
}
_TIE_BREAKS = {
    TieBreak.BLANK: "the field was blank",
    TieBreak.FILLED: "the field was not blank",
    TieBreak.EVENT: "the event is later",
    TieBreak.DOCUMENT: "the document was modified later",
    TieBreak.UNTIMED: "the server does not say when the document was modified",
}


def text(reasons: Iterable[Reason], *, later: bool = False) -> str:
    """Return why a field was decided so, on one line; `later`: it goes out in a separate write."""
    said = "; ".join(dict.fromkeys(map(_line, reasons)))
    return f"{said}; it goes out in a separate write after this one" if later else said


def codes(reasons: Iterable[Reason]) -> list[str]:
    """Return the stable codes of reasons."""
    return [*{reason.code.value: None for reason in reasons}]


def _line(reason: Reason) -> str:
    said = _TEXTS[reason.code].format(about=reason.about, message=reason.message)
    if reason.overlap:
        said += f", on_overlap = {reason.overlap}"
    if reason.tie_break is not None:
        said += f", {_TIE_BREAKS[reason.tie_break]}"
    return f"{said}: {reason.element}" if reason.element else said
