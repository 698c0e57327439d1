"""
Settle: one function for each way an attempt can end. Each returns the whole settlement: one transaction.

Rules of this file:
1. A document leaves here either done (synced, held) or with the time of its next attempt. No document is dropped or
   tried again without a wait; waits grow and are jittered.
2. Chance and time come in with the `Case`; the same case always gives the same settlement.
3. An earlier write without a known result stays in doubt (`Agreement.intent`) until a read or an answer shows what
   became of it (`doubts`): whatever else this attempt comes to, that request may still be applied.

Theory of operation: ARCHITECTURE.md as code. Version conflicts wait 1, 2, 4, 8 s and then cool down as *contended*; an
unknown result keeps its intent, so that the next attempt reads first; refusals hold their fields and let the rest go
out; locked, absent and parked documents are tried again slowly; everything else backs off. A paused document is neither
read nor written. But where writes take locks, none of ours may stay for the length of a pause: the attempt that the
pause interrupted may have left one, and a request that we gave up long ago may yet take one.
"""

from collections.abc import Iterable, Mapping

from msgspec import structs

from reconciler.core.events import outcomes
from reconciler.core.events.outcomes import Outcome, OutcomeType
from reconciler.core.planning import plan as planning
from reconciler.core.planning import reasons, retrying
from reconciler.core.scheduling import backoff
from reconciler.core.settling import doubts, evidence, pacing
from reconciler.core.settling.cases import Case
from reconciler.model import instant
from reconciler.model.answer import Locked, Refused, Throttled, VersionConflict
from reconciler.model.audit import AttemptResult, Settlement
from reconciler.model.base import Base
from reconciler.model.document import Agreement, Intent, Lane, Setback, Status
from reconciler.model.plan import Decision, InSync, Patch, Plan, Verb
from reconciler.model.snapshot import Snapshot
from reconciler.model.value import Json

_STABLEST = 100  # comparisons without drift: enough for the longest interval


def with_base(agreement: Agreement, base: Base, stored: Base) -> Agreement:
    """Return an agreement with another base; if that differs from the `stored` one, an outcome has to tell of it."""
    return structs.replace(agreement, base=base, untold=_untold(agreement, base, stored))


def _untold(agreement: Agreement, base: Base, stored: Base) -> bool:
    return agreement.untold or base.fields != stored.fields or base.refused != stored.refused


def nothing_managed(case: Case, *, look_again: bool = False) -> Settlement:
    """No claim manages the document any more: forget its base and leave it alone, except for a look now and then."""
    doubt = case.document.agreement.intent  # no read has shown that it can't come any more
    seen = None if doubt is None else case.document.agreement.snapshot
    agreement = structs.replace(_calm(case), base=Base(), snapshot=seen, intent=doubt, held=(), repeating=None)
    told: tuple[Outcome, ...] = ()
    if case.document.agreement.base != Base() or case.document.agreement.untold:
        told = (outcomes.reconciled(case.document.key, case.now_us, (), Base(), tokens=(None, None), tries=1),)
    due_us = case.after_us(case.interval_s(_STABLEST)) if look_again else None
    settlement = _settlement(case, agreement, Status.SYNCED, "nothing managed", due_us, told=told, lane=Lane.RESYNC)
    return evidence.with_conflicts(case, settlement, ())


def agreed(case: Case, after: Snapshot, result: AttemptResult, *, again: str = "") -> Settlement:
    """
    The plan went through (or had nothing to send) and the document shows `after`.

    `again` says why this may no longer be so: then the document is synced only after another read.
    """
    assert case.plan is not None
    assert case.snapshot is not None
    old = case.document.agreement
    base = planning.agree(case.plan, case.snapshot, after, case.options.policy, case.moment)
    # A write that went through whole needs no second look; one that left something open is decided again.
    final: Plan = InSync((), base) if isinstance(case.plan, Patch) else case.plan
    if isinstance(case.plan, Patch) and (base.refused or any(d.waits or d.later for d in case.plan.decisions)):
        final = planning.draft(case.document.desired, base, after, case.options.policy)
    stable = old.stable + 1 if case.lane is Lane.RESYNC and not isinstance(case.plan, Patch) and not case.drifted else 0
    doubt = doubts.standing(old.intent, after.token, None if isinstance(case.plan, Patch) else case.now_us)
    calm = structs.replace(_calm(case), stable=stable, base=base, snapshot=after, intent=doubt)
    if pacing.makes_an_iteration(case):
        calm = structs.replace(calm, checked_in_us=case.now_us)
    told: tuple[Outcome, ...] = ()
    ended = bool(case.confirmed) or old.intent is not doubt  # no outcome has told the result of an earlier write
    if isinstance(case.plan, Patch) or ended or _untold(old, base, case.stored):
        decisions = tuple(_as_confirmed(decision, case.confirmed) for decision in case.plan.decisions)
        tokens, tries = (case.snapshot.token, after.token), old.clashes + 1
        told = (outcomes.reconciled(case.document.key, case.now_us, decisions, base, tokens=tokens, tries=tries),)
    waiting = [decision for decision in final.decisions if decision.waits]
    status, reason = (Status.HELD, _held_reason(waiting)) if waiting else (Status.SYNCED, "")
    # Also if the policy ignores every field that the log manages: another policy, after a restart, may not.
    due_us = _next_us(case, calm)
    settlement = _settlement(case, calm, status, reason, due_us, told=told, lane=Lane.RESYNC)
    if isinstance(final, Patch):  # the next portion, or what the server made of this one: at once, as a new attempt
        again = again or f"next: {', '.join(final.fields)}"
    if again:
        settlement = structs.replace(
            settlement, status=Status.PENDING, reason=again, due_us=case.now_us, lane=Lane.RETRY
        )
    quiet = not told and case.lane is Lane.RESYNC and status is case.document.status
    settlement = settlement if quiet else evidence.audited(case, settlement, result, token_after=after.token)
    return evidence.with_conflicts(case, evidence.counted(case, settlement), waiting)


def observed(case: Case) -> Settlement:
    """
    The document is decided, but the policy does not have it written: nothing is agreed, and no outcome is published.

    When it is written one day, its fields are seen for the first time and adopted as such.
    """
    assert case.plan is not None
    assert case.snapshot is not None
    waiting = [decision for decision in case.plan.decisions if decision.waits]
    result, reason = AttemptResult.IN_SYNC, ""
    if isinstance(case.plan, Patch):
        result, reason = AttemptResult.WOULD_WRITE, f"would write {', '.join(case.plan.fields)}"
    elif waiting:
        result, reason = AttemptResult.HELD, f"would be held: {_held_reason(waiting)}"
    doubt = doubts.standing(case.document.agreement.intent, case.snapshot.token, case.now_us)
    agreement = structs.replace(_calm(case), snapshot=case.snapshot, intent=doubt)
    due_us = _next_us(case, agreement)
    settlement = _settlement(case, agreement, Status.OBSERVED, reason, due_us, lane=Lane.RESYNC)
    quiet = reason == case.document.reason and case.document.status is Status.OBSERVED
    return settlement if quiet else evidence.audited(case, settlement, result)


def collecting(case: Case, until_us: int, why: str = "waits for further changes") -> Settlement:
    """The write waits, mostly so that further changes make one iteration with it. No request was sent."""
    reason = f"{why} until {instant.from_us(until_us)[11:19]} UTC"
    settlement = _settlement(case, _kept(case), Status.COLLECTING, reason, until_us, lane=case.lane)
    return structs.replace(settlement, result=AttemptResult.COLLECTING, attempts=0)


def confirmed(case: Case) -> Settlement:
    """
    A write in doubt was applied, and there is more to write: publish the first, and leave the rest to a new attempt.

    In one attempt, the confirmation of the first write would be lost if the second fails.
    """
    assert isinstance(case.plan, Patch)
    assert case.snapshot is not None
    base, sent = case.plan.base, case.confirmed
    stamps = {name: agreed.stamp for name, agreed in base.fields.items() if name in sent and agreed.stamp is not None}
    written = tuple(
        structs.replace(decision, verb=Verb.WRITE, target=sent[name], stamp=stamps[name])
        for decision in case.plan.decisions
        if (name := decision.field) in stamps
    )
    tokens = (None, case.snapshot.token)
    told = outcomes.reconciled(case.document.key, case.now_us, written, base, tokens=tokens, tries=1)
    doubt = doubts.standing(case.document.agreement.intent, case.snapshot.token, case.now_us)
    agreement = structs.replace(_calm(case), base=base, snapshot=case.snapshot, intent=doubt)
    reason = "an earlier write is confirmed, and there is more to write"
    settlement = _settlement(case, agreement, Status.PENDING, reason, case.now_us, told=(told,))
    return evidence.audited(case, settlement, AttemptResult.CONFIRMED, reason)


def version_conflict(case: Case, answer: VersionConflict) -> Settlement:
    """Someone wrote between our read and our write, so nothing was applied: read and decide again, a little later."""
    old, pace = case.document.agreement, case.options.pace
    clashes = old.clashes + 1
    # The status does not say whether it was contended before, because it is pending between its tries. If it was locked
    # or parked since, that contention is over.
    contended = old.aside is Status.CONTENDED
    cooldowns = old.cooldowns if contended else 0
    assert case.plan is not None
    agreement = structs.replace(old, base=case.plan.base, snapshot=case.snapshot, clashes=clashes, cooldowns=cooldowns)
    if clashes < pace.conflict_attempts_max:
        reason = f"version conflict {clashes} of {pace.conflict_attempts_max}: read and decide again"
        settlement = _settlement(case, agreement, Status.PENDING, reason, case.after_us(case.delay_s(clashes)))
    else:
        agreement = structs.replace(agreement, clashes=0, cooldowns=cooldowns + 1)
        reason = f"contended: {clashes} version conflicts in a row"
        settlement = _cooling(case, agreement, Status.CONTENDED, reason, entered=not contended)
    settlement = structs.replace(settlement, conflicts=1)
    return evidence.recorded(case, settlement, AttemptResult.VERSION_CONFLICT, answer.message, status=answer.status)


def refused(case: Case, answer: Refused) -> Settlement:
    """The server refuses some fields: they are tried again later, the rest goes out at once."""
    assert isinstance(case.plan, Patch)
    assert case.snapshot is not None
    base = planning.refuse(case.plan.base, case.plan, answer.fields, answer.message, case.moment)
    rest = planning.draft(case.document.desired, base, case.snapshot, case.options.policy)
    waiting = [decision for decision in rest.decisions if decision.waits]
    agreement = structs.replace(_calm(case), base=rest.base, snapshot=case.snapshot)
    # Published at once: a base that is rebuilt from the outcomes must not try refused fields again.
    held, token = tuple(d for d in waiting if d.verb is Verb.HOLD), case.snapshot.token
    told = (outcomes.reconciled(case.document.key, case.now_us, held, rest.base, tokens=(token, token), tries=1),)
    if isinstance(rest, Patch):
        reason = "the rest goes out without refused fields"
        settlement = _settlement(case, agreement, Status.PENDING, reason, case.now_us, told=told)
    else:
        reason, due_us = _held_reason(waiting), _next_us(case, agreement)
        settlement = _settlement(case, agreement, Status.HELD, reason, due_us, told=told, lane=Lane.RESYNC)
    settlement = evidence.recorded(case, settlement, AttemptResult.REFUSED, answer.message, status=answer.status)
    return evidence.with_conflicts(case, settlement, waiting)


def locked(case: Case, answer: Locked) -> Settlement:
    """Someone has the document locked or checked out: come back slowly."""
    what = answer.kind or (f"locked by {answer.holder}" if answer.holder else "locked")
    agreement = structs.replace(_kept(case), cooldowns=case.document.agreement.cooldowns + 1)
    entered = case.document.status is not Status.LOCKED
    settlement = _cooling(case, agreement, Status.LOCKED, f"{what}: {answer.message}", entered=entered)
    return evidence.recorded(case, settlement, AttemptResult.LOCKED, answer.message, status=answer.status)


def set_back(case: Case, setback: Setback) -> Settlement:
    """The last writes failed under our lock, and nothing has changed since: do not lock the document again yet."""
    if case.plan is not None and any(decision.later for decision in case.plan.decisions):
        fields = tuple(case.plan.fields) if isinstance(case.plan, Patch) else ()
        return refused(case, Refused(setback.status or 0, setback.reason, fields))
    reason = f"{setback.reason}; the next try is at {instant.from_us(setback.due_us)[:19]}Z"
    if setback.locked:
        settlement = locked(case, Locked(setback.status or 0, reason, kind=setback.locked))
    else:
        result = AttemptResult.FAILED if setback.status is None else AttemptResult.NOT_AVAILABLE
        settlement = parked(case, reason, result, setback.status)
    due_us = setback.due_us if settlement.due_us is None else min(settlement.due_us, setback.due_us)
    return structs.replace(settlement, agreement=structs.replace(settlement.agreement, failures=0), due_us=due_us)


def parked(
    case: Case, reason: str, result: AttemptResult, status: int | None = None, *, at_least_s: float = 0.0
) -> Settlement:
    """The document can't be read or written: try again slowly."""
    agreement = structs.replace(_kept(case), cooldowns=case.document.agreement.cooldowns + 1)
    entered = case.document.status is not Status.PARKED
    settlement = _cooling(case, agreement, Status.PARKED, reason, entered=entered, at_least_s=at_least_s)
    return evidence.recorded(case, settlement, result, reason, status=status)


def absent(case: Case, reason: str, status: int | None) -> Settlement:
    """
    Windchill knows no such document: look for it more and more rarely, and park it when it has not come in time.

    Events often come before their document, which is no trouble yet: nothing is published before it is parked. One that
    was read or agreed before is not late but gone, and parked at once. A parked one is awaited again when an event asks
    for something new; until then it is looked for once a day.
    """
    old, pace = case.document.agreement, case.options.pace
    awaited = old.aside is Status.ABSENT
    since_us = old.aside_us if awaited and old.aside_us is not None and old.aside_us <= case.now_us else case.now_us
    until_us = instant.after_us(since_us, pace.absent_s)
    if old.snapshot is not None or old.base.fields:
        return parked(case, reason, AttemptResult.NOT_AVAILABLE, status)
    if case.document.status is Status.PARKED or case.now_us >= until_us:
        settlement = parked(case, reason, AttemptResult.NOT_AVAILABLE, status)
        return structs.replace(settlement, due_us=case.after_us(retrying.DAY_S * case.jitter))
    times = old.cooldowns + 1 if awaited else 1
    agreement = structs.replace(old, cooldowns=times, aside=Status.ABSENT, aside_us=since_us)
    due_us = case.after_us(backoff.absence_s(times) * case.jitter)
    said = f"{reason}; it is looked for until {instant.from_us(until_us)[:19]}Z, then parked"
    settlement = _settlement(case, agreement, Status.ABSENT, said, due_us)
    return evidence.recorded(case, settlement, AttemptResult.NOT_AVAILABLE, reason, status=status)


def unknown(case: Case, intent: Intent, message: str) -> Settlement:
    """The reply to a write was lost. The intent stays, so the next attempt reads before anything else."""
    settlement = _again(case, intent, f"result unknown: {message}")
    return evidence.recorded(case, settlement, AttemptResult.UNKNOWN, message)


def throttled(case: Case, answer: Throttled, intent: Intent | None = None) -> Settlement:
    """The server asks us to come back later: wait as long as it says, but an hour at most ("until next year")."""
    reason = f"throttled ({answer.status}): {answer.message}"
    at_least_s = min(answer.retry_after_s or 0.0, backoff.RETRY_AFTER_S_MAX)
    settlement = _again(case, intent, reason, at_least_s)
    return evidence.recorded(case, settlement, AttemptResult.THROTTLED, answer.message, status=answer.status)


def failed(case: Case, message: str, intent: Intent | None = None) -> Settlement:
    """The attempt failed; `intent` stays if its write may have been applied."""
    return evidence.recorded(case, _again(case, intent, message), AttemptResult.FAILED, message)


def paused(case: Case) -> Settlement:
    """An operator has paused the document, and no lock of ours can be on it: leave it alone."""
    return _paused(case, case.document.agreement, None)


def paused_unlocked(case: Case, doubt: Intent | None) -> Settlement:
    """Paused, and no lock of ours is on it now. Whether the write in doubt was applied is read after the pause."""
    agreement = structs.replace(case.document.agreement, intent=doubt, cooldowns=0)
    return _paused(case, agreement, case.after_us(case.interval_s(_STABLEST)))


def paused_perhaps_locked(case: Case) -> Settlement:
    """Paused, and a lock of ours may be on it: look again, after a wait that grows."""
    times = case.document.agreement.cooldowns + 1
    agreement = structs.replace(case.document.agreement, cooldowns=times)
    return _paused(case, agreement, case.after_us(case.cooldown_s(times)))


def _paused(case: Case, agreement: Agreement, due_us: int | None) -> Settlement:
    document = case.document
    return Settlement(
        key=document.key,
        revision=document.revision,
        agreement=structs.replace(agreement, aside=None, aside_us=None),
        status=Status.PAUSED,
        reason=document.reason,
        lane=Lane.RETRY,
        due_us=due_us,
        at_us=case.now_us,
    )


def _again(case: Case, intent: Intent | None, reason: str, at_least_s: float = 0.0) -> Settlement:
    failures = case.document.agreement.failures + 1
    agreement = structs.replace(_kept(case), intent=intent, failures=failures)
    due_us = case.after_us(max(at_least_s, case.delay_s(failures)))
    return _settlement(case, agreement, Status.PENDING, reason, due_us)


def _cooling(
    case: Case, agreement: Agreement, status: Status, reason: str, *, entered: bool, at_least_s: float = 0.0
) -> Settlement:
    told: tuple[Outcome, ...] = ()
    if entered:  # once, not at every attempt
        agreement = structs.replace(agreement, aside=status, aside_us=case.now_us)
        told = (outcomes.parked(case.document.key, case.now_us, status, reason),)
    due_us = case.after_us(case.cooldown_s(agreement.cooldowns) + at_least_s)
    return _settlement(case, agreement, status, reason, due_us, told=told)


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
    before = case.document.agreement
    tells = any(outcome.type is OutcomeType.RECONCILED for outcome in told)
    number = before.told + tells
    untold = not tells and _untold(before, agreement.base, case.stored)
    if lane is None:  # unrequested work stays so through all its retries: the write budget counts it
        lane = case.lane if case.lane in (Lane.RESYNC, Lane.REPLAY) else Lane.RETRY
    return Settlement(
        key=key,
        revision=case.document.revision,
        agreement=structs.replace(agreement, untold=untold, told=number),
        status=status,
        reason=reason,
        lane=lane,
        due_us=due_us,
        at_us=case.now_us,
        outcomes=tuple(outcomes.record(outcome, options.outcomes_topic, options.source, number) for outcome in told),
        attempts=1,
    )


def _as_confirmed(decision: Decision, confirmed: Mapping[str, Json]) -> Decision:
    """Return a decision to keep as one to write, if a read has confirmed a write in doubt of that field."""
    if decision.field not in confirmed or decision.verb is not Verb.KEEP:
        return decision
    return structs.replace(decision, verb=Verb.WRITE, target=confirmed[decision.field])


def _calm(case: Case) -> Agreement:
    calm = structs.replace(case.document.agreement, failures=0, clashes=0, cooldowns=0, stable=0, setback=None)
    return structs.replace(calm, aside=None, aside_us=None)


def _kept(case: Case) -> Agreement:
    """Return the agreement with the snapshot of this attempt and the base that it adopted."""
    agreement = case.document.agreement
    if case.snapshot is None:
        return agreement
    base = agreement.base if case.plan is None else case.plan.base
    return structs.replace(agreement, snapshot=case.snapshot, base=base)


def _next_us(case: Case, agreement: Agreement) -> int | None:
    """Return when the next attempt is: to compare the document, to try a refused field again, or to end a doubt."""
    compared_us = case.after_us(case.interval_s(agreement.stable))
    moments = (compared_us, retrying.due_us(agreement.base), doubts.looked_for_us(agreement.intent))
    return min((moment for moment in moments if moment is not None), default=None)


def _held_reason(waiting: Iterable[Decision]) -> str:
    return "; ".join(f"{decision.field}: {reasons.text(decision.reasons)}" for decision in waiting)
