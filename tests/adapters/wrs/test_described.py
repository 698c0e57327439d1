"""
The contract with a server's own description: `$metadata` of DocMgmt v7 and PTC v5, in the shape of WRS 2.

The two files were written for this test after the shape of public descriptions; they are excerpts, with made-up soft
types. `signatures` compares the actions with how we call them, so a difference from what our own simulator describes
shows here.
"""

from pathlib import Path

import pytest

from reconciler.adapters.wrs import metadata, signatures
from reconciler.adapters.wrs.metadata import Kind, Schema

SHAPES = Path(__file__).parent / "described"


@pytest.fixture(scope="module")
def schema() -> Schema:
    read = [(SHAPES / name).read_bytes() for name in ("DocMgmt.xml", "PTC.xml")]
    return metadata.parse(read[0], "Documents", read[1])


def test_a_document_and_its_soft_types_are_known_whole(schema: Schema) -> None:
    assert schema.document.name == "PTC.DocMgmt.Document"
    assert schema.document.key == ("ID",)
    soft = schema.type("#PTC.DocMgmt.Specification")
    assert soft is not None
    assert (soft.whole, soft.key) == (True, ("ID",))
    kinds = {
        name: (soft.properties[name].kind, soft.properties[name].collection) for name in ("CostCenter", "Keywords")
    }
    assert kinds == {"CostCenter": (Kind.INTEGER, False), "Keywords": (Kind.TEXT, True)}
    assert (soft.properties["Grade"].kind, soft.properties["Grade"].paired) == (Kind.ENUMERATION, True)
    assert soft.properties["Responsible"].label == "Responsible Engineer"
    assert soft.properties["Weight"].kind is Kind.OTHER


def test_who_and_when_can_only_be_read_and_there_is_no_owner(schema: Schema) -> None:
    properties = schema.document.properties
    assert all(properties[name].read_only for name in ("CreatedBy", "ModifiedBy", "CreatedOn", "LastModified"))
    every = {name.lower() for kind in schema.types.values() for name in (*kind.properties, *kind.navigations)}
    assert "owner" not in every


def test_state_number_and_name_are_changed_by_actions_alone(schema: Schema) -> None:
    by_action = [name for name, one in schema.document.properties.items() if one.by_action]
    assert by_action == ["Number", "Name", "State"]
    assert schema.document.navigations["Organization"].by_action
    assert (schema.document.properties["State"].kind, schema.document.properties["State"].paired) == (
        Kind.ENUMERATION,
        True,
    )


def test_the_actions_are_found_and_are_as_we_call_them(schema: Schema) -> None:
    assert schema.actions.keys() >= {"CheckOut", "CheckIn", "UndoCheckOut", "SetState", "UpdateCommonProperties"}
    assert "CheckOutDocuments" not in schema.actions
    assert list(schema.actions["CheckOut"].parameters) == ["CheckOutNote"]
    assert signatures.differences(schema) == []


def test_allowed_states_come_as_items(schema: Schema) -> None:
    assert schema.functions.keys() == {"GetValidStateTransitions", "IsCheckoutAllowed"}
    members = schema.functions["GetValidStateTransitions"].members
    assert members is not None
    assert (members["Items"].kind, members["Items"].collection) == (Kind.ENUMERATION, True)
