"""
Evidence: what is stored and told of an attempt beside where its document stands now.

The audit record holds every input of the decision; conflicts are opened and closed; hot spots are counted.
"""

from collections.abc import Sequence

import attrs

from reconciler.core import conflicts, outcomes
from reconciler.core.cases import Case
from reconciler.model.audit import AuditRecord, Verdict
from reconciler.model.plan import Decision, Patch
from reconciler.model.settlement import Contention, Settlement
from reconciler.model.snapshot import Token
from reconciler.model.value import MISSING, Json, Missing


def with_conflicts(case: Case, settlement: Settlement, waiting: Sequence[Decision]) -> Settlement:
    """Open the conflicts that are new, close those that are no more, and tell of both."""
    if not waiting and not case.document.agreement.held:
        return settlement
    key, now_us, rules = case.document.key, case.now_us, case.rules
    before = {conflict.id: conflict for conflict in case.document.agreement.held}
    held = tuple(before.get(conflict.id, conflict) for conflict in (conflicts.of(key, d, now_us) for d in waiting))
    still = {conflict.id for conflict in held}
    opened = tuple(conflict for conflict in held if conflict.id not in before)
    gone = [conflict for conflict in before.values() if conflict.id not in still]
    reheld = {conflict.field for conflict in held}
    told = [outcomes.opened(key, now_us, conflict) for conflict in opened]
    told += [outcomes.closed(key, now_us, c, "moved on" if c.field in reheld else "settled") for c in gone]
    return attrs.evolve(
        settlement,
        agreement=attrs.evolve(settlement.agreement, held=held),
        opened=opened,
        closed=tuple(conflict.id for conflict in gone),
        outcomes=settlement.outcomes + tuple(outcomes.record(o, rules.outcomes_topic, rules.source) for o in told),
    )


def audited(
    case: Case,
    settlement: Settlement,
    result: str,
    message: str = "",
    *,
    status: int | None = None,
    token_after: Token | None = None,
) -> Settlement:
    """Add the audit record; an attempt that came to no decision (nothing could be read) has none."""
    document, snapshot = case.document, case.snapshot
    if case.plan is None or snapshot is None:
        return settlement
    names = {decision.field for decision in case.plan.decisions}
    shown = {name: value for name in sorted(names) if (value := snapshot.value(name)) is not MISSING}
    for head in sorted(name.partition(".")[0] for name in names if snapshot.in_the_way(name) is not None):
        shown[head] = snapshot.body[head]
    compared_as = {name: steps for name, steps in snapshot.compared_as.items() if name in names}
    heads = names | {name.partition(".")[0] for name in names}
    read_only = tuple(name for name in snapshot.read_only if name in heads)
    record = AuditRecord(
        document=document.key,
        at_us=case.now_us,
        cause=case.lane.name.lower(),
        attempt=document.agreement.clashes + 1,
        desired=document.desired,
        base=document.agreement.base,
        snapshot=attrs.evolve(snapshot, body=shown, compared_as=compared_as, read_only=read_only),
        policy=case.rules.policy_digest,
        decisions=tuple(_verdict(decision) for decision in case.plan.decisions),
        patch=dict(case.plan.fields) if isinstance(case.plan, Patch) else None,
        result="confirmed" if case.confirmed else result,
        message=message,
        status=status,
        token_after=token_after,
    )
    return attrs.evolve(settlement, audit=(record,))


def _verdict(decision: Decision) -> Verdict:
    return Verdict(
        field=decision.field,
        verb=decision.verb.value,
        reason=decision.reason,
        rule=decision.rule,
        strategy=decision.strategy,
        desired=decision.desired,
        base=_null(decision.base),
        has_base=decision.base is not MISSING,
        live=_null(decision.live),
        event=decision.stamp.id,
        source=decision.stamp.source,
    )


def counted(case: Case, settlement: Settlement) -> Settlement:
    """Count, for the hot spots, what was written and what somebody moved under us."""
    written = case.plan.fields if isinstance(case.plan, Patch) else {}
    names = sorted({*written, *case.moved})
    counts = tuple(Contention(name, int(name in case.moved), int(name in written)) for name in names)
    return attrs.evolve(settlement, contention=counts)


def _null(value: Json | Missing) -> Json:
    return None if value is MISSING else value
