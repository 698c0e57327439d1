"""
Contest: a value that Windchill accepts and does not keep, so that we would write it again and again.

Rules of this file:
1. A value is contested after three writes of it within the window that were each found changed. An event that requests
   it again, or a copy of one, does not start again from zero; a person's decision does.
2. A write is counted when it has gone through (`counted`), and judged when the same is about to be written again
   (`undone`): each write before it was found changed, or this one would not be needed.
3. One write is enough if its answer, or the next read of the version that it left, shows another value: no one else can
   have changed that version.
4. A list that is merged is counted element by element, and its other elements are written as before.

Theory of operation: `Agreed.writes` holds the times of the last writes, `RefusedField` their result. A contested value
that is tried again (`retrying.lifted`) is written once; it is on trial until it has lasted for a whole window.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from reconciler.core.folding import normalise
from reconciler.core.planning import elements, retrying
from reconciler.core.planning.retrying import TRIES, Moment
from reconciler.model import instant
from reconciler.model.base import Agreed, Base, RefusedField
from reconciler.model.plan import Decision, Plan, Verb
from reconciler.model.policy import Normaliser, Policy
from reconciler.model.snapshot import Snapshot
from reconciler.model.stamp import Stamp
from reconciler.model.value import MISSING, Json, Missing, or_null

WHOLE: Final = ""
"""The key of the whole value among those of elements, whose texts are never empty."""

_ALTERED = "Windchill accepted the write and stores another value than was written"
_IGNORED = "Windchill accepted the write and left the field as it was"


def counted(
    decision: Decision, old: Agreed | None, shown: Json | Missing, steps: Collection[Normaliser], at: Moment
) -> dict[str, tuple[int, ...]]:
    """Return when the value that is agreed now was written; `shown` is the live value after the decision."""
    if decision.verb is Verb.YIELD:
        return {}
    written = _written(decision, steps) if decision.verb is Verb.WRITE else {}
    before = {} if old is None else old.writes
    found: dict[str, tuple[int, ...]] = {}
    for part in sorted({*before, *written}):
        times = before.get(part, ())
        if part in decision.held_elements:
            found[part] = times
            continue
        if old is None or old.digest or not _same(part, old.value, shown, steps) or _overruled(decision, part, old):
            times = ()
        if part in written:
            times = (*(time for time in times if _lately(time, at)), at.now_us)[-TRIES:]
        if times and (part == WHOLE or part in decision.elements):
            found[part] = times
    return found


def undone(plan: Plan, before: Snapshot | None, read: Snapshot, policy: Policy, at: Moment) -> dict[str, RefusedField]:
    """Return the fields that a plan would write again although all their last writes were undone."""
    found: dict[str, RefusedField] = {}
    for decision in plan.decisions:
        agreed = plan.base.fields.get(decision.field)
        if decision.verb is not Verb.WRITE or agreed is None or agreed.digest or not agreed.writes:
            continue
        steps = policy.rule(decision.field, read.type).normalise + read.type_normalisers.get(decision.field, ())
        known = plan.base.refused.get(decision.field)
        parts = {
            part: present
            for part, present in _written(decision, steps).items()
            if _same(part, agreed.value, decision.target, steps)
            and not _overruled(decision, part, agreed)
            and _is_undone(agreed.writes.get(part, ()), known if _is_about(known, part) else None, at)
        }
        if parts:
            message = _changed_again(agreed, parts, known, _by(plan.base, before, read))
            kept = retrying.contested(_times(known, parts) + 1, decision.stamp, or_null(decision.live), message, at)
            found[decision.field] = (
                kept._replace(wanted=normalise.digest(decision.target, steps))
                if WHOLE in parts
                else kept._replace(elements={**(known.elements if known is not None else {}), **parts})
            )
    return found


class Turned(msgspec.Struct, frozen=True):
    """A write and the value that the server made of it; `before` is the live value before it, if known."""

    stamp: Stamp
    meant: Json | Missing
    shown: Json | Missing
    steps: Collection[Normaliser]
    by_element: bool
    before: Json | Missing = MISSING


def altered(known: RefusedField | None, turned: Turned, at: Moment) -> RefusedField:
    """Return the record of a write that left another value than it carried."""
    meant, shown, steps = turned.meant, turned.shown, turned.steps
    same = elements.equal if turned.by_element else normalise.equal
    message = _IGNORED if turned.before is not MISSING and same(turned.before, shown, steps) else _ALTERED
    there = elements.texts(meant, steps) if turned.by_element else set()
    parts = {text: text in there for text in there ^ elements.texts(shown, steps)} if turned.by_element else {}
    made = retrying.contested(_times(known, parts or (WHOLE,)) + 1, turned.stamp, or_null(shown), message, at)
    return made._replace(elements=parts) if turned.by_element else made._replace(wanted=normalise.digest(meant, steps))


def stands(known: RefusedField, decision: Decision, steps: Collection[Normaliser]) -> bool:
    """Whether the record of a field's failed writes is still about the requested value."""
    if not known.contested:
        return known.stamp.event == decision.stamp.event
    if retrying.overrules(decision.by_person, known.stamp) or decision.verb is Verb.YIELD:
        return False
    return bool(known.elements) or normalise.digest(decision.desired, steps) == known.wanted


def on_trial(known: RefusedField, agreed: Agreed, at: Moment) -> bool:
    """Whether a contested value that was tried again has not lasted for a whole window yet."""
    newest = max((agreed.writes[part][-1] for part in known.elements or (WHOLE,) if part in agreed.writes), default=0)
    return known.contested and known.due_us is None and _lately(newest, at)


def _written(decision: Decision, steps: Collection[Normaliser]) -> Mapping[str, bool]:
    """Return the parts that a write changes: the whole value, or elements with whether they are there after it."""
    if not decision.elements and not decision.held_elements:
        return {WHOLE: True}
    after = elements.texts(decision.target, steps)
    return {text: text in after for text in after ^ elements.texts(decision.live, steps)}


def _same(part: str, left: Json | Missing, right: Json | Missing, steps: Collection[Normaliser]) -> bool:
    if part == WHOLE:
        return normalise.equal(left, right, steps)
    return (part in elements.texts(left, steps)) is (part in elements.texts(right, steps))


def _overruled(decision: Decision, part: str, old: Agreed) -> bool:
    return retrying.overrules(decision.by_person, old.stamp if part == WHOLE else old.elements.get(part))


def _is_undone(times: tuple[int, ...], known: RefusedField | None, at: Moment) -> bool:
    if not times or not _lately(times[-1], at):
        return False  # it has lasted for long enough
    if known is None:
        return len(times) >= TRIES
    return times[-1] > known.at_us  # else this is the try that was due


def _is_about(known: RefusedField | None, part: str) -> bool:
    if known is None or not known.contested:
        return False
    return part in known.elements if known.elements else part == WHOLE


def _lately(time_us: int, at: Moment) -> bool:
    return 0 <= at.now_us - time_us < at.window_s * instant.SECOND_US


def _times(known: RefusedField | None, parts: Iterable[str] = (WHOLE,)) -> int:
    """Return how often these parts of a field were found contested."""
    return known.tries if known is not None and any(_is_about(known, part) for part in parts) else 0


def _changed_again(agreed: Agreed, parts: Collection[str], known: RefusedField | None, by: str) -> str:
    before = _times(known, parts)
    count = TRIES + before if before else max(len(agreed.writes[part]) for part in parts)
    return f"it was written {count} times and changed again each time; {by}"


def _by(base: Base, before: Snapshot | None, read: Snapshot) -> str:
    """Say who has changed a document since our last write, as far as that is known."""
    if read.modified_by is None:
        return "the server does not say by whom"
    ours = before is not None and base.wrote is not None and base.wrote.token == before.token
    if ours and before is not None and before.modified_by == read.modified_by:
        return (
            f"the document was last modified by {read.modified_by}, which is our own account: another key may name the"
            " same document, or another program may use this account"
        )
    return f"the document was last modified by {read.modified_by}"
