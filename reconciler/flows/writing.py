"""
One write on its way: the intent is stored before anything is sent, and again with every step that changes it.

It is the `Journal` of a dialect that has to lock a document before it may write. Whatever ends the process between two
steps, the store then names the lock that is ours, and what was to be written under it.
"""

from collections.abc import Callable, Mapping, Sequence

import attrs

from reconciler.core.planning import plan as planning
from reconciler.core.settling import marks, notes, settle
from reconciler.core.settling.cases import Case
from reconciler.model.answer import Refused
from reconciler.model.document import Agreement, Intent
from reconciler.model.plan import Patch
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import Json
from reconciler.ports import Ledger

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
        self.mark = marks.of(case)
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
        base, rules, shown = self.plan.base, self.case.rules, self._snapshot()
        for one in refusals:
            base = planning.refuse(base, self.plan, one.fields, one.message, self.case.moment)
        document = self.case.document
        document = attrs.evolve(document, agreement=attrs.evolve(document.agreement, base=base))
        plan = planning.draft(document.desired, base, shown, rules.policy)
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
        settled = planning.settled_if_written(plan, self._snapshot(), case.rules.policy, case.moment)
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
