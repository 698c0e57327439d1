"""
Retrying: when a write of a field that came to nothing is tried again, and what the base keeps of it until then.

Rules of this file:
1. A refusal is never for ever. Each further one of the same claim doubles the wait, up to a day; a newer claim, a
   person who asks for it (lane OPERATOR), and the first moves of the live value try at once.
2. `plan.draft` has no clock: an attempt lifts the refusals whose time has come before it drafts, and the base that it
   drafts on says so. The count stays, so that the next wait is longer.
"""

from typing import Final

import attrs

from reconciler.core import backoff, normalise
from reconciler.model.base import Base, Refused
from reconciler.model.plan import Decision
from reconciler.model.stamp import Stamp
from reconciler.model.value import Json

DAY_S: Final = 86_400.0
"""The longest wait: whatever the reason was, a day later it is asked again whether it still holds."""

TRIES: Final = 3
"""After so many tries of one claim only time, a person or a newer claim leads to another; no move in Windchill does."""

_SECOND_US = 1_000_000


@attrs.frozen
class Moment:
    """When something came to light, a number in [0, 1) of chance, and the first wait of a refused field."""

    now_us: int = 0
    chance: float = 0.0
    first_s: float = 60.0


UNTIMED: Final = Moment()
"""For whoever asks what would be decided, not when."""


def refusal(old: Refused | None, stamp: Stamp, live: Json, message: str, at: Moment, *, place: int = 0) -> Refused:
    """
    Return the refusal of a claim while Windchill has `live`; `old` is the one before it, if there is any.

    Of several fields that were refused together, nobody knows which is to blame: their waits differ by `place`, so that
    each is tried by itself.
    """
    tries = old.tries + 1 if old is not None and old.stamp.event == stamp.event else 1
    wait_s = backoff.cooldown_s(tries, at.first_s, DAY_S, at.chance) + place * at.first_s
    return Refused(stamp, live, message, tries, at.now_us, at.now_us + round(wait_s * _SECOND_US))


def bars(known: Refused | None, decision: Decision) -> bool:
    """Whether a refusal keeps a field from being written for now."""
    if known is None or known.due_us is None or known.stamp.event != decision.stamp.event:
        return False
    return known.tries >= TRIES or normalise.equal(known.live, decision.live, ())


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
