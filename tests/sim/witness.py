"""
The witness: follows the program through its calls to the outside and judges each decision by what the server knows.

It keeps, for every managed field, what both sides can have agreed on last. That is one value, except where a crash or a
lost reply leaves open whether something was stored; then it is several, and a decision must be right for one of them.
A write that the server applied counts as ours however its reply fared: nobody may take it for a user's edit later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from reconciler.model import instant
from reconciler.model.answer import Refused, Unknown, VersionConflict, WriteAnswer, Written
from reconciler.model.document import Intent, Status
from reconciler.model.policy import Strategy
from reconciler.model.value import canonical
from tests.sim import naive, oracle
from tests.sim.bystander import Bystander
from tests.sim.folding import Folding
from tests.sim.options import KEYWORDS, SCALARS
from tests.sim.oracle import Agreed
from tests.sim.server import Server, Version, Write, changed_parts, elements

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from reconciler.model.document import Document
    from reconciler.model.policy import Policy
    from reconciler.model.settlement import Settlement
    from reconciler.model.snapshot import Snapshot, Token
    from tests.sim.naive import Claims, Fact, Rank, Row
    from tests.sim.world import World

Possible = set[Agreed | None]


@attrs.define
class Attempt:
    """One attempt on one document, as seen from outside."""

    key: str
    row: Row
    seen: Version | None = None
    planned: Write | None = None
    durable: bool = False  # whether the store has acknowledged the intent
    withdrawn: bool = False  # it was not sent after all
    under_lock: Version | None = None  # what was read under a lock of ours
    write: Write | None = None
    answer: WriteAnswer | None = None
    settles: bool = False
    paused: bool = False  # so it was loaded, or so it was known to be before its intent was stored
    policy: Policy | None = None  # by which it decides
    after: dict[str, Possible] = attrs.field(factory=dict)


class Witness:
    """Judges one world."""

    def __init__(self, world: World, server: Server, facts: dict[tuple[int, int], Fact]) -> None:
        self._world = world
        self._server = server
        self.facts = facts  # by partition and offset
        self.writes: list[Write] = []
        self.folding = Folding(facts)
        self.bystander = Bystander(world, server)
        self._attempts: dict[str, Attempt] = {}
        self._possible: dict[tuple[str, str], Possible] = {}
        self._elements: dict[tuple[str, str], tuple[Rank, int]] = {}  # claim and version when last agreed
        self._excused: set[tuple[str, str, Any, str]] = set()  # claims on fields that the server would not take
        self._stale: set[tuple[str, Token]] = set()
        self._at_outcome: dict[bytes, dict[str, Possible]] = {}  # what can have been agreed when it was told

    # ------------------------------------------------------------------------------------------------------- attempts

    async def begins(self, store: Any) -> None:
        """A process starts on what it finds stored."""
        documents = await store.list_documents(None, "", 1_000_000)
        wrong = self.folding.begins(await store.positions(), documents)
        self._world.expect(wrong is None, f"the store has not what was folded: {wrong}")
        self._attempts.clear()
        self._stale.clear()
        self.bystander.begins()

    def copy(self) -> dict[tuple[str, str], Possible]:
        """What a copy of the store knows that is made now."""
        return {part: set(possible) for part, possible in self._possible.items()}

    def starts_over(
        self, known: Mapping[tuple[str, str], Possible], told: Mapping[str, bytes], outcomes: Iterable[bytes]
    ) -> None:
        """
        Another store takes the place of the one that was, and learns what the last outcome of each document told.

        Lost are what nobody was told of, and which writes were ours if nobody knew yet.
        """
        for key in self._world.options.keys:
            at_outcome = self._at_outcome[told[key]] if key in told else {}
            for name in SCALARS:
                possible = set(at_outcome.get(name, ())) | set(known.get((key, name), ()))
                self._possible[key, name] = possible or {None}
        self._elements.clear()
        self.bystander.loses_the_store(outcomes)
        for write in self.writes:
            write.unrecorded = True
            write.forgotten.update(SCALARS)

    def loaded(self, document: Document, mark: int) -> None:
        """An attempt may begin on this row, which must be what the log says."""
        row = self.folding.match(document, mark)
        if row is not None:
            self._attempts[document.key] = Attempt(document.key, row, paused=document.status is Status.PAUSED)
        else:
            shown = naive.plain(document.desired)
            self._world.expect(False, f"{document.key}: the projection is not what the log says: {shown}")

    def begun(self, key: str, policy: Policy) -> None:
        """An attempt begins, and will decide by this policy to its end."""
        self._attempts[key].policy = policy
        self.bystander.looks(key, policy)

    def saw(self, key: str, version: Version | None) -> None:
        attempt = self._attempts[key]
        if attempt.write is None:
            attempt.seen = version
        if version is not None:
            self.bystander.shows(key, version)

    def intending(self, key: str, intent: Intent | None, *, paused: bool) -> None:
        """The base with what was adopted may become durable now, and what is about to be written."""
        attempt, life = self._attempts[key], self._world.life
        attempt.paused = attempt.paused or (paused and attempt.planned is None)
        if attempt.planned is not None:
            attempt.withdrawn = intent is None or intent.lock is None
            if attempt.withdrawn or attempt.under_lock is None:
                return  # or the lock is being noted
            attempt.planned.answered = True  # it was decided anew, and nothing had been sent
        assert intent is not None
        assert life is not None
        attempt.seen = attempt.under_lock or self._server.versions[key, intent.token]
        stamps = {name: attempt.row.fields[name].newest for name in intent.fields if name in attempt.row.fields}
        number = len(self.writes) + 1
        attempt.planned = Write(number, life.number, key, attempt.seen.token, dict(intent.fields), stamps)
        attempt.planned.policy = attempt.policy
        self.writes.append(attempt.planned)
        for name in SCALARS:
            possible = self._of(key, name)
            if self._claims(attempt, name) is None:
                self._forget(key, name)
                possible.add(None)
                continue
            possible |= self._agreements(attempt, name)  # what a read has shown of writes in doubt is stored with it
            if None in possible:
                possible.add(Agreed(canonical(attempt.seen.fields[name]), None))

    def intended(self, key: str) -> None:
        """The intent is durable, or its withdrawal."""
        attempt = self._attempts[key]
        if attempt.withdrawn and attempt.planned is not None:
            attempt.planned.answered = True
        attempt.durable = True

    def under_lock(self, key: str, version: Version) -> None:
        """A document is shown that only we can change now."""
        self._attempts[key].under_lock = version
        self.bystander.shows(key, version)

    def not_sent(self, key: str, answer: WriteAnswer) -> None:
        """A write came to nothing before it was sent; if it was decided under a lock, that decision stands."""
        attempt = self._attempts[key]
        attempt.answer = answer
        attempt.seen = attempt.under_lock or attempt.seen

    def sending(self, snapshot: Snapshot, fields: Mapping[str, Any], token: Token) -> Write:
        """A write is decided and on its way: judge it."""
        key, world = snapshot.key, self._world
        attempt = self._attempts[key]
        seen = self._server.versions.get((key, token))
        world.expect(seen is not None, f"{key}: written with a token that the server never gave: {token}")
        world.expect((key, token) not in self._stale, f"{key}: written again with the token that was refused: {token}")
        world.expect(attempt.planned is not None and attempt.durable, f"{key}: sent before its intent was stored")
        assert seen is not None
        assert attempt.planned is not None
        world.expect(not attempt.paused, f"{key}: written while it is paused")
        told = f"{key}: meant to write {attempt.planned.fields} at {attempt.planned.token}, sent {fields} at {token}"
        world.expect((attempt.planned.token, attempt.planned.fields) == (token, dict(fields)), told)
        attempt.seen, attempt.write = seen, attempt.planned
        for name, value in fields.items():
            claims = self._claims(attempt, name)
            world.expect(claims is not None, f"{key}: `{name}` is written, but nobody manages it")
            if name in SCALARS and claims is not None and claims.whole is not None:
                wanted = claims.whole.value
                world.expect(canonical(value) == canonical(wanted), f"{key}: `{name}` = {value!r}, not {wanted!r}")
        self._judge(attempt, fields)
        return attempt.write

    def accepted(self, write: Write, before: Version) -> None:
        """The server applied a write of ours."""
        for name, value in write.fields.items():
            changes = changed_parts(name, before.fields[name], value)
            self._world.expect(changes, f"{write.key}: a write that changes nothing: `{name}` = {value!r}")
        assert write.accepted is not None
        self.bystander.accepts(write, before, write.accepted, write.policy)

    def answered(self, write: Write, answer: WriteAnswer) -> None:
        attempt = self._attempts[write.key]
        attempt.answer = answer
        if isinstance(answer, Written):
            self.bystander.answers(write)
        # Under a lock it only says that the lock was gone: an undo came late.
        if isinstance(answer, VersionConflict) and self._world.options.guard == "token":
            self._stale.add((write.key, write.token))
        if isinstance(answer, Refused):
            for name in [*answer.fields] or [*write.fields]:
                self._excuse(attempt, name)

    def settling(self, settlement: Settlement) -> None:
        """The end of an attempt may become durable now."""
        attempt = self._attempts[settlement.key]
        attempt.settles = settlement.status in (Status.SYNCED, Status.HELD)
        if not attempt.row.managed() and attempt.settles:
            for write in self._open(attempt.key):
                write.released = True
        attempt.after = self._after(attempt)
        for name, possible in attempt.after.items():
            if possible == {None}:
                self._forget(attempt.key, name)
            self._of(attempt.key, name).update(possible)
        for outcome in settlement.outcomes:
            now = {name: set(attempt.after.get(name, self._of(attempt.key, name))) for name in SCALARS}
            self._at_outcome[outcome.value or b""] = now

    def settled(self, settlement: Settlement) -> None:
        attempt = self._attempts[settlement.key]
        self.bystander.remembers(settlement.key)
        if attempt.write is not None:  # before this was stored, a crash would have left it in doubt
            lost = isinstance(attempt.answer, Unknown) or getattr(attempt.answer, "status", 0) == 503
            attempt.write.answered = not lost
        elif attempt.planned is not None and not isinstance(attempt.answer, Unknown | None):
            attempt.planned.answered = True
        for name, possible in attempt.after.items():
            self._possible[attempt.key, name] = set(possible)
        if self._agrees(attempt) or (attempt.settles and not attempt.row.managed()):
            self._settle_elements(attempt)
        if attempt.seen is not None and (attempt.write is None or self._agrees(attempt)):
            for write in self._open(attempt.key):
                seen = write.accepted is not None and write.accepted.number <= attempt.seen.number
                write.known = seen or write is attempt.write

    # ------------------------------------------------------------------------------------------------------ judgement

    def _judge(self, attempt: Attempt, fields: Mapping[str, Any]) -> None:
        seen = attempt.seen
        assert seen is not None
        for name in SCALARS:
            claims = self._claims(attempt, name)
            if claims is None:
                continue
            options = self._options(attempt, name, claims)
            verbs = sorted({verb for _, verb in options})
            told = f"{attempt.key}: `{name}` is {seen.fields[name]!r}, wanted {claims.whole}; {options}"
            if self._is_unseen(name):
                continue
            if name in fields:
                self._world.expect(oracle.WRITE in verbs, f"written against the policy: {told}")
            elif verbs == [oracle.WRITE] and not self._is_excused(attempt, name, claims):
                self._world.expect(False, f"not written: {told}")
        if KEYWORDS in fields:
            self._judge_elements(attempt, fields[KEYWORDS])

    def _judge_elements(self, attempt: Attempt, value: Any) -> None:
        key, seen, claims = attempt.key, attempt.seen, attempt.row.fields[KEYWORDS]
        assert seen is not None
        named = self._named(key)
        cleared = any(fact.key == key and fact.set.get(KEYWORDS, "") is None for fact in self.facts.values())
        external = self._rule(attempt, KEYWORDS).strategy is Strategy.EXTERNAL
        for _, text in changed_parts(KEYWORDS, seen.fields[KEYWORDS], value):
            told = f"{key}: element {text} of {seen.fields[KEYWORDS]} -> {value}, claims {claims}"
            claim = self._claim_on(claims, text)
            if claim is None:
                gone = text not in elements(value)
                self._world.expect(gone and (cleared or text in named), f"nobody asked for it: {told}")
                continue
            rank, present = claim
            self._world.expect(present is (text in elements(value)), f"the opposite of the claim: {told}")
            touch, settled = seen.touched.get((KEYWORDS, text)), self._elements.get((key, text))
            if settled is not None and touch is not None and touch.write is None and not external:
                against = settled[0] == rank and settled[1] >= touch.version
                self._world.expect(not against, f"a user's element stands until a newer event: {told}")

    def _options(self, attempt: Attempt, name: str, claims: Claims) -> list[tuple[Agreed | None, str]]:
        """What may be decided, with what it rests on."""
        seen, rule = attempt.seen, self._rule(attempt, name)
        assert seen is not None
        assert claims.whole is not None
        options = []
        for agreed in sorted(self._agreements(attempt, name), key=repr):
            for modified_us in self._modified_us(attempt):
                later = claims.newest[0] > instant.from_us(modified_us)
                options.append((agreed, oracle.verb(rule, claims, agreed, seen.fields[name], later=later)))
        return list(dict.fromkeys(options))

    def _agreements(self, attempt: Attempt, name: str) -> Possible:
        """What can have been agreed, seen from a version that may show writes of ours whose replies were lost."""
        seen = attempt.seen
        assert seen is not None
        possible = set(self._of(attempt.key, name))
        touch = seen.touched.get((name, ""))
        for write in self._open(attempt.key):
            if name not in write.fields:
                continue
            ours = Agreed(canonical(write.fields[name]), write.stamps[name])
            shown = canonical(seen.fields[name]) == ours.text
            if write.accepted is not None and write.accepted.number <= seen.number:
                if touch is not None and touch.write == write.number and shown and name not in write.forgotten:
                    return {ours}
                possible.add(ours)
            elif shown and not write.answered:
                possible.add(ours)  # a rival who repeats the very value of a write in doubt passes for us
        return possible

    def _open(self, key: str) -> list[Write]:
        """Writes of which no settlement has yet told what became of them."""
        return [write for write in self.writes if write.key == key and not write.known]

    def _modified_us(self, attempt: Attempt) -> list[int]:
        """When others can have changed the document last, as far as the program can know."""
        seen = attempt.seen
        assert seen is not None
        times = {seen.at_us, seen.others_at_us}
        for write in self._open(attempt.key):
            if not write.answered:  # as above
                before = self._server.versions[attempt.key, write.token]
                times |= {before.at_us, before.others_at_us}
        return sorted(times)

    def _after(self, attempt: Attempt) -> dict[str, Possible]:
        """What is agreed once the attempt is settled."""
        key, seen = attempt.key, attempt.seen
        if not attempt.row.managed():
            return {name: {None} for name in SCALARS} if attempt.settles else {}
        if seen is None:
            return {}
        fields = attempt.write.fields if attempt.write is not None else {}
        agrees = self._agrees(attempt)
        if attempt.write is None and agrees:
            self._judge(attempt, {})
        after: dict[str, Possible] = {}
        for name in SCALARS:
            claims = self._claims(attempt, name)
            if claims is None:
                after[name] = {None}
            elif agrees:
                after[name] = self._agreed(attempt, name, claims, fields)
            elif attempt.write is None:  # it may only have found out what became of earlier writes
                after[name] = self._agreements(attempt, name)
            else:
                adopted = Agreed(canonical(seen.fields[name]), None)
                after[name] = self._of(key, name) | ({adopted} if None in self._of(key, name) else set())
        return after

    def _agreed(self, attempt: Attempt, name: str, claims: Claims, fields: Mapping[str, Any]) -> Possible:
        seen = attempt.seen
        assert seen is not None
        rank = claims.newest
        if name in fields:
            write = attempt.write
            assert write is not None
            stored = write.fields[name] if write.accepted is None else write.accepted.fields[name]
            if canonical(stored) != canonical(write.fields[name]):
                self._excused.add((attempt.key, name, rank, canonical(stored)))
            return {Agreed(canonical(stored), rank), Agreed(canonical(write.fields[name]), rank)}
        after: Possible = set()
        for agreed, verb in self._options(attempt, name, claims):
            if verb in (oracle.KEEP, oracle.YIELD):
                after.add(Agreed(canonical(seen.fields[name]), rank))
            if verb == oracle.HOLD or self._is_excused(attempt, name, claims):
                after.add(agreed)
        if self._is_unseen(name):
            after |= {
                Agreed(canonical(value), rank) for value in (seen.fields[name], claims.whole and claims.whole.value)
            }
        return after

    def _settle_elements(self, attempt: Attempt) -> None:
        claims = self._claims(attempt, KEYWORDS)
        for part in [part for part in self._elements if part[0] == attempt.key]:
            if claims is None:
                del self._elements[part]
        if claims is None or attempt.seen is None or self._is_excused(attempt, KEYWORDS, claims):
            return
        now = attempt.seen
        if attempt.write is not None and attempt.write.accepted is not None:
            now = attempt.write.accepted
        rule = self._rule(attempt, KEYWORDS)
        holds = rule.strategy is Strategy.HOLD or (rule.strategy, rule.on_overlap) == (Strategy.MERGE, Strategy.HOLD)
        for text in {*claims.elements, *elements(claims.whole.value if claims.whole else None)}:
            claim = self._claim_on(claims, text)
            assert claim is not None
            if not holds or claim[1] is (text in elements(now.fields[KEYWORDS])):
                self._elements[attempt.key, text] = (claim[0], now.number)

    # ------------------------------------------------------------------------------------------------------ small print

    def _agrees(self, attempt: Attempt) -> bool:
        """Whether the attempt ends with both sides agreed on what it decided; what stays due is not done yet."""
        if attempt.seen is None:
            return False
        return attempt.settles if attempt.write is None else isinstance(attempt.answer, Written)

    def _of(self, key: str, name: str) -> Possible:
        return self._possible.setdefault((key, name), {None})

    def _rule(self, attempt: Attempt, name: str) -> Any:
        assert self._world.life is not None
        return (attempt.policy or self._world.life.policy).rule(name, None)

    def _claims(self, attempt: Attempt, name: str) -> Claims | None:
        claims = attempt.row.managed().get(name)
        return None if claims is None or self._rule(attempt, name).strategy is Strategy.IGNORE else claims

    def _is_unseen(self, name: str) -> bool:
        """Whether the program may believe that the server stored what it was sent, and can't be judged by more."""
        return name == self._world.options.alters and self._world.options.shows == "token"

    def _claim_on(self, claims: Claims, text: str) -> tuple[Rank, bool] | None:
        if text in claims.elements:
            return claims.elements[text]
        if claims.whole is not None and claims.whole.managed and text in elements(claims.whole.value):
            return claims.whole.rank, True
        return None

    def _named(self, key: str) -> set[str]:
        """Elements that any event of a document ever named."""
        named: set[str] = set()
        for fact in self.facts.values():
            if fact.key == key:
                named.update(elements(fact.set.get(KEYWORDS)))
                named.update(*(elements(change.get(KEYWORDS, [])) for change in (fact.add, fact.remove)))
        return named

    def _forget(self, key: str, name: str) -> None:
        """A field is not managed any more: that an earlier write of it was ours may be forgotten too."""
        for write in self.writes:
            if write.key == key:
                write.forgotten.add(name)

    def _excuse(self, attempt: Attempt, name: str) -> None:
        claims = self._claims(attempt, name)
        if claims is not None and attempt.seen is not None:
            self._excused.add((attempt.key, name, claims.newest, canonical(attempt.seen.fields[name])))

    def _is_excused(self, attempt: Attempt, name: str, claims: Claims) -> bool:
        assert attempt.seen is not None
        return (attempt.key, name, claims.newest, canonical(attempt.seen.fields[name])) in self._excused
