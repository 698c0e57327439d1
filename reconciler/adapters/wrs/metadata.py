"""
Metadata: what `$metadata` (OData CSDL XML 4.0) says about a document's types, as a `Schema`. Pure.

Rules
- The XML is not trusted. expat reads it event by event, and a document type declaration ends the reading, so no entity
  is expanded and nothing is fetched. Nesting is limited here, size by the client. (`xml.etree` would build a tree of
  everything first, and leaves declarations to its caller as well.)
- Namespaces of elements are ignored: they differ between OData 4.0 and 4.01.
- Nothing is assumed: a type whose base is described elsewhere is `whole=False`, so that a property it does not describe
  may exist.
- PTC's annotations count, and so do the standard's own (`Core.Computed`, `Core.Immutable`). Without any, everything but
  the key can be written.
"""

import enum
from collections.abc import Iterator, Mapping, Sequence
from xml.parsers import expat

import attrs

DEPTH_MAX = 32  # CSDL itself needs about ten
_CORE = ("Org.OData.Core.V1", "Core")  # the standard's vocabulary, and its usual alias
_READ_ONLY_TERMS = frozenset(
    ("PTC.ReadOnly", *(f"{core}.{term}" for core in _CORE for term in ("Computed", "Immutable")))
)
_NOT_FILTERABLE_TERM = "PTC.NonFilterable"
_BY_ACTION_TERM = "PTC.UpdateableViaAction"
_LABEL_TERMS = ("DisplayName", "Label")
_PTC_ENUMERATION = "PTC.EnumType"  # also if the domain that describes it was not read
_PAIR = frozenset(("Value", "Display"))  # the members of a complex type that is one of PTC's enumerations
_TYPES = ("EntityType", "ComplexType", "EnumType", "TypeDefinition")
_OPERATIONS = ("Action", "Function", "Parameter", "ReturnType")
_OTHERS = ("Schema", "Key", "PropertyRef", "Property", "NavigationProperty", *_OPERATIONS)
_KEPT = frozenset((*_TYPES, *_OTHERS, "EntitySet", "Annotations", "Annotation", "Bool", "Reference", "Include"))


class Kind(enum.StrEnum):
    """The sort of value of a property, or of each element of its collection."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    TRUTH = "truth"
    INSTANT = "instant"
    DATE = "date"
    ENUMERATION = "enumeration"
    OTHER = "other"  # passed on as it is


_EDM = {
    "Edm.String": Kind.TEXT,
    "Edm.Boolean": Kind.TRUTH,
    "Edm.DateTimeOffset": Kind.INSTANT,
    "Edm.Date": Kind.DATE,
    **dict.fromkeys(("Edm.Byte", "Edm.SByte", "Edm.Int16", "Edm.Int32", "Edm.Int64"), Kind.INTEGER),
    **dict.fromkeys(("Edm.Single", "Edm.Double", "Edm.Decimal"), Kind.NUMBER),
}


class MetadataError(ValueError):
    """This is not a usable `$metadata`; the message says why."""


@attrs.frozen
class Property:
    """One property of a type."""

    name: str
    kind: Kind
    type: str  # as the metadata calls it, of one element: `Edm.Int64`
    read_only: bool = False
    by_action: bool = False  # not by PATCH: an action changes it
    nullable: bool = True
    collection: bool = False
    filterable: bool = True
    label: str = ""  # what people call it; empty if the metadata does not say
    paired: bool = False  # an enumeration sent as {"Value": …, "Display": …}; else as a name alone


@attrs.frozen
class Navigation:
    """A property that leads to other entities."""

    name: str
    type: str
    collection: bool = False
    by_action: bool = False


@attrs.frozen
class EntityType:
    """A type of entity, with what it inherits."""

    name: str  # with its namespace
    key: tuple[str, ...] = ()
    properties: Mapping[str, Property] = attrs.field(factory=dict)
    navigations: Mapping[str, Navigation] = attrs.field(factory=dict)
    whole: bool = True  # False: a base type is described elsewhere, so there may be more properties


@attrs.frozen
class Operation:
    """An action or function that is bound to a document."""

    name: str  # with its namespace
    parameters: Mapping[str, Property] = attrs.field(factory=dict)  # beside the document
    returns: Property | None = None  # without a name; None: nothing
    members: Mapping[str, Property] | None = None  # of its result, if that is a complex type described here


@attrs.frozen
class Schema:
    """The types of one service, seen from the entity set of the documents."""

    document: EntityType  # the type of the entity set
    types: Mapping[str, EntityType]
    actions: Mapping[str, Operation]  # bound to a document, by the last part of the name
    functions: Mapping[str, Operation]

    def type(self, name: str | None) -> EntityType | None:
        """Return the type that an entity's `@odata.type` names, without one the set's own; None: not known."""
        if name is None:
            return self.document
        return self.types.get(name.rpartition("#")[2])

    def action(self, name: str) -> str | None:
        """Return the whole name of an action on a document: `CheckOut` → `PTC.DocMgmt.CheckOut`."""
        found = self.actions.get(name)
        return None if found is None else found.name


@attrs.frozen
class _Element:
    """An element of the CSDL that matters here, with those within it."""

    name: str
    attributes: Mapping[str, str]
    children: list["_Element"] = attrs.field(factory=list)
    text: list[str] = attrs.field(factory=list)

    def get(self, attribute: str) -> str:
        return self.attributes.get(attribute, "")

    def within(self, *names: str) -> Iterator["_Element"]:
        return (child for child in self.children if child.name in names)


def parse(xml: bytes, entity_set: str, *further: bytes) -> Schema:
    """
    Return the schema of a service; `further` are metadata of other services that it refers to.

    Raises MetadataError if it is not CSDL, or describes no such entity set.
    """
    described = [schema for text in (xml, *further) for schema in _tree(text).within("Schema")]
    reading = _Reading(described)
    for schema in described:
        for candidate in schema.within("EntitySet"):
            if candidate.get("Name") == entity_set:
                return reading.schema(candidate.get("EntityType"))
    raise MetadataError(f"the service's metadata knows no entity set {entity_set}")


def references(xml: bytes) -> tuple[str, ...]:
    """Return the addresses of metadata that describes types which this one uses but does not describe."""
    tree = _tree(xml)
    schemas = list(tree.within("Schema"))
    described = {name for schema in schemas for name in (schema.get("Namespace"), schema.get("Alias"))}
    used = {_namespace(name) for schema in schemas for name in _types_used(schema)} - described - {"Edm", ""}
    return tuple(
        reference.get("Uri")
        for reference in tree.within("Reference")
        if any({include.get("Namespace"), include.get("Alias")} & used for include in reference.within("Include"))
    )


class _Reading:
    """The schemas of a service, by whole name."""

    def __init__(self, schemas: Sequence[_Element]) -> None:
        self._namespaces = {schema.get("Alias"): schema.get("Namespace") for schema in schemas if schema.get("Alias")}
        self._described: dict[str, _Element] = {}
        self._annotations: dict[str, list[_Element]] = {}  # by target
        self._owned: dict[str, tuple[dict[str, Property], dict[str, Navigation]]] = {}
        for schema in schemas:
            for element in schema.within(*_TYPES):
                self._described.setdefault(f"{schema.get('Namespace')}.{element.get('Name')}", element)
            for element in schema.within("Annotations"):
                owner, slash, member = element.get("Target").partition("/")
                self._annotations.setdefault(self._whole(owner) + slash + member, []).append(element)
        self._operations = [
            (f"{schema.get('Namespace')}.{element.get('Name')}", element)
            for schema in schemas
            for element in schema.within("Action", "Function")
            if element.get("IsBound") == "true"
        ]

    def schema(self, document: str) -> Schema:
        name = self._whole(document)
        if name not in self._described:
            raise MetadataError(f"the service's metadata does not describe the type {name}")
        entities = {other for other, element in self._described.items() if element.name == "EntityType"}
        types = {other: self._entity(other) for other in entities}
        if name not in types:
            raise MetadataError(f"{name} is no entity type")
        return Schema(types[name], types, self._bound("Action", name), self._bound("Function", name))

    def _bound(self, sort: str, document: str) -> dict[str, Operation]:
        """Return the operations bound to one document, or to one of a base type of documents."""
        lineage = {name for name, _ in self._lineage(document)}
        found: dict[str, Operation] = {}
        for name, element in self._operations:
            first = next(element.within("Parameter"), None)
            if element.name == sort and first is not None and self._whole(first.get("Type")) in lineage:
                found.setdefault(element.get("Name"), self._operation(name, element))
        return found

    def _operation(self, name: str, element: _Element) -> Operation:
        _, *further = element.within("Parameter")
        returned = next(element.within("ReturnType"), None)
        returns = None if returned is None else self._property(name, returned)
        described = None if returns is None else self._described.get(returns.type)
        members = None
        if described is not None and described.name == "ComplexType":
            members = {p.get("Name"): self._property(described.get("Name"), p) for p in described.within("Property")}
        return Operation(name, {p.get("Name"): self._property(name, p) for p in further}, returns, members)

    def _lineage(self, name: str) -> list[tuple[str, _Element | None]]:
        """Return a type and its base types, nearest first, up to one that is not described or comes again."""
        found: dict[str, _Element | None] = {}
        while name and name not in found:
            element = self._described.get(name)
            found[name] = element
            name = "" if element is None else self._whole(element.get("BaseType"))
        return list(found.items())

    def _entity(self, name: str) -> EntityType:
        lineage = [(owner, element) for owner, element in reversed(self._lineage(name)) if element is not None]
        key: tuple[str, ...] = ()
        properties: dict[str, Property] = {}
        navigations: dict[str, Navigation] = {}
        for owner, element in lineage:
            key = tuple(ref.get("Name") for k in element.within("Key") for ref in k.within("PropertyRef")) or key
            own = self._own(owner, element)
            properties |= own[0]
            navigations |= own[1]
        whole = not self._whole(lineage[0][1].get("BaseType"))
        open_type = any(element.get("OpenType") == "true" for _, element in lineage)
        return EntityType(name, key, properties, navigations, whole and not open_type)

    def _own(self, owner: str, element: _Element) -> tuple[dict[str, Property], dict[str, Navigation]]:
        """Return what a type declares itself; read once, since a base may have hundreds of derived types."""
        if owner not in self._owned:
            self._owned[owner] = (
                {p.get("Name"): self._property(owner, p) for p in element.within("Property")},
                {n.get("Name"): self._navigation(owner, n) for n in element.within("NavigationProperty")},
            )
        return self._owned[owner]

    def _property(self, owner: str, element: _Element) -> Property:
        name, collection = _single(element.get("Type"))
        whole_name = self._whole(name)
        kind, paired = self._kind(whole_name)
        terms = self._terms(owner, element)
        return Property(
            element.get("Name"),
            kind,
            whole_name,
            read_only=not terms.isdisjoint(_READ_ONLY_TERMS),
            by_action=_BY_ACTION_TERM in terms,
            nullable=element.get("Nullable") != "false",
            collection=collection,
            filterable=_NOT_FILTERABLE_TERM not in terms,
            label=self._label(owner, element),
            paired=paired,
        )

    def _navigation(self, owner: str, element: _Element) -> Navigation:
        name, collection = _single(element.get("Type"))
        by_action = _BY_ACTION_TERM in self._terms(owner, element)
        return Navigation(element.get("Name"), self._whole(name), collection, by_action)

    def _kind(self, type: str) -> tuple[Kind, bool]:
        """Return the sort of value of a type, and whether it is a pair of `Value` and `Display`."""
        element = self._described.get(type)
        if element is None:
            return _EDM.get(
                type, Kind.ENUMERATION if type == _PTC_ENUMERATION else Kind.OTHER
            ), type == _PTC_ENUMERATION
        match element.name:
            case "EnumType":
                return Kind.ENUMERATION, False
            case "TypeDefinition":
                return _EDM.get(element.get("UnderlyingType"), Kind.OTHER), False
            case "ComplexType" if {p.get("Name") for p in element.within("Property")} == _PAIR:
                return Kind.ENUMERATION, True
        return Kind.OTHER, False

    def _terms(self, owner: str, element: _Element) -> set[str]:
        apart = self._annotations.get(f"{owner}/{element.get('Name')}", [])
        return {a.get("Term") for e in (element, *apart) for a in e.within("Annotation") if _holds(a)}

    def _label(self, owner: str, element: _Element) -> str:
        """Return a property's display name, in whichever vocabulary it is given."""
        apart = self._annotations.get(f"{owner}/{element.get('Name')}", [])
        for annotation in (a for e in (element, *apart) for a in e.within("Annotation")):
            if annotation.get("Term").rpartition(".")[2] in _LABEL_TERMS:
                return annotation.get("String").strip()
        return ""

    def _whole(self, name: str) -> str:
        """Return a name with its namespace instead of an alias for it."""
        namespace, dot, last = name.rpartition(".")
        return self._namespaces.get(namespace, namespace) + dot + last


def _single(type: str) -> tuple[str, bool]:
    """Return the type of one value, and whether there may be many."""
    inner = type.removeprefix("Collection(")
    return (inner.removesuffix(")"), True) if inner != type else (type or "Edm.String", False)


def _namespace(type: str) -> str:
    return _single(type)[0].rpartition(".")[0]


def _types_used(schema: _Element) -> Iterator[str]:
    for element in schema.within("EntityType", "ComplexType"):
        yield element.get("BaseType")
        yield from (member.get("Type") for member in element.within("Property"))


def _holds(annotation: _Element) -> bool:
    """Whether an annotation is true, as one without a value is."""
    said = annotation.get("Bool") or "".join("".join(inner.text) for inner in annotation.within("Bool"))
    return said.strip().lower() not in ("false", "0")


def _tree(xml: bytes) -> _Element:
    """Return the elements that matter; children of other elements go to the one around them."""
    root = _Element("", {})
    path = [root]

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(path) > DEPTH_MAX:
            raise MetadataError(f"the metadata is nested more than {DEPTH_MAX} deep")
        local = name.rpartition(":")[2]
        if local not in _KEPT:
            path.append(path[-1])
            return
        element = _Element(local, attributes)
        path[-1].children.append(element)
        path.append(element)

    def end(_: str) -> None:
        path.pop()

    def text(said: str) -> None:
        if path[-1].name == "Bool":
            path[-1].text.append(said)

    def doctype(*_: object) -> None:
        raise MetadataError("the metadata declares a document type, which CSDL never does")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = doctype
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    try:
        parser.Parse(xml, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        raise MetadataError(f"the metadata can't be read: {error}") from error
    return root
