"""Plan: what each strategy promises, whatever happens in whatever order (DESIGN section 6)."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.core import elements, fold, normalise, plan
from reconciler.model import codec
from reconciler.model.base import NO_BASE, Base
from reconciler.model.desired import NOTHING_DESIRED, Desired
from reconciler.model.plan import Held, InSync, Patch, Verb
from reconciler.model.policy import ListMode, Policy, Strategy
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import MISSING
from tests.core import strategies, worlds

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
    return desired, base, attrs.evolve(live, unreadable=hidden), policy


def applied(drafted: InSync | Held | Patch, before: Snapshot, policy: Policy) -> tuple[Snapshot, Base]:
    """The document and the base after a server did just what it was asked."""
    after = before.with_fields(drafted.fields, Token('"new"')) if isinstance(drafted, Patch) else before
    return after, plan.agree(drafted, before, after, policy)


@given(situations())
def test_applying_a_plan_leaves_nothing_to_write(situation):
    desired, _, snapshot, policy = situation
    after, agreed = applied(plan.draft(*situation), snapshot, policy)
    again = plan.draft(desired, agreed, after, policy)
    assert not isinstance(again, Patch)
    _, unchanged = applied(again, after, policy)
    assert agreed_values(unchanged) == agreed_values(agreed)


def agreed_values(base: Base) -> bytes:
    return codec.encode({name: (agreed.value, agreed.stamp) for name, agreed in base.fields.items()})


@given(situations())
def test_held_fields_stay_held_and_as_they_were_until_something_moves(situation):
    desired, base, snapshot, policy = situation
    drafted = plan.draft(*situation)
    after, agreed = applied(drafted, snapshot, policy)
    held = {decision.field for decision in drafted.decisions if decision.verb is Verb.HOLD}
    assert held <= {d.field for d in plan.draft(desired, agreed, after, policy).decisions if d.verb is Verb.HOLD}
    for name in held:
        assert after.value(name) == snapshot.value(name)
        assert agreed.fields.get(name) == base.fields.get(name)


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
    stored = codec.decode_desired(codec.encode(desired)), codec.decode_base(codec.encode(base))
    again = plan.draft(*stored, snapshot, codec.decode_policy(codec.encode(policy)))
    assert codec.encode(shown(again)) == codec.encode(shown(plan.draft(*situation)))


def shown(drafted: InSync | Held | Patch) -> list:
    """A plan without `MISSING`, which has no stored form."""
    rows = [
        [None if value is MISSING else value for value in attrs.astuple(d, recurse=False)] for d in drafted.decisions
    ]
    return [type(drafted).__name__, rows, drafted.base, getattr(drafted, "fields", None)]


@given(situations(), st.dictionaries(st.sampled_from(["title", "id", "number"]), strategies.values))
def test_what_nobody_manages_changes_nothing(situation, strangers):
    desired, base, snapshot, policy = situation
    other = attrs.evolve(snapshot, body={**snapshot.body, **strangers})
    assert plan.draft(desired, base, other, policy) == plan.draft(*situation)


@given(situations())
def test_every_managed_field_has_one_decision_in_order_and_no_other_field_is_written(situation):
    desired, _, _, policy = situation
    drafted = plan.draft(*situation)
    managed = [n for n in sorted(fold.managed(desired)) if policy.rule(n, None).strategy is not Strategy.IGNORE]
    assert [decision.field for decision in drafted.decisions] == managed
    if isinstance(drafted, Patch):
        writes = [decision.field for decision in drafted.decisions if decision.verb is Verb.WRITE]
        assert list(drafted.fields) == writes != []


@given(situations())
def test_what_is_written_is_what_is_desired_and_not_what_is_there(situation):
    _, _, snapshot, policy = situation
    for decision in plan.draft(*situation).decisions:
        if decision.verb is Verb.WRITE:
            steps = policy.rule(decision.field, None).normalise
            equal = elements.equal if decision.elements else normalise.equal
            assert not equal(decision.target, snapshot.value(decision.field), steps)
            assert decision.elements or equal(decision.target, decision.desired, steps)
        else:
            assert decision.target is MISSING


@given(situations())
def test_a_hidden_value_is_never_compared_nor_written(situation):
    _, base, snapshot, policy = situation
    drafted = plan.draft(*situation)
    _, agreed = applied(drafted, snapshot, policy)
    for decision in drafted.decisions:
        if snapshot.unreadable & {decision.field, decision.field.partition(".")[0]}:
            assert decision.verb is Verb.HOLD
            assert agreed.fields.get(decision.field) == base.fields.get(decision.field)


@given(situations())
def test_under_set_no_element_that_nobody_named_is_taken_away(situation):
    desired, _, snapshot, policy = situation
    drafted = plan.draft(*situation)
    for name, value in getattr(drafted, "fields", {}).items():
        field, rule = desired.fields[name], policy.rule(name, None)
        register = field.register if field.register is not None and field.register.managed else None
        if (register is not None and rule.list is not ListMode.SET) or not isinstance(snapshot.value(name), list):
            continue
        if register is not None and register.value is None:
            continue
        base = drafted.base.fields[name]
        named = set(field.elements) | set(base.elements)
        named |= {elements._text(one, ()) for one in elements._elements(register.value if register else None)}
        named = {elements._text(elements.msgspec.json.decode(text), rule.normalise) for text in named} | named
        for element in snapshot.value(name):
            if elements._text(element, rule.normalise) not in named:
                assert element in elements._elements(value)
