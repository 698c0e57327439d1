"""
The decision table once more, written from README.md, "Policy: who wins" and not from the program.

It decides a whole value, or one element of a set with "is it there?" as its value, from three things: what both sides
last agreed on, what the server shows, what the log says. Where the witness can't know what was agreed (the process died
in between), it asks for every possibility.
"""

from collections.abc import Collection
from typing import Any

import attrs

from reconciler.model import instant
from reconciler.model.policy import Adopt, Policy, Rule, Strategy
from reconciler.model.value import canonical
from tests.sim import comparing, naive
from tests.sim.naive import Claims, Rank
from tests.sim.server import elements

KEEP, WRITE, YIELD, HOLD, LEAVE = "keep", "write", "yield", "hold", "leave"  # the last one: no one asks for anything
_SECOND_US = 1_000_000
_ADOPT = {Adopt.WRITE: WRITE, Adopt.YIELD: YIELD, Adopt.HOLD: HOLD}


@attrs.frozen
class Agreed:
    """What both sides last agreed on: the value, and the claim that it settled (None: adopted, not yet settled)."""

    value: Any = attrs.field(eq=canonical)
    rank: Rank | None

    def __hash__(self) -> int:
        return hash((canonical(self.value), self.rank))


@attrs.frozen
class Question:
    """A value to be decided."""

    rule: Rule
    wanted: Any
    rank: Rank  # of the claim
    live: Any
    expected: bool  # the producer knowingly replaces what is there
    later: bool  # the claim is later than the last change by others
    element: bool = False

    @property
    def steps(self) -> tuple[str, ...]:
        """What does not count in comparing."""
        return () if self.element else self.rule.normalise

    @property
    def blank(self) -> bool:
        """Whether there is nothing."""
        return not self.live if self.element else comparing.blank(self.live, self.steps)


def verb(q: Question, agreed: Agreed | None) -> str:
    """What is to happen."""
    if comparing.alike(q.live, q.wanted, q.steps):
        return KEEP
    if agreed is None and not q.expected and not q.later:
        return _adopted(q)
    ours = agreed is None or agreed.rank is None or naive.follows(q.rank, agreed.rank)
    moved = agreed is not None and not comparing.alike(q.live, agreed.value, q.steps)
    return _decided(q, ours=ours, theirs=moved and not (ours and q.expected))


def _adopted(q: Question) -> str:
    """No one can tell whose value is wanted."""
    if q.rule.on_adopt is not None:
        return _ADOPT[q.rule.on_adopt]
    match q.rule.strategy:
        case Strategy.EXTERNAL:
            return WRITE
        case Strategy.HOLD:
            return HOLD
        case Strategy.FILL:
            return WRITE if q.blank else KEEP
    return YIELD


def _decided(q: Question, *, ours: bool, theirs: bool) -> str:
    strategy = q.rule.strategy
    if strategy is Strategy.EXTERNAL:
        return WRITE
    if strategy is Strategy.FILL:
        return WRITE if ours and q.blank else KEEP
    if not theirs:
        return WRITE if ours else KEEP
    if strategy is Strategy.HOLD:
        return HOLD
    if not ours or strategy is Strategy.PRESERVE:
        return YIELD
    overlap = q.rule.on_overlap if strategy is Strategy.MERGE else strategy
    if overlap is Strategy.NEWEST:
        return WRITE if q.later else YIELD
    return {Strategy.EXTERNAL: WRITE, Strategy.PRESERVE: YIELD, Strategy.HOLD: HOLD}[overlap]


def rule_of(policy: Policy, field: str, kind: str) -> Rule:
    """The first rule that covers a field of a document of this type; fields are named in full in these worlds."""
    covering = (one for one in policy.rules if field in one.fields and (not one.types or kind in one.types))
    return next(covering, Rule(("*",), Strategy.MERGE))


def is_later(time: str, modified_us: int) -> bool:
    """
    Whether an event is later than a modification.

    A whole second is one that a server has cut off: no one can tell about an event within it.
    """
    event_us = instant.to_us(time)
    if modified_us % _SECOND_US:
        return event_us > modified_us
    return event_us // _SECOND_US > modified_us // _SECOND_US


def asked(rule: Rule, claims: Claims, live: Any, modified_us: int) -> Question:
    """The question about a field's whole value."""
    whole = claims.whole
    assert whole is not None
    expected = any(comparing.alike(live, value, rule.normalise) for value in whole.expect)
    return Question(rule, whole.value, claims.newest, live, expected, is_later(claims.newest[0], modified_us))


def claims_on(
    claims: Claims, text: str, agreed: Agreed | None, steps: Collection[str], *, live: bool
) -> list[tuple[Rank, bool] | None]:
    """What may be claimed about an element: it is to be there, or not; or nothing is said of it."""
    on_top = [claim for raw, claim in claims.elements.items() if texts([comparing.read(raw)], steps) == {text}]
    if on_top:  # one event may even say both, of two spellings
        newest = max(rank for rank, _ in on_top)
        return [claim for claim in dict.fromkeys(on_top) if claim[0] == newest]
    whole = claims.whole
    if whole is None or not whole.managed:
        return [None]
    if text in texts(whole.value, steps):
        return [(whole.rank, True)]
    left_out = whole.rank, False
    if agreed is None:
        return [left_out if whole.value is None and live else None]
    if agreed.rank is not None and naive.follows(whole.rank, agreed.rank):
        return [left_out]  # it was managed before
    if whole.value is None and agreed.value:
        return [left_out, None]  # cleared with all else, or added after that
    return [None]


def texts(value: Any, steps: Collection[str]) -> set[str]:
    """The elements of a list, without what does not count."""
    return {canonical(comparing.bare(comparing.read(text), steps)) for text in elements(value)}
