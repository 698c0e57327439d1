"""
Setbacks: when a document is locked again after a write that failed under a lock of ours.

People see every check-out and every undo, and where the same failure comes each time they would see one a minute.

Rules of this file:
1. A failure that may pass by itself (a lost reply, a 500) has a few tries at once. From then on, and at once where we
   are forbidden to write or something else has locked the document, the waits double as those of refused fields do,
   from a minute to a day (`retrying.py`), or to an hour where it is a lock.
2. Until then the document is read without a lock, at the pace of what is parked. If people have changed anything since,
   or ask for something else, it is locked before its time; the latter once an hour at most after a few tries, since a
   stream of events would be as many check-outs.
3. An operator's retry, or event, tries now.
"""

from collections.abc import Mapping
from typing import Final

import attrs

from reconciler.core.planning import retrying
from reconciler.core.scheduling import backoff
from reconciler.core.settling.cases import Case
from reconciler.model import codec
from reconciler.model.answer import Locked, NotAvailable, WriteAnswer
from reconciler.model.document import Lane, Setback
from reconciler.model.plan import Patch
from reconciler.model.snapshot import Snapshot
from reconciler.model.value import Json

_FREE: Final = 2  # failures that may pass by themselves, each tried again after a normal backoff
_LOCKED_S: Final = 3600.0  # the longest wait for a lock that is not ours: people and workflows let go within hours
_NEWER_US: Final = 3_600_000_000  # between two check-outs that newer claims bring about, after a few tries


def noted(case: Case, answer: WriteAnswer) -> Case:
    """Return the case with a write that failed under a lock of ours; `answer` is why, and is never a success."""
    assert case.snapshot is not None
    assert isinstance(case.plan, Patch)
    before = case.document.agreement.setback
    tries = 1 if before is None else before.tries + 1
    counted = tries if isinstance(answer, Locked | NotAvailable) else tries - _FREE
    wait_s = 0.0
    if counted > 0:
        longest_s = _LOCKED_S if isinstance(answer, Locked) else retrying.DAY_S
        wait_s = backoff.cooldown_s(counted, case.options.pace.cooldown_base_s, longest_s, case.chance)
    setback = Setback(
        reason=_reason(answer),
        tries=tries,
        at_us=case.now_us,
        due_us=case.now_us + round(wait_s * 1_000_000),
        asked=codec.digest(case.plan.fields),
        seen=_seen(case.snapshot),
        locked=(answer.kind or "locked") if isinstance(answer, Locked) else "",
        status=answer.status if isinstance(answer, Locked | NotAvailable) else None,
    )
    agreement = attrs.evolve(case.document.agreement, setback=setback)
    return attrs.evolve(case, document=attrs.evolve(case.document, agreement=agreement))


def standing(case: Case) -> Setback | None:
    """Return the setback for which the document is not locked now to write the plan of a case."""
    known = case.document.agreement.setback
    if known is None or case.snapshot is None or not isinstance(case.plan, Patch):
        return None
    if not case.snapshot.locked_for(case.plan.fields) or case.lane in (Lane.ASKED, Lane.OPERATOR):
        return None
    if not known.at_us <= case.now_us < known.due_us:  # also one from a time to come, which a wrong clock has told
        return None
    patient = known.tries >= retrying.TRIES and case.now_us < known.at_us + _NEWER_US
    if known.seen != _seen(case.snapshot) or (known.asked != codec.digest(case.plan.fields) and not patient):
        return None
    return known


def _seen(snapshot: Snapshot) -> str:
    """Return a digest of what people can change: our own check-outs may move the rest."""
    changeable: Mapping[str, Json] = {
        name: value for name, value in snapshot.body.items() if name not in snapshot.read_only
    }
    return codec.digest(changeable)


def _reason(answer: WriteAnswer) -> str:
    match answer:
        case NotAvailable(status, message):
            return f"{status}: {message}" if status else message
        case Locked(_, message):
            return message
        case _:
            return getattr(answer, "message", "")
