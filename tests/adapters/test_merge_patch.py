"""Merge patches from dotted paths, against RFC 7396 as it is written and `Snapshot.with_fields`."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.adapters import documents
from reconciler.adapters.documents import Inexpressible
from reconciler.model.snapshot import Snapshot
from reconciler.model.value import MISSING, same

# Few names, some with dots, so that paths meet, nest and overlap often.
NAMES = st.sampled_from(["a", "b", "c", "a.b", "b.c", "a.b.c", ""])
PLAIN_NAMES = st.sampled_from(["a", "b", "c", ""])
SCALARS = st.sampled_from([None, True, False, 0, 1, 1.0, "", "x"])


def documents_and_fields(names: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[dict[str, Any], dict[str, Any]]]:
    values = st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=3), max_leaves=6
    )
    fields = st.dictionaries(st.lists(names, min_size=1, max_size=3).map(".".join), values, max_size=4)
    return st.tuples(st.dictionaries(names, values, max_size=4), fields)


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396 section 2, `MergePatch(Target, Patch)`, line by line."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def snapshot(body: dict[str, Any]) -> Snapshot:
    return Snapshot("k", body, None)


def equal(left: object, right: object) -> bool:
    """As JSON; a cleared field may be absent or null."""
    if left in (None, MISSING) or right in (None, MISSING):
        return left in (None, MISSING) and right in (None, MISSING)
    return same(left, right)


@given(documents_and_fields(PLAIN_NAMES))
def test_a_patch_gives_each_field_the_value_wanted_or_says_that_it_can_not(given_: Any) -> None:
    body, fields = given_
    wanted = snapshot(body).with_fields(fields, None)
    patch = documents.build(snapshot(body), fields)
    if isinstance(patch, Inexpressible):
        assert patch.fields
        assert set(patch.fields) <= set(fields)
        assert all(has_null_inside(wanted.value(field)) for field in patch.fields)
        return
    got = snapshot(merged(body, patch))
    for field in fields:
        assert equal(got.value(field), wanted.value(field)), (field, patch, got.body, wanted.body)


# Field by field this can't be asked with dots in names: once the member `a.b` is cleared, `a.b` is what `a` holds.
@given(documents_and_fields(NAMES))
def test_a_patch_makes_the_document_that_was_wanted_and_touches_nothing_else(given_: Any) -> None:
    body, fields = given_
    patch = documents.build(snapshot(body), fields)
    if isinstance(patch, Inexpressible):
        return
    got = merged(body, patch)
    assert same(without_nulls(got), without_nulls(snapshot(body).with_fields(fields, None).body))
    untouched = body.keys() - patch.keys()
    assert {name: body[name] for name in untouched} == {name: got[name] for name in untouched}


def test_no_fields_make_an_empty_patch() -> None:
    assert documents.build(snapshot({"a": {"b": None}}), {}) == {}


def has_null_inside(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    return any(inner is None or has_null_inside(inner) for inner in value.values())


def without_nulls(value: Any) -> Any:
    """What a server can't tell apart after a merge patch: members that are null, and members that are not there."""
    if not isinstance(value, dict):
        return value
    return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}


CASES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({}, {"attributes.CostCenter": "4711"}, {"attributes": {"CostCenter": "4711"}}),
    ({}, {"a.b.c": 1, "a.d": 2}, {"a": {"b": {"c": 1}, "d": 2}}),
    ({"a.b": 0}, {"a.b": 1}, {"a.b": 1}),
    ({"x": {"a.b": 0}}, {"x.a.b": 1}, {"x": {"a.b": 1}}),
    ({"x": {"a": {}}}, {"x.a.b": 1}, {"x": {"a": {"b": 1}}}),
    ({"a": 5}, {"a.b": 1}, {"a": {"b": 1}}),
    ({"a": {"x": 1, "y": 2}}, {"a": {"x": 3}}, {"a": {"y": None, "x": 3}}),
    ({"a": {"x": {"p": 1}, "z": 0}}, {"a": {"x": {"q": 2}}}, {"a": {"z": None, "x": {"p": None, "q": 2}}}),
    ({"a": {"x": None, "y": 1}}, {"a": {"x": None, "y": 2}}, {"a": {"y": 2}}),
    ({"a": {"x": 1}}, {"a": {}}, {"a": {"x": None}}),
    ({"a": {"x": 1}}, {"a": None}, {"a": None}),
    ({"a": {"x": 1}}, {"a": {"z": 1}, "a.y": 2}, {"a": {"x": None, "z": 1, "y": 2}}),
    ({"a": [1]}, {"a": [{"x": None}]}, {"a": [{"x": None}]}),
]


@pytest.mark.parametrize(("body", "fields", "expected"), CASES)
def test_a_patch_says(body: dict[str, Any], fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert documents.build(snapshot(body), fields) == expected


@pytest.mark.parametrize(
    ("body", "value"),
    [({}, {"x": None}), ({"a": {"x": 1}}, {"x": None}), ({"a": 1}, {"x": {"y": None}}), ({"a": {"x": 1}}, {"z": None})],
)
def test_a_null_inside_an_object_can_not_be_said(body: dict[str, Any], value: Any) -> None:
    assert documents.build(snapshot(body), {"a": value, "b": 1}) == Inexpressible(("a",))
