"""
What a property is, and where a document keeps it: the one table behind $metadata, replies, filters and writes.

    dialect `wrs`       dialect `documents`
    Number              number, else id
    Name                name, else id
    Title, Description  title, description
    Organization        organization
    State               status
    Revision            revision, else A
    Owner               owner              (a soft attribute)
    other soft ones     attributes.NAME
    ModifiedBy          modifiedBy
    LastModified        modifiedOn

`$metadata` (CSDL XML) of the domain, from the same table as everything else.
"""

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import quoteattr

from attrs import evolve, frozen

from reconciler.simulator.wrs.options import Wrs

NAMESPACE = "PTC.DocMgmt"
BASE = "Document"
NAVIGATIONS = {"Context": "PTC.Container", "Folder": "PTC.Folder"}


@frozen
class Property:
    """One property of a type."""

    name: str
    kind: str = "Edm.String"
    path: str = ""
    """Dotted path in a document; empty: worked out, not kept."""
    read_only: bool = False
    action: str = ""
    """The action that alone can change it."""
    filterable: bool = True
    nullable: bool = True
    values: Mapping[str, str] | None = None
    """Of an enumeration: value → display."""


_COMMON = (
    Property("ID", read_only=True, nullable=False),
    Property("MasterID", read_only=True, filterable=False),
    Property("Number", action="UpdateCommonProperties", nullable=False),
    Property("Name", path="name", action="UpdateCommonProperties", nullable=False),
    Property("Organization", path="organization", action="UpdateCommonProperties", filterable=False),
    Property("Title", path="title"),
    Property("Description", path="description"),
    Property("Comments", read_only=True, filterable=False),
    Property("Revision", path="revision", read_only=True),
    Property("Version", read_only=True),
    Property("VersionID", read_only=True, filterable=False),
    Property("Latest", "Edm.Boolean", read_only=True),
    Property("State", "PTC.EnumType", path="status", action="SetState"),
    Property("CheckoutState", read_only=True, filterable=False),
    Property("CheckOutStatus", read_only=True, filterable=False),
    Property("WorkInProgressState", "PTC.EnumType", read_only=True, filterable=False),
    Property("CreatedBy", read_only=True, filterable=False),
    Property("ModifiedBy", read_only=True, filterable=False),
    Property("FolderLocation", read_only=True, filterable=False),
    Property("FolderName", read_only=True, filterable=False),
    Property("CreatedOn", "Edm.DateTimeOffset", read_only=True),
    Property("LastModified", "Edm.DateTimeOffset", read_only=True),
)
_CLASSES = {"PUBLIC": "Public", "INTERNAL": "Internal", "RESTRICTED": "Restricted"}
_SIZES = {"A4": "A4 (210 × 297 mm)", "A3": "A3 (297 × 420 mm)", "A0": "A0 (841 × 1189 mm)"}


def _soft(name: str, kind: str = "Edm.String", **more: Any) -> Property:
    return Property(name, kind, path=f"attributes.{name}", **more)


_SHARED = (
    Property("Owner", path="owner"),
    _soft("CostCenter"),
    _soft("Note"),
    _soft("Project"),
    _soft("Weight", "Edm.Double"),
    _soft("Keywords", "Collection(Edm.String)", filterable=False),
    _soft("Classification", "PTC.EnumType", values=_CLASSES),
    _soft("LegacyID", read_only=True),
)
_SUBTYPES = {
    "Specification": (
        _soft("Quantity", "Edm.Int64"),
        _soft("ExportControlled", "Edm.Boolean"),
        _soft("ReviewDue", "Edm.DateTimeOffset"),
    ),
    "Drawing": (
        _soft("Sheets", "Edm.Int64"),
        _soft("Scale", "Edm.Double"),
        _soft("Archived", "Edm.Boolean"),
        _soft("DrawnOn", "Edm.DateTimeOffset"),
        _soft("SheetSize", "PTC.EnumType", values=_SIZES),
    ),
}


@frozen
class Types:
    """Every type with its properties by name, as one set of switches has them."""

    properties: Mapping[str, Mapping[str, Property]]
    """Type → name → property, inherited ones included."""

    def own(self, name: str) -> list[Property]:
        inherited = {} if name == BASE else self.properties[BASE]
        return [found for found in self.properties[name].values() if found.name not in inherited]

    def any(self, name: str) -> Property | None:
        """The property of that name in whatever type has one."""
        for properties in self.properties.values():
            if name in properties:
                return properties[name]
        return None


def types(switches: Wrs) -> Types:
    """The types under these switches."""
    common = [evolve(found, values=switches.states) if found.name == "State" else found for found in _COMMON]
    common = [evolve(found, action="") if found.action not in ("", *switches.actions) else found for found in common]
    common = [evolve(found, read_only=True) if _out_of_reach(found) else found for found in common]
    more = [_soft(name, kind) for name, kind in switches.soft_attributes.items()]
    known = {BASE: {found.name: found for found in common}}
    for name, own in _SUBTYPES.items():
        known[name] = known[BASE] | {found.name: found for found in (*_SHARED, *own, *more)}
    return Types(known)


def _out_of_reach(found: Property) -> bool:
    """Whether nothing is left that could change it: its action is not bound here."""
    return found.name in ("Number", "Name", "Organization", "State") and not found.action


def type_of(key: str, document: Mapping[str, Any]) -> str:
    """A document's type: its `type`, else Drawing where the key ends with 3, 6 or 9, and Specification elsewhere."""
    named = document.get("type")
    if named in (BASE, *_SUBTYPES):
        return str(named)
    return "Drawing" if key[-1:] in ("3", "6", "9") else "Specification"


# ------------------------------------------------------------------------------------------------------------- metadata


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
<Term Name="UpdateableViaAction" Type="Edm.Boolean"/>
<EntityType Name="WindchillEntity" Abstract="true"/>
<EntityType Name="Container"><Key><PropertyRef Name="ID"/></Key>
<Property Name="ID" Type="Edm.String" Nullable="false"/><Property Name="Name" Type="Edm.String"/>
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
    return f'<NavigationProperty Name="{name}" Type="{NAVIGATIONS[name]}"/>\n'


def _bound(name: str, switches: Wrs) -> str:
    itself = f'<Parameter Name="Document" Type="{NAMESPACE}.{BASE}" Nullable="false"/>'
    if name == "IsCheckoutAllowed":
        return f'<Function Name="{name}" IsBound="true">{itself}<ReturnType Type="Edm.Boolean"/></Function>\n'
    if name == "GetValidStateTransitions":
        kind = "Collection(PTC.EnumType)" if switches.transitions_in == "value" else "PTC.EnumTypeList"
        return f'<Function Name="{name}" IsBound="true">{itself}<ReturnType Type="{kind}"/></Function>\n'
    result = f'<ReturnType Type="{NAMESPACE}.{BASE}"/>'
    return f'<Action Name="{name}" IsBound="true">{itself}{_TAKES[name]}{result}</Action>\n'
