"""Conflicts: fields that wait for a decision, under an id that stays the same when a conflict is found again."""

from reconciler.model import codec
from reconciler.model.document import Conflict
from reconciler.model.plan import Decision, Hold
from reconciler.model.value import MISSING, or_null


def of(key: str, decision: Decision, now_us: int) -> Conflict:
    """
    Return the conflict of a held decision.

    A contested field stays one conflict, even if another event requests the same value or the live value changes.
    """
    identity: list[object] = [key, decision.field, decision.stamp.event, or_null(decision.live), decision.held_elements]
    if decision.hold is Hold.CONTESTED:
        wanted = None if decision.held_elements else decision.desired
        identity = [key, decision.field, decision.hold, wanted, decision.held_elements]
    return Conflict(
        id=codec.digest(identity)[:12],  # 48 bits: typed by people, unique among open conflicts by far
        field=decision.field,
        reasons=decision.reasons,
        base=or_null(decision.base),
        has_base=decision.base is not MISSING,
        desired=decision.desired,
        live=or_null(decision.live),
        stamp=decision.stamp,
        opened_at_us=now_us,
        hold=decision.hold,
    )


def settling(id: str, hold: Hold) -> tuple[str, ...]:
    """Return the commands that end a conflict, one or the other."""
    give_up = f"reconciler conflicts resolve {id} --take live"
    match hold:
        case Hold.DECIDE:
            return (f"reconciler conflicts resolve {id} --take desired|live",)
        case Hold.REFUSED:
            return f"reconciler conflicts retry {id}", give_up
        case Hold.CONTESTED:
            return f"reconciler conflicts accept|retry {id}", give_up
