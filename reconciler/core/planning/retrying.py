"""
Retrying: when a field whose write failed is tried again, and what the base keeps of it until then.

Rules of this file:
1. Nothing is given up, and nothing is repeated for ever. A *refused* claim is tried again after a minute, and each
   further refusal doubles the wait, up to a day; a newer claim, and the first changes of the live value, try at once.
2. A *contested* value is one that Windchill accepts and does not keep (`contest.py`). It is tried again after half the
   time over which its writes were counted, and then once a day. Another value is tried at once; a new event with the
   same value, or a change of the live value, does not shorten the wait.
3. A person goes before both: an attempt in lane ASKED tries now, and a decision (an operator's event with `expect`)
   starts the count from zero. Any other event of an operator is an event like any other.
4. `plan.draft` has no clock: before it drafts, an attempt lifts the refusals that are due, and the base that it drafts
   on says so. The count stays, so that the next wait is longer.
"""

from typing import Final

import msgspec
from msgspec import structs

from reconciler.core.folding import normalise
from reconciler.core.scheduling import backoff
from reconciler.model import instant
from reconciler.model.base import Base, RefusedField
from reconciler.model.desired import Field
from reconciler.model.plan import Decision
from reconciler.model.policy import OPERATORS
from reconciler.model.stamp import Stamp
from reconciler.model.value import Json

DAY_S: Final = 86_400.0
"""The longest wait: after a day we try again, whatever the reason was."""

TRIES: Final = 3
"""Writes that did not last until a field is contested, and refusals until changes of its live value are ignored."""


class Moment(msgspec.Struct, frozen=True):
    """A moment, chance in [0, 1), the first wait after a refusal, and the window of contests."""

    now_us: int = 0
    chance: float = 0.0
    first_s: float = 60.0
    window_s: float = DAY_S


UNTIMED: Final = Moment()
"""For callers that ask what would be decided, not when."""


def refusal(
    old: RefusedField | None, stamp: Stamp, live: Json, message: str, at: Moment, *, place: int = 0
) -> RefusedField:
    """
    Return the refusal of a claim while Windchill has `live`; `old` is the one before it, if there was one.

    If several fields were refused together, any of them may be to blame: their waits differ by `place`, so that each is
    tried by itself.
    """
    tries = old.tries + 1 if old is not None and old.stamp.event == stamp.event and not old.contested else 1
    wait_s = backoff.cooldown_s(tries, at.first_s, DAY_S, at.chance) + place * at.first_s
    return RefusedField(stamp, live, message, tries, at.now_us, instant.after_us(at.now_us, wait_s))


def contested(tries: int, stamp: Stamp, live: Json, message: str, at: Moment) -> RefusedField:
    """Return the record of a value that Windchill did not keep for the `tries`-th time."""
    wait_s = backoff.cooldown_s(tries, min(at.window_s or DAY_S, DAY_S) / 2, DAY_S, at.chance)
    return RefusedField(stamp, live, message, tries, at.now_us, instant.after_us(at.now_us, wait_s), contested=True)


def bars(known: RefusedField | None, decision: Decision) -> bool:
    """Whether a refusal keeps a whole field from being written for now."""
    if known is None or known.due_us is None or known.contested or known.stamp.event != decision.stamp.event:
        return False
    return known.tries >= TRIES or normalise.equal(known.live, decision.live, ())


def contests(known: RefusedField | None, by_person: Stamp | None, element: str, *, present: bool) -> bool:
    """Whether a claim on an element is contested, and is not tried now."""
    return waits(known, by_person) and known is not None and known.elements.get(element) is present


def waits(known: RefusedField | None, by_person: Stamp | None) -> bool:
    """Whether a contested field is not tried now; `by_person` is a person's decision on it."""
    return known is not None and known.contested and known.due_us is not None and not overrules(by_person, known.stamp)


def decided_by_person(field: Field) -> Stamp | None:
    """Return the stamp of a person's decision on a field, if its value is from that decision."""
    register = field.register
    decided = register is not None and bool(register.expect) and register.stamp.source == OPERATORS
    return register.stamp if decided and register is not None else None


def overrules(by_person: Stamp | None, before: Stamp | None) -> bool:
    """Whether a person has decided since `before`: then the count starts from zero."""
    return by_person is not None and (before is None or by_person.follows(before))


def lifted(base: Base, now_us: int, *, every: bool = False) -> Base:
    """
    Return the base with the refusals lifted that are due, or `every` one.

    One from the future is lifted too: the clock has been put back since, and its wait means nothing.
    """
    due = {
        name: known._replace(due_us=None)
        for name, known in base.refused.items()
        if known.due_us is not None and (every or not known.at_us <= now_us < known.due_us)
    }
    return structs.replace(base, refused={**base.refused, **due}) if due else base


def due_us(base: Base) -> int | None:
    """Return when the next refused field is due."""
    return min((known.due_us for known in base.refused.values() if known.due_us is not None), default=None)
