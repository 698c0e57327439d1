"""Values between OData and us, by the types that the metadata gives them."""

from datetime import UTC
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reconciler.adapters.wrs import metadata, tokens, values
from reconciler.adapters.wrs.metadata import EntityType
from reconciler.adapters.wrs.values import Inexpressible
from reconciler.core.folding import normalise
from reconciler.model import instant
from reconciler.model.policy import Normaliser
from tests.adapters.wrs.odata import METADATA, row

TYPE = metadata.parse(METADATA.encode(), "Documents").types["PTC.DocMgmt.Specification"]


def shown(**entity: Any) -> dict[str, Any]:
    return dict(values.incoming(entity, TYPE).body)


def sent(**fields: Any) -> Any:
    return values.outgoing(fields, TYPE)


# ----------------------------------------------------------------------------------------------------------- incoming


@pytest.mark.parametrize(
    ("name", "wire", "ours"),
    [
        ("State", {"Value": "APPROVED", "Display": "Approved"}, "APPROVED"),
        ("State", {"Value": "APPROVED"}, "APPROVED"),
        ("State", None, None),
        ("State", "APPROVED", "APPROVED"),
        ("Roles", [{"Value": "A", "Display": "a"}, {"Value": "B", "Display": "b"}], ["A", "B"]),
        ("Unheard", {"Value": "X", "Display": "x"}, "X"),
        ("Unheard", {"Value": "X", "Unit": "kg"}, {"Value": "X", "Unit": "kg"}),
        ("Unheard", {"Path": "a.gif", "Tooltip": None}, {"Path": "a.gif", "Tooltip": None}),
        ("Reviewed", "2024-08-19T14:16:48+02:00", "2024-08-19T12:16:48.000000Z"),
        ("Reviewed", "2024-08-19T12:16:48Z", "2024-08-19T12:16:48.000000Z"),
        ("Reviewed", "sometime", "sometime"),
        ("Due", "2024-08-19", "2024-08-19"),
        ("CostCenter", "4711", 4711),
        ("CostCenter", 4711, 4711),
        ("CostCenter", "0", 0),
        ("CostCenter", "9223372036854775807", 9223372036854775807),
        ("CostCenter", "4711 a", "4711 a"),
        ("Lines", ["1", 2], [1, 2]),
        ("Weight", 12.5, 12.5),
        ("Weight", "INF", "INF"),
        ("Price", "12.50", 12.5),
        ("Price", "0.0", 0.0),
        ("Price", "12345678901234567890.123", "12345678901234567890.123"),
        ("Controlled", False, False),
        ("Keywords", [], []),
        ("Title", "4711", "4711"),
        ("Title", "2024-08-19T14:16:48+02:00", "2024-08-19T14:16:48+02:00"),
    ],
)
def test_a_value_is_shown_as_its_type_says(name: str, wire: Any, ours: Any) -> None:
    found = shown(**{name: wire})[name]
    assert (found, type(found)) == (ours, type(ours))


def test_a_hidden_null_is_unreadable_and_a_plain_one_is_null() -> None:
    entity = {
        "Title": None,
        "Description": None,
        "Description@PTC.AccessException": "(Secured information)",
        "Name": "kept",
        "Name@PTC.AccessException": "(Secured information)",
    }
    found = values.incoming(entity, TYPE)
    assert found.body == {"Title": None, "Name": "kept"}
    assert found.unreadable == {"Description"}


def test_bookkeeping_and_annotations_are_no_fields() -> None:
    found = shown(**row(), **{"@odata.etag": 'W/"1"', "@odata.type": "#X", "Number@odata.type": "#String"})
    assert found == {"Number": "0000000001", "Name": "Bracket", "State": "INWORK"}


def test_a_navigation_that_is_read_along_is_shown_property_by_property() -> None:
    entity = {
        "Title": "t",
        "Context": {"Name": "Demo", "ID": "OR:x:1", "Secret": None, "Secret@PTC.AccessException": "(Secured)"},
        "Folder": None,
        "Attachments": [{"Name": "a"}],
        "Creator": {"Name": "not asked for"},
    }
    found = values.incoming(entity, TYPE, ("Context", "Folder", "Attachments"))
    assert found.body == {
        "Title": "t",
        "Context/Name": "Demo",
        "Context/ID": "OR:x:1",
        "Creator": {"Name": "not asked for"},
    }
    assert found.unreadable == {"Context/Secret"}


def test_without_a_type_values_are_taken_as_they_are() -> None:
    entity = {"A": "4711", "B": {"Value": "X", "Display": "x"}}
    assert values.incoming(entity, None).body == {"A": "4711", "B": "X"}
    assert values.compared_as(None) == {}


# ----------------------------------------------------------------------------------------------------------- outgoing


@pytest.mark.parametrize(
    ("name", "ours", "wire"),
    [
        ("CostCenter", "4711", 4711),
        ("CostCenter", 4711.0, 4711),
        ("CostCenter", "-12", -12),
        ("Weight", "12.50", 12.5),
        ("Weight", 3, 3),
        ("Weight", "0.1000000000000000055511151231257827", 0.1),
        ("Price", "12.50", 12.5),
        ("Controlled", False, False),
        ("State", "RELEASED", {"Value": "RELEASED", "Display": "RELEASED"}),
        ("State", {"Value": "RELEASED", "Display": "Released"}, {"Value": "RELEASED", "Display": "RELEASED"}),
        ("Roles", ["A"], [{"Value": "A", "Display": "A"}]),
        ("Reviewed", "2024-08-19T14:16:48+02:00", "2024-08-19T12:16:48Z"),
        ("Reviewed", "2024-08-19T12:16:40.120000Z", "2024-08-19T12:16:40.12Z"),
        ("Due", "2024-08-19", "2024-08-19"),
        ("Keywords", ["b", "a"], ["b", "a"]),
        ("Keywords", None, []),
        ("Lines", ["1", 2], [1, 2]),
        ("Title", None, None),
        ("CostCenter", None, None),
        ("State", None, None),
        ("Unheard", {"any": "thing"}, {"any": "thing"}),
    ],
)
def test_a_value_is_sent_as_its_type_says(name: str, ours: Any, wire: Any) -> None:
    found = sent(**{name: ours})
    assert found == {name: wire}
    assert type(found[name]) is type(wire)


@pytest.mark.parametrize(
    ("name", "ours", "why"),
    [
        ("CostCenter", "47a", "a whole number"),
        ("CostCenter", 4711.5, "a whole number"),
        ("CostCenter", True, "a whole number"),
        ("CostCenter", "9223372036854775808", "64 bits"),
        ("Count", 2**31, "32 bits"),
        ("Weight", "heavy", "a number"),
        ("Weight", True, "a number"),
        ("Weight", "1e999", "15 digits"),
        ("Price", "12345678901234567890.123", "15 digits"),
        ("Controlled", "true", "true or false"),
        ("Reviewed", "2024-08-19", "a timestamp"),
        ("Reviewed", "2024-08-19T12:16:48", "a timestamp"),
        ("Due", "2024-08-19T12:16:48Z", "a date"),
        ("State", 5, "the name of a value"),
        ("State", {"Display": "Released"}, "the name of a value"),
        ("Title", 4711, "a text"),
        ("Title", ["a"], "a text"),
        ("Name", None, "can't be cleared"),
        ("Keywords", "bracket", "a list"),
        ("Keywords", [1], "a text"),
        ("Keywords", [None], "a text"),
    ],
)
def test_what_a_type_cannot_hold_is_not_sent_and_the_field_is_named(name: str, ours: Any, why: str) -> None:
    found = sent(**{name: ours, "Description": "fine"})
    assert isinstance(found, Inexpressible)
    assert found.fields == (name,)
    assert name in found.message
    assert why in found.message


# --------------------------------------------------------------------------------------------------------- both ways


@given(st.integers(-(2**63), 2**63 - 1), st.booleans())
def test_integers_survive_the_way_there_and_back(number: int, as_text: bool) -> None:
    body = sent(CostCenter=str(number) if as_text else number)
    assert shown(CostCenter=str(body["CostCenter"]) if as_text else body["CostCenter"])["CostCenter"] == number


@given(st.floats(allow_nan=False, allow_infinity=False), st.booleans())
def test_numbers_survive_the_way_there_and_back(number: float, as_text: bool) -> None:
    body = sent(Price=repr(number) if as_text else number)
    assert shown(Price=repr(body["Price"]) if as_text else body["Price"])["Price"] == number


@given(st.datetimes(timezones=st.timezones()).filter(lambda moment: 1 < moment.year < 9998))
def test_instants_survive_the_way_there_and_back(moment: Any) -> None:
    canonical = instant.canonical(moment.astimezone(UTC).isoformat())
    assert shown(Reviewed=sent(Reviewed=canonical)["Reviewed"])["Reviewed"] == canonical


@given(st.text(), st.lists(st.text()), st.text(min_size=1))
def test_texts_survive_the_way_there_and_back(title: str, keywords: list[str], state: str) -> None:
    fields = {"Title": title, "Keywords": keywords, "State": state}
    assert shown(**sent(**fields)) == fields


@pytest.mark.parametrize(
    ("name", "live", "desired"),
    [
        ("CostCenter", 4711, "4711"),
        ("Weight", 12.5, "12.50"),
        ("Price", "12345678901234567890.1230", "12345678901234567890.123"),
        ("Reviewed", "2024-08-19T12:16:48.000000Z", "2024-08-19T14:16:48+02:00"),
        ("State", "APPROVED", {"Value": "APPROVED", "Display": "Freigegeben"}),
    ],
)
def test_the_server_s_types_say_what_compares_equal(name: str, live: Any, desired: Any) -> None:
    steps = values.compared_as(TYPE)[name]
    assert normalise.equal(live, desired, steps)
    assert not normalise.equal(live, desired, ())


def test_texts_are_compared_as_they_are() -> None:
    assert values.compared_as(TYPE).keys().isdisjoint(("Title", "Due", "Keywords", "Controlled", "LastModified"))
    assert values.compared_as(EntityType("X")) == {}
    assert values.compared_as(TYPE)["Lines"] == (Normaliser.NUMBER,)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["Value", "Display", "x"]), inner),
    max_leaves=6,
)
NAMES = st.sampled_from([*TYPE.properties, "Unheard", "Context", "Title@PTC.AccessException", "@odata.type", "", "a/b"])


@given(st.dictionaries(NAMES, JSON, max_size=8))
def test_whatever_an_entity_holds_can_be_shown_compared_and_stored(entity: dict[str, Any]) -> None:
    found = values.incoming(entity, TYPE, ("Context",))
    assert found.unreadable.isdisjoint(found.body)
    tokens.seen("x", {"body": found.body})
    steps = values.compared_as(TYPE)
    for name, value in found.body.items():
        assert normalise.equal(value, value, steps.get(name, ()))


@given(NAMES, JSON)
@example("CostCenter", 5.735434315169131e16)  # a float that stands for several whole numbers
def test_what_is_sent_is_what_was_asked_for_or_nothing(name: str, value: Any) -> None:
    found = values.outgoing({name: value}, TYPE)
    if isinstance(found, Inexpressible):
        assert found.fields == (name,)
        assert found.message
    elif value is not None:
        shown_again = values.incoming(found, TYPE).body.get(name)
        steps = values.compared_as(TYPE).get(name, ())
        assert "@" in name or name in values.BOOKKEEPING or normalise.equal(shown_again, _said(value), steps)


def _said(value: Any) -> Any:
    """What a pair says."""
    if isinstance(value, list):
        return [_said(element) for element in value]
    if isinstance(value, dict) and value.keys() == {"Value", "Display"}:
        return value["Value"]
    return value
