"""
A document that users edit and a reconciler writes, with an honest model of who wrote what last.

The model never looks at bases, stamps agreed or decisions: it keeps what a bystander sees. The promises of every
strategy are stated in these words, so that a mistake in the decision table and its code can't hide behind each other.
"""

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reconciler.core.folding import fold
from reconciler.core.planning import plan
from reconciler.model import instant
from reconciler.model.base import NO_BASE
from reconciler.model.desired import NOTHING_DESIRED
from reconciler.model.event import Event
from reconciler.model.plan import Held, InSync, Patch, Verb
from reconciler.model.policy import Adopt, ListMode, Normaliser, Policy, Rule, Strategy
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.stamp import Stamp
from reconciler.model.value import MISSING, canonical
from tests.core.strategies import CONTRADICTORY, KEY, body

START_US = 1_795_341_600_000_000
SCALARS = ("status", "owner", "attributes.Note")
KEYWORDS = "attributes.Keywords"
BLANK = ('""', "[]", "null")
STEP_US = 400_000  # between two things that happen: some are in one second, which is all that many servers show

texts = st.sampled_from(["a", "b", "c", "", None, 1, True]) | st.sampled_from([" a", "A", "1", "1.0", "é", "e\u0301"])
words = st.sampled_from(["a", "b", "c", "é"])
any_rules = st.builds(
    Rule,
    fields=st.just(("*",)),
    strategy=st.sampled_from(Strategy),
    on_overlap=st.sampled_from([Strategy.HOLD, Strategy.EXTERNAL, Strategy.PRESERVE, Strategy.NEWEST]),
    on_adopt=st.sampled_from([None, None, *Adopt]),
    normalise=st.sampled_from([(), (), *[(step,) for step in Normaliser], (Normaliser.TRIM, Normaliser.BLANK)]),
).filter(lambda rule: (rule.strategy, rule.on_adopt) not in CONTRADICTORY)


@attrs.define
class Seen:
    """What a bystander knows of one field since the reconciler last settled it."""

    value: str  # canonical text of the live value at that time
    new_claim: bool = False


class World(RuleBasedStateMachine):
    """
    One document, one rule for its scalars, and any order of events, edits, reads, attempts and accidents.

    There is another rule for documents of another type, which has no say. `exact` says whether the server shows when a
    document was modified to the microsecond; others show the second.
    """

    @initialize(
        rule=any_rules,
        other=any_rules,
        seed=st.dictionaries(st.sampled_from(SCALARS), texts, max_size=3),
        exact=st.booleans(),
    )
    def begin(self, rule: Rule, other: Rule, seed: dict, exact: bool) -> None:
        self.rule = rule
        keywords, drawings = Rule((KEYWORDS,), Strategy.MERGE, list=ListMode.SET), attrs.evolve(other, types=("Draw*",))
        self.policy = Policy((keywords, drawings, rule))
        self.exact = exact
        self.said: list[Event] = []
        self.now = 100
        self.offset = 0
        self.version = 0
        self.fields = {**seed, "title": "unmanaged"}
        self.modified = self.edited = self.now  # by anyone; by users
        self.desired, self.base = NOTHING_DESIRED, NO_BASE
        self.seen: dict[str, Seen] = {}
        self.ever_named: set[str] = set()
        self.cleared = False
        self.stale: Snapshot | None = None

    def at(self, second: int) -> str:
        return instant.from_us(START_US + second * STEP_US)

    def snapshot(self) -> Snapshot:
        modified = self.at(self.modified)
        if not self.exact:
            modified = f"{modified.partition('.')[0]}.000000Z"
        return Snapshot(KEY, body(self.fields), Token(f'"{self.version}"'), modified, type="Part")

    # ---------------------------------------------------------------------------------------------- what others do

    @rule(name=st.sampled_from(SCALARS), value=texts)
    def a_user_edits(self, name: str, value: object) -> None:
        self.edit({**self.fields, name: value})

    @rule(title=texts)
    def a_user_edits_an_unmanaged_field(self, title: object) -> None:
        self.edit({**self.fields, "title": title})

    @rule(present=st.sets(words | st.sampled_from(["mine", "yours"])))
    def a_user_edits_the_keywords(self, present: set) -> None:
        self.edit({**self.fields, KEYWORDS: sorted(present)})

    def edit(self, fields: dict) -> None:
        self.fields = fields
        self.version += 1
        self.now += 1
        self.modified = self.edited = self.now

    @rule(name=st.sampled_from(SCALARS), value=texts, age=st.sampled_from([0, 0, 0, 3]), knowing=st.booleans())
    def an_event_sets(self, name: str, value: object, age: int, knowing: bool) -> None:
        expect = {name: self.fields.get(name)} if knowing else {}
        self.emit(age, set={name: value}, expect=expect)

    @rule(names=st.sets(words, min_size=1), present=st.booleans())
    def an_event_adds_or_removes(self, names: set, present: bool) -> None:
        self.ever_named |= names
        self.emit(0, elements={KEYWORDS: {canonical(name): present for name in names}})

    @rule(value=st.none() | st.lists(words, unique=True))
    def an_event_sets_the_keywords(self, value: list | None) -> None:
        self.ever_named |= set(value or [])
        self.cleared = self.cleared or value is None
        self.emit(0, set={KEYWORDS: value})

    @rule(name=st.sampled_from([*SCALARS, KEYWORDS]))
    def an_event_releases(self, name: str) -> None:
        self.emit(0, release=(name,))

    @rule()
    def an_event_releases_the_document(self) -> None:
        self.emit(0, released=True)

    @precondition(lambda self: self.said)
    @rule(which=st.integers(0), topic=st.sampled_from(["changes", "mirrored"]))
    def an_event_comes_again(self, which: int, topic: str) -> None:
        """A producer's retry, a mirrored topic, a replayed letter: another record, and yet the same event."""
        self.offset += 1
        event = self.said[which % len(self.said)]
        copy = event._replace(topic=topic, offset=self.offset)
        before = self.desired
        self.desired = fold.step(self.desired, copy)
        assert self.desired == before, "a copy at a later place changes nothing"

    def emit(self, age: int, **content) -> None:
        self.now += 1
        self.offset += 1
        stamp = Stamp("", self.at(self.now - age), "", "changes", 0, self.offset, "//erp", str(self.offset))
        before = fold.managed(self.desired)
        self.said.append(Event.of(KEY, stamp, **content))
        self.desired = fold.step(self.desired, self.said[-1])
        for name, field in fold.managed(self.desired).items():
            if name in self.seen and before.get(name) != field:
                self.seen[name].new_claim = True

    # ------------------------------------------------------------------------------------------------ what we do

    @rule()
    def we_read_for_later(self) -> None:
        self.stale = self.snapshot()

    @precondition(lambda self: self.stale is not None)
    @rule()
    def an_attempt_on_an_old_read_meets_a_version_conflict_or_writes(self) -> None:
        assert self.stale is not None
        read, self.stale = self.stale, None
        if read.token == self.snapshot().token:
            self.attempt()
            return
        drafted = self.draft(read)
        if isinstance(drafted, Patch):  # the guard failed: only what was adopted is kept
            self.base = drafted.base
            self.forget_released_fields()
            for decision in drafted.decisions:
                if decision.verb is Verb.WRITE and decision.field not in self.seen:
                    self.seen[decision.field] = Seen(self.text(decision.live), new_claim=True)

    @rule()
    def the_base_is_lost(self) -> None:
        self.base = NO_BASE
        self.seen.clear()

    @rule(shown=st.booleans())
    def attempt(self, shown: bool = True) -> None:
        """Read, decide, write, with no one in between. `shown` says whether the answer carries the token."""
        before = self.snapshot()
        drafted = self.draft(before)
        after = before
        if isinstance(drafted, Patch):
            for decision in drafted.decisions:
                if decision.verb is Verb.WRITE:
                    self.check_promise(decision.field)
            self.check_keywords(drafted)
            self.fields |= drafted.fields
            self.version += 1
            self.now += 1
            self.modified = self.now
            after = before.with_fields(drafted.fields, self.snapshot().token if shown else None)
        self.base = plan.agree(drafted, before, after, self.policy)
        self.base = plan.own_write_recognised(self.base, after, self.snapshot())
        self.forget_released_fields()
        for decision in drafted.decisions:
            if decision.verb is not Verb.HOLD:
                self.seen[decision.field] = Seen(self.text(self.fields.get(decision.field)))
        self.check_settled()

    def forget_released_fields(self) -> None:
        """
        An attempt has seen which fields are released: the next claim on one of them is a first sight.

        Released and claimed again between two attempts is one move: what was seen before it still counts.
        """
        managed = fold.managed(self.desired)
        self.seen = {name: seen for name, seen in self.seen.items() if name in managed}

    def draft(self, snapshot: Snapshot) -> InSync | Held | Patch:
        drafted = plan.draft(self.desired, self.base, snapshot, self.policy)
        names = [decision.field for decision in drafted.decisions]
        ignored = self.rule.strategy is Strategy.IGNORE
        managed = [name for name in sorted(fold.managed(self.desired)) if not ignored or name == KEYWORDS]
        assert names == managed, "one decision per managed field, sorted"
        assert not isinstance(drafted, Patch) or drafted.fields.keys() <= set(managed)
        return drafted

    # ------------------------------------------------------------------------------------------- what is promised

    def text(self, value: object) -> str:
        """What a value counts as under the rule, said in the model's own words."""
        steps = self.rule.normalise
        value = None if value is MISSING else value
        if isinstance(value, str) and Normaliser.TRIM in steps:
            value = value.strip(" ")
        if value == "" and Normaliser.BLANK in steps:
            value = None
        if Normaliser.NUMBER in steps and value in ("1", "1.0", 1) and value is not True:
            value = "one"
        if isinstance(value, str) and Normaliser.CASE in steps:
            value = value.lower()
        return canonical(value)

    def check_promise(self, name: str) -> None:
        """A scalar is about to be overwritten: may it be?"""
        if name == KEYWORDS:
            return
        strategy, on_overlap = self.rule.strategy, self.rule.on_overlap
        live = self.text(self.fields.get(name))
        register = self.desired.fields[name].register
        assert register is not None
        assert strategy is not Strategy.IGNORE
        if strategy is Strategy.EXTERNAL:
            return
        if strategy is Strategy.FILL:
            assert live in BLANK, "fill writes only where nothing is"
            return
        knowing = any(self.text(value) == live for value in register.expect)
        seen = self.seen.get(name)
        later = register.stamp.time > self.at(self.edited)
        if seen is None:
            assert later or knowing or self.rule.on_adopt is Adopt.WRITE, (
                "on first sight no edit after the event is overwritten"
            )
            return
        assert seen.new_claim, "what a user left or was left with stands until a newer event"
        edited = seen.value != live and not knowing
        overlap = on_overlap if strategy is Strategy.MERGE else strategy
        if edited and overlap is Strategy.NEWEST:
            assert later, "the later one wins"
        elif edited:
            assert overlap is Strategy.EXTERNAL, "an edit made since both sides agreed is never overwritten"

    def check_keywords(self, drafted: Patch) -> None:
        """The keywords are about to be written: users keep the elements that no event ever named."""
        if KEYWORDS in drafted.fields and not self.cleared:
            written = drafted.fields[KEYWORDS]
            assert isinstance(written, list)
            own = [word for word in self.fields.get(KEYWORDS) or [] if word not in self.ever_named]
            assert [word for word in written if word not in self.ever_named] == own

    def check_settled(self) -> None:
        """Right after an attempt there is nothing left to write, and under `external` everything is as desired."""
        again = self.draft(self.snapshot())
        assert not isinstance(again, Patch), "planning twice writes twice"
        agreed = plan.agree(again, self.snapshot(), self.snapshot(), self.policy)
        values = {name: (one.value, one.stamp) for name, one in agreed.fields.items()}
        assert values == {name: (one.value, one.stamp) for name, one in self.base.fields.items()}
        if self.rule.strategy is Strategy.EXTERNAL and self.rule.on_adopt is not Adopt.HOLD:
            for name, field in fold.managed(self.desired).items():
                if name != KEYWORDS and field.register is not None:
                    assert self.text(self.fields.get(name)) == self.text(field.register.value)

    @invariant()
    def unmanaged_fields_are_the_users(self) -> None:
        drafted = plan.draft(self.desired, self.base, self.snapshot(), self.policy)
        assert "title" not in [decision.field for decision in drafted.decisions]
