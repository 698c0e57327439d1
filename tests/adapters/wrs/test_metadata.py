"""What is made of `$metadata`, whoever wrote it."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.adapters.wrs import metadata
from reconciler.adapters.wrs.metadata import Kind, MetadataError, Operation, Schema
from tests.adapters.wrs.odata import METADATA, PLAIN

EDM = 'xmlns="http://docs.oasis-open.org/odata/ns/edm"'
EDMX = 'Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx"'
SET = '<EntityContainer Name="C"><EntitySet Name="Documents" EntityType="N.D"/></EntityContainer>'


def parse(xml: str, *further: str) -> Schema:
    return metadata.parse(xml.encode(), "Documents", *(text.encode() for text in further))


def wrapped(inside: str, before: str = "") -> str:
    return f"<edmx:Edmx {EDMX}>{before}<edmx:DataServices>{inside}</edmx:DataServices></edmx:Edmx>"


def schema(inside: str, attributes: str = 'Namespace="N"') -> str:
    return f"<Schema {attributes} {EDM}>{inside}</Schema>"


def documents(properties: str, more: str = "") -> Schema:
    return parse(wrapped(schema(f'<EntityType Name="D">{properties}</EntityType>{SET}{more}')))


def names(operations: Mapping[str, Operation]) -> dict[str, str]:
    return {name: operation.name for name, operation in operations.items()}


def test_a_type_has_what_it_inherits() -> None:
    found = parse(METADATA).type("#PTC.DocMgmt.Specification")
    assert found is not None
    assert found.key == ("ID",)
    assert found.whole
    assert {"ID", "LastModified", "Number", "State", "CostCenter"} <= found.properties.keys()


def test_an_entity_without_a_type_is_of_the_sets_own() -> None:
    found = parse(METADATA).type(None)
    assert found is not None
    assert found.name == "PTC.DocMgmt.Document"
    assert "CostCenter" not in found.properties


def test_a_type_that_no_one_describes_is_not_known() -> None:
    assert parse(METADATA).type("#PTC.DocMgmt.Novelty") is None


@pytest.mark.parametrize(
    ("name", "kind", "collection"),
    [
        ("Title", Kind.TEXT, False),
        ("CostCenter", Kind.INTEGER, False),
        ("Count", Kind.INTEGER, False),
        ("Weight", Kind.NUMBER, False),
        ("Price", Kind.NUMBER, False),
        ("Controlled", Kind.TRUTH, False),
        ("Due", Kind.DATE, False),
        ("Reviewed", Kind.INSTANT, False),
        ("State", Kind.ENUMERATION, False),
        ("Keywords", Kind.TEXT, True),
        ("Lines", Kind.INTEGER, True),
        ("Roles", Kind.ENUMERATION, True),
    ],
)
def test_a_property_has_the_kind_of_its_type(name: str, kind: Kind, collection: bool) -> None:
    found = parse(METADATA).types["PTC.DocMgmt.Specification"].properties[name]
    assert (found.kind, found.collection) == (kind, collection)


def test_annotations_say_what_can_be_written_and_asked_for() -> None:
    properties = parse(METADATA).document.properties
    assert [name for name, p in properties.items() if p.read_only] == ["ID", "CreatedOn", "LastModified", "Latest"]
    assert [name for name, p in properties.items() if p.by_action] == ["State"]
    assert [name for name, p in properties.items() if not p.filterable] == ["CheckoutState"]
    assert [name for name, p in properties.items() if not p.nullable] == ["ID", "Name"]


def test_navigations_say_where_they_lead_and_whether_an_action_moves_them() -> None:
    navigations = parse(METADATA).document.navigations
    assert (navigations["Context"].type, navigations["Context"].collection) == ("PTC.WindchillEntity", False)
    assert navigations["Attachments"].collection
    assert [name for name, n in navigations.items() if n.by_action] == ["Organization"]


def test_only_what_is_bound_to_one_document_or_its_base_is_an_action_on_it() -> None:
    found = parse(METADATA)
    assert names(found.actions) == {
        "CheckOut": "PTC.DocMgmt.CheckOut",
        "CheckIn": "PTC.DocMgmt.CheckIn",
        "SetState": "PTC.DocMgmt.SetState",
        "UndoCheckOut": "PTC.DocMgmt.UndoCheckOut",
        "UpdateCommonProperties": "PTC.DocMgmt.UpdateCommonProperties",
    }
    assert names(found.functions) == {"GetValidStateTransitions": "PTC.DocMgmt.GetValidStateTransitions"}
    assert found.action("CheckOut") == "PTC.DocMgmt.CheckOut"
    assert found.action("Calibrate") is None


def test_an_operation_takes_parameters_beside_the_document_and_says_what_it_returns() -> None:
    found = parse(METADATA)
    check_in = found.actions["CheckIn"]
    assert {name: (p.kind, p.nullable) for name, p in check_in.parameters.items()} == {
        "CheckInNote": (Kind.TEXT, True),
        "CheckOutNote": (Kind.TEXT, True),
        "KeepCheckedOut": (Kind.TRUTH, True),
    }
    assert check_in.returns is not None
    assert check_in.returns.type == "PTC.DocMgmt.Document"
    assert check_in.members is None
    transitions = found.functions["GetValidStateTransitions"]
    assert transitions.returns is not None
    assert transitions.returns.type == "PTC.EnumTypeList"
    assert transitions.members is not None
    assert [(m.name, m.kind, m.collection, m.paired) for m in transitions.members.values()] == [
        ("Items", Kind.ENUMERATION, True, True)
    ]
    assert found.actions["UpdateCommonProperties"].returns is None


def test_a_plain_service_has_no_actions_and_all_can_be_written_but_what_it_computes() -> None:
    found = parse(PLAIN)
    assert not found.actions
    assert found.document.key == ("ID",)
    assert [name for name, p in found.document.properties.items() if p.read_only] == ["modifiedAt"]


@pytest.mark.parametrize("term", ["PTC.ReadOnly", "Core.Immutable", "Org.OData.Core.V1.Computed"])
@pytest.mark.parametrize(
    ("value", "read_only"),
    [("/>", True), (' Bool="true"/>', True), (' Bool="false"/>', False), ("><Bool>false</Bool></Annotation>", False)],
)
def test_an_annotation_can_say_no(term: str, value: str, read_only: bool) -> None:
    found = documents(f'<Property Name="A" Type="Edm.String"><Annotation Term="{term}"{value}</Property>')
    assert found.document.properties["A"].read_only is read_only


def test_a_plain_enumeration_goes_by_its_name_and_a_defined_type_by_what_it_stands_for() -> None:
    found = documents(
        '<Property Name="A" Type="N.Colour"/><Property Name="B" Type="N.Weight"/><Property Name="C" Type="N.Icon"/>',
        '<EnumType Name="Colour"><Member Name="RED"/></EnumType>'
        '<TypeDefinition Name="Weight" UnderlyingType="Edm.Decimal"/>'
        '<ComplexType Name="Icon"><Property Name="Path" Type="Edm.String"/></ComplexType>',
    ).document.properties
    assert (found["A"].kind, found["A"].paired) == (Kind.ENUMERATION, False)
    assert found["B"].kind is Kind.NUMBER
    assert found["C"].kind is Kind.OTHER


def test_an_alias_stands_for_its_namespace() -> None:
    text = (
        '<EntityType Name="B"><Property Name="A" Type="Self.T"/></EntityType>'
        '<EntityType Name="D" BaseType="Self.B"/><TypeDefinition Name="T" UnderlyingType="Edm.Int32"/>'
        '<Annotations Target="Self.D/A"><Annotation Term="PTC.ReadOnly"/></Annotations>'
        '<Action Name="Go" IsBound="true"><Parameter Name="x" Type="Self.B"/></Action>'
        '<EntityContainer Name="C"><EntitySet Name="Documents" EntityType="Self.D"/></EntityContainer>'
    )
    found = parse(wrapped(schema(text, 'Namespace="Long.Name" Alias="Self"')))
    assert found.document.name == "Long.Name.D"
    assert found.document.properties["A"].kind is Kind.INTEGER
    assert names(found.actions) == {"Go": "Long.Name.Go"}


BORROWING = wrapped(
    schema(
        '<EntityType Name="D" BaseType="PTC.Base"><Property Name="S" Type="PTC.EnumType"/>'
        f'<Property Name="V" Type="Far.Thing"/></EntityType>{SET}'
    ),
    '<edmx:Reference Uri="../PTC/$metadata"><edmx:Include Namespace="PTC"/></edmx:Reference>'
    '<edmx:Reference Uri="https://oasis.example/Core.xml"><edmx:Include Namespace="Org.OData.Core.V1" Alias="Core"/>'
    "</edmx:Reference>",
)


def test_what_is_described_elsewhere_is_looked_for_there() -> None:
    assert metadata.references(BORROWING.encode()) == ("../PTC/$metadata",)
    there = wrapped(
        schema(
            '<EntityType Name="Base"><Key><PropertyRef Name="ID"/></Key><Property Name="ID" Type="Edm.String"/>'
            '</EntityType><Action Name="SetState" IsBound="true"><Parameter Name="e" Type="PTC.Base"/></Action>',
            'Namespace="PTC"',
        )
    )
    found = parse(BORROWING, there)
    assert found.document.whole
    assert found.document.key == ("ID",)
    assert names(found.actions) == {"SetState": "PTC.SetState"}


def test_what_is_described_nowhere_leaves_a_type_open_and_ptcs_enumerations_known() -> None:
    found = parse(BORROWING).document
    assert not found.whole
    assert (found.properties["S"].kind, found.properties["S"].paired) == (Kind.ENUMERATION, True)
    assert found.properties["V"].kind is Kind.OTHER


def test_an_open_type_may_have_more_than_its_metadata_says() -> None:
    assert not parse(wrapped(schema(f'<EntityType Name="D" OpenType="true"/>{SET}'))).document.whole
    assert parse(wrapped(schema(f'<EntityType Name="D"/>{SET}'))).document.whole


def test_what_is_described_here_is_looked_for_nowhere_else() -> None:
    again = '<edmx:Reference Uri="x"><edmx:Include Namespace="N"/></edmx:Reference>'
    text = wrapped(schema(f'<EntityType Name="B"/><EntityType Name="D" BaseType="N.B"/>{SET}'), again)
    assert metadata.references(text.encode()) == ()


def test_types_that_are_each_others_base_end_somewhere() -> None:
    found = parse(wrapped(schema(f'<EntityType Name="D" BaseType="N.E"/><EntityType Name="E" BaseType="N.D"/>{SET}')))
    assert not found.document.whole


LAUGHS = "".join(f'<!ENTITY l{n} "{"&l" + str(n - 1) + ";" if n else "ha"}{"x" * 9}">' for n in range(30))


@pytest.mark.parametrize(
    "hostile",
    [
        f"<!DOCTYPE e [{LAUGHS}]>" + wrapped(schema(f'<EntityType Name="D"/>{SET}&l29;')),
        '<!DOCTYPE e SYSTEM "http://127.0.0.1:9/x.dtd"><edmx/>',
        '<!DOCTYPE e [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + wrapped(schema(f'<EntityType Name="&x;"/>{SET}')),
    ],
)
def test_a_document_type_declaration_ends_the_reading(hostile: str) -> None:
    with pytest.raises(MetadataError, match="declares a document type"):
        parse(hostile)


@pytest.mark.parametrize(
    ("xml", "says"),
    [
        ("", "can't be read"),
        ("<html>", "can't be read"),
        ("&unheard;", "can't be read"),
        ("<a>&unheard;</a>", "can't be read"),
        ('<?xml version="1.0" encoding="x-no-one"?><a/>', "can't be read"),
        ("<a>" * 50 + "</a>" * 50, "nested more than"),
        ("<html/>", "knows no entity set Documents"),
        (wrapped(schema(SET)), "does not describe the type N.D"),
        (wrapped(schema(f'<ComplexType Name="D"/>{SET}')), "no entity type"),
    ],
)
def test_what_is_no_metadata_is_said_to_be_none(xml: str, says: str) -> None:
    with pytest.raises(MetadataError, match=says):
        parse(xml)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_broken_metadata_is_refused_or_read_and_nothing_else(data: st.DataObject) -> None:
    text = bytearray(data.draw(st.sampled_from([METADATA, PLAIN, BORROWING])).encode())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(text) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                text[place] = data.draw(st.integers(0, 255))
            case 1:
                del text[place : place + data.draw(st.integers(1, 60))]
            case 2:
                text[place:place] = text[place : place + data.draw(st.integers(1, 200))]
    for read in (lambda: metadata.parse(bytes(text), "Documents"), lambda: metadata.references(bytes(text))):
        try:
            read()
        except MetadataError as error:
            assert str(error)  # noqa: PT017  it may also be read after all


@given(st.binary(max_size=200))
def test_bytes_are_no_metadata(text: bytes) -> None:
    with pytest.raises(MetadataError):
        metadata.parse(text, "Documents")
