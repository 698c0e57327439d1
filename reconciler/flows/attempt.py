"""
One attempt on one document: gather, decide, act.

All reads come first, then one pure decision, then one write. A decision may rest on what was read earlier only if it
comes to a write, because only then the token shows whether that still stands: "nothing to do" is never said of a
document on the word of a cache. Between the decision and the write stands only what makes
the write safe: the intent is stored, so that a lost reply is never answered blindly. No read and no new fact comes in
between; and whatever happens in Windchill meanwhile, the token guards.

One write on its way: the intent is stored before anything is sent, and again with every step that changes it.

It is the `Journal` of a dialect that has to lock a document before it may write. Whatever ends the process between two
steps, the store then names the lock that is ours, and what was to be written under it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

import attrs

from reconciler.core.folding import fold, normalise
from reconciler.core.planning import contest, retrying
from reconciler.core.planning import plan as planning
from reconciler.core.scheduling.limiter import WriteBudget
from reconciler.core.settling import notes, pacing, setbacks, settle
from reconciler.core.settling.cases import AttemptOptions, Case
from reconciler.flows.gate import Gate, HeldUpError
from reconciler.model.answer import (
    Broken,
    Failed,
    Locked,
    NotAvailable,
    Refused,
    Released,
    Throttled,
    Trouble,
    Unauthorised,
    Unchanged,
    Unguarded,
    Unknown,
    VersionConflict,
    WriteAnswer,
    Written,
)
from reconciler.model.audit import AttemptResult, Settlement
from reconciler.model.base import Agreed, Wrote
from reconciler.model.document import Agreement, Document, Intent, Lane, Status
from reconciler.model.plan import Patch, Verb
from reconciler.model.policy import Policy
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import Json
from reconciler.ports import Clock, Ledger

_NO_ETAG = "the server gives no ETag for it, so nothing can be written safely: have the front end send one"
_THRESHOLD = (
    "stopped before writing: comparisons have written to as many documents as resync.writes_max_per_window allows; it"
    " waits for room. Look at `reconciler plan`, and let it through at once with `reconciler docs retry`"
)
_FAILED_UNDER_LOCK = (NotAvailable, Locked, Failed, Unknown, Broken, Throttled)  # refusals have waits of their own


@attrs.frozen
class Attempt:
    """What every attempt needs."""

    gate: Gate
    ledger: Ledger
    clock: Clock
    options: AttemptOptions
    budget: WriteBudget

    async def run(self, document: Document, lane: Lane) -> Settlement:
        """Make one attempt and return how it is to be stored; raises HeldUpError, and else only what is unexpected."""
        case = self._case(document, lane)
        if document.status is Status.PAUSED:
            return await self._kept_out(case)
        doubt = document.agreement.intent
        if doubt is not None and self.gate.locks:
            kept = await self._kept_from_releasing(case)
            if kept is not None:
                return kept
            document = attrs.evolve(document, agreement=_without_lock(document.agreement, doubt))
            case = attrs.evolve(self._now(case), document=document)
        if (wide := self.options.too_wide(document.desired)) is not None:
            return settle.parked(case, wide, AttemptResult.TOO_WIDE)
        if not fold.managed(document.desired):
            return await self._left_alone(case)
        known = document.agreement.snapshot
        if known is not None and not _must_read(document, lane):
            decided = self._decided(case, document, known)
            if isinstance(decided.plan, Patch):
                return await self._act(decided)
        # What nobody has seen must not be confirmed by a 304: the server may have changed more than it was asked to.
        known_well = None if known is None or known.assumed else known
        answer = await self.gate.read(document.key, known_well, failures=document.agreement.failures)
        case = self._now(case)
        match answer:
            case Unchanged():
                assert known is not None, "only what we hold can be unchanged"
                return await self._act(self._decided(case, document, known))
            case Snapshot():
                if answer.locked_by_us and (kept := await self._kept_from_releasing(case)) is not None:
                    return kept
                document, confirmed = _confirmed(document, answer, self.options.policy)
                return await self._act(attrs.evolve(self._decided(case, document, answer), confirmed=confirmed))
            case trouble:
                return self._troubled(case, trouble)

    async def _left_alone(self, case: Case) -> Settlement:
        """
        Nobody manages the document any more. Where writes take locks, see to it that none of ours stays there.

        A request that was given up long ago may still take one, and no comparison would show it: hence this look, now
        and then. Where nothing is known of the document, a store that was lost may have known of a lock, or of a
        request that is still on its way: it is looked at twice, the second time when no request can come any more.
        """
        agreement = case.document.agreement
        if not self.gate.locks:
            return settle.nothing_managed(case)
        kept = await self._kept_from_releasing(case)
        if kept is not None and kept.status is not Status.PARKED:  # what can't be had has no lock of ours
            return kept
        known = bool(agreement.told) or agreement.snapshot is not None
        first = case.document.status is not Status.SYNCED
        return settle.nothing_managed(self._now(case), look_again=known or first)

    async def _kept_out(self, case: Case) -> Settlement:
        """Somebody has paused the document. Where writes take locks, see to it that none of ours stays there."""
        doubt = case.document.agreement.intent
        if not self.gate.locks:
            return settle.paused(case)
        kept = await self._kept_from_releasing(case)
        case = self._now(case)
        if kept is not None and kept.status is not Status.PARKED:  # what can't be had has no lock of ours
            return settle.paused_perhaps_locked(case)
        return settle.paused_unlocked(case, None if doubt is None else attrs.evolve(doubt, lock=None))

    async def _kept_from_releasing(self, case: Case) -> Settlement | None:
        """Give up a lock that an earlier write has left behind; return how it ends if that can't be done now."""
        key, agreement = case.document.key, case.document.agreement
        lock = None if agreement.intent is None else agreement.intent.lock
        mark = notes.mark(case) if agreement.intent is None else agreement.intent.mark or notes.mark(case)
        match await self.gate.release(key, lock, mark, failures=agreement.failures):
            case Released():
                return None
            case Locked() as locked:
                return settle.locked(self._now(case), locked)
            case trouble:
                return self._troubled(self._now(case), trouble)

    def _case(self, document: Document, lane: Lane) -> Case:
        now_us, chance = self.clock.now_us(), self.clock.chance()
        return Case(document, lane, self.options, now_us, chance, stored=document.agreement.base)

    def _now(self, case: Case) -> Case:
        """Take the time again: an answer may have been long in coming, and waits count from its end."""
        return attrs.evolve(case, now_us=self.clock.now_us())

    def _decided(self, case: Case, document: Document, snapshot: Snapshot) -> Case:
        """Decide. The moved fields are found here too: they are what the hot spots count."""
        before = case.document.agreement.snapshot
        base = planning.own_write_recognised(document.agreement.base, before, snapshot)
        base = planning.alterations_seen(
            base, before, snapshot, self.options.policy, desired=document.desired, at=case.moment
        )
        base = retrying.lifted(base, case.now_us, every=case.lane is Lane.ASKED)
        plan = planning.draft(document.desired, base, snapshot, self.options.policy)
        if undone := contest.undone(plan, before, snapshot, self.options.policy, case.moment):
            base = attrs.evolve(base, refused={**base.refused, **undone})
            plan = planning.draft(document.desired, base, snapshot, self.options.policy)
        if base is not document.agreement.base:
            document = attrs.evolve(document, agreement=attrs.evolve(document.agreement, base=base))
        moved: list[str] = []
        if before is not None and before is not snapshot:
            names = [decision.field for decision in plan.decisions]
            moved = [name for name in names if not normalise.equal(before.value(name), snapshot.value(name), ())]
        return attrs.evolve(
            case,
            document=document,
            snapshot=snapshot,
            plan=plan,
            drifted=bool(moved),
            moved=tuple(moved) if document.agreement.clashes else (),
        )

    async def _act(self, case: Case) -> Settlement:
        plan, snapshot = case.plan, case.snapshot
        assert plan is not None
        assert snapshot is not None
        if not isinstance(plan, Patch):
            held = any(decision.verb is Verb.HOLD for decision in plan.decisions)
            result = AttemptResult.HELD if held else AttemptResult.IN_SYNC
            return settle.agreed(case, snapshot, result)
        if case.confirmed:
            return settle.confirmed(case)
        if plan.token is None:
            return settle.parked(case, _NO_ETAG, AttemptResult.NO_TOKEN)
        if (setback := setbacks.standing(case)) is not None:
            return settle.set_back(case, setback)
        if (until_us := pacing.until_us(case)) is not None:
            return settle.collecting(case, until_us)
        wait_s = self.budget.wait_s(case.lane, case.document.key, self.clock.monotonic_s())
        if wait_s > 0:
            return settle.parked(case, _THRESHOLD, AttemptResult.THRESHOLD, at_least_s=wait_s)
        writing = Writing(case, plan, self.ledger, self._redecided)
        if not await writing.begin():  # paused since the row was loaded
            await writing.withdraw()
            raise HeldUpError
        try:
            failures = case.document.agreement.failures
            answer = await self.gate.write(snapshot, plan.fields, token=plan.token, journal=writing, failures=failures)
        except HeldUpError:
            await writing.withdraw()
            raise
        case = writing.case
        if isinstance(answer, VersionConflict) and writing.nothing_left is not None:
            return await self._act(self._now(writing.nothing_left))  # what was seen under the lock needs no second look
        if isinstance(answer, Refused | NotAvailable) and answer.perhaps_stale:
            answer = await self._refused_or_stale(case, answer)
        return self._answered(self._now(case), answer, writing.intent, writing.plan)

    def _redecided(self, case: Case, shown: Snapshot) -> Case:
        """Decide again. What the earlier read has adopted stays so, but for fields that have changed since."""
        agreement = attrs.evolve(case.document.agreement, base=case.adopted(shown))
        return self._decided(self._now(case), attrs.evolve(case.document, agreement=agreement), shown)

    async def _refused_or_stale(self, case: Case, answer: Refused | NotAvailable) -> WriteAnswer:
        """Read the document: the refusal was a version conflict if the document has changed."""
        assert case.snapshot is not None
        match await self.gate.read(case.document.key):
            case Snapshot() as shown:
                stale = shown.token != case.snapshot.token
                return VersionConflict(answer.status, answer.message) if stale else answer
            case Throttled() | NotAvailable() as trouble:
                return trouble
            case Unchanged():
                raise AssertionError("nothing was given to compare with")
            case trouble:  # not known; if the fields were held for this, they would wait for a person for ever
                return Failed(f"{answer.status}: {answer.message}; and then: {trouble.message}")

    def _answered(self, case: Case, answer: WriteAnswer, intent: Intent, plan: Patch) -> Settlement:
        """Turn the answer to a write into its settlement: the one switch over outcomes."""
        if intent.lock is not None and isinstance(answer, _FAILED_UNDER_LOCK):
            case = setbacks.noted(case, answer)
        assert case.snapshot is not None
        match answer:
            case Written():
                after = answer.snapshot or case.snapshot.with_fields(plan.fields, answer.token)
                return settle.agreed(case, after, AttemptResult.WRITTEN, again=answer.again)
            case VersionConflict():
                return settle.version_conflict(case, answer)
            case Refused():
                return settle.refused(case, answer)
            case NotAvailable(forbidden=True) if any(d.later for d in plan.decisions):
                # Perhaps only these fields are forbidden in the document's state, and the next write changes its state.
                return settle.refused(case, Refused(answer.status, answer.message))
            case Locked():
                return settle.locked(case, answer)
            case Unknown() | Broken():
                return settle.unknown(case, intent, answer.message)
            case Unguarded():
                said = f"{answer.status}: {answer.message}. This is a bug in the reconciler, please report it"
                return settle.parked(case, said, AttemptResult.UNGUARDED, answer.status)
            case Throttled(perhaps_applied=True):
                return settle.throttled(case, answer, intent)
            case _:
                return self._troubled(case, answer)

    def _troubled(self, case: Case, answer: Trouble) -> Settlement:
        intent = case.document.agreement.intent  # of an earlier write: if this one was sent, it was surely not applied
        match answer:
            case NotAvailable():
                said = f"{answer.status}: {answer.message}" if answer.status else answer.message
                return settle.parked(case, said, AttemptResult.NOT_AVAILABLE, answer.status)
            case Throttled():
                return settle.throttled(case, answer, intent)
            case Unauthorised():
                return settle.failed(case, f"credentials refused: {answer.message}", intent)
            case Failed():
                return settle.failed(case, answer.message, intent)
            case Broken():
                return settle.failed(case, f"unusable answer: {answer.message}", intent)
            case _:
                assert_never(answer)


def _without_lock(agreement: Agreement, doubt: Intent) -> Agreement:
    return attrs.evolve(agreement, intent=attrs.evolve(doubt, lock=None))


def _must_read(document: Document, lane: Lane) -> bool:
    """
    Whether the cached snapshot won't do.

    It is good for one guarded try: if it is stale the token says so. After anything went wrong, and when somebody asks
    for a comparison, Windchill is asked first.
    """
    agreement = document.agreement
    if agreement.snapshot is None or agreement.snapshot.token is None:
        return True
    troubled = agreement.intent is not None or agreement.clashes or agreement.failures or agreement.cooldowns
    return bool(troubled) or lane in (Lane.RESYNC, Lane.OPERATOR, Lane.ASKED)


def _confirmed(document: Document, read: Snapshot, policy: Policy) -> tuple[Document, dict[str, Json]]:
    """
    Settle writes in doubt by a fresh read, and return the fields of the one that was applied, if any was.

    It was applied if what it meant to write is there and the document has moved. Each field that shows what was to be
    written is agreed, whoever wrote it, and so is each element of a list; the log may want something newer by now. Only
    if nothing else has moved either is the document's last modification known to be ours.
    """
    agreement = document.agreement
    intent, before = agreement.intent, agreement.snapshot
    if intent is None or before is None or read.token == intent.token:
        return document, {}
    settled: dict[str, Agreed] = {}
    applied: dict[str, Json] = {}
    for sent in (*intent.earlier, intent):
        there = {name for name, value in sent.fields.items() if normalise.equal(read.value(name), value, ())}
        for name, agreed in sent.settled.items():
            if name in there:
                settled[name] = agreed
            elif (old := settled.get(name, agreement.base.fields.get(name))) is not None:
                settled[name] = planning.confirmed_in_part(old, agreed, name, read, policy)
        applied = sent.fields if len(there) == len(sent.fields) else applied
    base = attrs.evolve(agreement.base, fields={**agreement.base.fields, **settled})
    if applied and planning.same_content(before.with_fields(applied, None), read):
        base = attrs.evolve(base, wrote=Wrote(read.token, planning.modified_by_others(base, before)))
    agreement = attrs.evolve(agreement, base=base, intent=None if applied else intent)
    if applied and before.locked_for(applied):
        agreement = attrs.evolve(agreement, checked_in_us=intent.sent_at_us)
    return attrs.evolve(document, agreement=agreement), applied


# -------------------------------------------------------------------------------------------------------------- writing


_DOUBTS_MAX = 8  # different writes under one token that are remembered; each costs as much as its patch


class Writing:
    """
    The write of one patch. `case` is the decision that it rests on, and `intent` what is stored of it. `nothing_left`
    is the later decision that nothing at all is to be written, if that was made under the lock.

    `redecide` takes the case as it was and a newer snapshot, and returns the case decided on that.
    """

    def __init__(self, case: Case, plan: Patch, ledger: Ledger, redecide: Callable[[Case, Snapshot], Case]) -> None:
        assert plan.token is not None, "a document without a token is parked"
        self.case = case
        self.plan = plan
        self._began = case
        self._token: Token = plan.token
        self._ledger = ledger
        self._redecide = redecide
        self.mark = notes.mark(case)
        self.intent = self._intent(None)
        self.nothing_left: Case | None = None

    @property
    def note(self) -> str:
        """Systems and their reasons, at most 250 characters."""
        return notes.of(self.case.document.desired, self.plan)

    async def begin(self) -> bool:
        """Store the intent, and what was adopted on the way to it; return whether anything may be sent now."""
        return await self._ledger.intend(self.case.document.key, self._agreement(self.intent))

    async def withdraw(self) -> None:
        """Store that nothing was sent: nothing is in doubt that was not before."""
        await self._ledger.intend(self.case.document.key, self._agreement(self._began.document.agreement.intent))

    async def locked(self, lock: str) -> None:
        """Store which lock is ours. The write has begun: a pause that comes now finds it under way."""
        self.intent = attrs.evolve(self.intent, lock=lock)
        await self.begin()

    async def redraft(self, shown: Snapshot) -> Mapping[str, Json]:
        """Decide again on what is there now, and store the new intent; empty when nothing of this write is left."""
        case = self._redecide(self._began, shown)
        plan = case.plan
        self.nothing_left = None if isinstance(plan, Patch) else case
        if not isinstance(plan, Patch) or _portion(plan, shown) != _portion(self.plan, self._snapshot()):
            return {}
        self.case, self.plan = case, plan
        self.intent = self._intent(self.intent.lock)
        await self.begin()
        return plan.fields

    async def refused(self, refusals: Sequence[Refused]) -> None:
        """Hold what the server refuses, and store the intent without it: the rest is written as it was decided."""
        base, options, shown = self.plan.base, self.case.options, self._snapshot()
        for one in refusals:
            base = planning.refuse(base, self.plan, one.fields, one.message, self.case.moment)
        document = self.case.document
        document = attrs.evolve(document, agreement=attrs.evolve(document.agreement, base=base))
        plan = planning.draft(document.desired, base, shown, options.policy)
        assert isinstance(plan, Patch), "some of it was written"
        self.case, self.plan = attrs.evolve(self.case, document=document, plan=plan), plan
        self.intent = self._intent(self.intent.lock)
        await self.begin()

    def _snapshot(self) -> Snapshot:
        assert self.case.snapshot is not None
        return self.case.snapshot

    def _intent(self, lock: str | None) -> Intent:
        """Return the intent of the plan. Its token stays the one of the document as it was read without a lock."""
        case, plan = self.case, self.plan
        settled = planning.settled_if_written(plan, self._snapshot(), case.options.policy, case.moment)
        earlier = _may_yet_come(self._began.document.agreement.intent, self._token, plan)
        return Intent(plan.fields, self._token, case.now_us, settled, earlier, lock, self.mark)

    def _agreement(self, intent: Intent | None) -> Agreement:
        known = settle.with_base(self.case.document.agreement, self.plan.base, self.case.stored)
        return attrs.evolve(known, snapshot=self._snapshot(), intent=intent)


def _portion(plan: Patch, snapshot: Snapshot) -> int:
    return min(map(snapshot.portion, plan.fields))


def _may_yet_come(doubt: Intent | None, token: Token, plan: Patch) -> tuple[Intent, ...]:
    """Return the writes in doubt that a token does not rule out, each once, latest last."""
    if doubt is None or doubt.token != token:
        return ()
    sent = (*doubt.earlier, attrs.evolve(doubt, earlier=()))
    return tuple(one for one in sent if one.fields != plan.fields)[-_DOUBTS_MAX:]
