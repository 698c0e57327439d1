"""Plan: what each strategy promises, whatever happens in whatever order (README.md, "Policy: who wins")."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from reconciler.core.folding import fold, normalise
from reconciler.core.planning import conflicts, elements, plan, reasons
from reconciler.model import codec
from reconciler.model.base import NO_BASE, Agreed, Base, RefusedField, Wrote
from reconciler.model.desired import NOTHING_DESIRED, Desired
from reconciler.model.document import Conflict
from reconciler.model.event import Event
from reconciler.model.plan import Decision, Held, InSync, Patch, Verb
from reconciler.model.policy import OPERATORS, ListMode, Normaliser, Policy, Rule, Strategy
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.stamp import Stamp
from reconciler.model.value import MISSING, Json, canonical
from tests.core import strategies, worlds
from tests.core.strategies import KEY

TestWorld = worlds.World.TestCase
TestWorld.settings = settings(stateful_step_count=30)

# --------------------------------------------------------------------------------- properties of one draft, on anything

desireds = st.lists(strategies.events(), min_size=1, max_size=4).map(lambda log: fold.steps(NOTHING_DESIRED, log))


@st.composite
def situations(draw: st.DrawFn) -> tuple[Desired, Base, Snapshot, Policy]:
    """Desired, base, live and policy as life can bring them together: the base comes from an earlier attempt."""
    desired, policy = draw(desireds), draw(strategies.policies)
    base = NO_BASE
    if draw(st.booleans()):
        earlier, before = draw(desireds), draw(strategies.snapshots)
        drafted = plan.draft(earlier, NO_BASE, before, policy)
        base = draw(st.sampled_from([drafted.base, applied(drafted, before, policy)[1]]))
        desired = fold.join(earlier, desired)
    live = draw(strategies.snapshots)
    hidden = draw(st.frozensets(strategies.field_names | st.just("attributes"), max_size=1))
    fixed = tuple(draw(st.sets(strategies.field_names | st.just("attributes"), max_size=1)))
    return desired, base, structs.replace(live, unreadable=hidden, read_only=fixed), policy


@st.composite
def lists(draw: st.DrawFn) -> tuple[Desired, Base, Snapshot, Policy]:
    """A list that is merged, seen four times while events and people change it, so that some elements are held."""
    names = st.sampled_from(["a", "b", "c"])
    listed: st.SearchStrategy[Json] = st.lists(names, unique=True)
    claims = st.dictionaries(names.map(canonical), st.booleans(), min_size=1)
    says = claims.map(lambda claims: {"elements": {"tags": claims}}) | (listed | st.none()).map(
        lambda value: {"set": {"tags": value}}
    )
    strategy = draw(st.sampled_from([Strategy.HOLD, Strategy.MERGE, Strategy.PRESERVE]))
    policy = Policy((Rule(("*",), strategy, list=ListMode.SET, name="policy[1]"),))
    seconds = draw(st.permutations(range(1, 5)))
    desired, base, live = NOTHING_DESIRED, NO_BASE, reading(modified_at=EARLY, tags=draw(listed))
    for second in seconds[:-1]:
        desired = fold.step(desired, event(second, **draw(says)))
        live, base = applied(plan.draft(desired, base, live, policy), live, policy)
        live = live.with_fields({"tags": draw(st.just(live.body["tags"]) | listed)}, Token('"other"'))
    return fold.step(desired, event(seconds[-1], **draw(says))), base, live, policy


def applied(drafted: InSync | Held | Patch, before: Snapshot, policy: Policy) -> tuple[Snapshot, Base]:
    """The document and the base after a server did just what it was asked."""
    after = before.with_fields(drafted.fields, Token('"new"')) if isinstance(drafted, Patch) else before
    return after, plan.agree(drafted, before, after, policy)


@given(situations() | lists())
def test_applying_a_plan_leaves_nothing_to_write(situation):
    desired, _, snapshot, policy = situation
    after, agreed = applied(plan.draft(*situation), snapshot, policy)
    again = plan.draft(desired, agreed, after, policy)
    assert not isinstance(again, Patch)
    _, unchanged = applied(again, after, policy)
    assert agreed_values(unchanged) == agreed_values(agreed)


def agreed_values(base: Base) -> bytes:
    return codec.encode({name: (agreed.value, agreed.stamp) for name, agreed in base.fields.items()})


@given(situations() | lists())
def test_held_fields_stay_held_and_as_they_were_until_something_moves(situation):
    desired, base, snapshot, policy = situation
    drafted = plan.draft(*situation)
    after, agreed = applied(drafted, snapshot, policy)
    held = {decision.field: decision for decision in drafted.decisions if decision.verb is Verb.HOLD}
    assert held.keys() <= {d.field for d in plan.draft(desired, agreed, after, policy).decisions if d.verb is Verb.HOLD}
    for name, decision in held.items():
        if not decision.held_elements or name not in base.fields or decision.base is MISSING:
            assert agreed.fields.get(name) == base.fields.get(name)
        if not any(other.startswith(f"{name}.") for other in getattr(drafted, "fields", ())):
            assert after.value(name) == snapshot.value(name)


@given(lists())
def test_a_list_that_is_held_agrees_on_each_element_that_is_decided_and_on_no_other(situation):
    _, base, snapshot, policy = situation
    drafted = plan.draft(*situation)
    _, agreed = applied(drafted, snapshot, policy)
    for decision in drafted.decisions:
        if decision.verb is Verb.HOLD and "tags" in base.fields:
            was, now = base.fields["tags"], agreed.fields["tags"]
            before, live, after = (elements.texts(value, ()) for value in (was.value, decision.live, now.value))
            decided = decision.elements.keys()
            assert after == before - decided | live & decided
            settled = was.elements
            if was.stamp is not None and not settled:  # agreed as a whole
                asked = before & elements.texts(decision.desired, ())
                settled = {text: was.stamp for text in decision.held_elements if text in asked}
            assert now[1:4] == (was.stamp, {**settled, **decision.elements}, was.digest)


@given(situations() | lists())
def test_where_nothing_is_sent_the_agreement_changes_nothing_of_what_waits(situation):
    """Conflicts keep their names; the second look finds nothing more to agree on, but may forget a count of writes."""
    desired, _, snapshot, policy = situation
    drafted = plan.draft(*situation)
    if not isinstance(drafted, Patch):
        _, agreed = applied(drafted, snapshot, policy)
        again = plan.draft(desired, agreed, snapshot, policy)
        assert waiting(again) == waiting(drafted)
        _, once_more = applied(again, snapshot, policy)
        for conflict, _ in waiting(drafted):
            first, second = (base.fields.get(conflict.field) for base in (agreed, once_more))
            assert first == second or (first and second and first[:4] == second[:4])


def waiting(drafted: InSync | Held | Patch) -> list[tuple[Conflict, Decision]]:
    """What waits, but for what a list agrees on beside its held elements."""
    found = [
        structs.replace(d, base=None, desired=None, elements={}, ours=True, reasons=()) if d.held_elements else d
        for d in drafted.decisions
        if waits(d)
    ]
    return [(conflicts.of(KEY, decision, 0), decision) for decision in found]


def waits(decision: Decision) -> bool:
    return decision.verb is Verb.HOLD or bool(decision.held_elements)


@given(situations())
def test_what_shows_the_wanted_value_is_kept_whatever_its_rule_says(situation):
    _, _, snapshot, policy = situation
    for decision in plan.draft(*situation).decisions:
        steps = steps_of(policy, decision.field, snapshot)
        undecided = decision.verb is Verb.HOLD and not decision.held_elements  # it is hidden, for one
        if decision.verb is not Verb.KEEP and not undecided:
            assert not plan._equal(decision, decision.live, decision.desired, steps)


@given(situations() | lists())
def test_held_elements_stay_held_while_others_of_their_list_are_written(situation):
    desired, _, snapshot, policy = situation
    drafted = plan.draft(*situation)
    after, agreed = applied(drafted, snapshot, policy)
    again = {decision.field: decision for decision in plan.draft(desired, agreed, after, policy).decisions}
    for decision in drafted.decisions:
        if decision.held_elements and decision.verb is not Verb.HOLD:
            assert again[decision.field].held_elements == decision.held_elements


@given(situations())
def test_deciding_again_on_what_was_adopted_gives_the_same_patch(situation):
    """A version conflict on another field must not change a decision: what was adopted is stored before sending."""
    desired, _, snapshot, policy = situation
    drafted = plan.draft(*situation)
    again = plan.draft(desired, drafted.base, snapshot, policy)
    assert [(d.field, d.verb) for d in again.decisions] == [(d.field, d.verb) for d in drafted.decisions]
    assert codec.encode(getattr(again, "fields", None)) == codec.encode(getattr(drafted, "fields", None))


@given(situations())
def test_the_plan_is_the_same_for_the_same_inputs_in_memory_or_stored(situation):
    desired, base, snapshot, policy = situation
    stored = codec.decode_desired(codec.encode_desired(desired)), msgspec.json.decode(codec.encode(base), type=Base)
    again = plan.draft(*stored, snapshot, codec.decode_policy(codec.encode(policy)))
    assert codec.encode(shown(again)) == codec.encode(shown(plan.draft(*situation)))


def shown(drafted: InSync | Held | Patch) -> list:
    """A plan without `MISSING`, which has no stored form."""
    rows = [[None if value is MISSING else value for value in structs.astuple(d)] for d in drafted.decisions]
    return [type(drafted).__name__, rows, drafted.base, getattr(drafted, "fields", None)]


@given(situations(), st.dictionaries(st.sampled_from(["title", "id", "number"]), strategies.values))
def test_unmanaged_fields_change_nothing(situation, strangers):
    desired, base, snapshot, policy = situation
    other = structs.replace(snapshot, body={**snapshot.body, **strangers})
    assert plan.draft(desired, base, other, policy) == plan.draft(*situation)


@given(situations())
def test_every_managed_field_has_one_decision_in_order_and_no_other_field_is_written(situation):
    desired, _, snapshot, policy = situation
    drafted = plan.draft(*situation)
    managed = {n for n in fold.managed(desired) if policy.rule(n, snapshot.type).strategy is not Strategy.IGNORE}
    names = [decision.field for decision in drafted.decisions]
    assert names == sorted(set(names))
    assert managed <= set(names)
    for (
        decision
    ) in drafted.decisions:  # besides these there are groups that were released although fields of them are not
        assert decision.field in managed or decision.verb is Verb.HOLD
    if isinstance(drafted, Patch):
        writes = [decision.field for decision in drafted.decisions if decision.verb is Verb.WRITE]
        assert list(drafted.fields) == writes != []


def steps_of(policy: Policy, name: str, snapshot: Snapshot) -> tuple[Normaliser, ...]:
    return policy.rule(name, snapshot.type).normalise + snapshot.type_normalisers.get(name, ())


@given(situations())
def test_what_is_written_is_what_is_desired_and_not_what_is_there(situation):
    _, _, snapshot, policy = situation
    for decision in plan.draft(*situation).decisions:
        if decision.verb is Verb.WRITE:
            steps = steps_of(policy, decision.field, snapshot)
            equal = elements.equal if decision.elements else normalise.equal
            assert not equal(decision.target, snapshot.value(decision.field), steps)
            assert decision.elements or equal(decision.target, decision.desired, steps)
        else:
            assert decision.target is MISSING


def overlap(one: str, other: str) -> bool:
    """Whether one of two dotted names is the other, or a group around it."""
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


@given(situations())
def test_a_hidden_value_is_never_compared_nor_written(situation):
    _, base, snapshot, policy = situation
    drafted = plan.draft(*situation)
    _, agreed = applied(drafted, snapshot, policy)
    for decision in drafted.decisions:
        if any(overlap(decision.field, hidden) for hidden in snapshot.unreadable):
            assert decision.verb is Verb.HOLD
            assert agreed.fields.get(decision.field) == base.fields.get(decision.field)


@given(situations())
def test_a_base_known_by_its_digests_never_writes_more_and_is_as_good_where_nothing_has_moved(situation):
    desired, base, snapshot, policy = situation
    forgotten = {
        name: agreed._replace(value=None, digest=codec.digest(agreed.value)) for name, agreed in base.fields.items()
    }
    drafted = plan.draft(*situation)
    vague = plan.draft(desired, structs.replace(base, fields=forgotten), snapshot, policy)
    known = {decision.field: decision for decision in drafted.decisions}
    for decision in vague.decisions:
        agreed, live = base.fields.get(decision.field), snapshot.value(decision.field)
        if agreed is None or canonical(agreed.value) == canonical(None if live is MISSING else live):
            assert decision == known[decision.field]
        elif decision.verb is Verb.WRITE:
            assert known[decision.field].verb is Verb.WRITE


@given(situations())
def test_what_is_identity_or_the_servers_own_is_never_written(situation):
    snapshot = situation[2]
    for decision in plan.draft(*situation).decisions:
        if {decision.field, decision.field.partition(".")[0]} & {*snapshot.read_only}:
            assert decision.verb in (Verb.KEEP, Verb.HOLD)


@given(situations())
def test_under_set_no_unnamed_element_is_removed(situation):
    desired, _, snapshot, policy = situation
    drafted = plan.draft(*situation)
    for name, value in getattr(drafted, "fields", {}).items():
        field, rule = desired.fields[name], policy.rule(name, snapshot.type)
        steps = steps_of(policy, name, snapshot)
        register = field.register if field.register is not None and field.register.managed else None
        if (register is not None and rule.list is not ListMode.SET) or not isinstance(snapshot.value(name), list):
            continue
        if register is not None and register.value is None:
            continue
        base = drafted.base.fields[name]
        named = set(field.elements) | set(base.elements)
        named |= {elements._text(one, ()) for one in elements.listed(register.value if register else None)}
        named = {elements._text(elements.msgspec.json.decode(text), steps) for text in named} | named
        for element in snapshot.value(name):
            if elements._text(element, steps) not in named:
                assert element in elements.listed(value)


# ------------------------------------------------------------------------- examples that were wrong once, or easily are

EARLY, LATE = "2026-11-22T09:00:00.000000Z", "2026-11-22T11:00:00.000000Z"


def event(second: int, **content) -> Event:
    stamp = Stamp("", f"2026-11-22T10:00:{second:02}.000000Z", "", "changes", 0, second, "//erp", str(second))
    return Event.of(KEY, stamp, **content)


def wanting(*events: Event) -> Desired:
    return fold.steps(NOTHING_DESIRED, events)


def reading(token: str = '"v1"', modified_at: str | None = EARLY, **fields) -> Snapshot:
    return Snapshot(KEY, fields, Token(token), modified_at)


def under(strategy: str = "merge", **rule) -> Policy:
    return Policy((Rule(("*",), Strategy(strategy), name="policy[1]", **rule),))


def verbs(drafted: InSync | Held | Patch) -> dict[str, str]:
    return {decision.field: decision.verb for decision in drafted.decisions}


def written(desired: Desired, base: Base, before: Snapshot, after: Snapshot, policy: Policy) -> Base:
    drafted = plan.draft(desired, base, before, policy)
    assert isinstance(drafted, Patch)
    return plan.agree(drafted, before, after, policy)


@pytest.mark.parametrize("strategy", [one for one in Strategy if one is not Strategy.IGNORE])
def test_a_value_that_the_server_alters_is_held_and_not_written_again(strategy):
    desired, policy = wanting(event(1, set={"owner": "jdoe"})), under(strategy)
    base = written(desired, NO_BASE, reading(owner=None), reading(owner="JDOE"), policy)
    again = plan.draft(desired, base, reading(owner="JDOE"), policy)
    assert isinstance(again, Held)
    assert "another value" in reasons.text(again.decisions[0].reasons)


def test_a_list_that_the_server_sorts_is_the_list_that_was_written():
    desired, policy = wanting(event(1, set={"tags": ["b", "a"]})), under(list=ListMode.SET)
    base = written(desired, NO_BASE, reading(tags=[]), reading(tags=["a", "b"]), policy)
    assert base.refused == {}
    assert isinstance(plan.draft(desired, base, reading(tags=["a", "b"]), policy), InSync)


def test_a_refused_field_is_held_until_either_side_moves_and_the_rest_goes_out():
    desired, policy = wanting(event(1, set={"owner": "nobody", "status": "A"})), under("external")
    drafted = plan.draft(desired, NO_BASE, reading(owner="x", status="B"), policy)
    assert isinstance(drafted, Patch)
    base = plan.refuse(drafted.base, drafted, iter(["owner", "id", "modifiedBy"]), "no such user")
    assert set(base.refused) == {"owner"}
    assert verbs(plan.draft(desired, base, reading(owner="x", status="B"), policy)) == {
        "owner": "hold",
        "status": "write",
    }
    assert verbs(plan.draft(desired, base, reading(owner="y", status="B"), policy))["owner"] == "write"
    newer = fold.step(desired, event(2, set={"owner": "someone"}))
    assert verbs(plan.draft(newer, base, reading(owner="x", status="B"), policy))["owner"] == "write"


def test_every_named_field_of_a_patch_is_refused():
    desired = wanting(event(1, set={"owner": "x", "status": "A"}))
    drafted = plan.draft(desired, NO_BASE, reading(), under("external"))
    assert isinstance(drafted, Patch)
    assert set(plan.refuse(drafted.base, drafted, iter(["status", "owner"]), "no").refused) == {"owner", "status"}


def test_a_yielded_element_stays_yielded_after_a_version_conflict_on_first_sight():
    early = event(1, elements={"tags": {'"early"': True}})
    early = early._replace(time="2026-11-22T08:00:00.000000Z")
    desired = wanting(early, event(2, elements={"tags": {'"late"': True}}))
    first = plan.draft(desired, NO_BASE, reading(tags=[]), under())
    second = plan.draft(desired, first.base, reading('"v2"', LATE, tags=[]), under())
    assert isinstance(first, Patch)
    assert isinstance(second, Patch)
    assert first.fields == second.fields == {"tags": ["late"]}


def test_fill_takes_white_space_for_blank_where_the_rule_trims_it():
    desired = wanting(event(1, set={"note": "text"}))
    trimmed = under("fill", normalise=(Normaliser.TRIM,))
    assert isinstance(plan.draft(desired, NO_BASE, reading(note="  "), trimmed), Patch)
    assert isinstance(plan.draft(desired, NO_BASE, reading(note="  "), under("fill")), InSync)


def test_a_number_from_hell_ends_no_decision():
    desired = wanting(event(1, set={"note": "1e1000000"}))
    drafted = plan.draft(desired, NO_BASE, reading(note="1"), under(normalise=(Normaliser.NUMBER,)))
    assert isinstance(drafted, Patch)


def test_claims_on_groups_of_fields_are_held_and_the_fields_below_go_out():
    desired = wanting(event(1, set={"a": None}), event(2, set={"a.b": None}), event(3, set={"a.b.c": 1}))
    drafted = plan.draft(desired, NO_BASE, reading(), under())
    assert [decision.reasons[0].about for decision in drafted.decisions if decision.verb is Verb.HOLD] == [
        "a.b",
        "a.b.c",
    ]
    assert isinstance(drafted, Patch)
    assert drafted.fields == {"a.b.c": 1}


@pytest.mark.parametrize(
    "said",
    [
        {"set": {"attributes": None}},
        {"set": {"attributes": "text"}},
        {"set": {"attributes": ["a"]}},
        {"elements": {"attributes": {'"a"': True}}},
        {"elements": {"attributes": {'"a"': False}}},
    ],
)
@pytest.mark.parametrize("strategy", [one for one in Strategy if one is not Strategy.IGNORE])
def test_no_claim_replaces_a_group_that_windchill_has(said, strategy):
    drafted = plan.draft(wanting(event(1, **said)), NO_BASE, reading(attributes={"Note": "x"}), under(strategy))
    assert isinstance(drafted, Held)
    assert "`attributes.Note`" in reasons.text(drafted.decisions[0].reasons)
    assert "reconciler docs release" in reasons.text(drafted.decisions[0].reasons)


def test_an_event_that_releases_a_group_is_held_until_its_fields_are_claimed_later_or_an_operator_drops_it():
    wanted, released = event(1, set={"attributes.Note": "a"}), event(2, release=("attributes",))
    live = reading(attributes={"Note": "a"})
    assert verbs(plan.draft(wanting(wanted, released), NO_BASE, live, under())) == {
        "attributes": "hold",
        "attributes.Note": "keep",
    }
    by_operator = event(3, release=("attributes",))
    by_operator = by_operator._replace(source=OPERATORS)
    for later in (event(3, set={"attributes.Note": "a"}), by_operator):
        desired = wanting(wanted, released, later)
        assert verbs(plan.draft(desired, NO_BASE, live, under())) == {"attributes.Note": "keep"}


def test_a_group_of_which_one_field_is_hidden_is_not_written_over():
    desired = wanting(event(1, set={"attributes": "x"}))
    hiding = structs.replace(reading(), unreadable=frozenset({"attributes.Note"}))
    drafted = plan.draft(desired, NO_BASE, hiding, under("external"))
    assert verbs(drafted) == {"attributes": "hold"}
    assert "hides this field's value" in reasons.text(drafted.decisions[0].reasons)
    beside = structs.replace(reading(), unreadable=frozenset({"attributesOther"}))
    assert verbs(plan.draft(desired, NO_BASE, beside, under("external"))) == {"attributes": "write"}


def test_an_enumeration_is_a_field_though_windchill_shows_an_object():
    policy = Policy((Rule(("*",), Strategy.EXTERNAL, normalise=(Normaliser.ENUM,), name="policy[1]"),))
    desired = wanting(event(1, set={"State": "A"}))
    assert verbs(plan.draft(desired, NO_BASE, reading(State={"Value": "B", "Display": "b"}), policy)) == {
        "State": "write"
    }


def test_more_events_of_one_time_than_can_be_ranked_hold_the_field():
    stamped = [event(1, set={"status": str(n)}) for n in range(fold.EVENTS_MAX + 1)]
    log = [one._replace(id=str(n), offset=n) for n, one in enumerate(stamped)]
    drafted = plan.draft(wanting(*log), NO_BASE, reading(status="x"), under(Strategy.EXTERNAL))
    assert isinstance(drafted, Held)
    assert "finer times, or a sequence" in reasons.text(drafted.decisions[0].reasons)


def test_our_own_write_is_not_taken_for_a_users_edit():
    desired, policy = wanting(event(1, set={"status": "A"})), under()
    after = reading('"v2"', LATE, status="A", title="before")
    base = written(desired, NO_BASE, reading(status="B", title="before"), after, policy)
    assert base.wrote == Wrote(Token('"v2"'), EARLY)
    more = fold.step(desired, event(2, set={"title": "ours"}))
    assert verbs(plan.draft(more, base, after, policy))["title"] == "write"
    edited = structs.replace(after, token=Token('"v3"'))
    assert verbs(plan.draft(more, base, edited, policy))["title"] == "yield"


def test_an_answer_without_a_token_is_recognised_by_what_the_next_read_shows():
    expected = structs.replace(reading(status="A"), token=None)
    base = Base(wrote=Wrote(None, EARLY))
    read = reading('"v2"', LATE, status="A", modifiedBy="reconciler")
    assert plan.own_write_recognised(base, expected, read).wrote == Wrote(Token('"v2"'), EARLY)
    for other in (reading('"v2"', LATE, status="X"), reading('"v2"', LATE, status="A", title="x")):
        assert plan.own_write_recognised(base, expected, other) is base
    assert plan.own_write_recognised(base, None, read) is base


def test_a_rivals_version_that_was_read_meanwhile_is_not_recognised_as_our_own_write():
    base = Base(wrote=Wrote(None, EARLY))
    rivals, touched_again = reading('"v2"', LATE, status="X"), reading('"v3"', LATE, status="X")
    assert plan.own_write_recognised(base, rivals, touched_again) is base


def test_a_held_field_keeps_its_base_and_closes_by_itself_when_both_sides_agree():
    old, new = event(1, set={"status": "A"}), event(2, set={"status": "B"})
    base = Base({"status": Agreed("A", old.stamp)})
    drafted = plan.draft(wanting(old, new), base, reading(status="X"), under())
    assert isinstance(drafted, Held)
    held = plan.agree(drafted, reading(status="X"), reading(status="X"), under())
    assert held.fields == base.fields
    assert isinstance(plan.draft(wanting(old, new), held, reading(status="B"), under()), InSync)


def test_what_is_no_longer_managed_leaves_the_base_and_its_refusal():
    old = event(1, set={"status": "A", "owner": "x"})
    base = Base(
        {name: Agreed("A", old.stamp) for name in ("status", "owner")}, {"owner": RefusedField(old.stamp, "A", "no")}
    )
    drafted = plan.draft(wanting(old, event(2, release=("owner",))), base, reading(status="A", owner="A"), under())
    assert drafted.base.fields.keys() == {"status"}
    assert drafted.base.refused == {}


@pytest.mark.parametrize("release", [{"released": True}, {"release": ("owner",)}])
def test_a_release_that_no_attempt_has_seen_leaves_the_base_as_it_is(release):
    """The base was adopted at a version conflict. It tells an edit of the field from one of another field."""
    first = plan.draft(wanting(event(1, set={"owner": "old"})), NO_BASE, reading(owner="x"), under())
    assert isinstance(first, Patch)
    again = wanting(event(1, set={"owner": "old"}), event(2, **release), event(3, set={"owner": "new"}))
    untouched, edited = reading('"v2"', LATE, owner="x", title="edited"), reading('"v2"', LATE, owner="edited")
    assert verbs(plan.draft(again, first.base, untouched, under())) == {"owner": "write"}
    assert verbs(plan.draft(again, first.base, edited, under())) == {"owner": "hold"}


@pytest.mark.parametrize("release", [{"released": True}, {"release": ("owner",)}])
def test_a_release_that_an_attempt_has_seen_makes_the_next_claim_a_first_sight(release):
    first = plan.draft(wanting(event(1, set={"owner": "old"})), NO_BASE, reading(owner="x"), under())
    released = wanting(event(1, set={"owner": "old"}), event(2, **release))
    seen = plan.draft(released, first.base, reading(owner="x"), under())
    assert seen.base.fields == {}
    again = fold.step(released, event(3, set={"owner": "new"}))
    drafted = plan.draft(again, seen.base, reading('"v2"', LATE, owner="x", title="edited"), under())
    assert verbs(drafted) == {"owner": "yield"}
    assert drafted.decisions[0].reasons[0].code.startswith("adopted")


@pytest.mark.parametrize(
    ("before", "claimed", "live"),
    [
        (["a"], {'"a"': True, '"new"': True}, []),  # a user took out what is asked for again
        ([], {'"a"': False, '"new"': True}, ["a"]),  # a user put in what is to go, and what was never agreed on
    ],
)
def test_a_held_element_is_held_again_after_another_one_of_its_list_was_written(before, claimed, live):
    """It is not settled by a write that left it out: both sides have moved it, and no one has decided yet."""
    policy = under(list=ListMode.SET)
    first, later = event(1, set={"tags": ["z", *before]}), event(2, elements={"tags": claimed})
    base = written(wanting(first), NO_BASE, reading(tags=["x"]), reading(tags=["x", "z", *before]), policy)
    moved, there = wanting(first, later), reading('"v2"', tags=["x", "z", *live])
    drafted = plan.draft(moved, base, there, policy)
    assert isinstance(drafted, Patch)
    after = there.with_fields(drafted.fields, Token('"v3"'))
    assert after.value("tags") == ["x", "z", *live, "new"]
    agreed = plan.agree(drafted, there, after, policy)
    for _ in range(2):
        again = plan.draft(moved, agreed, after, policy)
        assert isinstance(again, Held)
        assert again.decisions[0].held_elements == ('"a"',)
        agreed = plan.agree(again, after, after, policy)


def test_an_element_on_which_both_sides_agree_is_agreed_while_another_of_its_list_waits():
    """It was written and the answer was lost, so only this look can tell; a person takes it out after that."""
    policy = under(list=ListMode.SET)
    first, steel = event(1, set={"tags": ["draft"]}), event(2, elements={"tags": {'"steel"': True}})
    base = written(wanting(first), NO_BASE, reading(tags=[]), reading(tags=["draft"]), policy)
    both = wanting(first, steel, event(3, elements={"tags": {'"draft"': True}}))
    seen = reading('"v2"', tags=["steel"])  # a person took out what is asked for again
    drafted = plan.draft(both, base, seen, policy)
    assert isinstance(drafted, Held)
    assert drafted.decisions[0].held_elements == ('"draft"',)
    agreed = plan.agree(drafted, seen, seen, policy)
    settled = {'"draft"': first.stamp, '"steel"': steel.stamp}
    assert agreed.fields["tags"][:3] == (["draft", "steel"], first.stamp, settled)
    edited = plan.draft(both, agreed, reading('"v3"', tags=[]), policy)
    assert isinstance(edited, Held)
    assert edited.decisions[0].held_elements == ('"draft"',)


def test_a_list_that_was_agreed_as_a_whole_stays_so_where_a_lost_write_shows_in_part():
    """Else the bracket, which a person took out, would count as asked for and never agreed."""
    first, second = (event(second, set={"tags": []}).stamp for second in (1, 2))
    old = Agreed(["bracket"], first, {})
    meant = Agreed(["bracket", "steel"], second, {'"bracket"': first, '"steel"': second})
    assert elements.confirmed(old, meant, ["steel"], ()) == old
    assert elements.confirmed(old._replace(elements={'"bracket"': first}), meant, ["steel"], ()) == Agreed(
        ["bracket", "steel"], first, {'"bracket"': first, '"steel"': second}
    )


@pytest.mark.parametrize("more", [[], ["c"]])
def test_an_edit_of_a_list_that_was_agreed_as_a_whole_stands_after_it_was_held(more):
    """Its rule said `atomic`, then `hold` element by element, and then that ours is written where both have moved."""
    both = event(1, set={"tags": ["a", "b"]})
    before, seen = reading(tags=["a", "b"]), reading('"v2"', tags=["b"])
    whole, hold = under(), under("hold", list=ListMode.SET)
    base = plan.agree(plan.draft(wanting(both), NO_BASE, before, whole), before, before, whole)
    desired = wanting(both, event(2, elements={"tags": {canonical(text): True for text in more}}))
    drafted = plan.draft(desired, base, seen, hold)
    assert drafted.decisions[0].held_elements == ('"a"',)
    after = seen.with_fields(getattr(drafted, "fields", {}), Token('"v3"'))
    agreed = plan.agree(drafted, seen, after, hold)
    decided = plan.draft(desired, agreed, after, under(on_overlap=Strategy.EXTERNAL, list=ListMode.SET))
    assert verbs(decided) == {"tags": Verb.YIELD}


def test_an_element_that_is_held_is_no_more_ours_when_others_of_its_list_were_agreed_meanwhile():
    """A person added it, an event asked in vain to take it out, and a newer list without it covers that event."""
    policy = under(list=ListMode.SET)
    empty = event(1, set={"tags": []})
    before, seen = reading(tags=[]), reading('"v2"', tags=["steel"])
    base = plan.agree(plan.draft(wanting(empty), NO_BASE, before, policy), before, before, policy)
    removed = event(2, elements={"tags": {'"steel"': False, '"bracket"': False}})
    drafted = plan.draft(wanting(empty, removed), base, seen, policy)
    assert isinstance(drafted, Held)
    agreed = plan.agree(drafted, seen, seen, policy)
    covered = wanting(empty, removed, event(3, set={"tags": []}))
    assert isinstance(plan.draft(covered, agreed, seen, policy), InSync)


@pytest.mark.parametrize("strategy", ["preserve", "merge", "newest"])
def test_the_agreed_event_is_no_new_claim_where_only_a_copy_of_it_is_left(strategy):
    """The log was mirrored to a topic of another name, and folded from there: a person's edit since stands."""
    agreed, policy = event(1, set={"owner": "akim", "tags": ["a"]}), under(strategy, list=ListMode.SET)
    base = written(wanting(agreed), NO_BASE, reading(owner="x", tags=[]), reading(owner="akim", tags=["a"]), policy)
    copy = agreed._replace(topic="mirrored", offset=99)
    assert copy.stamp > agreed.stamp
    edited = reading('"v2"', owner="jdoe", tags=[])
    assert verbs(plan.draft(wanting(copy), base, edited, policy)) == {"owner": "yield", "tags": "yield"}


def test_without_tokens_nothing_tells_that_we_were_the_last_to_modify_a_document():
    base = Base(wrote=Wrote(None, "2026-11-22T09:00:00.000000Z"))
    read = Snapshot(KEY, {}, None, modified_at="2026-11-22T11:00:00.000000Z")
    assert plan.modified_by_others(base, read) == read.modified_at


def test_a_list_taken_whole_that_the_server_stores_in_another_order_was_altered():
    agreed = Agreed(["a", "b"], stamped(1))
    after = Snapshot(KEY, {"k": ["a", "b"]}, Token('"2"'), assumed=("k",))
    read = structs.replace(after, body={"k": ["b", "a"]}, assumed=())
    found = plan.alterations_seen(Base({"k": agreed}), after, read, Policy(()), desired=NOTHING_DESIRED)
    assert "stores another value" in found.refused["k"].message
    assert found.fields["k"].value == ["b", "a"]


def test_an_edit_of_a_value_is_called_theirs():
    desired = fold.lift(Event.of(KEY, stamped(1), {"owner": "a"}))
    read = Snapshot(KEY, {"owner": "mary"}, Token('"2"'))
    (decision,) = plan.draft(desired, Base({"owner": Agreed("a", stamped(1))}), read, Policy(())).decisions
    assert (decision.ours, decision.theirs) == (False, True)


def stamped(second: int) -> Stamp:
    return Stamp("", f"2026-11-22T10:00:{second:02}.000000Z", "", "changes", 0, second, "//erp", str(second))
