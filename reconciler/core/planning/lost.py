"""
Lost writes: a store that has lost commits may not know of a write of ours, which then looks like a person's edit.

Rules
1. Only a document that our own account modified last, under a token that the store does not know, is looked at.
2. Our last write has changed at least one field. If every managed field that has moved since the base is claimed anew
   and shows another value than the claim, those values are ours, from earlier claims: they become the base.
3. If another field has moved as well, nobody can tell whose these values are. They count as a person's, since a wrong
   yield can be set right and an edit that was overwritten can't.
"""

from msgspec import structs

from reconciler.core.planning import plan as planning
from reconciler.model.base import Base
from reconciler.model.desired import Desired
from reconciler.model.plan import Decision, ReasonCode
from reconciler.model.policy import Policy
from reconciler.model.snapshot import Snapshot
from reconciler.model.value import or_null


def by_our_account(base: Base, before: Snapshot | None, read: Snapshot, account: str) -> bool:
    """
    Whether our account modified a document last, in a write that the store does not know.

    `account`: its name in Windchill; empty: only what the store remembers of a write of ours tells that name.
    """
    known = None if before is None else before.token
    wrote = None if base.wrote is None else base.wrote.token
    if read.modified_by is None or read.token in (None, known, wrote):
        return False
    shown = before.modified_by if before is not None and wrote is not None and wrote == known else None
    return read.modified_by.casefold() in {name.casefold() for name in (account, shown) if name}


def taken_for_ours(desired: Desired, base: Base, read: Snapshot, policy: Policy) -> Base:
    """Return the base with those values of a document that `by_our_account` has modified last which are surely ours."""
    decisions = planning.draft(desired, base, read, policy).decisions
    doubted = [decision for decision in decisions if _is_doubted(decision, base)]
    if any(decision.theirs for decision in decisions if decision not in doubted):
        return base
    ours = {d.field: base.fields[d.field]._replace(value=or_null(d.live), digest="") for d in doubted}
    return structs.replace(base, fields={**base.fields, **ours}) if ours else base


def _is_doubted(decision: Decision, base: Base) -> bool:
    return decision.field in base.fields and any(reason.code is ReasonCode.BOTH for reason in decision.reasons)
