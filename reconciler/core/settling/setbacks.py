"""
Setbacks: how long we do not lock a document again after a write failed under a lock of ours.

People see every check-out and every undo. With a failure that stays, they would see one a minute.

Rules of this file:
1. A failure that may pass by itself (a lost reply, a 500) has a few tries with a normal backoff. After these, or at
   once where we may not write or something else has locked the document, the waits double as those of refused fields
   do: from a minute to a day (`retrying.py`), or to an hour for a lock.
2. Meanwhile the document is read without a lock, at the pace of a parked one. It is locked before its time if people
   have changed anything or the log requests something else. After a few tries, new requests count once an hour at most,
   because a stream of events would be as many check-outs.
3. An operator's retry, or event, tries now.
"""

from typing import Final

from msgspec import structs

from reconciler.core.planning import retrying
from reconciler.core.settling.cases import Case
from reconciler.model import codec, instant
from reconciler.model.answer import Locked, NotAvailable, WriteAnswer
from reconciler.model.document import Lane, Setback
from reconciler.model.plan import Patch
from reconciler.model.snapshot import Snapshot

_FREE: Final = 2  # failures that may pass by themselves, each tried again after a normal backoff
_LOCKED_S: Final = 3600.0  # the longest wait for a lock that is not ours: people and workflows let go within hours
_NEWER_US: Final = 3_600_000_000  # between two check-outs because of newer claims, after a few tries


def noted(case: Case, answer: WriteAnswer) -> Case:
    """Return the case with a write that failed under a lock of ours; `answer` is never a success."""
    assert case.snapshot is not None
    assert isinstance(case.plan, Patch)
    before = case.document.agreement.setback
    tries = 1 if before is None else before.tries + 1
    counted = tries if isinstance(answer, Locked | NotAvailable) else tries - _FREE
    wait_s = 0.0
    if counted > 0:
        wait_s = case.cooldown_s(counted, _LOCKED_S if isinstance(answer, Locked) else retrying.DAY_S)
    setback = Setback(
        reason=_reason(answer),
        tries=tries,
        at_us=case.now_us,
        due_us=instant.after_us(case.now_us, wait_s),
        asked=codec.digest(case.plan.fields),
        seen=_seen(case.snapshot),
        locked=(answer.kind or "locked") if isinstance(answer, Locked) else "",
        status=answer.status if isinstance(answer, Locked | NotAvailable) else None,
    )
    agreement = structs.replace(case.document.agreement, setback=setback)
    return structs.replace(case, document=structs.replace(case.document, agreement=agreement))


def standing(case: Case) -> Setback | None:
    """Return the setback because of which we do not lock the document now to write the plan of a case."""
    known = case.document.agreement.setback
    if known is None or case.snapshot is None or not isinstance(case.plan, Patch):
        return None
    if not case.snapshot.locked_for(case.plan.fields) or case.lane in (Lane.ASKED, Lane.OPERATOR):
        return None
    if not known.at_us <= case.now_us < known.due_us:  # one from the future is from a wrong clock
        return None
    patient = known.tries >= retrying.TRIES and case.now_us < known.at_us + _NEWER_US
    if known.seen != _seen(case.snapshot) or (known.asked != codec.digest(case.plan.fields) and not patient):
        return None
    return known


def _seen(snapshot: Snapshot) -> str:
    """Return a digest of the fields that people can change: our own check-outs may change the others."""
    return codec.digest({name: value for name, value in snapshot.body.items() if name not in snapshot.read_only})


def _reason(answer: WriteAnswer) -> str:
    match answer:
        case NotAvailable(status, message):
            return f"{status}: {message}" if status else message
        case Locked(_, message):
            return message
        case _:
            return getattr(answer, "message", "")
