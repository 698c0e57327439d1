"""
Backtest: audited decisions, made again under another policy.

Rules of this file:
1. Each record is judged on its own inputs. The consequences of a different decision (another base, another live value)
   are not simulated, because no one knows what people would have done then.
2. A record is judged only if its own policy still gives the recorded decision: otherwise a difference might come from
   the program, not from the policy.
3. Missing inputs are not guessed. A field that was ignored then has no live value in its record.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import attrs

from reconciler.core.explain import policies, trail
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

IGNORE = "ignore"  # the field would not be managed, or was not
REFUSE = "refuse"  # the event would have become a dead letter
UNKNOWN = "unknown"  # the record can't tell the decision


class Ruling(NamedTuple):
    """One way to decide a field. `verb` is a `Verb`, or one of the three constants above."""

    verb: str
    rule: str
    strategy: str
    reason: str
    writes: Json | Missing = MISSING
    holds: tuple[str, ...] = ()  # elements of a list that wait for a person


class Turn(NamedTuple):
    """One kind of difference, for counting."""

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
        """The kind of this difference."""
        return Turn(self.was.verb, self.was.rule, self.would.verb, self.would.rule)


class Unjudged(NamedTuple):
    """A record that can't be judged, and why."""

    record: int
    document: str | None
    reason: str


class Backtest:
    """Judges records one by one and keeps only counts; `recorded` are policies as stored, by digest."""

    def __init__(self, policy: Policy, recorded: Mapping[str, bytes]) -> None:
        self.judged = 0
        self.differing = 0  # of those judged
        self.unjudged = 0
        self.turns: Counter[Turn] = Counter()
        self._policy = policy
        self._narrowed = any(rule.sources for rule in policy.rules)
        self._recorded = recorded
        self._read: dict[str, Policy | str] = {}
        self._compared: dict[str, policies.Comparison] = {}  # by the recorded policy's digest

    def judge(self, number: int, text: bytes) -> list[Otherwise] | Unjudged:
        """Return the fields of a stored decision that would be decided otherwise, or why that can't be judged."""
        try:
            record = codec.decode_record(text)
        except codec.UNREADABLE as error:
            self.unjudged += 1
            return Unjudged(number, None, f"it is no record of the trail: {error}")
        return self.judge_record(number, record) if isinstance(record, AuditRecord) else []

    def judge_record(self, number: int, record: AuditRecord) -> list[Otherwise] | Unjudged:
        """Judge a record that is decoded already."""
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
        compared = self._compared.setdefault(record.policy, policies.Comparison((old,), self._policy))
        if not self._narrowed and not any(compared.differs(name, type_) for name in names):
            return
        was = {decision.field: decision for decision in before.decisions}
        after = planning.draft(record.desired, record.base, record.snapshot, self._policy)
        would = {decision.field: decision for decision in after.decisions}
        refused = self._refused(old, record.desired) if self._narrowed else {}
        for name in sorted(names):
            then, now = was.get(name), would.get(name)
            stamps = sorted((claim.stamp for claim in names[name].claims), reverse=True)
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
            for claim in field.claims:
                source = claim.stamp.source
                rule = self._policy.refuses(name, source)
                if rule is not None and old.refuses(name, source) is None:
                    reason = f"{source} may not set {name}, so the whole event would be a dead letter"
                    found.setdefault(claim.stamp, Ruling(REFUSE, rule.name, rule.strategy, reason))
        return found

    def _policy_of(self, digest: str) -> Policy | str:
        if digest not in self._read:
            found = trail.checked(digest, self._recorded.get(digest))
            self._read[digest] = f"its policy {digest} {found}" if isinstance(found, str) else found
        return self._read[digest]


def _decided_as_recorded(record: AuditRecord, policy: Policy) -> Plan | str:
    """Decide again under the recorded policy; return the plan, or why it is not the recorded one."""
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


def _same(then: Decision | None, now: Decision | None) -> bool:
    if then is None or now is None:
        return then is now
    if then.verb is not now.verb or then.held_elements != now.held_elements:
        return False
    return then.verb is not Verb.WRITE or then.target is now.target or canonical(then.target) == canonical(now.target)


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
