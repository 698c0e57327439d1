"""
Settle: what follows from the end of an attempt, for the document and for everybody who is told of it.

Rules of this file:
1. One function for each way an attempt can end; each returns the whole settlement, so nothing of it can be half stored.
2. A document leaves here either settled (synced, held) or with a time at which it is looked at again. Nothing is
   dropped, nothing is tried without a wait, and every wait grows and is jittered.
3. Chance and time come in with the `Case`; the same case always gives the same settlement.
4. An earlier write whose end nobody knows stays in doubt (`Agreement.intent`) until a read has settled it, or an answer
   has: whatever else comes of this attempt, that request may still be applied.

Theory of operation: ARCHITECTURE.md as code. Version conflicts wait 1, 2, 4, 8 s and then cool down as *contended*; an
unknown result keeps its intent, so that the next attempt reads first; refusals hold their fields and let the rest go
out; locks and absences are tried again slowly; everything else backs off.
"""

from collections.abc import Iterable, Mapping

import attrs

from reconciler.core.events import outcomes
from reconciler.core.events.outcomes import Outcome, OutcomeType
from reconciler.core.planning import plan as planning
from reconciler.core.planning import reasons, retrying
from reconciler.core.scheduling import backoff
from reconciler.core.settling import evidence, pacing
from reconciler.core.settling.cases import Case
from reconciler.model import instant
from reconciler.model.answer import Locked, Refused, Throttled, VersionConflict
from reconciler.model.audit import AttemptResult, Settlement
from reconciler.model.base import Base
from reconciler.model.document import Agreement, Intent, Lane, Setback, Status
from reconciler.model.plan import Decision, InSync, Patch, Plan, Verb
from reconciler.model.snapshot import Snapshot
from reconciler.model.value import Json

_SECOND_US = 1_000_000
_STABLEST = 100  # comparisons without drift: the longest interval there is


def with_base(agreement: Agreement, base: Base, stored: Base) -> Agreement:
    """Return an agreement with another base; if that differs from the stored one, an outcome has to tell of it."""
    changed = (base.fields, base.refused) != (stored.fields, stored.refused)
    return attrs.evolve(agreement, base=base, untold=agreement.untold or changed)


def nothing_managed(case: Case, *, look_again: bool = False) -> Settlement:
    """Nobody manages anything here any more: forget the base, leave the document alone, but for a look now and then."""
    agreement = attrs.evolve(_calm(case), base=Base(), snapshot=None, intent=None, held=(), repeating=None)
    told: tuple[Outcome, ...] = ()
    if case.document.agreement.base != Base() or case.document.agreement.untold:
        told = (outcomes.reconciled(case.document.key, case.now_us, (), Base(), tokens=(None, None), tries=1),)
    due_us = _interval_us(case, _STABLEST) if look_again else None
    settlement = _settlement(case, agreement, Status.SYNCED, "nothing managed", due_us, told=told, lane=Lane.RESYNC)
    return evidence.with_conflicts(case, settlement, ())


def agreed(case: Case, after: Snapshot, result: AttemptResult, *, again: str = "") -> Settlement:
    """
    The plan went through (or had nothing to send) and the document shows `after`.

    `again` says why that may be over by now: then the document is not synced before another read has shown it.
    """
    assert case.plan is not None
    assert case.snapshot is not None
    old = case.document.agreement
    base = planning.agree(case.plan, case.snapshot, after, case.options.policy, case.moment)
    # A write that went through whole needs no second look; one that left something open is decided again as it stands.
    final: Plan = InSync((), base) if isinstance(case.plan, Patch) else case.plan
    if isinstance(case.plan, Patch) and (base.refused or any(_waits(d) or d.later for d in case.plan.decisions)):
        final = planning.draft(case.document.desired, base, after, case.options.policy)
    stable = old.stable + 1 if case.lane is Lane.RESYNC and not isinstance(case.plan, Patch) and not case.drifted else 0
    # While the document stands where it stood, a write in doubt may still come: then it must not pass for an edit.
    doubt = old.intent if old.intent is not None and old.intent.token == after.token else None
    calm = attrs.evolve(_calm(case), stable=stable, base=base, snapshot=after, intent=doubt)
    if pacing.makes_an_iteration(case):
        calm = attrs.evolve(calm, checked_in_us=case.now_us)
    told: tuple[Outcome, ...] = ()
    untold = with_base(old, base, case.stored).untold
    ended = bool(case.confirmed) or old.intent is not doubt  # nobody was told yet what became of an earlier write
    if untold or ended or isinstance(case.plan, Patch):
        decisions = tuple(_as_confirmed(decision, case.confirmed) for decision in case.plan.decisions)
        tokens, tries = (case.snapshot.token, after.token), old.clashes + 1
        told = (outcomes.reconciled(case.document.key, case.now_us, decisions, base, tokens=tokens, tries=tries),)
    waiting = [decision for decision in final.decisions if _waits(decision)]
    status, reason = (Status.HELD, _held_reason(waiting)) if waiting else (Status.SYNCED, "")
    # Also if the policy ignores every field that the log manages: another policy, after a restart, may not.
    due_us = _next_us(case, base, stable)
    settlement = _settlement(case, calm, status, reason, due_us, told=told, lane=Lane.RESYNC)
    if isinstance(final, Patch):  # the next portion, or what the server made of this one: at once, as a new attempt
        again = again or f"next: {', '.join(final.fields)}"
    if again:
        settlement = attrs.evolve(settlement, status=Status.PENDING, reason=again, due_us=case.now_us, lane=Lane.RETRY)
    quiet = not told and case.lane is Lane.RESYNC and status is case.document.status
    settlement = settlement if quiet else evidence.audited(case, settlement, result, token_after=after.token)
    return evidence.with_conflicts(case, evidence.counted(case, settlement), waiting)


def collecting(case: Case, until_us: int) -> Settlement:
    """The write waits for further changes, so that they make one iteration together. Nothing was asked of anybody."""
    reason = f"waits for further changes until {instant.from_us(until_us)[11:19]} UTC"
    settlement = _settlement(case, _kept(case), Status.COLLECTING, reason, until_us, lane=case.lane)
    return attrs.evolve(settlement, result=AttemptResult.COLLECTING, attempts=0)


def confirmed(case: Case) -> Settlement:
    """
    A write in doubt was applied, and there is more to write: first tell of the one, then decide on the other.

    Both in one attempt would leave the first one's confirmation to the fate of the second.
    """
    assert isinstance(case.plan, Patch)
    assert case.snapshot is not None
    base, sent = case.plan.base, case.confirmed
    stamps = {name: agreed.stamp for name, agreed in base.fields.items() if name in sent and agreed.stamp is not None}
    written = tuple(
        attrs.evolve(decision, verb=Verb.WRITE, target=sent[name], stamp=stamps[name])
        for decision in case.plan.decisions
        if (name := decision.field) in stamps
    )
    tokens = (None, case.snapshot.token)
    told = outcomes.reconciled(case.document.key, case.now_us, written, base, tokens=tokens, tries=1)
    agreement = attrs.evolve(_calm(case), base=base, snapshot=case.snapshot, intent=None)
    reason = "an earlier write is confirmed, and there is more to write"
    settlement = _settlement(case, agreement, Status.PENDING, reason, case.now_us, told=(told,))
    return evidence.audited(case, settlement, AttemptResult.CONFIRMED, reason)


def version_conflict(case: Case, answer: VersionConflict) -> Settlement:
    """Somebody wrote between our read and our write. Nothing was applied: read and decide again, a little later."""
    old, pace = case.document.agreement, case.options.pace
    clashes = old.clashes + 1
    # Its status does not say whether it was contended before: it is pending during its tries. If it was locked or
    # parked since, what it cooled down for is over, as writes come through again.
    contended = old.aside is Status.CONTENDED
    cooldowns = old.cooldowns if contended else 0
    assert case.plan is not None
    agreement = attrs.evolve(old, base=case.plan.base, snapshot=case.snapshot, clashes=clashes, cooldowns=cooldowns)
    if clashes < pace.conflict_attempts_max:
        wait_s = backoff.delay_s(clashes, pace.backoff_base_s, pace.backoff_max_s, case.chance)
        reason = f"version conflict {clashes} of {pace.conflict_attempts_max}: read and decide again"
        settlement = _settlement(case, agreement, Status.PENDING, reason, _in(case, wait_s))
    else:
        agreement = attrs.evolve(agreement, clashes=0, cooldowns=cooldowns + 1)
        reason = f"contended: {clashes} version conflicts in a row"
        settlement = _cooling(case, agreement, Status.CONTENDED, reason, entered=not contended)
    settlement = attrs.evolve(evidence.counted(case, settlement), conflicts=1)
    return evidence.audited(case, settlement, AttemptResult.VERSION_CONFLICT, answer.message, status=answer.status)


def refused(case: Case, answer: Refused) -> Settlement:
    """The server will not take some fields: they are tried again later, the rest goes out at once."""
    assert isinstance(case.plan, Patch)
    assert case.snapshot is not None
    base = planning.refuse(case.plan.base, case.plan, answer.fields, answer.message, case.moment)
    rest = planning.draft(case.document.desired, base, case.snapshot, case.options.policy)
    waiting = [decision for decision in rest.decisions if _waits(decision)]
    agreement = attrs.evolve(_calm(case), base=rest.base, snapshot=case.snapshot)
    # Told at once: whoever rebuilds the base from the outcomes must not try again what was refused.
    held, token = tuple(d for d in waiting if d.verb is Verb.HOLD), case.snapshot.token
    told = (outcomes.reconciled(case.document.key, case.now_us, held, rest.base, tokens=(token, token), tries=1),)
    if isinstance(rest, Patch):
        reason = "the rest goes out without refused fields"
        settlement = _settlement(case, agreement, Status.PENDING, reason, case.now_us, told=told)
    else:
        reason, due_us = _held_reason(waiting), _next_us(case, rest.base, 0)
        settlement = _settlement(case, agreement, Status.HELD, reason, due_us, told=told, lane=Lane.RESYNC)
    settlement = evidence.audited(
        case, evidence.counted(case, settlement), AttemptResult.REFUSED, answer.message, status=answer.status
    )
    return evidence.with_conflicts(case, settlement, waiting)


def locked(case: Case, answer: Locked) -> Settlement:
    """Somebody has the document checked out: come back slowly."""
    what = answer.kind or (f"locked by {answer.holder}" if answer.holder else "locked")
    agreement = attrs.evolve(_kept(case), cooldowns=case.document.agreement.cooldowns + 1)
    entered = case.document.status is not Status.LOCKED
    settlement = _cooling(case, agreement, Status.LOCKED, f"{what}: {answer.message}", entered=entered)
    return evidence.audited(
        case, evidence.counted(case, settlement), AttemptResult.LOCKED, answer.message, status=answer.status
    )


def set_back(case: Case, setback: Setback) -> Settlement:
    """The last writes failed under our lock, and nothing has moved since: no lock is taken before its time."""
    if case.plan is not None and any(decision.later for decision in case.plan.decisions):
        fields = tuple(case.plan.fields) if isinstance(case.plan, Patch) else ()
        return refused(case, Refused(setback.status or 0, setback.reason, fields))
    reason = f"{setback.reason}; it is tried again at {instant.from_us(setback.due_us)[:19]}Z"
    if setback.locked:
        settlement = locked(case, Locked(setback.status or 0, reason, kind=setback.locked))
    else:
        result = AttemptResult.FAILED if setback.status is None else AttemptResult.NOT_AVAILABLE
        settlement = parked(case, reason, result, setback.status)
    due_us = setback.due_us if settlement.due_us is None else min(settlement.due_us, setback.due_us)
    return attrs.evolve(settlement, agreement=attrs.evolve(settlement.agreement, failures=0), due_us=due_us)


def parked(
    case: Case, reason: str, result: AttemptResult, status: int | None = None, *, at_least_s: float = 0.0
) -> Settlement:
    """Not written to for now; looked at again slowly."""
    agreement = attrs.evolve(_kept(case), cooldowns=case.document.agreement.cooldowns + 1)
    entered = case.document.status is not Status.PARKED
    cooling = _cooling(case, agreement, Status.PARKED, reason, entered=entered, at_least_s=at_least_s)
    settlement = evidence.counted(case, cooling)
    return evidence.audited(case, settlement, result, reason, status=status)


def unknown(case: Case, intent: Intent, message: str) -> Settlement:
    """The reply to a write was lost. The intent stays, so the next attempt reads before anything else."""
    settlement = _again(case, attrs.evolve(_kept(case), intent=intent), f"result unknown: {message}", 0.0)
    return evidence.audited(case, settlement, AttemptResult.UNKNOWN, message)


def throttled(case: Case, answer: Throttled, intent: Intent | None = None) -> Settlement:
    """The document is asked for less often, for as long as the server says; "until next year" is taken for an hour."""
    reason = f"throttled ({answer.status}): {answer.message}"
    at_least_s = min(answer.retry_after_s or 0.0, backoff.RETRY_AFTER_S_MAX)
    settlement = _again(case, attrs.evolve(_kept(case), intent=intent), reason, at_least_s)
    return evidence.audited(case, settlement, AttemptResult.THROTTLED, answer.message, status=answer.status)


def failed(case: Case, message: str, intent: Intent | None = None) -> Settlement:
    """It did not work this time; `intent` stays when the write may have been applied."""
    return evidence.audited(
        case, _again(case, attrs.evolve(_kept(case), intent=intent), message, 0.0), AttemptResult.FAILED, message
    )


def _again(case: Case, agreement: Agreement, reason: str, at_least_s: float) -> Settlement:
    pace = case.options.pace
    failures = case.document.agreement.failures + 1
    wait_s = max(at_least_s, backoff.delay_s(failures, pace.backoff_base_s, pace.backoff_max_s, case.chance))
    agreement = attrs.evolve(agreement, failures=failures)
    return evidence.counted(case, _settlement(case, agreement, Status.PENDING, reason, _in(case, wait_s)))


def _cooling(
    case: Case, agreement: Agreement, status: Status, reason: str, *, entered: bool, at_least_s: float = 0.0
) -> Settlement:
    pace = case.options.pace
    wait_s = backoff.cooldown_s(agreement.cooldowns, pace.cooldown_base_s, pace.cooldown_max_s, case.chance)
    wait_s += at_least_s
    told: tuple[Outcome, ...] = ()
    if entered:  # once, not at every look
        agreement = attrs.evolve(agreement, aside=status, aside_us=case.now_us)
        told = (outcomes.parked(case.document.key, case.now_us, status, reason),)
    return _settlement(case, agreement, status, reason, _in(case, wait_s), told=told)


def _settlement(
    case: Case,
    agreement: Agreement,
    status: Status,
    reason: str,
    due_us: int | None,
    *,
    told: tuple[Outcome, ...] = (),
    lane: Lane | None = None,
) -> Settlement:
    options, key = case.options, case.document.key
    untold = with_base(case.document.agreement, agreement.base, case.stored).untold
    number = case.document.agreement.told
    if any(outcome.type is OutcomeType.RECONCILED for outcome in told):
        untold, number = False, number + 1
    if lane is None:  # work that nobody asked for stays that, through all its retries: the write budget counts it
        lane = case.lane if case.lane in (Lane.RESYNC, Lane.REPLAY) else Lane.RETRY
    return Settlement(
        key=key,
        revision=case.document.revision,
        agreement=attrs.evolve(agreement, untold=untold, told=number),
        status=status,
        reason=reason,
        lane=lane,
        due_us=due_us,
        at_us=case.now_us,
        outcomes=tuple(outcomes.record(outcome, options.outcomes_topic, options.source, number) for outcome in told),
        attempts=1,
    )


def _as_confirmed(decision: Decision, confirmed: Mapping[str, Json]) -> Decision:
    """What a lost reply had left in doubt and a read has confirmed was written, not kept."""
    if decision.field not in confirmed or decision.verb is not Verb.KEEP:
        return decision
    return attrs.evolve(decision, verb=Verb.WRITE, target=confirmed[decision.field])


def _calm(case: Case) -> Agreement:
    calm = attrs.evolve(case.document.agreement, failures=0, clashes=0, cooldowns=0, stable=0, setback=None)
    return attrs.evolve(calm, aside=None, aside_us=None)


def _kept(case: Case) -> Agreement:
    """The agreement with what was read and adopted in this attempt."""
    agreement = case.document.agreement
    if case.snapshot is None:
        return agreement
    base = agreement.base if case.plan is None else case.plan.base
    return attrs.evolve(agreement, snapshot=case.snapshot, base=base)


def _next_us(case: Case, base: Base, stable: int) -> int | None:
    """Return when a settled document is looked at again: to be compared, or because a refused field is tried again."""
    moments = (_interval_us(case, stable), retrying.due_us(base))
    return min((moment for moment in moments if moment is not None), default=None)


def _interval_us(case: Case, stable: int) -> int | None:
    pace = case.options.pace
    interval_s = backoff.interval_s(stable, pace.interval_s, case.chance, pace.interval_factor_max)
    return None if interval_s is None else _in(case, interval_s)


def _in(case: Case, delay_s: float) -> int:
    return case.now_us + round(delay_s * _SECOND_US)


def _waits(decision: Decision) -> bool:
    return decision.verb is Verb.HOLD or bool(decision.held_elements)


def _held_reason(waiting: Iterable[Decision]) -> str:
    return "; ".join(f"{decision.field}: {reasons.text(decision.reasons)}" for decision in waiting)
