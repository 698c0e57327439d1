"""
Backtest: audited decisions, made again under another policy.

Rules of this file:
1. Each record is judged on its own inputs. What a different decision would have led to (another base, another live
   value) is not played on: nobody knows what people would have done then.
2. A record is judged only if the policy it was decided under still gives the recorded decision: else a difference
   might be the program's, not the policy's.
3. What a record does not hold is not guessed. Fields that were ignored then have no live value in it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import attrs

from reconciler.core.explain import narrative, trail
from reconciler.core.folding import fold
from reconciler.core.planning import plan as planning
from reconciler.core.planning import reasons
from reconciler.model import codec
from reconciler.model.audit import AuditRecord
from reconciler.model.desired import Desired
from reconciler.model.plan import Decision, Patch, Plan, Verb
from reconciler.model.policy import Policy, Rule, Strategy
from reconciler.model.stamp import Stamp
from reconciler.model.value import MISSING, Json, Missing, canonical

_ALIKE_MAX = 16_384  # field names come from outside

IGNORE = "ignore"  # the field would not be managed, or was not
REFUSE = "refuse"  # the event would have become a dead letter
UNKNOWN = "unknown"  # decided in some way that the record can't tell


class Ruling(NamedTuple):
    """One way to decide a field. `verb` is a `Verb`, or one of the three words above."""

    verb: str
    rule: str
    strategy: str
    reason: str
    writes: Json | Missing = MISSING
    holds: tuple[str, ...] = ()  # elements of a list that wait for a person


class Turn(NamedTuple):
    """One kind of difference, as it is counted."""

    was: str
    was_rule: str
    would: str
    would_rule: str


@attrs.frozen
class Otherwise:
    """One field of one decision that the other policy decides otherwise."""

    record: int
    document: str
    field: str
    at_us: int
    was: Ruling
    would: Ruling
    desired: Json | Missing
    live: Json | Missing
    event: str
    source: str

    @property
    def turn(self) -> Turn:
        """What this counts as."""
        return Turn(self.was.verb, self.was.rule, self.would.verb, self.would.rule)


class Unjudged(NamedTuple):
    """A record that can't be judged, and why."""

    record: int
    document: str | None
    reason: str


class Backtest:
    """Takes records one by one and keeps nothing of them but counts; `recorded` are policies as stored, by digest."""

    def __init__(self, policy: Policy, recorded: Mapping[str, bytes]) -> None:
        self.judged = 0
        self.differing = 0  # of those judged
        self.unjudged = 0
        self.turns: Counter[Turn] = Counter()
        self._policy = policy
        self._narrowed = any(rule.sources for rule in policy.rules)
        self._recorded = recorded
        self._read: dict[str, Policy | str] = {}
        self._alike: dict[tuple[str, str, str | None], bool] = {}

    def judge(self, number: int, text: bytes) -> list[Otherwise] | Unjudged:
        """Return the fields of a stored decision that would be decided otherwise, or why no one can tell."""
        try:
            record = codec.decode_record(text)
        except codec.UNREADABLE as error:
            self.unjudged += 1
            return Unjudged(number, None, f"it is no record of the trail: {error}")
        return self.judge_record(number, record) if isinstance(record, AuditRecord) else []

    def judge_record(self, number: int, record: AuditRecord) -> list[Otherwise] | Unjudged:
        """Return what `judge` does, of a record that is read already."""
        policy = self._policy_of(record.policy)
        before = policy if isinstance(policy, str) else _decided_as_recorded(record, policy)
        if isinstance(before, str) or isinstance(policy, str):
            self.unjudged += 1
            return Unjudged(number, record.document, str(before))
        found = list(self._differences(number, record, policy, before))
        self.judged += 1
        self.differing += bool(found)
        self.turns.update(one.turn for one in found)
        return found

    def _differences(self, number: int, record: AuditRecord, old: Policy, before: Plan) -> Iterator[Otherwise]:
        type_ = record.snapshot.type
        names = fold.managed(record.desired)
        if not self._narrowed and all(self._decides_alike(record.policy, old, name, type_) for name in names):
            return
        was = {decision.field: decision for decision in before.decisions}
        after = planning.draft(record.desired, record.base, record.snapshot, self._policy)
        would = {decision.field: decision for decision in after.decisions}
        refused = self._refused(old, record.desired) if self._narrowed else {}
        for name in sorted(names):
            then, now = was.get(name), would.get(name)
            stamps = sorted((claim.stamp for claim in narrative.claims_of(names[name])), reverse=True)
            lost = next((stamp for stamp in stamps if stamp in refused), None)
            stamp, refusing = lost or stamps[0], None if lost is None else refused[lost]
            if refusing is None and _same(then, now):
                continue
            yield Otherwise(
                record=number,
                document=record.document,
                field=name,
                at_us=record.at_us,
                was=_ignored(old.rule(name, type_)) if then is None else _ruling(then),
                would=refusing or self._would(then, now, self._policy.rule(name, type_)),
                desired=MISSING if then is None else then.desired,
                live=MISSING if then is None else then.live,
                event=stamp.id,
                source=stamp.source,
            )

    def _would(self, then: Decision | None, now: Decision | None, rule: Rule) -> Ruling:
        if now is None:
            return _ignored(rule)
        if then is None:
            reason = "it was ignored then, so the record does not hold its value in Windchill"
            return Ruling(UNKNOWN, rule.name, rule.strategy, reason)
        return _ruling(now)

    def _refused(self, old: Policy, desired: Desired) -> dict[Stamp, Ruling]:
        """Return the events, by their stamps, that would have been refused for some field, and were not then."""
        found: dict[Stamp, Ruling] = {}
        for name, field in sorted(desired.fields.items()):
            for claim in narrative.claims_of(field):
                source = claim.stamp.source
                rule = self._policy.refuses(name, source)
                if rule is not None and old.refuses(name, source) is None:
                    reason = f"{source} may not set {name}, so the whole event would be a dead letter"
                    found.setdefault(claim.stamp, Ruling(REFUSE, rule.name, rule.strategy, reason))
        return found

    def _decides_alike(self, digest: str, old: Policy, name: str, type_: str | None) -> bool:
        key = digest, name, type_
        if key not in self._alike:
            if len(self._alike) >= _ALIKE_MAX:
                self._alike.clear()
            left, right = old.rule(name, type_), self._policy.rule(name, type_)
            self._alike[key] = _decisive(left) == _decisive(right)
        return self._alike[key]

    def _policy_of(self, digest: str) -> Policy | str:
        if digest not in self._read:
            self._read[digest] = _policy(digest, self._recorded.get(digest))
        return self._read[digest]


def _decided_as_recorded(record: AuditRecord, policy: Policy) -> Plan | str:
    """Decide again under the recorded policy; return the plan, or in words that it is another one."""
    plan = trail.decided_again(record, policy)
    if isinstance(plan, str):
        return plan
    patch = plan.fields if isinstance(plan, Patch) else None
    verbs = {decision.field: decision.verb.value for decision in plan.decisions}
    if canonical(patch) != canonical(record.patch):
        return "its recorded policy gives another patch than was recorded"
    if verbs != {verdict.field: verdict.verb for verdict in record.decisions}:
        return "its recorded policy gives other decisions than were recorded"
    return plan


def _policy(digest: str, text: bytes | None) -> Policy | str:
    if text is None:
        return f"its policy {digest} is missing"
    try:
        return codec.decode_policy(text)
    except codec.UNREADABLE as error:
        return f"its policy {digest} can't be read: {error}"


def _same(then: Decision | None, now: Decision | None) -> bool:
    if then is None or now is None:
        return then is now
    if then.verb is not now.verb or then.held_elements != now.held_elements:
        return False
    return then.verb is not Verb.WRITE or then.target is now.target or canonical(then.target) == canonical(now.target)


def _decisive(rule: Rule) -> Rule:
    """Return a rule without what has no say in a decision; it has covered the field already."""
    return attrs.evolve(rule, name="", fields=(), types=(), sources=())


def _ruling(decision: Decision) -> Ruling:
    return Ruling(
        decision.verb.value,
        decision.rule,
        decision.strategy,
        reasons.text(decision.reasons),
        decision.target,
        decision.held_elements,
    )


def _ignored(rule: Rule) -> Ruling:
    return Ruling(IGNORE, rule.name, Strategy.IGNORE.value, "not managed")
