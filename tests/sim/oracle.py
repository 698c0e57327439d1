"""
The decision table once more, written from DESIGN section 6 and not from the program.

It decides whole values only, from three things: what both sides last agreed on, what the server shows, what the log
says. Where the witness can't know what was agreed (the process died in between), it asks for every possibility.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from reconciler.model.policy import Rule, Strategy
from reconciler.model.value import canonical

if TYPE_CHECKING:
    from tests.sim.naive import Claims, Rank

KEEP, WRITE, YIELD, HOLD = "keep", "write", "yield", "hold"


@attrs.frozen
class Agreed:
    """What both sides last agreed on: the value, and the claim that it settled (None: adopted, not yet settled)."""

    text: str
    rank: Rank | None


def verb(rule: Rule, claims: Claims, agreed: Agreed | None, live: Any, *, later: bool) -> str:
    """What is to happen to a field. `later`: the claim is later than the last change by others."""
    whole = claims.whole
    assert whole is not None
    text = canonical(live)
    if text == canonical(whole.value):
        return KEEP
    strategy = rule.strategy
    if strategy is Strategy.EXTERNAL:
        return WRITE
    blank = live in (None, "", [])
    if strategy is Strategy.FILL:
        known = agreed is not None and agreed.rank is not None and whole.rank <= agreed.rank
        return WRITE if blank and not known else KEEP
    expected = any(canonical(value) == text for value in whole.expect)
    if agreed is None:
        if expected or later:
            return WRITE
        return HOLD if strategy is Strategy.HOLD else YIELD
    ours = agreed.rank is None or whole.rank > agreed.rank
    theirs = text != agreed.text and not (ours and expected)
    if not theirs:
        return WRITE if ours else KEEP
    if strategy is Strategy.HOLD:
        return HOLD
    if not ours or strategy is Strategy.PRESERVE:
        return YIELD
    overlap = rule.on_overlap if strategy is Strategy.MERGE else strategy
    if overlap is Strategy.NEWEST:
        return WRITE if later else YIELD
    return {Strategy.EXTERNAL: WRITE, Strategy.PRESERVE: YIELD, Strategy.HOLD: HOLD}[overlap]
