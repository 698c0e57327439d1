"""
Phrases: the sentences of the narrative, made from records, reasons and values.

Rules of this file:
1. Text from outside enters a sentence only through `safe`, `quoted` or `value`: invisible characters are spelled out,
   long text is cut.
2. A sentence words the recorded reason and never judges it again.
"""

import json
from collections.abc import Iterable, Mapping, Sequence

import attrs

from reconciler.core.planning import reasons as wording
from reconciler.model import instant
from reconciler.model.audit import AttemptResult, AuditRecord, Verdict
from reconciler.model.desired import Element, Field, Register
from reconciler.model.plan import Reason, ReasonCode, TieBreak
from reconciler.model.policy import OPERATORS
from reconciler.model.stamp import Stamp
from reconciler.model.value import canonical

_VALUE_MAX = 60
_TEXT_MAX = 200
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))

STRATEGIES = {
    "external": "the log wins",
    "preserve": "a user's edit stays until a newer event",
    "merge": "the only side that changed it wins",
    "newest": "the later change wins",
    "hold": "a person decides about every user's edit",
    "fill": "only blank fields are written",
    "ignore": "never managed",
}
CAUSES = {
    "asked": "a person asked for a retry",
    "operator": "an operator asked for a new look",
    "event": "an event arrived",
    "retry": "retried",
    "resync": "compared again",
    "replay": "the log was replayed",
}
_OVERLAPS = {
    "hold": "a person decides",
    "external": "the log wins",
    "preserve": "the user's edit stays",
    "newest": "the later change wins",
}
_TIE_BREAKS = {
    TieBreak.BLANK: "The field was blank.",
    TieBreak.FILLED: "The field was not blank.",
    TieBreak.EVENT: "The event was later than the document's last modification.",
    TieBreak.DOCUMENT: "The document's last modification was later than the event.",
    TieBreak.UNTIMED: "Windchill does not say when the document was modified.",
}
_ELEMENTS = {
    ReasonCode.OURS: "a newer event names {}",
    ReasonCode.THEIRS: "{} was added or removed in Windchill since both sides agreed",
    ReasonCode.BOTH: "a newer event names {}, and it was also added or removed in Windchill",
    ReasonCode.NEITHER: "{} was left to Windchill before",
    ReasonCode.ADOPTED_OURS: "{} is seen for the first time, and was requested after the document's last modification",
}
_BY_RULE = frozenset(
    {
        *(ReasonCode.AGREED, ReasonCode.OURS, ReasonCode.THEIRS, ReasonCode.BOTH, ReasonCode.NEITHER),
        *(ReasonCode.ADOPTED_AGREED, ReasonCode.ADOPTED_OURS),
        *(ReasonCode.ADOPTED_MODIFIED_SINCE, ReasonCode.ADOPTED_UNTIMED),
    }
)
_UNSURE = "so it is not clear whose value is wanted"


def safe(text: str, most: int = _TEXT_MAX) -> str:
    """Return text from outside on one line: invisible characters spelled out, long text cut."""
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def quoted(text: str) -> str:
    """Return text from outside as a quotation."""
    return f"“{safe(text.strip())}”"


def value(json_value: object) -> str:
    """Return a JSON value as text; `null` is "an empty value"."""
    return "an empty value" if json_value is None else safe(json.dumps(json_value, ensure_ascii=False), _VALUE_MAX)


def names(fields: Iterable[str]) -> str:
    """Return names of fields as "a, b and c"."""
    *most, last = [safe(field) for field in sorted(fields)]
    return f"{', '.join(most)} and {last}" if most else last


def moment(at: int | str, now_us: int) -> str:
    """Return a moment to the second and how long ago it was."""
    at_us = instant.to_us(at) if isinstance(at, str) else at
    return f"{instant.local(at_us)} ({ago(now_us - at_us)})"


def ago(passed_us: int) -> str:
    """Return how long ago something was, in the largest unit; "in …" if it lies ahead because clocks differ."""
    passed_s = abs(passed_us) // instant.SECOND_US
    for unit, length_s in _UNITS:
        if count := passed_s // length_s:
            text = f"{count} {unit}{'s' if count > 1 else ''}"
            return f"{text} ago" if passed_us > 0 else f"in {text}"
    return "just now"


def who(source: str, actor: str) -> str:
    """Return the name of a claim's author."""
    if source == OPERATORS:
        return safe(actor) or "An operator"
    return safe(source) + (f" ({safe(actor)})" if actor else "")


@attrs.frozen
class Asking:
    """One event and the changes it requests."""

    stamp: Stamp
    actor: str
    reason: str
    changes: tuple[str, ...]  # each as "set owner to …"

    def text(self, now_us: int) -> str:
        """Return the event in a sentence or two."""
        asked = "decided" if self.stamp.source == OPERATORS else "asked"
        said = f"{who(self.stamp.source, self.actor)} {asked} at {moment(self.stamp.time, now_us)} to "
        because = f" Reason given: {quoted(self.reason)}." if self.reason.strip() else ""
        return f"{said}{', '.join(self.changes)}.{because}"


def askings(fields: Mapping[str, Field]) -> list[Asking]:
    """Return the events that made the claims on fields, oldest first."""
    found: dict[Stamp, list[tuple[str, Register | Element]]] = {}
    for name, field in sorted(fields.items()):
        if field.register is not None:
            found.setdefault(field.register.stamp, []).append((_change(name, field.register), field.register))
        for text, element in sorted(field.elements.items()):
            verb, where = ("add", "to") if element.present else ("remove", "from")
            change = f"{verb} {safe(text, _VALUE_MAX)} {where} {safe(name)}"
            found.setdefault(element.stamp, []).append((change, element))
    return [
        Asking(stamp, claims[0][1].actor, claims[0][1].reason, tuple(change for change, _ in claims))
        for stamp, claims in sorted(found.items())
    ]


def _change(name: str, register: Register) -> str:
    if not register.managed:
        return f"stop managing {safe(name)}"
    change = f"clear {safe(name)}" if register.value is None else f"set {safe(name)} to {value(register.value)}"
    return f"{change} (from {value(register.expect[0])} in Windchill)" if register.expect else change


def is_agreed(verdict: Verdict) -> bool:
    """Whether there was nothing to decide, because both sides agree."""
    return all(reason.code in (ReasonCode.AGREED, ReasonCode.ADOPTED_AGREED) for reason in verdict.reasons)


def decided(verdict: Verdict, field: Field | None, target: object, *, in_patch: bool, agreed: bool) -> str:
    """Return why and how a field was decided; `agreed`: both sides have agreed on its base."""
    parts = [f"{safe(verdict.field)}: {_facts(verdict, field, agreed=agreed)}"]
    rule = f"Rule {safe(verdict.rule)} ({verdict.strategy}: {STRATEGIES.get(verdict.strategy, 'its own')})"
    match verdict.verb:
        case "write":
            own = ", in a separate write after this one" if verdict.later and not in_patch else ""
            parts.append(f"{rule} decided to write {value(target)}{own}.")
        case "yield":
            parts.append(f"{rule} kept Windchill's {value(verdict.live)}.")
        case "hold":
            why = obstacle(verdict.reasons)
            parts.append(f"{why}. It waits for a decision" if why else f"{rule} left the decision to a person")
            parts.append("(other fields do not wait for it).")
        case _ if is_agreed(verdict):
            pass  # there was nothing to decide
        case _:
            parts.append(f"{rule} left it as it was.")
    return " ".join(parts)


def _facts(verdict: Verdict, field: Field | None, *, agreed: bool) -> str:
    reasons = verdict.reasons
    if all(reason.code in _BY_RULE and reason.element for reason in reasons):
        told = "; ".join(map(_of_element, reasons))
        return f"Windchill had {value(verdict.live)}; {told}."
    reason = reasons[0]
    if reason.code not in _BY_RULE or len(reasons) > 1:
        return f"Windchill had {value(verdict.live)}, and {value(verdict.desired)} was requested."
    more = []
    if reason.overlap:
        more.append(f"For this overlap the rule says: {_OVERLAPS.get(reason.overlap, reason.overlap)}.")
    if reason.tie_break is not None:
        more.append(_TIE_BREAKS[reason.tie_break])
    return " ".join([_comparison(verdict, field, reason.code, agreed=agreed), *more])


def _of_element(reason: Reason) -> str:
    known = _ELEMENTS.get(reason.code, "{} is seen for the first time, and the document was modified after the event")
    return known.format(safe(reason.element))


def _comparison(verdict: Verdict, field: Field | None, code: ReasonCode, *, agreed: bool) -> str:
    live, desired, base = value(verdict.live), value(verdict.desired), value(verdict.base)
    unmoved = canonical(verdict.live) == canonical(verdict.base)
    knowing = field is not None and field.register is not None and bool(field.register.expect)
    first = "seen for the first time."
    match code:
        case ReasonCode.AGREED:
            return f"Windchill had {live}, as requested."
        case ReasonCode.NEITHER:
            return f"Windchill had {live}, kept earlier instead of {desired}; neither side has changed it since."
        case ReasonCode.OURS if unmoved and not agreed:
            return f"Windchill had {live}, as when first seen; {desired} was requested and not written so far."
        case ReasonCode.OURS if unmoved:
            return f"Windchill had {live}, as last agreed; {desired} was requested since."
        case ReasonCode.OURS if knowing:
            return f"Windchill had {live} (last agreed: {base}), which the event expects and replaces by {desired}."
        case ReasonCode.OURS:
            return f"Windchill had {live}, which counts as the last agreed {base}; {desired} was requested since."
        case ReasonCode.THEIRS:
            return (
                f"Windchill had {live} instead of {base}, the last agreed value: someone changed it there, and no newer"
                f" event requested a value (last requested: {desired})."
            )
        case ReasonCode.BOTH if not agreed:
            return f"Windchill had {base} when first seen and {live} now, and {desired} was requested."
        case ReasonCode.BOTH:
            return f"both sides changed it since they agreed on {base}: Windchill had {live}, events request {desired}."
        case ReasonCode.ADOPTED_AGREED:
            return f"{first} Windchill had {live}, as requested."
        case ReasonCode.ADOPTED_OURS:
            why = "by an event that expected it" if knowing else "after the document was last modified"
            return f"{first} Windchill had {live}, and {desired} was requested {why}."
        case ReasonCode.ADOPTED_MODIFIED_SINCE:
            return f"{first} Windchill had {live}; the document was modified after {desired} was requested, {_UNSURE}."
        case _:
            return f"{first} Windchill had {live}, {desired} was requested; the server gives no time, {_UNSURE}."


def obstacle(reasons: Sequence[Reason]) -> str | None:
    """Return why a field waits whatever its rule says, `None` if it waits because of its rule."""
    reason = reasons[0]
    if reason.code is ReasonCode.REFUSED:
        said = quoted(reason.message)
        return f"Windchill refused the requested value ({said}); the reconciler tries again from time to time"
    contested = [reason for reason in reasons if reason.code is ReasonCode.CONTESTED]
    if contested:
        said = "; ".join(f"{one.message}: {one.element}" if one.element else one.message for one in contested)
        return f"Windchill does not keep it: {safe(said)}. The reconciler tries again, up to once a day"
    return None if reason.code in _BY_RULE else f"No rule can decide it: {safe(wording.text(reasons))}"


def answered(record: AuditRecord) -> str:
    """Return the sentence about an attempt's end."""
    what = f"the write of {names(record.patch)}" if record.patch else "the write"
    under, status = f"under token {safe(record.snapshot.token or 'none')}", record.status
    code = f" (status {status})" if status is not None else ""
    said = f": {quoted(record.message)}" if record.message.strip() else ""
    match record.result:
        case AttemptResult.WRITTEN:
            after = f"the new token is {safe(record.token_after)}" if record.token_after else "it gave no new one"
            return f"Windchill accepted {what} {under}; {after}."
        case AttemptResult.IN_SYNC:
            return "There was nothing to write."
        case AttemptResult.WOULD_WRITE:
            return f"The document is only observed: {what} was not sent."
        case AttemptResult.HELD:
            return "Nothing was written."
        case AttemptResult.CONFIRMED:
            more = " The rest was left to the next attempt." if record.patch else ""
            return f"An earlier write, whose answer was lost, turned out to have been applied.{more}"
        case AttemptResult.VERSION_CONFLICT:
            return (
                f"Someone else changed the document first, so Windchill refused {what} {under}{code}. Nothing was"
                " written; the next attempt reads and decides again."
            )
        case AttemptResult.REFUSED:
            return f"Windchill refused {what}{code}{said}. Nothing was written."
        case AttemptResult.LOCKED:
            return f"The document was locked or checked out{code}{said}. Nothing was written."
        case AttemptResult.UNKNOWN:
            return (
                f"No answer came to {what} {under}{said}. It may or may not have been applied; the next attempt reads"
                " the document first."
            )
        case AttemptResult.THROTTLED:
            return f"Windchill asked us to come back later{code}{said}."
        case AttemptResult.NOT_AVAILABLE:
            return f"Windchill did not give access to the document{said}. The reconciler tries again at long intervals."
        case AttemptResult.NO_TOKEN:
            return "Windchill gave no token for the document, so no write would have been safe."
        case AttemptResult.THRESHOLD:
            return "Comparisons had written to as many documents as the threshold allows: the write waits its turn."
        case _:
            return f"The attempt failed{code}{said}."
