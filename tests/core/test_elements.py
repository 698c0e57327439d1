"""Elements: each managed one is decided on its own, and all others are the users'."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.planning import elements
from reconciler.model.base import Agreed
from reconciler.model.desired import Element, Field, Register
from reconciler.model.plan import Decision, Verb
from reconciler.model.policy import ListMode, Normaliser, Rule, Strategy
from reconciler.model.stamp import Stamp
from reconciler.model.value import MISSING, canonical
from tests.core import strategies

BEFORE = "2026-11-22T09:00:00.000000Z"
CASE = (Normaliser.CASE,)


def stamp(second: int) -> Stamp:
    return Stamp("", f"2026-11-22T10:00:{second:02}.000000Z", "", "changes", 0, second, "//erp", str(second))


def register(second: int, value, **more) -> Register:
    return Register(stamp(second), value, **more)


def claims(second: int, **present: bool) -> dict[str, Element]:
    return {canonical(name): Element(stamp(second), there) for name, there in present.items()}


def agreed(value, second: int | None, **settled: int) -> Agreed:
    at = None if second is None else stamp(second)
    return Agreed(value, at, {canonical(name): stamp(one) for name, one in settled.items()})


def ask(field: Field, base: Agreed | None, live, *, strategy="merge", mode="set", steps=(), **rule) -> Decision:
    one = Rule(("*",), Strategy(strategy), list=ListMode(mode), normalise=steps, **rule)
    question = elements.Question("attributes.Keywords", field, base, live, one, BEFORE)
    assert elements.applies(question)
    return elements.decide(question)


# ------------------------------------------------------------------------------------------------- who owns an element


def test_adding_leaves_the_users_elements_where_they_are():
    decision = ask(Field(None, claims(1, bracket=True)), None, ["mine", "yours"])
    assert decision.verb is Verb.WRITE
    assert decision.target == ["mine", "yours", "bracket"]


def test_removing_takes_just_the_element_that_is_named():
    decision = ask(Field(None, claims(1, draft=False)), None, ["mine", "draft"])
    assert decision.target == ["mine"]


def test_a_newer_register_takes_away_what_an_older_one_put_there_and_nothing_else():
    base = agreed(["mine", "old", "kept"], 1, old=1, kept=1)
    decision = ask(Field(register(2, ["kept", "new"])), base, ["mine", "old", "kept"])
    assert decision.target == ["mine", "kept", "new"]


def test_null_clears_the_users_elements_too_and_writes_null():
    assert ask(Field(register(1, None)), None, ["mine"]).target is None
    assert ask(Field(register(2, None)), agreed(["mine", "a"], 1, a=1), ["mine", "a"]).target is None


def test_a_list_of_which_nothing_is_left_is_empty_and_not_null():
    decision = ask(Field(register(1, ["a"]), claims(2, a=False)), agreed(["a"], 1, a=1), ["a"])
    assert (decision.desired, decision.target) == ([], [])


def test_a_list_that_was_cleared_is_agreed_on_as_null():
    decision = ask(Field(register(1, None)), None, ["mine"])
    assert elements.agreed_list(decision, None, ()) is None
    assert elements.agreed_list(decision, MISSING, ()) is None


def test_an_edit_of_an_element_is_called_theirs():
    decision = ask(Field(None, claims(1, a=True)), agreed(["a"], None, a=1), [])
    assert (decision.verb, decision.ours, decision.theirs) == (Verb.YIELD, False, True)


def test_claims_of_one_stamp_on_elements_that_count_as_the_same_rank_by_their_texts():
    present, absent = Element(stamp(1), True), Element(stamp(1), False)
    one = ask(Field(None, {'"A"': present, '"a"': absent}), None, ["mine"], steps=CASE)
    other = ask(Field(None, {'"a"': absent, '"A"': present}), None, ["mine"], steps=CASE)
    assert one == other


def test_null_leaves_what_a_user_added_since_the_base():
    decision = ask(Field(register(2, None)), agreed(["mine"], 1), ["mine", "just added"])
    assert decision.target == ["just added"]


def test_what_stands_above_null_is_there_in_the_end():
    decision = ask(Field(register(1, None), claims(2, new=True)), None, ["mine"])
    assert decision.target == ["new"]


def test_elements_apply_under_a_rule_for_whole_values_when_no_whole_value_is_claimed():
    assert ask(Field(None, claims(1, new=True)), None, ["mine"], mode="atomic").target == ["mine", "new"]
    released = Field(register(1, None, managed=False), claims(2, new=True))
    assert ask(released, None, ["mine"], mode="atomic").target == ["mine", "new"]


# --------------------------------------------------------------------------------------------------- who moved it last


def test_an_element_that_a_user_took_out_stays_out_until_a_newer_claim():
    field = Field(register(1, ["a", "b"]))
    taken_out = ask(field, agreed(["a", "b"], 1, a=1, b=1), ["b"])
    assert taken_out.verb is Verb.YIELD
    assert ask(field, agreed(["b"], 1, a=1, b=1), ["b"]).verb is Verb.KEEP
    assert ask(Field(register(2, ["a", "b"])), agreed(["b"], 1, a=1, b=1), ["b"]).target == ["b", "a"]


def test_an_element_that_both_moved_is_held_and_the_others_go_out():
    base = agreed(["a"], 1, a=1)
    field = Field(register(1, ["a"]), claims(2, a=True, new=True))
    decision = ask(field, base, [])
    assert decision.verb is Verb.WRITE
    assert decision.target == ["new"]
    assert decision.held_elements == ('"a"',)
    assert elements.agreed_list(decision, ["new"], ()) == ["new", "a"], "the held one is as it was in the base"


def test_without_a_base_a_field_with_a_held_element_waits_as_a_whole():
    field = Field(None, claims(1, a=True) | {canonical("b"): Element(stamp(2)._replace(time=BEFORE), True)})
    decision = ask(field, None, [], strategy="hold")
    assert decision.verb is Verb.HOLD
    assert decision.target is MISSING
    assert decision.held_elements == ('"a"', '"b"')


def test_on_first_sight_a_yielded_element_is_told_apart_from_a_written_one():
    old = stamp(2)._replace(time="2026-11-22T08:00:00.000000Z")
    field = Field(None, claims(1, late=True) | {canonical("early"): Element(old, True)})
    decision = ask(field, None, [])
    assert decision.target == ["late"]
    assert elements.unwritten(decision, ()) == {'"early"': old}


def test_expected_elements_are_no_ones_edit_while_the_claim_is_new_and_are_one_afterwards():
    field = Field(register(2, ["a"], expect=([],)))
    assert ask(field, agreed(["a"], 1, a=1), [], strategy="hold").verb is Verb.WRITE
    assert ask(field, agreed(["a"], 2, a=2), [], strategy="hold").verb is Verb.HOLD


def test_a_base_that_was_agreed_as_a_whole_settles_what_it_covers():
    """The rule was atomic until now, or the value a single one."""
    field = Field(register(1, ["a"]))
    assert ask(field, agreed(["a"], 1), ["b"]).verb is Verb.YIELD
    assert ask(field, agreed(["a"], None), ["a"]).verb is Verb.KEEP


# ------------------------------------------------------------------------------------------------- equal, single, blank


def test_claims_on_elements_that_count_as_one_are_ranked_by_stamp_in_whatever_order_they_are_kept():
    late_removal = {**claims(1, A=True), **claims(2, a=False)}
    for kept in (late_removal, dict(reversed(late_removal.items()))):
        assert ask(Field(None, kept), None, ["A", "x"], steps=CASE).target == ["x"]
        assert elements.whole(Field(register(0, ["A", "x"]), kept), CASE) == ["x"]
    late_addition = {**claims(2, A=True), **claims(1, a=False)}
    for kept in (late_addition, dict(reversed(late_addition.items()))):
        assert ask(Field(None, kept), None, ["x"], steps=CASE).target == ["x", "A"]


def test_an_element_that_is_there_in_another_spelling_is_there():
    assert ask(Field(register(1, ["Bracket"])), None, ["bracket"], steps=CASE).verb is Verb.KEEP


@pytest.mark.parametrize(("value", "live"), [(["a"], "mine"), ("a", ["mine"])])
def test_a_single_value_is_a_list_of_one_so_that_no_element_is_lost(value, live):
    assert ask(Field(register(1, value)), None, live).target == ["mine", "a"]


@pytest.mark.parametrize("live", ["b", None, MISSING, 5])
def test_where_neither_side_knows_of_a_list_the_value_is_whole(live):
    rule = Rule(("*",), Strategy.MERGE, list=ListMode.SET)
    assert not elements.applies(elements.Question("status", Field(register(1, "a")), None, live, rule, BEFORE))


@pytest.mark.parametrize(
    ("value", "present", "whole"),
    [
        (["a"], {"b": True}, ["a", "b"]),
        (["a", "b"], {"a": False}, ["b"]),
        (["a"], {"a": True}, ["a"]),
        (["a"], {"b": False}, ["a"]),
        (None, {"b": True}, ["b"]),
        (None, {"b": False}, None),
        ("a", {"b": True}, ["a", "b"]),
        ("a", {"b": False}, "a"),
    ],
)
def test_elements_on_top_of_a_whole_value_are_part_of_it(value, present, whole):
    assert elements.whole(Field(register(1, value), claims(2, **present)), ()) == whole


# ---------------------------------------------------------------------------------------------------------- properties

names = st.sampled_from(["a", "A", "b", "c", 1, 1.0, True])
fields = st.builds(
    lambda value, on_top: Field(
        register(1, value), {canonical(name): Element(stamp(at), there) for name, there, at in on_top}
    ),
    st.none() | st.lists(names, max_size=3),
    st.lists(st.tuples(names, st.booleans(), st.integers(2, 4)), max_size=4),
)
bases = st.none() | st.builds(
    lambda value, at: agreed(value, at, **{name: at or 1 for name in value if isinstance(name, str)}),
    st.lists(names, max_size=3),
    st.sampled_from([None, 0, 1, 3]),
)
strategies_of_rules = st.sampled_from([one for one in Strategy if one is not Strategy.IGNORE])
steps_of_rules = st.sampled_from([(), CASE, (Normaliser.NUMBER,)])


def texts(value, steps) -> list[str]:
    return [elements._text(element, steps) for element in elements.listed(value)]


@given(fields, bases, st.lists(strategies.elements_of_lists, max_size=4), strategies_of_rules, steps_of_rules)
def test_unmanaged_elements_keep_their_place_their_spelling_and_their_number(field, base, live, strategy, steps):
    rule = Rule(("*",), strategy, list=ListMode.SET, normalise=steps)
    question = elements.Question("attributes.Keywords", field, base, live, rule, BEFORE)
    decision = elements.decide(question)
    if decision.target is MISSING:
        assert decision.verb is not Verb.WRITE
        return
    managed = {*decision.elements, *decision.held_elements}
    kept = [e for e in elements.listed(decision.target) if elements._text(e, steps) not in managed]
    assert canonical(kept) == canonical([e for e in live if elements._text(e, steps) not in managed])
    held = set(decision.held_elements)
    assert [t for t in texts(decision.target, steps) if t in held] == [t for t in texts(live, steps) if t in held]


@given(fields, st.lists(strategies.elements_of_lists, max_size=4), steps_of_rules)
def test_under_external_every_claim_holds_after_the_write(field, live, steps):
    rule = Rule(("*",), Strategy.EXTERNAL, list=ListMode.SET, normalise=steps)
    decision = elements.decide(elements.Question("attributes.Keywords", field, None, live, rule, BEFORE))
    after = decision.live if decision.target is MISSING else decision.target
    latest = {elements._text(one, steps): (stamp(1), True) for one in elements.listed(field.register.value)}
    for text, claim in field.elements.items():
        normal = elements._text(elements.msgspec.json.decode(text), steps)
        latest[normal] = max(
            latest.get(normal, (stamp(0), False)), (claim.stamp, claim.present), key=lambda one: one[0]
        )
    settled = {text: there for text, (at, there) in latest.items() if is_alone(text, at, field, steps)}
    for text, there in settled.items():
        assert (text in texts(after, steps)) is there


def is_alone(text: str, at: Stamp, field: Field, steps) -> bool:
    """Whether no other claim of the same stamp speaks about the element in another spelling."""
    same = [one for raw, one in field.elements.items() if texts([elements.msgspec.json.decode(raw)], steps) == [text]]
    return len([one for one in same if one.stamp == at]) < 2
