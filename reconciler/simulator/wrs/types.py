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
"""

from collections.abc import Mapping
from typing import Any

from attrs import evolve, frozen

from reconciler.simulator.wrs.options import Wrs

NAMESPACE = "PTC.DocMgmt"
BASE = "Document"


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
    sortable: bool = True
    nullable: bool = True
    values: Mapping[str, str] | None = None
    """Of an enumeration: value → display."""


_SECRET: dict[str, Any] = {"filterable": False, "sortable": False}
_COMMON = (
    Property("ID", read_only=True, nullable=False),
    Property("MasterID", read_only=True, **_SECRET),
    Property("Number", action="UpdateCommonProperties", nullable=False),
    Property("Name", path="name", action="UpdateCommonProperties", nullable=False),
    Property("Organization", path="organization", action="UpdateCommonProperties", **_SECRET),
    Property("Title", path="title"),
    Property("Description", path="description", sortable=False),
    Property("Comments", read_only=True, **_SECRET),
    Property("Revision", path="revision", read_only=True),
    Property("Version", read_only=True),
    Property("VersionID", read_only=True, **_SECRET),
    Property("Latest", "Edm.Boolean", read_only=True, sortable=False),
    Property("State", "PTC.EnumType", path="status", action="SetState"),
    Property("CheckoutState", read_only=True, **_SECRET),
    Property("CheckOutStatus", read_only=True, **_SECRET),
    Property("WorkInProgressState", "PTC.EnumType", read_only=True, **_SECRET),
    Property("CreatedBy", read_only=True, **_SECRET),
    Property("ModifiedBy", read_only=True, **_SECRET),
    Property("FolderLocation", read_only=True, **_SECRET),
    Property("FolderName", read_only=True, **_SECRET),
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
    _soft("Keywords", "Collection(Edm.String)", **_SECRET),
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
        """The properties that a type declares itself."""
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
