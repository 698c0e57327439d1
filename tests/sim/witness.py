"""
The witness: follows the program through its calls to the outside and judges each decision by what the server knows.

It keeps, for every managed field, what both sides can have agreed on last. That is one value, except where a crash or a
lost reply leaves open whether something was stored; then it is several, and a decision must be right for one of them.
A write that the server applied counts as ours however its reply fared: no one may take it for a user's edit later.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs

from reconciler.core.events import outcomes
from reconciler.core.events.outcomes import Told
from reconciler.model.answer import Refused, Unknown, VersionConflict, WriteAnswer, Written
from reconciler.model.audit import Settlement
from reconciler.model.document import Document, Intent, Status
from reconciler.model.policy import Normaliser, Policy, Strategy
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.stamp import Place
from reconciler.model.value import canonical
from tests.sim import comparing, naive, oracle
from tests.sim.bystander import Bystander
from tests.sim.folding import Folding
from tests.sim.naive import Claims, Fact, Rank, Row
from tests.sim.options import FIELDS, GROUP, KEYWORDS, SCALARS
from tests.sim.oracle import Agreed
from tests.sim.server import Part, Server, Version, Write, changed_parts
from tests.sim.world import World

Possible = set[Agreed | None]


@attrs.frozen
class Option:
    """What may be decided about a part: what it rests on, the claim and what that wants."""

    agreed: Agreed | None
    verb: str
    rank: Rank | None
    wanted: Any = attrs.field(eq=canonical)


@attrs.define
class Attempt:
    """One attempt on one document, as seen from outside."""

    key: str
    row: Row
    seen: Version | None = None
    planned: Write | None = None
    durable: bool = False  # whether the store has acknowledged the intent
    after_ends: int = 0  # how many attempts on the document had ended by then
    withdrawn: bool = False  # it was not sent after all
    under_lock: Version | None = None  # what was read under a lock of ours
    write: Write | None = None
    answer: WriteAnswer | None = None
    settles: bool = False
    collects: bool = False  # what is to be written waits for further changes
    paused: bool = False  # so it was loaded, or so it was known to be before its intent was stored
    policy: Policy | None = None  # by which it decides
    after: dict[Part, Possible] = attrs.field(factory=dict)
    options: dict[Part, list[Option]] = attrs.field(factory=dict)  # as of what is seen


class Witness:
    """Judges one world."""

    def __init__(self, world: World, server: Server, facts: dict[Place, Fact]) -> None:
        self._world = world
        self._server = server
        self.facts = facts
        self.writes: list[Write] = []
        self.folding = Folding(facts)
        self.bystander = Bystander(world, server)
        self._all_attempts: dict[int, dict[str, Attempt]] = {}  # by life
        words = sorted(oracle.texts([*world.options.words], world.options.word_steps))
        self._parts: tuple[Part, ...] = (*((name, "") for name in SCALARS), *((KEYWORDS, text) for text in words))
        self._possible: dict[tuple[str, Part], Possible] = {}
        self._excused: set[tuple[str, str, Any, str]] = set()  # claims on fields that the server would not take
        self._steps: dict[str, set[tuple[Normaliser, ...]]] = {}  # what has ever not counted in comparing a field
        self._contested: dict[tuple[str, str], list[Any]] = {}  # values that the server stores otherwise
        self._ends: Counter[str] = Counter()  # attempts on a document that were settled
        self._stale: set[tuple[int, str, Token]] = set()  # by life
        self._at_outcome: dict[bytes, dict[Part, Possible]] = {}  # what can have been agreed when it was told

    # ------------------------------------------------------------------------------------------------------- attempts

    @property
    def _attempts(self) -> dict[str, Attempt]:
        """Those of the process that runs at this moment."""
        return self._all_attempts.setdefault(self._world.here().number, {})

    async def begins(self, store: Any) -> None:
        """A process starts on what it finds stored."""
        documents = await store.list_documents(None, "", 1_000_000)
        wrong = self.folding.begins(await store.positions(), documents)
        self._world.expect(wrong is None, f"the store has not what was folded: {wrong}")

    def copy(self) -> dict[tuple[str, Part], Possible]:
        """What a copy of the store knows that is made now, or can still find out about a write in doubt."""
        known = {part: set(possible) for part, possible in self._possible.items()}
        for write in self.writes:
            for part in self._parts if not write.known else ():
                if part[0] in write.fields:
                    ours = Agreed(self._value(write.fields, part), write.stamps.get(part))
                    known.setdefault((write.key, part), set()).add(ours)
        return known

    def starts_over(
        self, known: Mapping[tuple[str, Part], Possible], told: Sequence[bytes], in_hand: Collection[bytes] = ()
    ) -> None:
        """
        Another store takes the place of the one that was, and learns what the last outcome of each document told.

        Lost are what no one was told of, and which writes were ours if no one knew yet. Outcomes `in_hand` may be told
        yet. Whoever is at work goes on with what it knows; that can't be judged by what is known now.
        """
        last = _last_of(told)
        for key in self._world.options.keys:
            at_outcome = self._at_outcome[last[key]] if key in last else {}
            late = [self._at_outcome[one] for one in in_hand if one in self._at_outcome and _key_of(one) == key]
            for part in self._parts:
                possible = set(at_outcome.get(part, ())) | set(known.get((key, part), ())) or {None}
                self._possible[key, part] = possible.union(*(one.get(part, ()) for one in late))
            self._ends[key] += 1
        self.bystander.loses_the_store(told)
        for write in self.writes:
            write.unrecorded = True
            write.forgotten.update(FIELDS)

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
            attempt.options.clear()
        if version is not None:
            self.bystander.shows(key, version)

    def intending(self, key: str, intent: Intent | None, *, paused: bool) -> None:
        """The base with what was adopted may become durable now, and what is about to be written."""
        attempt, life = self._attempts[key], self._world.here()
        attempt.paused = attempt.paused or (paused and attempt.planned is None)
        if attempt.planned is not None:
            attempt.withdrawn = intent is None or intent.lock is None
            if attempt.withdrawn or attempt.under_lock is None:
                return  # or the lock is being noted
            attempt.planned.answered = True  # it was decided again, and nothing had been sent
        assert intent is not None
        attempt.seen = attempt.under_lock or self._server.versions[key, intent.token]
        attempt.options.clear()
        stamps = {part: self._rank(attempt, part) for part in self._parts if part[0] in intent.fields}
        number = len(self.writes) + 1
        attempt.planned = Write(number, life.number, key, attempt.seen.token, dict(intent.fields), stamps)
        attempt.planned.policy = attempt.policy
        self.writes.append(attempt.planned)
        for part in self._parts:
            possible = self._of(key, part)
            if self._claims(attempt, part[0]) is None:
                self._forget(key, part[0])
                possible.add(None)
                continue
            possible |= self._agreements(attempt, part)  # what a read has shown of writes in doubt is stored with it
            possible |= self._adopted(attempt, part, attempt.seen)

    def intended(self, key: str) -> None:
        """The intent is durable, or its withdrawal."""
        attempt = self._attempts[key]
        if attempt.withdrawn and attempt.planned is not None:
            attempt.planned.answered = True
        self._seems_agreed(attempt)
        attempt.durable, attempt.after_ends = True, self._ends[key]

    def under_lock(self, key: str, version: Version) -> None:
        """A document is shown that only we can change now."""
        self._attempts[key].under_lock = version
        self.bystander.shows(key, version)

    def not_sent(self, key: str, answer: WriteAnswer) -> None:
        """A write came to nothing before it was sent; if it was decided under a lock, that decision stands."""
        attempt = self._attempts[key]
        attempt.answer = answer
        attempt.seen = attempt.under_lock or attempt.seen
        attempt.options.clear()

    def sending(self, snapshot: Snapshot, fields: Mapping[str, Any], token: Token) -> Write:
        """A write is decided and on its way: judge it."""
        key, world = snapshot.key, self._world
        attempt = self._attempts[key]
        seen = self._server.versions.get((key, token))
        world.expect(seen is not None, f"{key}: written with a token that the server never gave: {token}")
        world.expect(
            (world.here().number, key, token) not in self._stale,
            f"{key}: written again with the token that was refused: {token}",
        )
        world.expect(attempt.planned is not None and attempt.durable, f"{key}: sent before its intent was stored")
        assert seen is not None
        assert attempt.planned is not None
        world.expect(not attempt.paused, f"{key}: written while it is paused")
        told = f"{key}: meant to write {attempt.planned.fields} at {attempt.planned.token}, sent {fields} at {token}"
        world.expect((attempt.planned.token, attempt.planned.fields) == (token, dict(fields)), told)
        attempt.seen, attempt.write = seen, attempt.planned
        attempt.options.clear()
        for name, value in fields.items():
            claims = self._claims(attempt, name)
            world.expect(claims is not None, f"{key}: `{name}` is written, but no one manages it")
            world.expect(name in FIELDS, f"{key}: `{name}` is written, a group of fields: {value!r}")
            if name in SCALARS and claims is not None and claims.whole is not None:
                wanted = comparing.sent(claims.whole.value, self._rule(attempt, name).normalise)
                world.expect(canonical(value) == canonical(wanted), f"{key}: `{name}` = {value!r}, not {wanted!r}")
        # Who has lost the document since its intent was stored, and does not know, sends it; the guard decides then.
        if attempt.after_ends == self._ends[key]:
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
            self._stale.add((self._world.here().number, write.key, write.token))
        if isinstance(answer, Refused):
            for name in [*answer.fields] or [*write.fields]:
                self._excuse(attempt, name)

    def settling(self, settlement: Settlement) -> None:
        """The end of an attempt may become durable now."""
        attempt = self._attempts[settlement.key]
        attempt.settles = settlement.status in (Status.SYNCED, Status.HELD)
        attempt.collects = settlement.status is Status.COLLECTING
        known = settlement.agreement.snapshot
        if attempt.collects and attempt.seen is None and known is not None and known.token is not None:
            attempt.seen = self._server.versions[attempt.key, known.token]  # decided on what was read before
        if not attempt.row.managed() and attempt.settles:
            for write in self._open(attempt.key):
                write.released = True
        attempt.after = self._after(attempt)
        if settlement.status is Status.SYNCED and self._agrees(attempt):
            held = self._must_be_held(attempt)
            self._world.expect(not held, f"{settlement.key}: said to be in sync, but a person has to decide {held}")
        for part, possible in attempt.after.items():
            if possible == {None}:
                self._forget(attempt.key, part[0])
            self._of(attempt.key, part).update(possible)
        for outcome in settlement.outcomes:
            now = {part: set(attempt.after.get(part, self._of(attempt.key, part))) for part in self._parts}
            self._at_outcome[outcome.value or b""] = now

    def settled(self, settlement: Settlement) -> None:
        attempt = self._attempts[settlement.key]
        self._ends[settlement.key] += 1
        self.bystander.remembers(settlement.key)
        if attempt.write is not None:  # before this was stored, a crash would have left it in doubt
            lost = isinstance(attempt.answer, Unknown) or getattr(attempt.answer, "status", 0) == 503
            attempt.write.answered = not lost
        elif attempt.planned is not None and not isinstance(attempt.answer, Unknown | None):
            attempt.planned.answered = True
        if attempt.planned is None:
            self._seems_agreed(attempt)
        for part, possible in attempt.after.items():
            self._possible[attempt.key, part] = set(possible)
            if self._agrees(attempt):
                self.bystander.agrees(settlement.key, part, [one.value for one in possible if one is not None])
        if attempt.seen is not None and (attempt.write is None or self._agrees(attempt)):
            for write in self._open(attempt.key):
                seen = write.accepted is not None and write.accepted.number <= attempt.seen.number
                write.known = seen or write is attempt.write

    def _seems_agreed(self, attempt: Attempt) -> None:
        """Whoever repeats the very value of a write in doubt passes for us: that is what both sides agree on then."""
        seen = attempt.seen
        if seen is None:
            return
        for write in self._open(attempt.key):
            came = write.accepted is not None and write.accepted.number <= seen.number
            if write is attempt.planned or write.answered or came:
                continue
            for part in (part for part in self._parts if part[0] in write.fields):
                value = self._value(write.fields, part)
                if canonical(self._value(seen.fields, part)) == canonical(value):
                    self.bystander.agrees(attempt.key, part, [value])

    # ------------------------------------------------------------------------------------------------------ judgement

    def _judge(self, attempt: Attempt, fields: Mapping[str, Any]) -> None:
        """Each part must be written, or left alone, by what can have been agreed on it."""
        seen = attempt.seen
        assert seen is not None
        for part in self._parts:
            name = part[0]
            claims = self._claims(attempt, name)
            if claims is None or self.is_unseen(name):
                continue
            options = self._options(attempt, part, claims)
            verbs = sorted({option.verb for option in options})
            live = self._value(seen.fields, part)
            element = f" element {part[1]} of {seen.fields[name]}" if part[1] else ""
            told = f"{attempt.key}: `{name}`{element} is {live!r}, wanted {claims}; {options}"
            written = name in fields and canonical(self._value(fields, part)) != canonical(live)
            if written:
                self._world.expect(oracle.WRITE in verbs, f"written against the policy: {told}")
                if part[1]:
                    asked = {option.wanted for option in options if option.verb == oracle.WRITE}
                    self._world.expect(live not in asked, f"the opposite of the claim: {told}")
            elif verbs == [oracle.WRITE] and not self._is_excused(attempt, name, claims):
                self._world.expect(False, f"not written: {told}")

    def _must_be_held(self, attempt: Attempt) -> list[str]:
        """The fields that wait for a person, whatever was agreed."""
        found = []
        for part in self._parts:
            claims = self._claims(attempt, part[0])
            if claims is not None and not self.is_unseen(part[0]):
                verbs = {option.verb for option in self._options(attempt, part, claims)}
                found += [part[0]] if verbs == {oracle.HOLD} else []
        return found

    def _options(self, attempt: Attempt, part: Part, claims: Claims) -> list[Option]:
        """What may be decided about a part, with what it rests on."""
        cached = attempt.options.get(part)
        if cached is None:
            agreements = sorted(self._agreements(attempt, part), key=repr)
            cached = [option for agreed in agreements for option in self._decided(attempt, part, claims, agreed)]
            attempt.options[part] = cached = list(dict.fromkeys(cached))
        return cached

    def _decided(self, attempt: Attempt, part: Part, claims: Claims, agreed: Agreed | None) -> list[Option]:
        found = []
        for modified_us in self._modified_us(attempt):
            options = self._verbs(attempt, part, claims, agreed, modified_us)
            if agreed is None and part[1] and oracle.HOLD in self._verbs_of_all(attempt, claims, modified_us):
                # Without a base half a decision could not be told from an agreement later.
                options = [attrs.evolve(o, verb=oracle.HOLD) if o.verb != oracle.LEAVE else o for o in options]
            found += options
        return found

    def _verbs_of_all(self, attempt: Attempt, claims: Claims, modified_us: int) -> set[str]:
        parts = [part for part in self._parts if part[1]]
        return {o.verb for part in parts for o in self._verbs(attempt, part, claims, None, modified_us)}

    def _verbs(
        self, attempt: Attempt, part: Part, claims: Claims, agreed: Agreed | None, modified_us: int
    ) -> list[Option]:
        seen, rule = attempt.seen, self._rule(attempt, part[0])
        assert seen is not None
        live, whole, steps = self._value(seen.fields, part), claims.whole, rule.normalise
        if not part[1]:
            question = oracle.asked(rule, claims, live, modified_us)
            return [Option(agreed, oracle.verb(question, agreed), question.rank, question.wanted)]
        expected = whole is not None and any(comparing.alike(seen.fields[part[0]], v, steps) for v in whole.expect)
        options = []
        for claim in oracle.claims_on(claims, part[1], agreed, steps, live=live):
            if claim is None:
                options.append(Option(agreed, oracle.LEAVE, None, None))
                continue
            rank, wanted = claim
            later = oracle.is_later(rank[0], modified_us)
            question = oracle.Question(rule, wanted, rank, live, expected, later, element=True)
            options.append(Option(agreed, oracle.verb(question, agreed), rank, wanted))
        return options

    def _agreements(self, attempt: Attempt, part: Part) -> Possible:
        """What can have been agreed, seen from a version that may show writes of ours whose replies were lost."""
        seen, name = attempt.seen, part[0]
        assert seen is not None
        possible = set(self._of(attempt.key, part))
        touch = None if part[1] else seen.touched.get(part)
        for write in self._open(attempt.key):
            if name not in write.fields:
                continue
            ours = Agreed(self._value(write.fields, part), write.stamps.get(part))
            shown = canonical(seen.fields[name]) == canonical(write.fields[name])
            shown |= bool(part[1]) and self._value(seen.fields, part) == ours.value
            if write.accepted is not None and write.accepted.number <= seen.number:
                last = touch is not None and touch.write == write.number
                if last and shown and name not in write.forgotten:
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
            before = self._server.versions[attempt.key, write.token]
            if not write.answered and canonical({**before.fields, **write.fields}) == canonical(seen.fields):
                times |= {before.at_us, before.others_at_us}  # just what it would have left, whoever it was
        # A write that was answered without a token is known by what it left; an edit that changes nothing is not seen.
        ours = [one.accepted for one in self.writes if one.key == attempt.key and one.accepted is not None]
        if ours and canonical(ours[-1].fields) == canonical(seen.fields):
            times.add(ours[-1].others_at_us)
        return sorted({self._server.shown_us(at_us) for at_us in times})

    def _after(self, attempt: Attempt) -> dict[Part, Possible]:
        """What is agreed once the attempt is settled."""
        key, seen = attempt.key, attempt.seen
        if not attempt.row.managed():
            return {part: {None} for part in self._parts} if attempt.settles else {}
        if seen is None:
            return {}
        agrees = self._agrees(attempt)
        if attempt.write is None and agrees:
            self._judge(attempt, {})
        after: dict[Part, Possible] = {}
        for part in self._parts:
            claims = self._claims(attempt, part[0])
            if claims is None:
                after[part] = {None}
            elif agrees:
                after[part] = self._agreed(attempt, part, claims)
            elif attempt.write is None:  # it may only have found out what became of earlier writes
                after[part] = self._agreements(attempt, part) | self._adopted_to_write(attempt, part, claims)
            else:
                after[part] = self._of(key, part) | self._adopted(attempt, part, seen)
        return after

    def _adopted(self, attempt: Attempt, part: Part, seen: Version) -> Possible:
        """What a base may hold that was taken at first sight, before anything was sent."""
        if None not in self._of(attempt.key, part):
            return set()
        ranks = {None, self._rank(attempt, part)} if part[1] else {None}
        return {Agreed(self._value(seen.fields, part), rank) for rank in ranks}

    def _adopted_to_write(self, attempt: Attempt, part: Part, claims: Claims) -> Possible:
        """What was adopted by a decision whose write waits, and under which a field is still to be written."""
        assert attempt.seen is not None
        found = self._adopted(attempt, part, attempt.seen)
        if part[1]:  # a list is adopted as a whole
            return found
        return {one for one in found if oracle.WRITE in {o.verb for o in self._decided(attempt, part, claims, one)}}

    def _agreed(self, attempt: Attempt, part: Part, claims: Claims) -> Possible:
        seen, write, name = attempt.seen, attempt.write, part[0]
        assert seen is not None
        written = write is not None and name in write.fields
        if written and not part[1]:
            return self._agreed_by_write(attempt, name, claims)
        now = seen.fields if not written or write is None or write.accepted is None else write.accepted.fields
        live = self._value(now, part)
        after: Possible = set()
        for option in self._options(attempt, part, claims):
            if option.verb != oracle.HOLD and (option.verb != oracle.WRITE or written):
                after.add(Agreed(live, option.rank))
            if option.verb == oracle.HOLD or self._is_excused(attempt, name, claims):
                after.add(option.agreed)
            if option.verb == oracle.LEAVE and not written and self._may_be_held(attempt, claims):
                after.add(
                    option.agreed
                )  # where nothing is written, held elements keep from agreeing what no one asks for
        if self.is_unseen(name):
            wanted = claims.whole and claims.whole.value
            after |= {Agreed(value, claims.newest) for value in (seen.fields[name], wanted)}
        return after

    def _agreed_by_write(self, attempt: Attempt, name: str, claims: Claims) -> Possible:
        write, rank = attempt.write, claims.newest
        assert write is not None
        meant, stored = write.fields[name], write.fields[name]
        if write.accepted is not None:
            stored = write.accepted.fields[name]
        if not comparing.alike(stored, meant, self._rule(attempt, name).normalise):
            self._excused.add((attempt.key, name, naive.event_of(rank), canonical(stored)))
            asked = [meant] if claims.whole is None else [meant, claims.whole.value]  # sent, and said
            self._contested.setdefault((attempt.key, name), []).extend(asked)
            return {Agreed(stored, None), Agreed(stored, rank), Agreed(meant, rank)}  # it was not carried out
        return {Agreed(stored, rank), Agreed(meant, rank)}

    def _may_be_held(self, attempt: Attempt, claims: Claims) -> bool:
        parts = [part for part in self._parts if part[1]]
        return any(option.verb == oracle.HOLD for part in parts for option in self._options(attempt, part, claims))

    # ------------------------------------------------------------------------------------------------------ small print

    def _agrees(self, attempt: Attempt) -> bool:
        """Whether the attempt ends with both sides agreed on what it decided; what stays due is not done yet."""
        if attempt.seen is None:
            return False
        return attempt.settles if attempt.write is None else isinstance(attempt.answer, Written)

    def _of(self, key: str, part: Part) -> Possible:
        return self._possible.setdefault((key, part), {None})

    def _rule(self, attempt: Attempt, name: str) -> Any:
        policy = attempt.policy or self._world.here().policy
        rule = oracle.rule_of(policy, name, self._server.type_of(attempt.key))
        self._steps.setdefault(name, set()).add(rule.normalise)
        return rule

    def _claims(self, attempt: Attempt, name: str) -> Claims | None:
        claims = attempt.row.managed().get(name)
        return None if claims is None or self._rule(attempt, name).strategy is Strategy.IGNORE else claims

    def is_unseen(self, name: str) -> bool:
        """Whether the program may believe that the server stored what it was sent, and can't be judged by more."""
        return name == self._world.options.alters and self._world.options.shows == "token"

    def _value(self, fields: Mapping[str, Any], part: Part) -> Any:
        """The value of a part: a field's, or whether an element is there."""
        name, text = part
        return text in oracle.texts(fields[name], self._world.options.word_steps) if text else fields[name]

    def _rank(self, attempt: Attempt, part: Part) -> Rank | None:
        """The claim on a part that a write carries out, if one does."""
        claims = attempt.row.fields.get(part[0])
        if claims is None or not part[1]:
            return None if claims is None else claims.newest
        (claim, *_) = oracle.claims_on(claims, part[1], None, self._world.options.word_steps, live=False)
        if claim is not None:
            return claim[0]
        return None if claims.whole is None else claims.whole.rank

    def _forget(self, key: str, name: str) -> None:
        """A field is not managed any more: that an earlier write of it was ours may be forgotten too."""
        for write in self.writes:
            if write.key == key:
                write.forgotten.add(name)

    def _excuse(self, attempt: Attempt, name: str) -> None:
        claims = self._claims(attempt, name)
        if claims is not None and attempt.seen is not None:
            self._excused.add((attempt.key, name, naive.event_of(claims.newest), canonical(attempt.seen.fields[name])))

    def _seeming(self, key: str, name: str, steps: Any) -> list[tuple[Any, Any]]:
        """Values before and after of writes that were not applied, though a read after a lost answer says so."""
        versions = [version.fields[name] for (at, _), version in self._server.versions.items() if at == key]
        return [
            (self._server.versions[key, write.token].fields[name], write.fields[name])
            for write in self.writes
            if write.key == key and write.accepted is None and not write.answered and name in write.fields
            if any(comparing.alike(value, write.fields[name], steps) for value in versions)
        ]

    def _is_excused(self, attempt: Attempt, name: str, claims: Claims) -> bool:
        assert attempt.seen is not None
        key, steps = attempt.key, self._rule(attempt, name).normalise
        contested = self._contested.get((key, name), ())
        if claims.whole is not None and any(comparing.alike(claims.whole.value, value, steps) for value in contested):
            return True  # also where another event spells it in another way
        # A write was counted by the rules of its day.
        if any(
            self.bystander.may_be_contested(key, name, one, self._seeming(key, name, one)) for one in self._steps[name]
        ):
            return True
        group = attempt.row.fields.get(GROUP)
        if group is not None and group.managed and name.startswith(f"{GROUP}."):
            return True  # one of the two has to be released first
        return (attempt.key, name, naive.event_of(claims.newest), canonical(attempt.seen.fields[name])) in self._excused


def _last_of(told: Iterable[bytes]) -> dict[str, bytes]:
    """The last outcome of each document."""
    last: dict[str, tuple[Told, bytes]] = {}
    for value in told:
        one = outcomes.told(value)
        if one is not None and (one.key not in last or last[one.key][0].number <= one.number):
            last[one.key] = one, value
    return {key: value for key, (_, value) in last.items()}


def _key_of(value: bytes) -> str | None:
    """The document that an outcome tells the base of."""
    told = outcomes.told(value)
    return None if told is None else told.key
