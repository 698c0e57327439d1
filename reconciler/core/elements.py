"""
Elements: lists that are merged element by element.

Each managed element is decided on its own, by the same table as whole values, with "is it there?" as its value.
Elements that nobody manages are left where they are. Elements are told apart by their normalised canonical text.

Which elements are managed: those in the register's list, those with a claim of their own, and those that an earlier
register had put there and a newer one leaves out. A register of `null` ("clear it") claims every element of the base.
"""

from collections.abc import Collection, Iterable

import attrs
import msgspec

from reconciler.core import fold, merge, normalise
from reconciler.model.base import Agreed
from reconciler.model.desired import Field, Register
from reconciler.model.plan import Decision, Verb
from reconciler.model.policy import ListMode, Normaliser, Rule
from reconciler.model.stamp import Stamp
from reconciler.model.value import MISSING, Json, Missing, canonical

_NAMED_MAX = 3  # elements named in a reason: enough to recognise the case, short enough to read


@attrs.frozen
class Question:
    """Everything that one field's decision is taken from."""

    name: str
    field: Field
    agreed: Agreed | None  # None: the field has no base yet
    live: Json | Missing
    rule: Rule
    modified_at: str | None  # when others last modified the document

    @property
    def steps(self) -> tuple[Normaliser, ...]:
        """The rule's normalisers."""
        return self.rule.normalise

    @property
    def expected(self) -> bool:
        """Whether the live value is one that the producer knowingly replaces."""
        register = self.field.register
        return register is not None and any(normalise.equal(self.live, v, self.steps) for v in register.expect)


@attrs.frozen
class _Claim:
    present: bool
    stamp: Stamp
    value: Json  # as it would be written


@attrs.frozen
class _Ruled:
    text: str
    claim: _Claim
    ruling: merge.Ruling
    ours: bool
    theirs: bool


def applies(question: Question) -> bool:
    """
    Whether a field is to be decided element by element.

    A field of which only elements are claimed has no whole value, so it is decided this way under any rule.
    """
    register = question.field.register
    if register is None or not register.managed:
        return True
    if question.rule.list is not ListMode.SET:
        return False
    return _is_list(register.value) and (question.live is MISSING or _is_list(question.live))


def whole(field: Field, steps: Collection[Normaliser]) -> Json:
    """Return the desired value of an atomic field: the register's, with the elements claimed after it on top."""
    assert field.register is not None
    value = field.register.value
    if not field.elements or not _is_list(value):
        return value
    listed = [element for element in _elements(value) if not _removed(element, field, steps)]
    known = {_text(element, steps) for element in listed}
    for text, element in sorted(field.elements.items()):
        added = msgspec.json.decode(text)
        if element.present and _text(added, steps) not in known:
            listed.append(added)
    return listed


def decide(question: Question) -> Decision:
    """Decide a field element by element."""
    there = {_text(element, question.steps): element for element in _elements(question.live)}
    claims = _claims(question, there)
    ruled = [_rule(question, text, claim, text in there) for text, claim in sorted(claims.items())]
    if question.agreed is None and any(item.ruling.verb is Verb.HOLD for item in ruled):
        # Without a base, half a decision could not be told from an agreement later: the field waits as a whole.
        ruled = [attrs.evolve(item, ruling=attrs.evolve(item.ruling, verb=Verb.HOLD)) for item in ruled]
    return _decision(question, there, ruled)


def agreed_list(decision: Decision, after: Json | Missing, steps: Collection[Normaliser]) -> Json:
    """Return the list to keep as base: the live one, but held elements as they were in the old base."""
    if not decision.held_elements:
        return None if after is MISSING else after
    before = {_text(element, steps) for element in _elements(decision.base)}
    held = set(decision.held_elements)
    kept = [element for element in _elements(after) if _text(element, steps) not in held]
    return kept + [msgspec.json.decode(text) for text in sorted(held & before)]


def _claims(question: Question, there: Collection[str]) -> dict[str, _Claim]:
    claims: dict[str, _Claim] = {}
    steps = question.steps
    register = question.field.register
    if register is not None and register.managed:
        for text in _left_out(question, register, there):
            claims[text] = _Claim(False, register.stamp, None)
        for value in _elements(register.value):
            claims[_text(value, steps)] = _Claim(True, register.stamp, normalise.outgoing(value, steps))
    for text, element in question.field.elements.items():
        value = msgspec.json.decode(text)
        claims[_text(value, steps)] = _Claim(element.present, element.stamp, normalise.outgoing(value, steps))
    return claims


def _left_out(question: Question, register: Register, there: Iterable[str]) -> Iterable[str]:
    """Yield the elements that the register takes away by not naming them."""
    agreed = question.agreed
    if agreed is not None:
        yield from (text for text, stamp in agreed.elements.items() if register.stamp > stamp)
    if register.value is None:
        if agreed is None:
            yield from there
        elif agreed.stamp is None or register.stamp > agreed.stamp:
            yield from (_text(element, question.steps) for element in _elements(agreed.value))


def _rule(question: Question, text: str, claim: _Claim, live: bool) -> _Ruled:
    agreed = question.agreed
    before = None if agreed is None else text in {_text(e, question.steps) for e in _elements(agreed.value)}
    settled = None if agreed is None else agreed.elements.get(text)
    ours = settled is None or claim.stamp > settled
    theirs = not question.expected and live is not before
    moves = merge.Moves(
        agreed=live is claim.present,
        ours=ours,
        theirs=theirs,
        blank=not live,
        claimed_at=claim.stamp.time,
        modified_at=question.modified_at,
    )
    ruling = merge.adopt(moves, question.rule) if agreed is None else merge.decide(moves, question.rule)
    return _Ruled(text, claim, ruling, ours, theirs)


def _decision(question: Question, there: Collection[str], ruled: list[_Ruled]) -> Decision:
    written = [item for item in ruled if item.ruling.verb is Verb.WRITE]
    verbs = {item.ruling.verb for item in ruled}
    verb = next((verb for verb in (Verb.WRITE, Verb.HOLD, Verb.YIELD) if verb in verbs), Verb.KEEP)
    speaking = [item for item in ruled if item.ruling.verb is verb]
    reason = "; ".join(dict.fromkeys(f"{item.ruling.reason}: {item.text}" for item in speaking[:_NAMED_MAX]))
    if verb is Verb.KEEP:
        reason = "agreed" if _all_there(ruled, there) else "neither"
    return Decision(
        field=question.name,
        verb=verb,
        reason=reason,
        rule=question.rule.name,
        strategy=question.rule.strategy,
        desired=_applied(question, ruled),
        base=MISSING if question.agreed is None else question.agreed.value,
        live=question.live,
        stamp=fold.newest_stamp(question.field),
        target=_applied(question, written) if written else MISSING,
        ours=any(item.ours for item in speaking),
        theirs=any(item.theirs for item in speaking),
        elements={item.text: item.claim.stamp for item in ruled if item.ruling.verb is not Verb.HOLD},
        held_elements=tuple(item.text for item in ruled if item.ruling.verb is Verb.HOLD),
    )


def _all_there(ruled: list[_Ruled], there: Collection[str]) -> bool:
    return all((item.text in there) is item.claim.present for item in ruled)


def _applied(question: Question, ruled: Iterable[_Ruled]) -> Json:
    """Return the live list with claims carried out: removals dropped, additions at the end, the rest as it was."""
    claims = {item.text: item.claim for item in ruled}
    result: list[object] = []
    for element in _elements(question.live):
        claim = claims.get(_text(element, question.steps))
        if claim is None or claim.present:
            result.append(element)
    known = {_text(element, question.steps) for element in result}
    return result + [claim.value for text, claim in claims.items() if claim.present and text not in known]


def _removed(element: object, field: Field, steps: Collection[Normaliser]) -> bool:
    text = _text(element, steps)
    return any(
        not claim.present and _text(msgspec.json.decode(other), steps) == text
        for other, claim in field.elements.items()
    )


def _elements(value: Json | Missing) -> list[object]:
    if value is MISSING or value is None:
        return []
    # A single value where a list is expected is a list of one: some servers show one-element lists that way.
    return value if isinstance(value, list) else [value]


def _is_list(value: object) -> bool:
    return value is None or isinstance(value, list)


def _text(element: object, steps: Collection[Normaliser]) -> str:
    return canonical(normalise.comparable(element, steps) if steps else element)
