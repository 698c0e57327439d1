"""
The trail of one document: each audited decision held against what the log, the server and the table say.

A record's inputs are checked first, each from outside: the snapshot is the version that the server's history has under
that token; the desired state is what a naive fold gives of the log up to some offset, never an earlier one than before;
the base is what the last decision agreed on, or what a write of ours left whose reply was lost or whose process died.
Then the decision is taken once more from these, by the table that the simulation's oracle has written down again.
"""

import itertools
from collections.abc import Callable
from typing import Any

import attrs

from reconciler.model.audit import AuditRecord
from reconciler.model.base import Base
from reconciler.model.policy import Policy, Strategy
from reconciler.simulator.history import Entry
from tests.crash.evidence import ME, Chain, Evidence, Version, same
from tests.crash.plan import KEYWORDS, SCALARS
from tests.sim import naive, oracle
from tests.sim.naive import Claims, Fact, Rank, Row
from tests.sim.oracle import Agreed
from tests.sim.server import elements

_SETTLING = ("in_sync", "held", "written")


@attrs.define
class Ours:
    """One write of ours that the server accepted, and what the audit says of it."""

    entry: Entry
    version: Version
    told: int = 0
    by: AuditRecord | None = None
    unseen: bool = False  # a rival changed a field of it before anyone looked, or no one managed it any more
    ranks: dict[str, Rank | None] = attrs.field(factory=dict)


class Trail:
    """Follows one document's audit records in the order in which they were committed."""

    def __init__(self, key: str, evidence: Evidence, complain: Callable[[str], None]) -> None:
        self._key = key
        self._chain: Chain = evidence.chains[key]
        self._facts: list[Fact] = evidence.facts.get(key, [])
        self._policies = evidence.policies
        self._complain = complain
        entries = [entry for entry in evidence.history if entry.document == key and entry.who == ME]
        self.ours = [Ours(entry, self._chain.after(entry)) for entry in entries]
        by_log = {
            topic: [fact for fact in self._facts if fact.rank[2] == topic]
            for topic in {one.rank[2] for one in self._facts}
        }
        self._logs = [sorted(log, key=lambda fact: fact.rank[4]) for log in by_log.values()]
        self._reached = {(0,) * len(self._logs)}  # how many of each log's events the last record can have seen
        self._states: dict[tuple[int, ...], tuple[str, Row | None]] = {}
        self._agreed: dict[str, set[Agreed | None]] = {}
        self._settled: dict[str, Rank] = {}  # elements, by the claim that was last settled
        self._stale: set[str] = set()  # tokens that the server has refused
        self.confirmed_of_others = 0

    def follow(self, records: list[AuditRecord]) -> None:
        """Judge all records, then the writes that none of them tells of."""
        for record in records:
            self._one(record)
        known = self._known(min(self._reached, key=sum))
        self._forget([fact for fact in self._facts if fact not in known], self._chain.versions[-1].number)
        for write in self.ours:
            entry = write.entry
            said = f"our write {entry.sequence} ({entry.before} to {entry.after}, {entry.changes})"
            if write.told > 1:
                self._say(f"{write.told} audit records tell of {said}")
            elif not write.told and not write.unseen:
                self._say(f"no audit record tells of {said}")

    def _say(self, what: str, record: AuditRecord | None = None) -> None:
        at = "" if record is None else f" (audit {record.id}, {record.result}, at {record.snapshot.token})"
        self._complain(f"{self._key}: {what}{at}")

    def _one(self, record: AuditRecord) -> None:
        token = (record.snapshot.token or "").strip('"')
        seen = self._chain.by_token.get(token)
        policy = self._policies.get(record.policy)
        row = self._row(record, 0 if seen is None else seen.number)
        if seen is None or policy is None or row is None:
            missing = "version" if seen is None else "policy" if policy is None else "state of the log"
            return self._say(f"decided on a {missing} that there never was", record)
        for decision in record.decisions:
            if not same(decision.live, seen.fields.get(decision.field)):
                self._say(f"`{decision.field}` was {seen.fields.get(decision.field)!r}, not {decision.live!r}", record)
        managed = {name for name in row.managed() if policy.rule(name, None).strategy is not Strategy.IGNORE}
        if managed != {decision.field for decision in record.decisions}:
            self._say(f"decided {[d.field for d in record.decisions]}, managed are {sorted(managed)}", record)
        if record.patch is not None and token in self._stale:
            self._say("written again with the token that was refused", record)
        if record.result == "version_conflict":
            self._stale.add(token)
        self._note_unseen(seen)
        self._base(record, seen)
        for name in SCALARS:
            if name in managed:
                self._verb(record, name, row.managed()[name], policy, seen)
        if record.patch is not None and KEYWORDS in record.patch and record.result == "written":
            self._keywords(record, row, policy, seen)
        self._tell(record, row, seen)
        self._remember(record, row, policy, seen)
        return None

    def _row(self, record: AuditRecord, seen: int) -> Row | None:
        """The state of the logs that was decided on: each is read in its order, and neither waits for the other."""
        shown = naive.plain(record.desired)
        reached = [
            read
            for read in itertools.product(*(range(len(log) + 1) for log in self._logs))
            if any(all(now >= then for now, then in zip(read, before, strict=True)) for before in self._reached)
            and self._state(read)[0] == shown
        ]
        if not reached:
            return None
        known, least = self._known(min(self._reached, key=sum)), min(reached, key=sum)
        self._forget([fact for fact in self._known(least) if fact not in known], seen)
        self._reached = set(reached)
        return self._state(least)[1]

    def _known(self, read: tuple[int, ...]) -> list[Fact]:
        return [fact for log, count in zip(self._logs, read, strict=True) for fact in log[:count]]

    def _state(self, read: tuple[int, ...]) -> tuple[str, Row | None]:
        """The row after so many records of each log, and its text."""
        if read not in self._states:
            row = naive.project(self._known(read)).get(self._key)
            self._states[read] = "" if row is None else row.plain(), row
        return self._states[read]

    def _forget(self, facts: list[Fact], seen: int) -> None:
        """What was not managed for a while may have lost its base, and that an earlier write of it was ours."""
        for fact in facts:
            for name in [*self._agreed] if fact.released else fact.release:
                self._agreed.setdefault(name, set()).add(None)
            if fact.released or KEYWORDS in fact.release:
                self._settled.clear()
            if fact.released or fact.release:
                for write in self.ours:
                    write.unseen = write.unseen or (not write.told and write.version.number <= seen)

    # ---------------------------------------------------------------------------------------------------------- inputs

    def _base(self, record: AuditRecord, seen: Version) -> None:
        for name in {decision.field for decision in record.decisions} & {*SCALARS}:
            shown = _base_of(record, name)
            possible = self._possible(name, seen)
            if shown not in possible:
                self._say(f"the base of `{name}` is {shown}; it can only be {possible}", record)

    def _possible(self, name: str, seen: Version) -> list[Agreed | None]:
        """What can have been agreed on a field, seen from a version."""
        before = self._agreed.get(name, {None})
        possible = [*before]
        shown = seen.fields.get(name)
        asking: list[Agreed | None] = [Agreed(shown, rank) for rank in self._claimed(name, shown)]
        for write in self.ours:
            if not write.told and write.version.number <= seen.number and name in write.entry.changes:
                stored = write.version.fields.get(name)
                possible += [Agreed(stored, rank) for rank in self._claimed(name, stored)]
                if seen.touched[name, ""] == (write.version.number, ME) and not write.unseen:
                    possible = asking
        # A rival who repeats the very value of a write in doubt passes for us; and what was adopted is stored at once.
        possible += asking
        if None in before:
            earlier = self._chain.versions[: seen.number + 1]
            possible += [Agreed(old.fields.get(name), None) for old in earlier]
        return possible

    def _claimed(self, name: str, value: Any) -> list[Rank]:
        """Ranks of the claims on a field that ask for this value."""
        asking = [fact for fact in self._facts if name in fact.set and same(fact.set[name], value)]
        return [fact.rank for fact in asking]

    # -------------------------------------------------------------------------------------------------------- decision

    def _verb(self, record: AuditRecord, name: str, claims: Claims, policy: Policy, seen: Version) -> None:
        agreed = _base_of(record, name)
        verdict = next(decision for decision in record.decisions if decision.field == name)
        live, rule = seen.fields.get(name), policy.rule(name, None)
        times = self._modified_us(seen)
        verbs = {oracle.verb(oracle.asked(rule, claims, live, at_us), agreed) for at_us in times}
        if verdict.verb not in verbs and name not in record.base.refused:
            self._say(f"`{name}` = {live!r}: {verdict.verb}, not {verbs}; base {agreed}, log {claims.whole}", record)
        patch = record.patch or {}
        if name in patch and claims.whole is not None and not same(patch[name], claims.whole.value):
            self._say(f"`{name}` = {patch[name]!r} is written, the log says {claims.whole}", record)

    def _modified_us(self, seen: Version) -> set[int]:
        """When others can have changed the document last, as far as the program can know."""
        times = {seen.at_us, seen.others_at_us}
        for write in self.ours:
            if not write.told:
                before = self._chain.versions[write.version.number - 1]
                times |= {before.at_us, before.others_at_us}
        return times

    def _keywords(self, record: AuditRecord, row: Row, policy: Policy, seen: Version) -> None:
        """Element by element: only what was asked for, and no user's element against the same claim again."""
        assert record.patch is not None
        claims = row.fields[KEYWORDS]
        old, new = set(elements(seen.fields.get(KEYWORDS))), set(elements(record.patch[KEYWORDS]))
        named = {text for fact in self._facts for text in _named(fact)}
        external = policy.rule(KEYWORDS, None).strategy is Strategy.EXTERNAL
        for text in sorted(old ^ new):
            claim = _claim_on(claims, text)
            if claim is None:
                if text in new or text not in named:
                    self._say(f"element {text}: no one asked for {record.patch[KEYWORDS]}", record)
                continue
            if claim[1] is not (text in new):
                self._say(f"element {text}: the opposite of its claim {claim}", record)
            _, who = seen.touched.get((KEYWORDS, text), (0, ME))
            if who != ME and self._settled.get(text) == claim[0] and not external:
                self._say(f"element {text}: {who}'s edit is undone for a claim that was settled before", record)

    # ------------------------------------------------------------------------------------------------------ afterwards

    def _note_unseen(self, seen: Version) -> None:
        """Writes whose replies were lost, and that a rival has covered before anyone looked: no one can tell."""
        for write in self.ours:
            if not write.told and write.version.number <= seen.number:
                names = write.entry.changes
                covered = any(not same(write.version.fields.get(n), seen.fields.get(n)) for n in names)
                write.unseen = write.unseen or covered

    def _tell(self, record: AuditRecord, row: Row, seen: Version) -> None:
        """Find the write that a record tells of."""
        if record.result == "written":
            found = [one for one in self.ours if one.entry.guard == seen.token]
            if len(found) != 1:
                return self._say(f"{len(found)} writes of ours were accepted under its token", record)
            (write,) = found
            for name, value in (record.patch or {}).items():
                if not same(value, write.version.fields.get(name)):
                    self._say(f"`{name}` = {value!r} was written, the server stored something else", record)
        elif record.result == "confirmed":
            lost = [one for one in self.ours if not one.told and one.version.number <= seen.number]
            if not lost:
                self.confirmed_of_others += 1  # a rival has written the very values that were in doubt
                return None
            write = lost[-1]
        else:
            return None
        write.told += 1
        write.by = record
        return None

    def _remember(self, record: AuditRecord, row: Row, policy: Policy, seen: Version) -> None:
        """What is agreed after a record."""
        patched = record.patch or {}
        settles = record.result in _SETTLING or (record.result == "confirmed" and record.patch is None)
        after = seen
        if record.result == "written":
            after = next((one.version for one in self.ours if one.entry.guard == seen.token), seen)
        verbs = {decision.field: decision.verb for decision in record.decisions}
        for name in SCALARS:
            if name not in verbs:
                self._agreed[name] = {None}
                continue
            agreed = _base_of(record, name)
            rank = row.fields[name].newest
            if settles and verbs[name] != "hold":
                version = after if name in patched else seen
                agreed = Agreed(version.fields.get(name), rank)
            elif agreed is None and name in patched:
                agreed = Agreed(seen.fields.get(name), None)
            self._agreed[name] = {agreed}
        if settles and KEYWORDS in verbs:
            self._settle_elements(row.fields[KEYWORDS], policy, after)

    def _settle_elements(self, claims: Claims, policy: Policy, after: Version) -> None:
        rule = policy.rule(KEYWORDS, None)
        holds = rule.strategy is Strategy.HOLD or (rule.strategy, rule.on_overlap) == (Strategy.MERGE, Strategy.HOLD)
        there = elements(after.fields.get(KEYWORDS))
        for text in {*claims.elements, *elements(claims.whole.value if claims.whole else None)}:
            claim = _claim_on(claims, text)
            if claim is not None and (not holds or claim[1] is (text in there)):
                self._settled[text] = claim[0]


def _base_of(record: AuditRecord, name: str) -> Agreed | None:
    """What a record's base says of a field, in the words of the oracle."""
    base = record.base.fields.get(name)
    if base is None:
        return None
    return Agreed(base.value, None if base.stamp is None else base.stamp[1:])


def _named(fact: Fact) -> list[str]:
    """The elements that an event names."""
    listed = [fact.set.get(KEYWORDS), fact.add.get(KEYWORDS), fact.remove.get(KEYWORDS)]
    return [text for one in listed for text in elements(one)]


def _claim_on(claims: Claims, text: str) -> tuple[Rank, bool] | None:
    if text in claims.elements:
        return claims.elements[text]
    if claims.whole is not None and claims.whole.managed and text in elements(claims.whole.value):
        return claims.whole.rank, True
    return None


def plain_base(base: Base) -> tuple[Any, Any]:
    """What of a base is published."""
    return base.fields, base.refused
