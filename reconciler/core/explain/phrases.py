"""
Wording: what a trail knows, in sentences that a colleague understands.

Rules of this file:
1. Nothing from outside goes into a sentence except through `safe`, `quoted` or `value`: what can't be seen is spelled
   out, and what is long is cut.
2. The recorded reason is put into words, never judged again.
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
_SECOND_US = 1_000_000

STRATEGIES = {
    "external": "the log wins",
    "preserve": "a user's edit stands until a newer event",
    "merge": "whoever alone has moved wins",
    "newest": "the later one wins",
    "hold": "a person is asked about any edit of a user",
    "fill": "only blank fields are written",
    "ignore": "never managed",
}
CAUSES = {
    "asked": "a person asked for another try",
    "operator": "a person asked for another look",
    "event": "an event had come",
    "retry": "it was taken up again",
    "resync": "it was compared again",
    "replay": "the log was replayed",
}
_OVERLAPS = {
    "hold": "a person is asked",
    "external": "the log wins",
    "preserve": "the user's edit stands",
    "newest": "the later one wins",
}
_TIE_BREAKS = {
    TieBreak.BLANK: "There was nothing in it.",
    TieBreak.FILLED: "There was something in it.",
    TieBreak.EVENT: "The event was later than the document's last modification.",
    TieBreak.DOCUMENT: "The document's last modification was later than the event.",
    TieBreak.UNTIMED: "The server does not say when it was modified.",
}
_ELEMENTS = {
    ReasonCode.OURS: "a newer event speaks of {}",
    ReasonCode.THEIRS: "{} was added or taken out in Windchill since both sides agreed",
    ReasonCode.BOTH: "a newer event speaks of {}, and in Windchill it was added or taken out as well",
    ReasonCode.NEITHER: "{} had been left to Windchill before",
    ReasonCode.ADOPTED_OURS: "{} was asked for after the document had last been modified, and is seen for the first"
    " time",
}
_BY_RULE = frozenset(
    {
        *(ReasonCode.AGREED, ReasonCode.OURS, ReasonCode.THEIRS, ReasonCode.BOTH, ReasonCode.NEITHER),
        *(ReasonCode.ADOPTED_AGREED, ReasonCode.ADOPTED_OURS),
        *(ReasonCode.ADOPTED_MODIFIED_SINCE, ReasonCode.ADOPTED_UNTIMED),
    }
)
_UNSURE = "so nobody can tell whose value is wanted"


def safe(text: str, most: int = _TEXT_MAX) -> str:
    """Return text from outside on one line: what can't be seen is spelled out, what is long is cut."""
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def quoted(text: str) -> str:
    """Return what somebody wrote, as a quotation."""
    return f"“{safe(text.strip())}”"


def value(json_value: object) -> str:
    """Return a JSON value; `null`, and what is not there, is an empty one."""
    return "an empty value" if json_value is None else safe(json.dumps(json_value, ensure_ascii=False), _VALUE_MAX)


def names(fields: Iterable[str]) -> str:
    """Return names of fields in a row."""
    *most, last = [safe(field) for field in sorted(fields)]
    return f"{', '.join(most)} and {last}" if most else last


def moment(at: int | str, now_us: int) -> str:
    """Return a moment to the second, with how long ago that was."""
    at_us = instant.to_us(at) if isinstance(at, str) else at
    return f"{instant.local(at_us)} ({ago(now_us - at_us)})"


def ago(passed_us: int) -> str:
    """Return in the largest unit how long something lies back, or ahead where clocks differ."""
    passed_s = abs(passed_us) // _SECOND_US
    for unit, length_s in _UNITS:
        if count := passed_s // length_s:
            text = f"{count} {unit}{'s' if count > 1 else ''}"
            return f"{text} ago" if passed_us > 0 else f"in {text}"
    return "just now"


def who(source: str, actor: str) -> str:
    """Return who made a claim."""
    if source == OPERATORS:
        return safe(actor) or "An operator"
    return safe(source) + (f" ({safe(actor)})" if actor else "")


@attrs.frozen
class Asking:
    """One event as far as it speaks of the fields that are told of."""

    stamp: Stamp
    actor: str
    reason: str
    wishes: tuple[str, ...]

    def text(self, now_us: int) -> str:
        """Return the event in a sentence or two."""
        asked = "decided" if self.stamp.source == OPERATORS else "asked"
        said = f"{who(self.stamp.source, self.actor)} {asked} at {moment(self.stamp.time, now_us)} that "
        because = f" The reason given: {quoted(self.reason)}." if self.reason.strip() else ""
        return f"{said}{', '.join(self.wishes)}.{because}"


def askings(fields: Mapping[str, Field]) -> list[Asking]:
    """Return the claims on fields by the events that made them, oldest first."""
    found: dict[Stamp, list[tuple[str, Register | Element]]] = {}
    for name, field in sorted(fields.items()):
        if field.register is not None:
            found.setdefault(field.register.stamp, []).append((_wish(name, field.register), field.register))
        for text, element in sorted(field.elements.items()):
            there = "have" if element.present else "not have"
            wish = f"{safe(name)} {there} {safe(text, _VALUE_MAX)}"
            found.setdefault(element.stamp, []).append((wish, element))
    return [
        Asking(stamp, claims[0][1].actor, claims[0][1].reason, tuple(wish for wish, _ in claims))
        for stamp, claims in sorted(found.items())
    ]


def _wish(name: str, register: Register) -> str:
    if not register.managed:
        return f"{safe(name)} be left alone from then on"
    be = "be cleared" if register.value is None else f"be {value(register.value)}"
    knowing = f" (knowing that it was {value(register.expect[0])} in Windchill)" if register.expect else ""
    return f"{safe(name)} {be}{knowing}"


def is_agreed(verdict: Verdict) -> bool:
    """Whether there was nothing to decide, since both sides agree."""
    return all(reason.code in (ReasonCode.AGREED, ReasonCode.ADOPTED_AGREED) for reason in verdict.reasons)


def decided(verdict: Verdict, field: Field | None, target: object, *, in_patch: bool, agreed: bool) -> str:
    """Return why and how a field was decided; `agreed`: its base is more than what was there at the first look."""
    parts = [f"{safe(verdict.field)}: {_facts(verdict, field, agreed=agreed)}"]
    rule = f"Rule {safe(verdict.rule)} ({verdict.strategy}: {STRATEGIES.get(verdict.strategy, 'its own')})"
    match verdict.verb:
        case "write":
            own = ", in a write of its own after this one" if verdict.later and not in_patch else ""
            parts.append(f"{rule} decided to write {value(target)}{own}.")
        case "yield":
            parts.append(f"{rule} let {value(verdict.live)} stand.")
        case "hold":
            why = obstacle(verdict.reasons)
            parts.append(f"{why}. It waits for a person" if why else f"{rule} left it to a person")
            parts.append("(the other fields don't wait for it).")
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
        return f"Windchill had {value(verdict.live)}, and {value(verdict.desired)} was asked for."
    more = []
    if reason.overlap:
        more.append(f"For such an overlap the rule says: {_OVERLAPS.get(reason.overlap, reason.overlap)}.")
    if reason.tie_break is not None:
        more.append(_TIE_BREAKS[reason.tie_break])
    return " ".join([_case(verdict, field, reason.code, agreed=agreed), *more])


def _of_element(reason: Reason) -> str:
    known = _ELEMENTS.get(reason.code, "{} is seen for the first time, and the document was modified after the event")
    return known.format(safe(reason.element))


def _case(verdict: Verdict, field: Field | None, code: ReasonCode, *, agreed: bool) -> str:
    live, desired, base = value(verdict.live), value(verdict.desired), value(verdict.base)
    unmoved = canonical(verdict.live) == canonical(verdict.base)
    knowing = field is not None and field.register is not None and bool(field.register.expect)
    first = "this was the first look at it."
    match code:
        case ReasonCode.AGREED:
            return f"Windchill had {live}, as asked for."
        case ReasonCode.NEITHER:
            return f"Windchill had {live}, which had been left to stand against {desired}; nothing has moved since."
        case ReasonCode.OURS if unmoved and not agreed:
            return f"Windchill had {live}, as at the first look; {desired} was asked for, and not written so far."
        case ReasonCode.OURS if unmoved:
            return f"Windchill had {live}, as both sides had last agreed; {desired} was asked for since."
        case ReasonCode.OURS if knowing:
            return f"Windchill had {live} (last agreed: {base}), which the event replaces knowingly by {desired}."
        case ReasonCode.OURS:
            return f"Windchill had {live}, which counts as {base}, the last agreed; {desired} was asked for since."
        case ReasonCode.THEIRS:
            return (
                f"Windchill had {live} instead of {base}, on which both sides had last agreed: somebody had changed it"
                f" there, and no newer event asked for anything ({desired} is the last that was asked for)."
            )
        case ReasonCode.BOTH if not agreed:
            return f"Windchill had {base} at the first look and {live} now, and {desired} was asked for."
        case ReasonCode.BOTH:
            return (
                f"both sides had moved since they agreed on {base}: Windchill had {live}, and {desired} was asked for."
            )
        case ReasonCode.ADOPTED_AGREED:
            return f"{first} Windchill had {live}, as asked for."
        case ReasonCode.ADOPTED_OURS:
            why = "by an event that knew of it" if knowing else "after the document had last been modified"
            return f"{first} Windchill had {live}, and {desired} was asked for {why}."
        case ReasonCode.ADOPTED_MODIFIED_SINCE:
            return f"{first} Windchill had {live}; the document was modified after {desired} was asked for, {_UNSURE}."
        case _:
            return f"{first} Windchill had {live}, {desired} was asked for; the server tells no time, {_UNSURE}."


def obstacle(reasons: Sequence[Reason]) -> str | None:
    """Return why a field waits whatever its rule says, `None` if it does for its rule."""
    reason = reasons[0]
    if reason.code is ReasonCode.REFUSED:
        said = quoted(reason.message)
        return f"Windchill had not accepted it as asked ({said}), and it is tried again from time to time"
    contested = [reason for reason in reasons if reason.code is ReasonCode.CONTESTED]
    if contested:
        said = "; ".join(f"{one.message}: {one.element}" if one.element else one.message for one in contested)
        return f"Windchill does not keep it: {safe(said)}. It is tried again, up to once a day"
    return None if reason.code in _BY_RULE else f"No rule can decide it: {safe(wording.text(reasons))}"


def answered(record: AuditRecord) -> str:
    """Return how an attempt ended."""
    what = f"the write of {names(record.patch)}" if record.patch else "the write"
    under, status = f"under token {safe(record.snapshot.token or 'none')}", record.status
    code = f" (status {status})" if status is not None else ""
    said = f": {quoted(record.message)}" if record.message.strip() else ""
    match record.result:
        case AttemptResult.WRITTEN:
            after = (
                f"its token after that is {safe(record.token_after)}" if record.token_after else "it told no new one"
            )
            return f"Windchill accepted {what} {under}; {after}."
        case AttemptResult.IN_SYNC:
            return "There was nothing to write."
        case AttemptResult.HELD:
            return "Nothing was written."
        case AttemptResult.CONFIRMED:
            more = " There was more to write, which came next." if record.patch else ""
            return f"An earlier write of ours, whose answer had been lost, was found to have been applied.{more}"
        case AttemptResult.VERSION_CONFLICT:
            return (
                f"Somebody else had changed the document in the meantime, so Windchill refused {what} {under}{code}."
                " Nothing was applied; it was to be read and decided again."
            )
        case AttemptResult.REFUSED:
            return f"Windchill did not accept {what}{code}{said}. Nothing was applied."
        case AttemptResult.LOCKED:
            return f"Somebody has the document checked out or locked{code}{said}. Nothing was written."
        case AttemptResult.UNKNOWN:
            return (
                f"No answer came to {what} {under}{said}. It may have been applied or not; Windchill was to be read"
                " before anything else."
            )
        case AttemptResult.THROTTLED:
            return f"Windchill asked us to come back later{code}{said}. It was to be tried again."
        case AttemptResult.NOT_AVAILABLE:
            return f"Windchill did not give access to the document{said}. It was to be tried again slowly."
        case AttemptResult.NO_TOKEN:
            return "Windchill gave no token for the document, so nothing could be written safely."
        case AttemptResult.THRESHOLD:
            return "Too many documents were to be written that no new event had asked for: it waits for room."
        case _:
            return f"It did not work{code}{said}."
