"""Normalise: one engine for comparing and for writing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.folding import normalise
from reconciler.model.policy import Normaliser
from reconciler.model.value import MISSING, canonical
from tests.core import strategies

TRIM, CASE, BLANK, NUMBER, INSTANT, ENUM = Normaliser
steps_of_rules = st.lists(st.sampled_from(Normaliser), unique=True).map(tuple)
# What people and servers put into fields, and what only an enemy would.
texts = (
    st.text(max_size=6)
    | st.sampled_from(["4711", "4711.0", " 4711 ", "1e1000000", "1e999999999999999", "-1E-5", "1_0", "nan", "٣", "-0"])
    | st.sampled_from(["2026-11-22T10:00:00Z", "2026-11-22T11:00:00+01:00", "9999-12-31T23:59:59-14:00", "9" * 5000])
)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Value", "Display"]), inner),
    max_leaves=5,
)


@given(values, steps_of_rules)
def test_what_is_written_compares_equal_to_what_was_desired(value, steps):
    assert normalise.equal(normalise.outgoing(value, steps), value, steps)


@given(values, values, steps_of_rules)
def test_equality_is_symmetric_and_holds_for_a_value_and_itself(left, right, steps):
    assert normalise.equal(left, left, steps)
    assert normalise.equal(left, right, steps) == normalise.equal(right, left, steps)


@given(values, values, steps_of_rules)
def test_a_normaliser_only_ever_makes_more_values_equal(left, right, steps):
    if normalise.equal(left, right, ()):
        assert normalise.equal(left, right, steps)


@given(values, steps_of_rules)
def test_writing_the_written_form_again_changes_nothing(value, steps):
    once = normalise.outgoing(value, steps)
    assert canonical(normalise.outgoing(once, steps)) == canonical(once)


@given(values)
def test_without_normalisers_a_value_is_written_as_it_is(value):
    assert normalise.outgoing(value, ()) is value


@given(st.integers(), st.integers())
def test_different_numbers_are_different_however_long(left, right):
    assert normalise.equal(str(left), str(right), (NUMBER,)) == (left == right)


@pytest.mark.parametrize(
    ("left", "right", "steps"),
    [
        (MISSING, None, ()),
        (" a ", "a", (TRIM,)),
        ([" a "], ["a"], (TRIM,)),
        ("Straße", "STRASSE", (CASE,)),
        ("", None, (BLANK,)),
        ([], None, (BLANK,)),
        ("", MISSING, (BLANK,)),
        ("  ", None, (TRIM, BLANK)),
        ("  ", None, (BLANK, TRIM)),
        ("4711.0", 4711, (NUMBER,)),
        (4711.0, 4711, (NUMBER,)),
        (" 1e3 ", 1000, (NUMBER,)),
        ("+5", 5, (NUMBER,)),
        ("-0.0", 0, (NUMBER,)),
        ("1e1000000", "10e999999", (NUMBER,)),
        ("2026-11-22T11:00:00+01:00", "2026-11-22T10:00:00Z", (INSTANT,)),
        ({"Value": "APPROVED", "Display": "Approved"}, "APPROVED", (ENUM,)),
        ({"Value": "A", "Display": "x"}, {"Value": "A", "Display": "y"}, (ENUM,)),
        ({"Value": " a "}, "A", (ENUM, TRIM, CASE)),
        ([{"Value": "A"}], ["a"], (ENUM, CASE)),
    ],
)
def test_what_a_rule_holds_to_be_equal(left, right, steps):
    assert normalise.equal(left, right, steps)
    assert not normalise.equal(left, right, ()) or left is MISSING


@pytest.mark.parametrize(
    ("left", "right", "steps"),
    [
        (1, True, ()),
        (1, 1.0, ()),
        (1, "1", ()),
        (0, None, ()),
        ("", None, ()),
        (1, True, (NUMBER,)),
        ("1_0", 10, (NUMBER,)),
        ("0" * 401, "0" * 402, (NUMBER,)),
        ("10000000000000000000000000000001", "10000000000000000000000000000002", (NUMBER,)),
        ("0", None, (BLANK, NUMBER)),
        (False, None, (BLANK,)),
        ({}, None, (BLANK,)),
        ("2026-11-22T10:00:00", "2026-11-22T10:00:00Z", (INSTANT,)),
        ({"Value": "A", "Display": "x"}, "A", ()),
        (["a", "b"], ["b", "a"], (TRIM,)),
    ],
)
def test_what_a_rule_holds_to_be_different(left, right, steps):
    assert not normalise.equal(left, right, steps)


@pytest.mark.parametrize(
    ("value", "steps", "written"),
    [
        (" Abc ", (TRIM, CASE), "Abc"),
        ("", (BLANK,), None),
        ([" a "], (TRIM,), ["a"]),
        ("4711.0", (NUMBER,), "4711.0"),
        ({"Value": " A ", "Display": "x"}, (ENUM, TRIM), {"Value": " A ", "Display": "x"}),
    ],
)
def test_only_trim_and_blank_change_what_is_written(value, steps, written):
    assert normalise.outgoing(value, steps) == written


@pytest.mark.parametrize("value", [MISSING, None, "", []])
def test_blank_is_where_nothing_is(value):
    assert normalise.blank(value)


@given(strategies.values)
def test_nothing_else_is_blank(value):
    assert normalise.blank(value) == (value is None or canonical(value) in ('""', "[]"))
