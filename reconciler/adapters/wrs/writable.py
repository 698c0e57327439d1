"""Which fields can be written, in which way, and as what: as far as the metadata tells. Pure."""

import enum
from collections.abc import Collection, Mapping

from reconciler.adapters import replies
from reconciler.adapters.wrs import values
from reconciler.adapters.wrs.metadata import EntityType, Schema
from reconciler.adapters.wrs.values import Inexpressible
from reconciler.model.answer import Refused
from reconciler.model.snapshot import Snapshot
from reconciler.model.value import Json, canonical

COMMON = frozenset(("Name", "Number", "Organization"))
STATE = frozenset(("State",))


class Way(enum.Enum):
    """How fields are written; the value is the action, if there is one."""

    ATTRIBUTES = ""
    COMMON = "UpdateCommonProperties"
    STATE = "SetState"


def way(fields: Collection[str], schema: Schema) -> Way:
    """Return how fields of one portion are written."""
    for names, action in ((COMMON, Way.COMMON), (STATE, Way.STATE)):
        if names.issuperset(fields) and schema.action(action.value) is not None:
            return action
    return Way.ATTRIBUTES


def body(
    fields: Mapping[str, Json], by: Way, snapshot: Snapshot, schema: Schema, key_property: str
) -> dict[str, Json] | Refused:
    """Return fields as the server accepts them, or why it would refuse them, as far as its metadata tells."""
    known = _type(snapshot, schema)
    found = {name: _obstacle(name, by, known, key_property, name in snapshot.body) for name in fields}
    wrong = {name: why for name, why in found.items() if why is not None}
    if wrong:
        return Refused(0, replies.cut("; ".join(f"{name} {why}" for name, why in wrong.items())), tuple(wrong))
    said = values.outgoing(fields, known)
    if isinstance(said, Inexpressible):
        return Refused(0, replies.cut(said.message), said.fields)
    return said


def described(fields: Collection[str], snapshot: Snapshot, schema: Schema) -> bool:
    """Whether the metadata describes all these fields, or is not complete itself."""
    known = _type(snapshot, schema)
    return not known.whole or known.properties.keys() | known.navigations.keys() >= set(fields)


def same_content(left: Snapshot, right: Snapshot, schema: Schema) -> bool:
    """Whether two snapshots show the same values that could be changed, and hide the same fields."""
    if left.unreadable != right.unreadable:
        return False
    return canonical(changeable(left, schema)) == canonical(changeable(right, schema))


def changeable(snapshot: Snapshot, schema: Schema) -> dict[str, Json]:
    """Return the fields that can be changed. A working copy may differ in the others, such as folder and time."""
    known = _type(snapshot, schema)
    return {name: value for name, value in snapshot.body.items() if not _is_read_only(name, known)}


def read_only(body: Collection[str], type: EntityType, key_property: str) -> tuple[str, ...]:
    """Return the fields that no write may change: the key, those that the server sets, and those of navigations."""
    names = {*body, *type.properties, *values.BOOKKEEPING}
    return tuple(sorted({key_property, *(name for name in names if _is_read_only(name, type))}))


def _type(snapshot: Snapshot, schema: Schema) -> EntityType:
    return schema.type(snapshot.type) or schema.document


def _is_read_only(name: str, type: EntityType) -> bool:
    known = type.properties.get(name)
    read_only = known is not None and known.read_only and name not in COMMON | STATE
    return "/" in name or name in values.BOOKKEEPING or read_only


def _obstacle(name: str, by: Way, type: EntityType, key_property: str, shown: bool) -> str | None:
    """Say why the metadata forbids writing a field this way, None if it does not."""
    if name == key_property:
        return "is the document's key: changed, the document could not be found any more"
    if "/" in name:
        return "belongs to another object, and can't be written"
    if _is_read_only(name, type):
        return "is read-only"
    known, navigation = type.properties.get(name), type.navigations.get(name)
    if by is Way.ATTRIBUTES and known is not None and known.read_only:
        return "is read-only"  # for a PATCH: a field with an action of its own may be called read-only all the same
    if by is Way.ATTRIBUTES and any(one is not None and one.by_action for one in (known, navigation)):
        return "is changed only by an action, and the service offers none that we know"
    if by is Way.ATTRIBUTES and navigation is not None:
        return "leads to another object, and can't be written as a value"
    if known is None and navigation is None and type.whole and not shown:
        return f"is not a property of {type.name}"
    return None
