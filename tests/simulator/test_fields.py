import pytest

from reconciler.simulator import fields


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    # RFC 7396, appendix A
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_the_rfc_shows(target: object, patch: object, merged: object) -> None:
    assert fields.merge(target, patch) == merged


def test_a_merge_changes_neither_its_target_nor_its_patch() -> None:
    target, patch = {"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": {"e": 3}}}
    merged = fields.merge(target, patch)
    merged["a"]["d"]["e"] = 4
    assert (target, patch) == ({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": {"e": 3}}})


def test_a_server_may_keep_cleared_fields_as_nulls() -> None:
    assert fields.merge({"a": {"b": 1}}, {"a": {"b": None}}, "null") == {"a": {"b": None}}


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {"a": 2}, {"a": (1, 2)}),
        ({"a": 1}, {}, {"a": (1, None)}),
        ({}, {"a": None}, {"a": (None, None)}),
        ({"a": 1}, {"a": True}, {"a": (1, True)}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, {"a.c": (2, 3)}),
        ({"a": {"b": 1}}, {"a": "x"}, {"a": (None, "x"), "a.b": (1, None)}),
        ({"a": "x"}, {"a": {"b": 1}}, {"a": ("x", None), "a.b": (None, 1)}),
        ({"a": {"b": 1}}, {}, {"a.b": (1, None)}),
        ({"a": ["b"]}, {"a": ["b", "c"]}, {"a": (["b"], ["b", "c"])}),
        ({"id": 1}, {"id": 2}, {}),
    ],
)
def test_changes_name_each_path_with_its_old_and_new_value(old: dict, new: dict, changes: dict) -> None:
    assert fields.changes(old, new, frozenset(["id"])) == changes


def test_dotted_paths_become_one_merge_patch() -> None:
    paths = {"owner": "jdoe", "attributes.Note": None, "attributes.Cost.Center": "4711"}
    assert fields.nested(paths) == {"owner": "jdoe", "attributes": {"Note": None, "Cost": {"Center": "4711"}}}


def test_a_path_inside_a_path_with_a_value_is_refused() -> None:
    with pytest.raises(TypeError, match=r"attributes\.Note"):
        fields.nested({"attributes": "x", "attributes.Note": "y"})
