"""
Signatures: actions and functions as this adapter calls them, compared with how the metadata describes them. Pure.

A type that the metadata does not describe, such as one of a domain that was not read, passes for the right one.
"""

from collections.abc import Callable, Iterator

from reconciler.adapters.wrs.metadata import Kind, Operation, Property, Schema
from reconciler.model.value import Json

TRANSITIONS = "GetValidStateTransitions"
ALLOWED = "IsCheckoutAllowed"
_LISTS = ("Items", "value")  # PTC.EnumTypeList, and OData's own name for the rows of a collection
_NAMES_MAX = 5
_TAKEN: dict[str, dict[str, Kind | None]] = {  # None: whatever it is
    "CheckOut": {"CheckOutNote": Kind.TEXT},
    "CheckIn": {"CheckInNote": Kind.TEXT, "KeepCheckedOut": Kind.TRUTH},
    "UndoCheckOut": {},
    "SetState": {"State": Kind.ENUMERATION},
    "UpdateCommonProperties": {"Updates": None},
    TRANSITIONS: {},
    ALLOWED: {},
}


def differences(schema: Schema) -> list[str]:
    """Return where the metadata describes actions differently from how we call them, a sentence each."""
    found: list[str] = []
    for name in _TAKEN:
        if (described := operation(schema, name)) is not None:
            found += _of_parameters(name, described)
            found += _of_answer(name, described, schema)
    return found


def operation(schema: Schema, name: str) -> Operation | None:
    """Return the function or action of that name, None where the service has none."""
    return schema.functions.get(name) or schema.actions.get(name)


def states(body: dict[str, Json], described: Operation) -> list[dict[str, Json]] | None:
    """Return the states in an answer to GetValidStateTransitions; None if it is not understood."""
    named = [name for name, member in (described.members or {}).items() if member.collection]
    rows = next((body[name] for name in (*named, *_LISTS) if isinstance(body.get(name), list)), None)
    if not isinstance(rows, list):
        return None
    found = [row for row in rows if isinstance(row, dict) and isinstance(row.get("Value"), str)]
    return found if len(found) == len(rows) else None


def truth(body: dict[str, Json], described: Operation) -> bool | None:
    """Return the answer to a yes-or-no question; None if it is not understood."""
    named = [name for name, member in (described.members or {}).items() if member.kind is Kind.TRUTH]
    said = [value for name in ("value", *named[:1]) if isinstance(value := body.get(name), bool)]
    return said[0] if said else None


def shown(body: dict[str, Json] | None) -> str:
    """Return the shape of an answer without its values: `an object with Items (a list of text)`."""
    if body is None:
        return "no JSON object"
    names = [name for name in body if "@" not in name]
    told = [f"{name} ({_shape(body[name])})" for name in names[:_NAMES_MAX]]
    more = [f"{len(names) - _NAMES_MAX} more"] if len(names) > _NAMES_MAX else []
    return f"an object with {', '.join([*told, *more]) or 'nothing in it'}"


def _shape(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return f"a list of {_shape(value[0])}" if value else "an empty list"
        case _:
            return "an object"


def _of_parameters(name: str, operation: Operation) -> Iterator[str]:
    for sent, kind in _TAKEN[name].items():
        taken = operation.parameters.get(sent)
        if taken is None:
            others = ", ".join(operation.parameters) or "nothing"
            yield f"{name} takes no {sent}; it takes {others}"
        elif taken.collection or (kind is not None and taken.kind not in (kind, Kind.OTHER)):
            yield f"{name} takes {sent} as {_type(taken)}, and we send {'one object' if kind is None else kind.value}"
    for missing, taken in operation.parameters.items():
        if missing not in _TAKEN[name] and not taken.nullable:
            yield f"{name} wants {missing} ({_type(taken)}), which we don't send"


def _of_answer(name: str, operation: Operation, schema: Schema) -> Iterator[str]:
    if name not in _READ:
        return
    wanted, fits = _READ[name]
    returns = operation.returns
    if returns is None:
        yield f"{name} returns nothing, and we read {wanted}"
        return
    known = returns.kind is not Kind.OTHER or operation.members is not None or returns.type in schema.types
    if known and not fits(operation, returns, schema):
        yield f"{name} returns {_type(returns)}, and we read {wanted}"


def _is_document(_: Operation, returns: Property, schema: Schema) -> bool:
    return returns.type in schema.types and not returns.collection


def _is_list(operation: Operation, returns: Property, _: Schema) -> bool:
    possible = (returns, *(operation.members or {}).values())
    return any(one.collection and one.kind is Kind.ENUMERATION for one in possible)


def _is_truth(operation: Operation, returns: Property, _: Schema) -> bool:
    possible = (returns, *(operation.members or {}).values())
    return any(one.kind is Kind.TRUTH and not one.collection for one in possible)


_READ: dict[str, tuple[str, Callable[[Operation, Property, Schema], bool]]] = {
    **dict.fromkeys(("CheckOut", "CheckIn"), ("a document", _is_document)),
    TRANSITIONS: ("a list of states", _is_list),
    ALLOWED: ("true or false", _is_truth),
}


def _type(property: Property) -> str:
    return f"Collection({property.type})" if property.collection else property.type
