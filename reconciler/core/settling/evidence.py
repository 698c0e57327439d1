"""
Evidence: the records that a settlement stores beside the document's state.

They are the audit record with every input of the decision, conflicts opened and closed, and counts for the hot spots.

A document that is locked for a week is tried hundreds of times with the same result. So a result that changes nothing
is recorded when it first comes; the next record says how often it came again. Two attempts had the same result if
result, status and all decisions are equal. The message does not count, because it may hold a time or a number of its
own.
"""

from collections.abc import Sequence

from msgspec import structs

from reconciler.core.events import outcomes
from reconciler.core.planning import conflicts, reasons
from reconciler.core.settling.cases import Case
from reconciler.model import codec
from reconciler.model.audit import AttemptResult, AuditRecord, Contention, Settlement, Verdict
from reconciler.model.document import Repeating
from reconciler.model.plan import Decision, Patch, Plan
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import MISSING, or_null

# Not UNKNOWN, because its write may have been applied, nor version conflicts: each is someone else's edit.
_REPEATING = frozenset(
    {
        AttemptResult.FAILED,
        AttemptResult.LOCKED,
        AttemptResult.NO_TOKEN,
        AttemptResult.NOT_AVAILABLE,
        AttemptResult.REFUSED,
        AttemptResult.THRESHOLD,
        AttemptResult.THROTTLED,
        AttemptResult.UNGUARDED,
        AttemptResult.WOULD_WRITE,
    }
)


def with_conflicts(case: Case, settlement: Settlement, waiting: Sequence[Decision]) -> Settlement:
    """Open the conflicts that are new, close those that have ended, and publish both."""
    if not waiting and not case.document.agreement.held:
        return settlement
    key, now_us, options = case.document.key, case.now_us, case.options
    before = {conflict.id: conflict for conflict in case.document.agreement.held}
    held = tuple(before.get(conflict.id, conflict) for conflict in (conflicts.of(key, d, now_us) for d in waiting))
    still = {conflict.id for conflict in held}
    opened = tuple(conflict for conflict in held if conflict.id not in before)
    gone = [conflict for conflict in before.values() if conflict.id not in still]
    reheld = {conflict.field for conflict in held}
    told = [outcomes.opened(key, now_us, conflict, reasons.text(conflict.reasons)) for conflict in opened]
    told += [outcomes.closed(key, now_us, c, "moved on" if c.field in reheld else "settled") for c in gone]
    return structs.replace(
        settlement,
        agreement=structs.replace(settlement.agreement, held=held),
        opened=opened,
        closed=tuple(conflict.id for conflict in gone),
        outcomes=settlement.outcomes + tuple(outcomes.record(o, options.outcomes_topic, options.source) for o in told),
    )


def recorded(
    case: Case, settlement: Settlement, result: AttemptResult, message: str, *, status: int | None = None
) -> Settlement:
    """Add the counts of the hot spots and the audit record."""
    return audited(case, counted(case, settlement), result, message, status=status)


def audited(
    case: Case,
    settlement: Settlement,
    result: AttemptResult,
    message: str = "",
    *,
    status: int | None = None,
    token_after: Token | None = None,
) -> Settlement:
    """
    Add the audit record, or only count it if the document's last record says the same.

    An attempt without a decision (nothing could be read) has no record.
    """
    if case.plan is None or case.snapshot is None:
        return settlement
    result = AttemptResult.CONFIRMED if case.confirmed else result
    record = _record(case, case.plan, case.snapshot, result)
    record = structs.replace(record, message=message, status=status, token_after=token_after)
    same = _digest(record) if result in _REPEATING else None
    before = case.document.agreement.repeating
    audit: tuple[AuditRecord, ...] = ()
    if before is not None and before.digest == same:
        repeating: Repeating | None = structs.replace(before, times=before.times + 1)
    else:
        repeating = None if same is None else Repeating(same)
        audit = (structs.replace(record, repeats=0 if before is None else before.times),)
    agreement = structs.replace(settlement.agreement, repeating=repeating)
    return structs.replace(settlement, agreement=agreement, audit=audit, result=result)


def _digest(record: AuditRecord) -> str:
    """
    Return a digest that equal results share.

    It leaves out text, in which a number or a time may differ, and the base, which the first attempt adopts and stores.
    """
    decisions = [structs.replace(verdict, reasons=(), base=None, has_base=False) for verdict in record.decisions]
    return codec.digest([record.result, record.status, decisions])


def _record(case: Case, plan: Plan, snapshot: Snapshot, result: AttemptResult) -> AuditRecord:
    document = case.document
    names = {decision.field for decision in plan.decisions}
    shown = {name: value for name in sorted(names) if (value := snapshot.value(name)) is not MISSING}
    for head in sorted(name.partition(".")[0] for name in names if snapshot.in_the_way(name) is not None):
        shown[head] = snapshot.body[head]
    type_normalisers = {name: steps for name, steps in snapshot.type_normalisers.items() if name in names}
    heads = names | {name.partition(".")[0] for name in names}
    read_only = tuple(name for name in snapshot.read_only if name in heads)
    return AuditRecord(
        document=document.key,
        at_us=case.now_us,
        cause=case.lane.name.lower(),
        attempt=document.agreement.clashes + 1,
        desired=document.desired,
        base=document.agreement.base,
        snapshot=structs.replace(snapshot, body=shown, type_normalisers=type_normalisers, read_only=read_only),
        policy=case.options.policy_digest,
        decisions=tuple(_verdict(decision) for decision in plan.decisions),
        patch=dict(plan.fields) if isinstance(plan, Patch) else None,
        result=result,
        message="",
        status=None,
        token_after=None,
    )


def _verdict(decision: Decision) -> Verdict:
    return Verdict(
        field=decision.field,
        verb=decision.verb.value,
        reasons=decision.reasons,
        rule=decision.rule,
        strategy=decision.strategy,
        desired=decision.desired,
        base=or_null(decision.base),
        has_base=decision.base is not MISSING,
        live=or_null(decision.live),
        event=decision.stamp.id,
        source=decision.stamp.source,
        later=decision.later,
    )


def counted(case: Case, settlement: Settlement) -> Settlement:
    """Count, for the hot spots, the fields that were written and those that someone changed before our write."""
    written = case.plan.fields if isinstance(case.plan, Patch) else {}
    names = sorted({*written, *case.moved})
    counts = tuple(Contention(name, int(name in case.moved), int(name in written)) for name in names)
    return structs.replace(settlement, contention=counts)
