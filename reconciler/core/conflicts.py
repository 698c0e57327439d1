"""Conflicts: what waits for a person, under a name that the same clash has whenever it is found again."""

from reconciler.model import codec
from reconciler.model.document import Conflict
from reconciler.model.plan import Decision
from reconciler.model.value import MISSING, Json, Missing


def of(key: str, decision: Decision, now_us: int) -> Conflict:
    """Return the conflict that a held decision stands for."""
    identity = [key, decision.field, decision.stamp.event, _null(decision.live), decision.held_elements]
    return Conflict(
        id=codec.digest(identity)[:12],  # 48 bits: typed by people, unique among open conflicts by far
        field=decision.field,
        reason=decision.reason,
        base=_null(decision.base),
        has_base=decision.base is not MISSING,
        desired=decision.desired,
        live=_null(decision.live),
        stamp=decision.stamp,
        opened_at_us=now_us,
    )


def _null(value: Json | Missing) -> Json:
    return None if value is MISSING else value
