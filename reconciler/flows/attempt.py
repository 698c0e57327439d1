"""
One attempt on one document: gather, decide, act.

All reads come first, then one pure decision, then one write. A decision may rest on the cached snapshot only if it
leads to a write, because the write's token then shows whether the cache is stale; "nothing to do" always needs a read.
Between the decision and the write we only store the intent, so that we never send again blindly after a lost reply. No
read and no new fact comes in between, and the token guards against changes in Windchill.

`Writing` is one write under way. It stores the intent before anything is sent, and again with every step that changes
it. It is the `Journal` of a dialect that has to lock a document before it may write: if the process ends between two
steps, the store names our lock and what was to be written under it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import assert_never

import attrs
from msgspec import structs

from reconciler.core.folding import fold, normalise
from reconciler.core.planning import contest, lost, retrying
from reconciler.core.planning import plan as planning
from reconciler.core.scheduling.limiter import COUNTED
from reconciler.core.settling import doubts, notes, pacing, setbacks, settle
from reconciler.core.settling.cases import AttemptOptions, Case
from reconciler.flows.gate import Gate, HeldUpError
from reconciler.flows.writes import Writes
from reconciler.model import instant
from reconciler.model.answer import (
    Broken,
    Failed,
    Locked,
    NotAvailable,
    NotSent,
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
from reconciler.model.base import Agreed, Base, Wrote
from reconciler.model.document import Agreement, Document, Intent, Lane, Status
from reconciler.model.plan import Patch, Verb
from reconciler.model.policy import Policy
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import Json
from reconciler.ports import Clock, Ledger, Spending

_NO_ETAG = "the server gives no ETag for it, so nothing can be written safely: have the front end send one"
_THRESHOLD = (
    "stopped before writing: comparisons have written to as many documents as resync.writes_max_per_window allows; it"
    " waits for room. Look at `reconciler plan`, and let it through at once with `reconciler docs retry`"
)
_NO_LOCK = (Status.PARKED, Status.ABSENT)
_FAILED_UNDER_LOCK = (NotAvailable, Locked, Failed, Unknown, Broken, Throttled)  # refusals have waits of their own


@attrs.frozen
class Attempt:
    """Makes attempts; holds what they all need."""

    gate: Gate
    ledger: Ledger
    clock: Clock
    options: AttemptOptions
    budget: Spending
    writes: Writes = attrs.field(factory=Writes)
    account: str = ""  # our name in Windchill
    lost_until_us: Callable[[], int | None] = lambda: None  # until then Windchill may show writes that the store lost
    _began_s: float = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.clock.monotonic_s(), takes_self=True)
    )

    async def run(self, document: Document, lane: Lane) -> Settlement:
        """Make one attempt and return its settlement; raises HeldUpError, and otherwise only unexpected errors."""
        case = self._case(document, lane)
        if document.status is Status.PAUSED:
            return await self._paused(case)
        doubt = document.agreement.intent
        if doubt is not None and self.gate.locks:
            failed = await self._release_failed(case)
            if failed is not None:
                return failed
            document = structs.replace(document, agreement=_without_lock(document.agreement, doubt))
            case = structs.replace(self._now(case), document=document)
        if (wide := self.options.too_wide(document.desired)) is not None:
            return settle.parked(case, wide, AttemptResult.TOO_WIDE)
        if not fold.managed(document.desired):
            return await self._unmanaged(case)
        known = document.agreement.snapshot
        if known is not None and not _must_read(document, lane):
            decided = self._decided(case, document, known)
            if isinstance(decided.plan, Patch):
                return await self._act(decided)
        # A 304 must not confirm an assumed snapshot: the server may have changed more than we wrote.
        known_well = None if known is None or known.assumed else known
        answer = await self.gate.read(document.key, known_well, failures=document.agreement.failures)
        case = self._now(case)
        match answer:
            case Unchanged():
                assert known is not None, "only what we hold can be unchanged"
                return await self._act(self._decided(case, document, known))
            case Snapshot():
                if answer.locked_by_us and (failed := await self._release_failed(case)) is not None:
                    return failed
                return await self._act(self._confirmed(case, document, answer))
            case trouble:
                return self._troubled(case, trouble)

    async def _unmanaged(self, case: Case) -> Settlement:
        """
        Leave a document alone that no claim manages. Where writes take locks, make sure that none of ours remains.

        A request that we gave up long ago may still take a lock, and no comparison would show it: hence a look now and
        then. A document that the store knows nothing of gets two looks, since a lost store may have known of a lock or
        of a request under way; by the second look no such request can arrive any more. It would have been sent before
        this process began, and the second look may come soon: where the wall clock was put on. So it is not the last
        one before the process has run for as long as a request may be under way.
        """
        agreement = case.document.agreement
        if not self.gate.locks:
            return settle.nothing_managed(case)
        failed = await self._release_failed(case)
        if failed is not None and failed.status not in _NO_LOCK:  # an absent document has no lock of ours
            return failed
        known = bool(agreement.told) or agreement.snapshot is not None
        first = case.document.status is not Status.SYNCED
        young = self.clock.monotonic_s() - self._began_s < doubts.LATE_S
        return settle.nothing_managed(self._now(case), look_again=known or first or young)

    async def _paused(self, case: Case) -> Settlement:
        """Leave a paused document alone. Where writes take locks, make sure that none of ours remains."""
        doubt = case.document.agreement.intent
        if not self.gate.locks:
            return settle.paused(case)
        failed = await self._release_failed(case)
        case = self._now(case)
        if failed is not None and failed.status not in _NO_LOCK:  # an absent document has no lock of ours
            return settle.paused_perhaps_locked(case)
        return settle.paused_unlocked(case, None if doubt is None else structs.replace(doubt, lock=None))

    async def _release_failed(self, case: Case) -> Settlement | None:
        """Release a lock that an earlier write may have left; return a settlement if that fails."""
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
        """Take the time again: an answer may have taken long, and waits count from its end."""
        return structs.replace(case, now_us=self.clock.now_us())

    def _decided(self, case: Case, document: Document, snapshot: Snapshot) -> Case:
        """Decide, and find the fields that have changed since the last read: hot spots count them."""
        before = case.document.agreement.snapshot
        base = self._lost_write_recognised(document, before, snapshot)
        base = planning.own_write_recognised(base, before, snapshot)
        base = planning.alterations_seen(
            base, before, snapshot, self.options.policy, desired=document.desired, at=case.moment
        )
        base = retrying.lifted(base, case.now_us, every=case.lane is Lane.ASKED)
        plan = planning.draft(document.desired, base, snapshot, self.options.policy)
        if undone := contest.undone(plan, before, snapshot, self.options.policy, case.moment):
            base = structs.replace(base, refused={**base.refused, **undone})
            plan = planning.draft(document.desired, base, snapshot, self.options.policy)
        if base is not document.agreement.base:
            document = structs.replace(document, agreement=structs.replace(document.agreement, base=base))
        moved: list[str] = []
        if before is not None and before is not snapshot:
            names = [decision.field for decision in plan.decisions]
            moved = [name for name in names if not normalise.equal(before.value(name), snapshot.value(name), ())]
        return structs.replace(
            case,
            document=document,
            snapshot=snapshot,
            plan=plan,
            drifted=bool(moved),
            moved=tuple(moved) if document.agreement.clashes else (),
        )

    def _lost_write_recognised(self, document: Document, before: Snapshot | None, snapshot: Snapshot) -> Base:
        base, until_us = document.agreement.base, self.lost_until_us()
        if until_us is None or snapshot.modified_at is None or instant.to_us(snapshot.modified_at) > until_us:
            return base
        if not lost.by_our_account(base, before, snapshot, self.account):
            return base
        return lost.taken_for_ours(document.desired, base, snapshot, self.options.policy)

    async def _act(self, case: Case) -> Settlement:
        plan, snapshot = case.plan, case.snapshot
        assert plan is not None
        assert snapshot is not None
        if not case.confirmed and not self.options.policy.writes.covers(case.document.key, snapshot.type):
            return settle.observed(case)
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
        sources = sorted({one.stamp.source for one in plan.decisions if one.verb is Verb.WRITE})
        kept = {source: until_us for source in sources if (until_us := self.writes.held_until_us(source)) is not None}
        if kept:
            return settle.collecting(case, max(kept.values()), f"{', '.join(kept)} is in maintenance: it waits")
        wait_s = await self.budget.wait_s(case.document.key) if case.lane in COUNTED else 0.0
        if wait_s > 0:
            return settle.parked(case, _THRESHOLD, AttemptResult.THRESHOLD, at_least_s=wait_s)
        mark = notes.mark(case) if self.gate.locks else ""
        writing = Writing(case, plan, self.ledger, self._redecided, mark)
        answer = await self._write(writing, snapshot, plan, plan.token)
        case = writing.case
        if isinstance(answer, VersionConflict) and writing.nothing_left is not None:
            return await self._act(self._now(writing.nothing_left))  # what was seen under the lock needs no second look
        if isinstance(answer, Refused | NotAvailable) and answer.perhaps_stale:
            answer = await self._refused_or_stale(case, answer)
        return self._answered(self._now(case), answer, writing.intent, writing.plan)

    async def _write(self, writing: "Writing", snapshot: Snapshot, plan: Patch, token: Token) -> WriteAnswer:
        """Send a write, unless it may not begin: then it is withdrawn, and HeldUpError raised."""
        with self.writes.one():
            try:
                if not await writing.begin():  # paused since the row was loaded, or all writes are stopped
                    self.writes.look.set()
                    raise HeldUpError
                failures = writing.case.document.agreement.failures
                return await self.gate.write(snapshot, plan.fields, token=token, journal=writing, failures=failures)
            except HeldUpError:
                await writing.withdraw()
                raise

    def _redecided(self, case: Case, shown: Snapshot) -> Case:
        """Decide again. What the earlier read has adopted stays so, but for fields that have changed since."""
        agreement = structs.replace(case.document.agreement, base=case.adopted(shown))
        return self._confirmed(self._now(case), structs.replace(case.document, agreement=agreement), shown)

    def _confirmed(self, case: Case, document: Document, read: Snapshot) -> Case:
        """Find what a read shows of the writes in doubt, then decide."""
        document, confirmed = _settled_doubts(document, read, self.options.policy, case.now_us)
        return structs.replace(self._decided(case, document, read), confirmed=confirmed)

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
            case NotAvailable(status, message, absent=True):
                return settle.absent(case, f"{status}: {message}", status)
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
            case NotSent():
                raise AssertionError("the gate raises HeldUpError for this")
            case _:
                assert_never(answer)


def _without_lock(agreement: Agreement, doubt: Intent) -> Agreement:
    return structs.replace(agreement, intent=structs.replace(doubt, lock=None))


def _must_read(document: Document, lane: Lane) -> bool:
    """
    Whether to read before deciding.

    The cached snapshot is good for one guarded try: if it is stale, the token shows that. After a failure, and for a
    comparison, we read first.
    """
    agreement = document.agreement
    if agreement.snapshot is None or agreement.snapshot.token is None:
        return True
    troubled = agreement.intent is not None or agreement.clashes or agreement.failures or agreement.cooldowns
    return bool(troubled) or lane in (Lane.RESYNC, Lane.OPERATOR, Lane.ASKED)


def _settled_doubts(
    document: Document, read: Snapshot, policy: Policy, now_us: int
) -> tuple[Document, dict[str, Json]]:
    """
    Settle writes in doubt by a fresh read, and return the fields of the one that was applied, if any was.

    It was applied if all its values are there and the token has changed. Each field that shows the value of a write in
    doubt is agreed, no matter who wrote it, and so is each element of a list; the log may want something newer by now.
    An action that came through no sooner than the reads before shows only where it differs from what is agreed since.
    The document's last modification is known to be ours only if nothing else has changed either.
    """
    agreement = document.agreement
    intent, before = agreement.intent, agreement.snapshot
    if intent is None or before is None:
        return document, {}
    fields = {**agreement.base.fields}
    last: Intent | None = None
    for sent in doubts.each(intent):
        if sent.token == read.token:
            continue
        there = {name for name, value in sent.fields.items() if normalise.equal(read.value(name), value, ())}
        outlived = sent.action and sent.token != before.token
        if outlived and not any(_unlike(fields.get(name), sent.fields[name]) for name in there):
            continue
        for name, agreed in sent.agreed.items():
            if name in there:
                fields[name] = agreed
            elif (old := fields.get(name)) is not None:
                fields[name] = planning.confirmed_in_part(old, agreed, name, read, policy)
        last = sent if len(there) == len(sent.fields) else last
    applied = {} if last is None else last.fields
    base = structs.replace(agreement.base, fields=fields)
    if applied and planning.same_content(before.with_fields(applied, None), read):
        base = structs.replace(base, wrote=Wrote(read.token, planning.modified_by_others(base, before)))
    agreement = structs.replace(agreement, base=base)
    if last is not None:
        left = doubts.standing(intent, read.token, now_us)
        agreement = structs.replace(agreement, intent=left)
        if before.locked_for(applied):
            agreement = structs.replace(agreement, checked_in_us=last.sent_at_us)
    return structs.replace(document, agreement=agreement), applied


def _unlike(agreed: Agreed | None, value: Json) -> bool:
    return agreed is None or bool(agreed.digest) or not normalise.equal(agreed.value, value, ())


# -------------------------------------------------------------------------------------------------------------- writing


class Writing:
    """
    The write of one patch: `case` is its decision, and `intent` what the store holds of it.

    `redecide` takes a case and a newer snapshot, and returns the case decided on that. `nothing_left` is such a later
    decision that ends this write: there is nothing to write, or an earlier write was found applied.
    """

    def __init__(
        self, case: Case, plan: Patch, ledger: Ledger, redecide: Callable[[Case, Snapshot], Case], mark: str
    ) -> None:
        assert plan.token is not None, "a document without a token is parked"
        self.case = case
        self.plan = plan
        self._began = case
        self._token: Token = plan.token
        self._ledger = ledger
        self._redecide = redecide
        self.mark = mark
        self.intent = self._intent(None)
        self.nothing_left: Case | None = None

    @property
    def note(self) -> str:
        """The requesting systems and their reasons, at most 250 characters."""
        return notes.of(self.case.document.desired, self.plan)

    async def begin(self) -> bool:
        """Store the intent and the base that was adopted; return whether we may send now."""
        return await self._store(self.case.options.policy_digest)

    async def withdraw(self) -> None:
        """Store that nothing was sent, so that only earlier writes are in doubt."""
        await self._ledger.intend(self.case.document.key, self._agreement(self._began.document.agreement.intent))

    async def locked(self, lock: str) -> None:
        """Store which lock is ours. The write is under way from here on, even if the document is paused now."""
        self.intent = structs.replace(self.intent, lock=lock)
        await self._store()

    async def redraft(self, shown: Snapshot) -> Mapping[str, Json]:
        """Decide again on a newer snapshot and store the new intent; return the fields to write, perhaps none."""
        case = self._redecide(self._began, shown)
        plan = case.plan
        self.nothing_left = None if isinstance(plan, Patch) and not case.confirmed else case
        portion = _portion(self.plan, self._snapshot())
        if not isinstance(plan, Patch) or case.confirmed or _portion(plan, shown) != portion:
            return {}
        self.case, self.plan, self._token = case, plan, shown.token or self._token
        self.intent = self._intent(self.intent.lock)
        await self._store()
        return plan.fields

    async def refused(self, refusals: Sequence[Refused]) -> None:
        """Hold the refused fields and store the intent without them; the rest is written as decided."""
        base, options, shown = self.plan.base, self.case.options, self._snapshot()
        for one in refusals:
            base = planning.refuse(base, self.plan, one.fields, one.message, self.case.moment)
        document = self.case.document
        document = structs.replace(document, agreement=structs.replace(document.agreement, base=base))
        plan = planning.draft(document.desired, base, shown, options.policy)
        assert isinstance(plan, Patch), "some of it was written"
        self.case, self.plan = structs.replace(self.case, document=document, plan=plan), plan
        self.intent = self._intent(self.intent.lock)
        await self._store()

    async def _store(self, policy: str = "") -> bool:
        """Store the intent. A write that is under way ends by the policy that it began with, so it names none."""
        return await self._ledger.intend(self.case.document.key, self._agreement(self.intent), policy)

    def _snapshot(self) -> Snapshot:
        assert self.case.snapshot is not None
        return self.case.snapshot

    def _intent(self, lock: str | None) -> Intent:
        """Return the intent of the plan, under the token that it was decided on."""
        case, plan = self.case, self.plan
        agreed = planning.agreed_if_written(plan, self._snapshot(), case.options.policy, case.moment)
        doubt = doubts.standing(case.document.agreement.intent, self._token, case.now_us)
        earlier = tuple(one for one in doubts.each(doubt) if one.fields != plan.fields)[-doubts.KEPT_MAX :]
        action = _portion(plan, self._snapshot()) > 0
        return Intent(plan.fields, self._token, case.now_us, agreed, earlier, lock, self.mark, action)

    def _agreement(self, intent: Intent | None) -> Agreement:
        known = settle.with_base(self.case.document.agreement, self.plan.base, self.case.stored)
        return structs.replace(known, snapshot=self._snapshot(), intent=intent)


def _portion(plan: Patch, snapshot: Snapshot) -> int:
    return min(map(snapshot.portion, plan.fields))
