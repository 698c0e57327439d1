"""`$metadata` (CSDL XML) of the domain, from the same table as everything else."""

from xml.sax.saxutils import quoteattr

from reconciler.simulator.wrs.entities import NAVIGATIONS
from reconciler.simulator.wrs.options import Wrs
from reconciler.simulator.wrs.types import BASE, NAMESPACE, Property, Types

_HEAD = f"""<?xml version="1.0" encoding="UTF-8"?>
<edmx:Edmx Version="4.0" xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx">
<edmx:DataServices>
<Schema Namespace="PTC" xmlns="http://docs.oasis-open.org/odata/ns/edm">
<ComplexType Name="EnumType">
<Property Name="Value" Type="Edm.String"/>
<Property Name="Display" Type="Edm.String"/>
</ComplexType>
<ComplexType Name="EnumTypeList">
<Property Name="Items" Type="Collection(PTC.EnumType)"/>
</ComplexType>
<Term Name="ReadOnly" Type="Edm.Boolean"/>
<Term Name="NonFilterable" Type="Edm.Boolean"/>
<Term Name="NonSortable" Type="Edm.Boolean"/>
<Term Name="UpdateableViaAction" Type="Edm.Boolean"/>
<EntityType Name="WindchillEntity" Abstract="true"/>
<EntityType Name="Container"><Key><PropertyRef Name="ID"/></Key>
<Property Name="ID" Type="Edm.String" Nullable="false"/><Property Name="Name" Type="Edm.String"/>
</EntityType>
<EntityType Name="User"><Key><PropertyRef Name="Name"/></Key>
<Property Name="Name" Type="Edm.String" Nullable="false"/><Property Name="FullName" Type="Edm.String"/>
</EntityType>
<EntityType Name="Folder"><Key><PropertyRef Name="ID"/></Key>
<Property Name="ID" Type="Edm.String" Nullable="false"/><Property Name="Name" Type="Edm.String"/>
<Property Name="Location" Type="Edm.String"/>
</EntityType>
</Schema>
<Schema Namespace="{NAMESPACE}" xmlns="http://docs.oasis-open.org/odata/ns/edm">
<ComplexType Name="CommonProperties">
<Property Name="Name" Type="Edm.String"/>
<Property Name="Number" Type="Edm.String"/>
<Property Name="Organization" Type="Edm.String"/>
</ComplexType>
"""
_LEADS_TO = dict(zip(NAVIGATIONS, ("PTC.Container", "PTC.Folder", "PTC.User", "PTC.User"), strict=True))
_TAIL = f"""<EntityContainer Name="Container">
<EntitySet Name="Documents" EntityType="{NAMESPACE}.{BASE}"/>
</EntityContainer>
</Schema>
</edmx:DataServices>
</edmx:Edmx>
"""
_TAKES = {
    "CheckOut": '<Parameter Name="CheckOutNote" Type="Edm.String"/>',
    "CheckIn": (
        '<Parameter Name="CheckInNote" Type="Edm.String"/>'
        '<Parameter Name="CheckOutNote" Type="Edm.String"/>'
        '<Parameter Name="KeepCheckedOut" Type="Edm.Boolean"/>'
    ),
    "UndoCheckOut": "",
    "SetState": '<Parameter Name="State" Type="PTC.EnumType" Nullable="false"/>',
    "UpdateCommonProperties": f'<Parameter Name="Updates" Type="{NAMESPACE}.CommonProperties" Nullable="false"/>',
}
_ANNOTATIONS = (
    ("PTC.ReadOnly", lambda found: found.read_only),
    ("PTC.UpdateableViaAction", lambda found: bool(found.action)),
    ("PTC.NonFilterable", lambda found: not found.filterable),
    ("PTC.NonSortable", lambda found: not found.sortable),
)


def document(types: Types, switches: Wrs) -> bytes:
    """The whole document."""
    parts = [_HEAD]
    parts += [_type(name, types) for name in types.properties]
    parts += [_bound(name, switches) for name in switches.actions]
    return "".join([*parts, _TAIL]).encode()


def _type(name: str, types: Types) -> str:
    inherits = "PTC.WindchillEntity" if name == BASE else f"{NAMESPACE}.{BASE}"
    key = '<Key><PropertyRef Name="ID"/></Key>\n' if name == BASE else ""
    links = "" if name != BASE else "".join(map(_navigation, NAVIGATIONS))
    own = "".join(map(_property, types.own(name)))
    return f'<EntityType Name="{name}" BaseType="{inherits}">\n{key}{own}{links}</EntityType>\n'


def _property(found: Property) -> str:
    nullable = "" if found.nullable else ' Nullable="false"'
    told = "".join(f'<Annotation Term="{term}" Bool="true"/>' for term, holds in _ANNOTATIONS if holds(found))
    start = f"<Property Name={quoteattr(found.name)} Type={quoteattr(found.kind)}{nullable}"
    return f"{start}>{told}</Property>\n" if told else f"{start}/>\n"


def _navigation(name: str) -> str:
    return f'<NavigationProperty Name="{name}" Type="{_LEADS_TO[name]}"/>\n'


def _bound(name: str, switches: Wrs) -> str:
    itself = f'<Parameter Name="Document" Type="{NAMESPACE}.{BASE}" Nullable="false"/>'
    if name == "IsCheckoutAllowed":
        return f'<Function Name="{name}" IsBound="true">{itself}<ReturnType Type="Edm.Boolean"/></Function>\n'
    if name == "GetValidStateTransitions":
        kind = "Collection(PTC.EnumType)" if switches.transitions_in == "value" else "PTC.EnumTypeList"
        return f'<Function Name="{name}" IsBound="true">{itself}<ReturnType Type="{kind}"/></Function>\n'
    result = f'<ReturnType Type="{NAMESPACE}.{BASE}"/>'
    return f'<Action Name="{name}" IsBound="true">{itself}{_TAKES[name]}{result}</Action>\n'
