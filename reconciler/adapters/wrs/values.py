"""
Values: from the JSON of OData to ours and back, by what the metadata says of a property. Pure.

Rules
- An enumeration is its `Value`; `Display` is a translation (`{"Value": "APPROVED", "Display": "Approved"}`).
- An instant is canonical UTC, whatever the server's offset. 64-bit integers and decimals are numbers, whether they came
  as numbers or as texts (`IEEE754Compatible`); a decimal that no float can hold stays a text.
- `null` with `@PTC.AccessException` is hidden: unreadable, in no body, never compared, never written.
- Bookkeeping (IDs, versions, check-out, who and when) is not metadata of the document, and in no body.
- A value of unknown type is passed on as it is, except pairs that look like an enumeration.
- What is sent compares equal to what was wanted. So a number is not made a text, nor a text true or false: the value
  would not be recognised when it comes back.
- A value that the property's type can't hold is not sent: `Inexpressible` names the fields and says why.
"""

import math
import re
from collections.abc import Mapping
from decimal import Decimal

import attrs

from reconciler.adapters.wrs.metadata import EntityType, Kind, Property
from reconciler.model import instant
from reconciler.model.policy import Normaliser
from reconciler.model.value import Json

CHECK_OUT = ("CheckoutState", "CheckOutStatus", "WorkInProgressState")  # where servers show the check-out state
BOOKKEEPING = frozenset(("ID", "VersionID", "Version", "Iteration", "Latest", "LastModified", "ModifiedBy", *CHECK_OUT))
_HIDDEN = "@PTC.AccessException"
_DIGITS_MAX = 400  # beyond any float; as in core.normalise
_INTEGER = re.compile(rf"[+-]?\d{{1,{_DIGITS_MAX}}}", re.ASCII)
_DECIMAL = re.compile(rf"[+-]?\d{{1,{_DIGITS_MAX}}}(\.\d{{1,{_DIGITS_MAX}}})?([eE][+-]?\d{{1,3}})?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_EXACT_MAX = 2**53  # beyond it a float stands for several whole numbers
_BITS = {"Edm.Int16": 16, "Edm.Int32": 32, "Edm.Int64": 64, "Edm.SByte": 8}
_COMPARED_AS = {
    Kind.INSTANT: (Normaliser.INSTANT,),
    Kind.INTEGER: (Normaliser.NUMBER,),
    Kind.NUMBER: (Normaliser.NUMBER,),
    Kind.ENUMERATION: (Normaliser.ENUM,),
}


@attrs.frozen
class Shown:
    """A document's fields, and the names of hidden fields."""

    body: dict[str, Json]
    unreadable: frozenset[str] = frozenset()


@attrs.frozen
class Inexpressible:
    """These fields would get values that their types can't hold."""

    fields: tuple[str, ...]
    message: str


class _UnfitError(Exception):
    """A value does not fit its type; the message says what is needed."""


def incoming(entity: Mapping[str, Json], type: EntityType | None, expand: tuple[str, ...] = ()) -> Shown:
    """Return the fields of an entity, and those of the navigations in `expand` as `Context/Name`."""
    properties = {} if type is None else type.properties
    body, hidden = _fields(entity, properties, BOOKKEEPING | set(expand))
    for name in expand:
        led_to = entity.get(name)
        if isinstance(led_to, dict):  # a list of entities, or none, has no fields to show
            inner, concealed = _fields(led_to, {}, frozenset())  # type: ignore[arg-type]  # Json is not recursive
            body |= {f"{name}/{field}": value for field, value in inner.items()}
            hidden |= {f"{name}/{field}" for field in concealed}
    return Shown(body, frozenset(hidden))


def outgoing(fields: Mapping[str, Json], type: EntityType) -> dict[str, Json] | Inexpressible:
    """Return fields as the server takes them: a PATCH body, or the parameters of an action."""
    said: dict[str, Json] = {}
    wrong: dict[str, str] = {}
    for name, value in fields.items():
        known = type.properties.get(name)
        try:
            said[name] = value if known is None else _sent(value, known)
        except _UnfitError as unfit:
            wrong[name] = str(unfit)
    if wrong:
        return Inexpressible(tuple(wrong), "; ".join(f"{name}: {why}" for name, why in wrong.items()))
    return said


def compared_as(type: EntityType | None) -> dict[str, tuple[Normaliser, ...]]:
    """Return how values are compared, for properties whose type says so."""
    properties = {} if type is None else type.properties
    fields = {name: known.kind for name, known in properties.items() if name not in BOOKKEEPING}
    return {name: _COMPARED_AS[kind] for name, kind in fields.items() if kind in _COMPARED_AS}


def _fields(
    entity: Mapping[str, Json], properties: Mapping[str, Property], without: frozenset[str]
) -> tuple[dict[str, Json], set[str]]:
    body: dict[str, Json] = {}
    hidden: set[str] = set()
    for name, value in entity.items():
        if "@" in name or name in without:
            continue
        if value is None and f"{name}{_HIDDEN}" in entity:
            hidden.add(name)
        else:
            body[name] = _shown(value, properties.get(name))
    return body, hidden


def _shown(value: object, known: Property | None) -> Json:
    if isinstance(value, list):
        return [_shown(element, known) for element in value]
    kind = Kind.OTHER if known is None else known.kind
    if isinstance(value, dict) and (kind is Kind.ENUMERATION or value.keys() == {"Value", "Display"}):
        value = value.get("Value", value)
    if isinstance(value, str):
        match kind:
            case Kind.INSTANT:
                return _instant(value) or value
            case Kind.INTEGER if _INTEGER.fullmatch(value):
                return int(value)
            case Kind.NUMBER if _DECIMAL.fullmatch(value):
                exact = _exact(value)
                return value if exact is None else exact
    return value  # type: ignore[return-value]  # whatever an entity holds is Json; the alias is not recursive


def _sent(value: object, known: Property) -> Json:
    if known.collection:
        if value is None:
            return []  # in OData a collection is never null, only empty
        if not isinstance(value, list):
            raise _UnfitError(f"a list of {known.kind} is needed")
        return [_element(element, known) for element in value]
    if value is None:
        if not known.nullable:
            raise _UnfitError("it can't be cleared")
        return None
    return _element(value, known)


def _element(value: object, known: Property) -> Json:
    match known.kind:
        case Kind.TEXT if isinstance(value, str):
            return value
        case Kind.INTEGER:
            return _integer(value, known)
        case Kind.NUMBER:
            return _number(value, known)
        case Kind.TRUTH if isinstance(value, bool):
            return value
        case Kind.INSTANT if isinstance(value, str) and (moment := _instant(value)):
            # Whole seconds without a fraction: Edm.DateTimeOffset has none unless its precision says so.
            return re.sub(r"\.?0*Z$", "Z", moment)
        case Kind.DATE if isinstance(value, str) and _DATE.fullmatch(value):
            return value
        case Kind.ENUMERATION:
            return _enumeration(value, known)
        case Kind.OTHER:
            return value  # type: ignore[return-value]  # whatever we are asked to write is Json
    raise _UnfitError(f"{_NEEDED[known.kind]} is needed")


_NEEDED = {
    Kind.TEXT: "a text",
    Kind.INTEGER: "a whole number",
    Kind.NUMBER: "a number",
    Kind.TRUTH: "true or false",
    Kind.INSTANT: "a timestamp with an offset, such as 2026-11-22T10:00:00Z,",
    Kind.DATE: "a date such as 2026-11-22",
    Kind.ENUMERATION: "the name of a value",
}


def _integer(value: object, known: Property) -> int:
    whole: int | None = None
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        whole = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        whole = value
    elif isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT_MAX:
        whole = int(value)
    if whole is None:
        raise _UnfitError("a whole number is needed")
    bits = _BITS.get(known.type, 64)
    if not -(1 << (bits - 1)) <= whole < 1 << (bits - 1):
        raise _UnfitError(f"a whole number of {bits} bits is needed")
    return whole


def _number(value: object, known: Property) -> int | float:
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        exact = _exact(value)
        if exact is None and (known.type == "Edm.Decimal" or not math.isfinite(float(value))):
            raise _UnfitError("a number of at most 15 digits or so is needed")
        return float(value) if exact is None else exact
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise _UnfitError("a number is needed")


def _enumeration(value: object, known: Property) -> Json:
    if isinstance(value, dict):
        value = value.get("Value")
    if not isinstance(value, str) or not value:
        raise _UnfitError("the name of a value is needed")
    # Both are needed; Display may be anything, since the server knows its own.
    return {"Value": value, "Display": value} if known.paired else value


def _instant(text: str) -> str | None:
    try:
        return instant.canonical(text)
    except ValueError:
        return None


def _exact(text: str) -> int | float | None:
    """Return the number that is exactly the text, None if no float is."""
    if _INTEGER.fullmatch(text):
        return int(text)
    number = float(text)
    return number if math.isfinite(number) and Decimal(repr(number)) == Decimal(text) else None
