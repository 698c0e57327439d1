"""
Retrying: when a write of a field that came to nothing is tried again, and what the base keeps of it until then.

Rules of this file:
1. Nothing is given up, and nothing is repeated for ever. A *refused* claim is tried again after a minute, and each
   further refusal doubles the wait, up to a day; a newer claim, and the first moves of the live value, try at once.
2. A *contested* value is one that Windchill takes and does not keep (`contest.py`). It is tried again after half the
   time over which its writes were counted, and then once a day; another value is tried at once, while neither a new
   event that asks for the same nor a move of the live value is a reason to.
3. A person's wish goes before both: an attempt in lane ASKED tries now, and what a decision asks for (an operator's
   event that knows what it replaces) is counted from zero. Any other event of an operator is an event like any other.
4. `plan.draft` has no clock: an attempt lifts the refusals whose time has come before it drafts, and the base that it
   drafts on says so. The count stays, so that the next wait is longer.
"""

from typing import Final

import attrs

from reconciler.core.folding import normalise
from reconciler.core.scheduling import backoff
from reconciler.model.base import Base, RefusedField
from reconciler.model.desired import Field
from reconciler.model.plan import Decision
from reconciler.model.policy import OPERATORS
from reconciler.model.stamp import Stamp
from reconciler.model.value import Json

DAY_S: Final = 86_400.0
"""The longest wait: whatever the reason was, a day later it is asked again whether it still holds."""

TRIES: Final = 3
"""So many writes that did not last make a field contested, and so many refusals are enough to ignore its moves."""

_SECOND_US = 1_000_000


@attrs.frozen
class Moment:
    """When something came to light, chance in [0, 1), the first wait after a refusal, and the window of contests."""

    now_us: int = 0
    chance: float = 0.0
    first_s: float = 60.0
    window_s: float = DAY_S


UNTIMED: Final = Moment()
"""For whoever asks what would be decided, not when."""


def refusal(
    old: RefusedField | None, stamp: Stamp, live: Json, message: str, at: Moment, *, place: int = 0
) -> RefusedField:
    """
    Return the refusal of a claim while Windchill has `live`; `old` is the one before it, if there is any.

    Of several fields that were refused together, nobody knows which is to blame: their waits differ by `place`, so that
    each is tried by itself.
    """
    tries = old.tries + 1 if old is not None and old.stamp.event == stamp.event and not old.contested else 1
    wait_s = backoff.cooldown_s(tries, at.first_s, DAY_S, at.chance) + place * at.first_s
    return RefusedField(stamp, live, message, tries, at.now_us, _later_us(at, wait_s))


def contested(tries: int, stamp: Stamp, live: Json, message: str, at: Moment) -> RefusedField:
    """Return what is kept of a value that Windchill did not keep for the `tries`-th time."""
    wait_s = backoff.cooldown_s(tries, min(at.window_s or DAY_S, DAY_S) / 2, DAY_S, at.chance)
    return RefusedField(stamp, live, message, tries, at.now_us, _later_us(at, wait_s), contested=True)


def bars(known: RefusedField | None, decision: Decision) -> bool:
    """Whether a refusal keeps a whole field from being written for now."""
    if known is None or known.due_us is None or known.contested or known.stamp.event != decision.stamp.event:
        return False
    return known.tries >= TRIES or normalise.equal(known.live, decision.live, ())


def contests(known: RefusedField | None, word: Stamp | None, element: str, *, present: bool) -> bool:
    """Whether a claim on an element is contested, and not to be tried now."""
    return waits(known, word) and known is not None and known.elements.get(element) is present


def waits(known: RefusedField | None, word: Stamp | None) -> bool:
    """Whether what is contested is not to be tried now; `word` is a person's decision on the field."""
    return known is not None and known.contested and known.due_us is not None and not overrules(word, known.stamp)


def word_on(field: Field) -> Stamp | None:
    """Return when a person last decided a field, if its value is from that decision."""
    register = field.register
    decided = register is not None and bool(register.expect) and register.stamp.source == OPERATORS
    return register.stamp if decided and register is not None else None


def overrules(word: Stamp | None, before: Stamp | None) -> bool:
    """Whether a person has decided since `before`: then what is wanted is counted from zero."""
    return word is not None and (before is None or word.follows(before))


def lifted(base: Base, now_us: int, *, every: bool = False) -> Base:
    """
    Return the base with the refusals lifted whose time has come, or every one.

    So is one from a time that is still to come: the clock has been put back since, and its wait means nothing.
    """
    due = {
        name: known._replace(due_us=None)
        for name, known in base.refused.items()
        if known.due_us is not None and (every or not known.at_us <= now_us < known.due_us)
    }
    return attrs.evolve(base, refused={**base.refused, **due}) if due else base


def due_us(base: Base) -> int | None:
    """Return when the next refused field is to be tried again."""
    return min((known.due_us for known in base.refused.values() if known.due_us is not None), default=None)


def _later_us(at: Moment, wait_s: float) -> int:
    return at.now_us + round(wait_s * _SECOND_US)
