"""
Resolution: a person's decision on a conflict, as events like any other (docs/explanation.md).

Rules of this file:
1. A whole value is one event: `set`, with the live value that it replaces in `expect`. `expect` needs `set`, so a list
   that is merged element by element is decided by `set` too: its list holds the managed elements that are to be there,
   and leaves out unmanaged ones, so that they stay unmanaged. If an element that was never agreed on is to go, leaving
   it out does not remove it: a second event does. Under a rule for whole lists, `set` names every element, the users'
   too.
2. A preview is not a guess: it folds and plans the events as the reconciler will.
3. A decision is made on a state: `seen` is a digest of everything that it may depend on.
"""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs
import msgspec
from msgspec import structs

from reconciler.core.folding import fold, normalise
from reconciler.core.planning import elements
from reconciler.core.planning import plan as planning
from reconciler.errors import UsageError
from reconciler.model import codec, instant
from reconciler.model.action import Preview, Side, Step, Take
from reconciler.model.desired import Desired, Field
from reconciler.model.document import Conflict, Document, Status
from reconciler.model.event import Event
from reconciler.model.plan import Decision, Hold, Verb
from reconciler.model.policy import ListMode, Normaliser, Policy
from reconciler.model.value import MISSING, Json, canonical, or_null, same

_HINT_CHARS_MAX = 80  # of a text that a message repeats in quotes


@attrs.frozen
class Choice:
    """A decision: the value, and the data of each event, in order."""

    wanted: Json
    live: Json
    said: tuple[Mapping[str, object], ...]


def live(document: Document, conflict: Conflict) -> Json:
    """Return the last live value that we have read of the conflict's field."""
    snapshot = document.agreement.snapshot
    value = conflict.live if snapshot is None else snapshot.value(conflict.field)
    return or_null(value)


def asked_since(document: Document, conflict: Conflict) -> bool:
    """Whether events have requested another value since the conflict was found."""
    if conflict.hold is Hold.CONTESTED:  # another event with the same value does not change it
        held = any(one.id == conflict.id for one in document.agreement.held)
        return document.status is not Status.HELD or not held
    field = document.desired.fields.get(conflict.field)
    return field is None or not fold.is_managed(field) or fold.newest_stamp(field).event != conflict.stamp.event


def moved_since(document: Document, conflict: Conflict) -> bool:
    """Whether the live value has changed since the conflict was found."""
    return conflict.hold is not Hold.CONTESTED and not same(live(document, conflict), conflict.live)


def asked_us(document: Document, conflict: Conflict) -> int:
    """Return when the newest claim on the field was made."""
    field = document.desired.fields.get(conflict.field)
    return instant.to_us((conflict.stamp if field is None else fold.newest_stamp(field)).time)


def choose(document: Document, conflict: Conflict, take: Take, policy: Policy, reason: str) -> Choice:
    """Return the events' data that decide a conflict; raises UsageError for a value that the field can't have."""
    _check_way(conflict, take)
    seen = live(document, conflict)
    match take:
        case Side.LIVE:
            wanted = seen
        case Side():
            wanted = _desired_now(document, conflict, policy)
        case other:
            wanted = other.value
    question = _question(document, conflict, policy)
    if question is not None and planning.group_member(question, _managed_below(document, conflict.field)) is not None:
        if take is not Side.LIVE:
            raise UsageError(
                f"{conflict.field} is a group of fields: take Windchill's value, and name fields in events"
            )
        return Choice(seen, seen, ({"release": [conflict.field], "reason": reason},))
    # An enumeration that is shown as an object is set by its value: events know no objects, only fields.
    seen, wanted = (normalise.comparable(value, (Normaliser.ENUM,)) for value in (seen, wanted))
    if isinstance(wanted, dict):
        raise UsageError(f"{conflict.field} is one field: give a value, not a JSON object")
    removed: list[object] = []
    to_set: Json = wanted
    if question is not None and elements.applies(question):
        to_set, removed = _by_elements(question, conflict.field, seen, wanted)
    said: list[dict[str, object]] = [
        {"set": {conflict.field: to_set}, "expect": {conflict.field: seen}, "reason": reason}
    ]
    if take is Side.ACCEPT:
        said[0]["accept"] = {conflict.field: seen}
    if removed:
        said.append({"remove": {conflict.field: removed}, "reason": reason})
    return Choice(wanted, seen, tuple(said))


def _check_way(conflict: Conflict, take: Take) -> None:
    """Raise UsageError for a decision that this kind of conflict does not allow."""
    contested = conflict.hold is Hold.CONTESTED
    if take is Side.ACCEPT and not contested:
        raise UsageError(f"{conflict.field} is not contested: Windchill stores no other form of its value to accept")
    if take is Side.RETRY and not contested and conflict.hold is not Hold.REFUSED:
        raise UsageError(f"{conflict.field} was neither refused nor changed again: take a side, or give a value")


def _desired_now(document: Document, conflict: Conflict, policy: Policy) -> Json:
    """Return the desired value; of a contested list, which may have changed since, the present one."""
    snapshot = document.agreement.snapshot
    if conflict.hold is not Hold.CONTESTED or snapshot is None:
        return conflict.desired
    drafted = planning.draft(document.desired, document.agreement.base, snapshot, policy)
    return next((one.desired for one in drafted.decisions if one.field == conflict.field), conflict.desired)


def preview(
    document: Document,
    conflict: Conflict,
    take: Take,
    policy: Policy,
    *,
    choice: Choice,
    events: Sequence[Event],
    written: Sequence[Mapping[str, object]],
) -> Preview:
    """Return what a choice does: `events` are its events as they will be decoded, `written` as appended."""
    snapshot = document.agreement.snapshot
    return Preview(
        conflict=conflict.id,
        document=document.key,
        field=conflict.field,
        live=choice.live,
        desired=conflict.desired,
        token=None if snapshot is None else snapshot.token,
        wanted=choice.wanted,
        steps=tuple(_steps(document, conflict, choice, policy, events)),
        events=tuple({name: said for name, said in one.items() if name not in ("id", "time")} for one in written),
        command=command(conflict, take),
        seen=seen(document, conflict, policy),
    )


def seen(document: Document, conflict: Conflict, policy: Policy) -> str:
    """
    Return a digest of everything that a decision depends on.

    The newest claim is not enough, because an older one on another element may come late. The rule is part of it,
    because a reload may change it, and it says whether a list is decided as a whole.
    """
    snapshot, name = document.agreement.snapshot, conflict.field
    token, of_type = (None, None) if snapshot is None else (snapshot.token, snapshot.type)
    asked, agreed = document.desired.fields.get(name), document.agreement.base.fields.get(name)
    return codec.digest([conflict.id, live(document, conflict), token, asked, agreed, policy.rule(name, of_type)])


def command(conflict: Conflict, take: Take) -> str:
    """Return the command that makes the same decision."""
    if take in (Side.ACCEPT, Side.RETRY):
        return f"reconciler conflicts {take} {conflict.id}"
    option = f"--take {take.value}" if isinstance(take, Side) else f"--value {shlex.quote(canonical(take.value))}"
    return f"reconciler conflicts resolve {conflict.id} {option}"


def value(text: str, spelled: Callable[[str], str] = str) -> Json:
    """Return a value typed as JSON; raises UsageError, whose example of quoted text is written by `spelled`."""
    try:
        found: Json = msgspec.json.decode(text)
        return found
    except UnicodeError as error:
        raise UsageError("the value is not text in UTF-8") from error
    except (msgspec.DecodeError, RecursionError) as error:
        hint = canonical(text) if len(text) <= _HINT_CHARS_MAX else '"LOT-7"'
        raise UsageError(f"the value is not JSON; write text in double quotes, as in {spelled(hint)}") from error


def _question(document: Document, conflict: Conflict, policy: Policy) -> elements.Question | None:
    name, snapshot = conflict.field, document.agreement.snapshot
    field = document.desired.fields.get(name)
    if field is None:
        return None
    rule = policy.rule(name, None if snapshot is None else snapshot.type)
    shown = MISSING if snapshot is None else snapshot.value(name)
    types = () if snapshot is None else snapshot.type_normalisers.get(name, ())
    return elements.Question(name, field, document.agreement.base.fields.get(name), shown, rule, None, types)


def _managed_below(document: Document, name: str) -> str | None:
    return next((other for other in sorted(fold.managed(document.desired)) if other.startswith(f"{name}.")), None)


def _by_elements(question: elements.Question, name: str, seen: Json, wanted: Json) -> tuple[list[object], list[object]]:
    """Return the elements to set, and those to remove by a second event."""
    if wanted is not None and not isinstance(wanted, list):
        raise UsageError(f"{name} is a list of elements: give a JSON list")
    if question.rule.list is not ListMode.SET:  # decided by elements only because the field has no whole value
        return elements.listed(wanted), []

    def text(element: object) -> str:
        return canonical(normalise.comparable(element, question.steps))

    managed = {text(element) for element in _managed(question)}
    there = elements.listed(seen)
    kept = {text(element) for element in elements.listed(wanted)}
    theirs = {text(element) for element in there} - managed
    to_set = [element for element in elements.listed(wanted) if text(element) not in theirs]
    to_remove = [element for element in there if text(element) in managed and text(element) not in kept]
    return to_set, [element for element in to_remove if isinstance(element, str | int | float | bool)]


def _managed(question: elements.Question) -> Iterable[object]:
    """Yield the elements that an event names, or that were agreed on."""
    register = question.field.register
    if register is not None and register.managed:
        yield from elements.listed(register.value)
    texts = {*question.field.elements, *(question.agreed.elements if question.agreed is not None else ())}
    yield from (msgspec.json.decode(text) for text in texts)


def _steps(
    document: Document, conflict: Conflict, choice: Choice, policy: Policy, events: Sequence[Event]
) -> Iterable[Step]:
    snapshot = document.agreement.snapshot
    if snapshot is None:
        yield Step(conflict.field, choice.live, choice.wanted)
        return
    desired = fold.steps(document.desired, events)
    plan = planning.draft(desired, document.agreement.base, snapshot, policy)
    for decision in plan.decisions:
        if decision.field == conflict.field and decision.verb is Verb.WRITE:
            yield from _written(decision, _by_element(desired.fields[conflict.field], document, conflict, policy))


def _by_element(field: Field, document: Document, conflict: Conflict, policy: Policy) -> bool:
    desired = Desired({conflict.field: field})
    question = _question(structs.replace(document, desired=desired), conflict, policy)
    return question is not None and elements.applies(question)


def _written(decision: Decision, by_element: bool) -> Iterable[Step]:
    before, after = or_null(decision.live), or_null(decision.target)
    if not by_element:
        yield Step(decision.field, before, after)
        return
    there, then = {canonical(e): e for e in elements.listed(before)}, {canonical(e): e for e in elements.listed(after)}
    for text in sorted(there.keys() - then.keys()):
        yield Step(decision.field, True, False, element=_element(there[text]))
    for text in sorted(then.keys() - there.keys()):
        yield Step(decision.field, False, True, element=_element(then[text]))


def _element(value: object) -> Json:
    return value  # type: ignore[return-value]  # an element of a JSON list is JSON
