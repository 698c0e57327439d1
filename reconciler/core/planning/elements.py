"""
Elements: lists that are merged element by element.

Each managed element is decided on its own, by the same table as whole values, with "is it there?" as its value.
Unmanaged elements are left as they are. Elements are told apart by their normalised canonical text.

Managed elements are those in the register's list, those with a claim of their own, and those that an earlier register
put there and a newer one leaves out. A register of `null` ("clear it") claims every element of the base.
"""

from collections.abc import Collection, Iterable, Mapping

import msgspec
from msgspec import structs

from reconciler.core.folding import fold, normalise
from reconciler.core.planning import merge, retrying
from reconciler.model.base import Agreed, RefusedField
from reconciler.model.desired import Field, Register
from reconciler.model.plan import Decision, Hold, Pair, Reason, ReasonCode, Verb
from reconciler.model.policy import ListMode, Normaliser, Rule
from reconciler.model.stamp import LEAST, Stamp
from reconciler.model.value import MISSING, Json, Missing, canonical, or_null, same

_NAMED_MAX = 3  # elements named in a reason: enough to recognise it, short enough to read


class Question(msgspec.Struct, frozen=True):
    """All inputs of one field's decision."""

    name: str
    field: Field
    agreed: Agreed | None  # None: the field has no base yet
    live: Json | Missing
    rule: Rule
    modified_at: str | None  # when others last modified the document
    types: tuple[Normaliser, ...] = ()  # that the server's type of the field needs, besides the rule's own
    refused: RefusedField | None = None
    accepted: tuple[Pair, ...] = ()

    @property
    def steps(self) -> tuple[Normaliser, ...]:
        """How values are compared and sent."""
        return self.rule.normalise + self.types

    @property
    def expected(self) -> bool:
        """Whether the live value is one that the producer knowingly replaces."""
        register = self.field.register
        return register is not None and any(normalise.equal(self.live, v, self.steps) for v in register.expect)


class _Claim(msgspec.Struct, frozen=True):
    present: bool
    stamp: Stamp
    value: Json  # in the form to write


class _Ruled(msgspec.Struct, frozen=True):
    text: str
    claim: _Claim
    ruling: merge.Ruling
    ours: bool
    theirs: bool
    contested: bool = False


def applies(question: Question) -> bool:
    """
    Whether to decide a field element by element.

    A field with claims on elements only has no whole value, so it is decided this way under any rule. Under
    `list = "set"` a single value counts as a list of one, unless neither side has a list.
    """
    register = question.field.register
    if register is None or not register.managed:
        return True
    if question.rule.list is not ListMode.SET:
        return False
    return bool(question.field.elements) or isinstance(register.value, list) or isinstance(question.live, list)


def whole(field: Field, steps: Collection[Normaliser]) -> Json:
    """Return the desired value of an atomic field: the register's, with the elements claimed after it on top."""
    assert field.register is not None
    value = field.register.value
    if not field.elements:
        return value
    combined = _applied(listed(value), _on_top(field, steps), steps)
    return value if same(combined, listed(value)) else combined


def equal(left: Json | Missing, right: Json | Missing, steps: Collection[Normaliser]) -> bool:
    """Whether two lists hold the same elements, in any order."""
    return texts(left, steps) == texts(right, steps)


def texts(value: Json | Missing, steps: Collection[Normaliser]) -> set[str]:
    """Return the elements of a list as they are told apart."""
    return {_text(element, steps) for element in listed(value)}


def decide(question: Question) -> Decision:
    """Decide a field element by element."""
    there = texts(question.live, question.steps)
    base = known(question.agreed)
    before = None if base is MISSING else texts(base, question.steps)
    claims = _claims(question, there)
    ruled = [_rule(question, text, claim, there, before) for text, claim in sorted(claims.items())]
    if before is None and any(item.ruling.verb is Verb.HOLD for item in ruled):
        # Without a base, half a decision could not be told from an agreement later: the field waits as a whole.
        ruled = [structs.replace(item, ruling=structs.replace(item.ruling, verb=Verb.HOLD)) for item in ruled]
    return _decision(question, there, ruled)


def known(agreed: Agreed | None) -> Json | Missing:
    """Return the agreed value, `MISSING` without a base and where only its digest is known."""
    return MISSING if agreed is None or agreed.digest else agreed.value


def agreed_list(decision: Decision, after: Json | Missing, steps: Collection[Normaliser]) -> Json:
    """
    Return the list to keep as base: the live one, but held elements as they were in the old base.

    If the whole list is held, so are its unclaimed elements: only decided elements are agreed.
    """
    if decision.verb is Verb.HOLD:
        assert decision.base is not MISSING
        return _moved(decision.base, after, decision.elements, steps)
    if not decision.held_elements:
        return or_null(after)
    held = set(decision.held_elements)
    kept = [element for element in listed(after) if _text(element, steps) not in held]
    return kept + [msgspec.json.decode(text) for text in sorted(held & texts(decision.base, steps))]


def confirmed(old: Agreed, meant: Agreed, shown: Json | Missing, steps: Collection[Normaliser]) -> Agreed:
    """
    Return what is agreed on a list if a write in doubt `meant` it and only some elements are `shown` so.

    A list that was agreed as a whole stays so: if it named some elements, all others would count as never agreed.
    """
    differ = texts(shown, steps) ^ texts(meant.value, steps)
    confirmed_at = {text: stamp for text, stamp in meant.elements.items() if text not in differ}
    if old.digest or not confirmed_at or (old.stamp is not None and not old.elements):
        return old
    return old._replace(value=_moved(old.value, shown, confirmed_at, steps), elements={**old.elements, **confirmed_at})


def _moved(base: Json, after: Json | Missing, which: Collection[str], steps: Collection[Normaliser]) -> Json:
    """Return the base with the elements `which` as they are `after`, and all others unchanged."""
    moved = (texts(base, steps) ^ texts(after, steps)) & set(which)
    if not moved:
        return base
    kept = [element for element in listed(base) if _text(element, steps) not in moved]
    return kept + [element for element in listed(after) if _text(element, steps) in moved]


def held(decision: Decision, old: Agreed, steps: Collection[Normaliser]) -> dict[str, Stamp]:
    """
    Return when elements that are held were last agreed.

    Of a list that was agreed as a whole, those that were in it and are asked for were agreed with it: they would count
    as never agreed once others have stamps of their own.
    """
    if old.elements or old.stamp is None:
        return {text: old.elements[text] for text in decision.held_elements if text in old.elements}
    there = texts(old.value, steps) & texts(decision.desired, steps)
    return {text: old.stamp for text in decision.held_elements if text in there}


def unwritten(decision: Decision, steps: Collection[Normaliser]) -> dict[str, Stamp]:
    """Return the claims that a write leaves as they are: agreed already, or yielded."""
    there, written = texts(decision.live, steps), texts(decision.target, steps)
    return {text: stamp for text, stamp in decision.elements.items() if (text in there) is (text in written)}


def unsettled(agreed: Agreed, meant: Json | Missing, steps: Collection[Normaliser]) -> Agreed:
    """Return what was agreed by a write of `meant`, without claims that the server did not carry out."""
    if not agreed.elements:
        return agreed._replace(stamp=None, writes={})
    missing = texts(agreed.value, steps) ^ texts(meant, steps)
    stamps = {text: LEAST if text in missing else stamp for text, stamp in agreed.elements.items()}
    writes = {text: times for text, times in agreed.writes.items() if text not in missing}
    return agreed._replace(stamp=None, elements=stamps, writes=writes)


def _claims(question: Question, there: Collection[str]) -> dict[str, _Claim]:
    claims: dict[str, _Claim] = {}
    steps = question.steps
    register = question.field.register
    if register is not None and register.managed:
        for text in _left_out(question, register, there):
            claims[text] = _Claim(False, register.stamp, None)
        for value in listed(register.value):
            claims[_text(value, steps)] = _Claim(True, register.stamp, normalise.outgoing(value, steps))
    return claims | _on_top(question.field, steps)


def _on_top(field: Field, steps: Collection[Normaliser]) -> dict[str, _Claim]:
    """Return the claims on single elements; of claims on elements that count as the same, the latest."""
    claims: dict[str, _Claim] = {}
    for text, element in sorted(field.elements.items(), key=lambda item: (item[1].stamp, item[0])):
        value = msgspec.json.decode(text)
        claims[_text(value, steps)] = _Claim(element.present, element.stamp, normalise.outgoing(value, steps))
    return claims


def _left_out(question: Question, register: Register, there: Iterable[str]) -> Iterable[str]:
    """Yield the elements that the register removes by not naming them."""
    agreed = question.agreed
    if agreed is not None:
        yield from (text for text, stamp in agreed.elements.items() if register.stamp.follows(stamp))
    if register.value is None:
        if agreed is None:
            yield from there
        elif agreed.stamp is None or register.stamp.follows(agreed.stamp):
            yield from texts(agreed.value, question.steps)


def _rule(
    question: Question, text: str, claim: _Claim, there: Collection[str], before: Collection[str] | None
) -> _Ruled:
    agreed = question.agreed
    live = text in there
    agreed_at = None
    if agreed is not None:  # a base that was agreed as a whole knows no elements
        agreed_at = agreed.elements.get(text) if agreed.elements else agreed.stamp
    ours = agreed_at is None or claim.stamp.follows(agreed_at)
    theirs = (before is None or live is not (text in before)) and not (ours and question.expected)
    moves = merge.Moves(
        agreed=live is claim.present or _is_accepted(question, text, claim, live=live),
        ours=ours,
        theirs=theirs,
        blank=not live,
        claimed_at=claim.stamp.time,
        modified_at=question.modified_at,
    )
    ruling = merge.adopt(moves, question.rule) if agreed is None else merge.decide(moves, question.rule)
    by_person = retrying.decided_by_person(question.field)
    if ruling.verb is Verb.WRITE and retrying.contests(question.refused, by_person, text, present=claim.present):
        assert question.refused is not None
        ruling = merge.Ruling(Verb.HOLD, Reason(ReasonCode.CONTESTED, message=question.refused.message))
        return _Ruled(text, claim, ruling, ours, theirs, contested=True)
    return _Ruled(text, claim, ruling, ours, theirs)


def _is_accepted(question: Question, text: str, claim: _Claim, *, live: bool) -> bool:
    """Whether a person has accepted that the server's list differs from the wanted one in this element."""
    return any(
        (text in texts(pair.wanted, question.steps)) is claim.present
        and (text in texts(pair.stored, question.steps)) is live
        for pair in question.accepted
    )


def _decision(question: Question, there: Collection[str], ruled: list[_Ruled]) -> Decision:
    written = [item for item in ruled if item.ruling.verb is Verb.WRITE]
    verbs = {item.ruling.verb for item in ruled}
    verb = next((verb for verb in (Verb.WRITE, Verb.HOLD, Verb.YIELD) if verb in verbs), Verb.KEEP)
    speaking = [item for item in ruled if item.ruling.verb is verb]
    reasons = tuple(structs.replace(item.ruling.reason, element=item.text) for item in speaking[:_NAMED_MAX])
    if verb is Verb.KEEP:
        reasons = (Reason(ReasonCode.AGREED if _all_there(ruled, there) else ReasonCode.NEITHER),)
    return Decision(
        field=question.name,
        verb=verb,
        reasons=reasons,
        rule=question.rule.name,
        strategy=question.rule.strategy,
        desired=_carried_out(question, ruled),
        base=known(question.agreed),
        live=question.live,
        stamp=fold.newest_stamp(question.field),
        target=_carried_out(question, written) if written else MISSING,
        ours=any(item.ours for item in speaking),
        theirs=any(item.theirs for item in speaking),
        elements={item.text: item.claim.stamp for item in ruled if item.ruling.verb is not Verb.HOLD},
        held_elements=tuple(item.text for item in ruled if item.ruling.verb is Verb.HOLD),
        hold=Hold.CONTESTED if any(item.contested for item in ruled) else Hold.DECIDE,
        by_person=retrying.decided_by_person(question.field),
        accepted=question.accepted,
    )


def _all_there(ruled: list[_Ruled], there: Collection[str]) -> bool:
    return all((item.text in there) is item.claim.present for item in ruled)


def _carried_out(question: Question, ruled: Iterable[_Ruled]) -> Json:
    """Return the live list with claims carried out; `null` if a register clears it and nothing is left."""
    after = _applied(listed(question.live), {item.text: item.claim for item in ruled}, question.steps)
    register = question.field.register
    cleared = register is not None and register.managed and register.value is None
    return after if after or not cleared else None


def _applied(before: Iterable[object], claims: Mapping[str, _Claim], steps: Collection[Normaliser]) -> list[object]:
    """Return a list with claims carried out: removals dropped, additions at the end, the rest unchanged."""
    kept = [(text, element) for element in before if _stays(text := _text(element, steps), claims)]
    known = {text for text, _ in kept}
    added = [claim.value for text, claim in sorted(claims.items()) if claim.present and text not in known]
    return [element for _, element in kept] + added


def _stays(text: str, claims: Mapping[str, _Claim]) -> bool:
    return text not in claims or claims[text].present


def listed(value: Json | Missing) -> list[object]:
    """Return the elements of a value; a single value is a list of one, as some servers show it."""
    if value is MISSING or value is None:
        return []
    return value if isinstance(value, list) else [value]


def _text(element: object, steps: Collection[Normaliser]) -> str:
    return canonical(normalise.comparable(element, steps) if steps else element)
