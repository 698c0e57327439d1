"""
The types of keys, strict conversion of values from TOML or the environment, and words for what is allowed.

msgspec converts and checks limits: a type states them with `Meta`, so that the schema has them too. `Meta.extra` holds
the rest: `secret` (never shown; also `<key>_file`), `pasted` (not quoted in a fault), `says` (a pattern in words),
`unit`, and `lines` (line ends are allowed).
"""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import chain
from typing import Annotated, Any

import attrs
import msgspec
import orjson
from msgspec import Meta, inspect

_TRUTHS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_HUGE = 1e18
NO_CONTROL = {"not": {"pattern": r"[\x00-\x1f\x7f]"}}  # for the schema, of every text that `convert` refuses these in
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # with the halves that stand for bytes which are no UTF-8
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_STEP = re.compile(r"\[(\d+)\]")  # of a place in a msgspec error: $[0]
_type_info = cache(inspect.type_info)  # each load asks five hundred times
_UNITS = {
    "seconds": ((86_400, "days"), (3600, "h"), (60, "min")),
    "bytes": ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")),
}

# --------------------------------------------------------------------------------------------------------------- types


def text(pattern: str, says: str, **more: object) -> Meta:
    """Return the constraint of a text: a regular expression for the whole text, and its meaning in words."""
    more_json = None if "lines" in more else NO_CONTROL
    return Meta(pattern=f"^({pattern})$", extra={"says": says, **more}, extra_json_schema=more_json)


FILLED = Meta(min_length=1)
Filled = Annotated[str, FILLED]
# Kafka's own rule.
Topic = Annotated[str, text(r"[A-Za-z0-9._-]{1,249}", "a topic's name: 1 to 249 letters, digits, '.', '_' or '-'")]
# Ten years: a wait times a factor, added to the current time, must be a number of microseconds that SQLite can hold.
TEN_YEARS_S = 315_360_000
TEN_YEARS_D = 3_650
Seconds = Annotated[float, Meta(extra={"unit": "seconds"})]
Bytes = Annotated[int, Meta(extra={"unit": "bytes"})]
# Never quoted if it is invalid: people paste the content of the file here.
File = Annotated[str, Meta(extra={"says": "the path of a file", "pasted": True})]
Folder = Annotated[str, Meta(extra={"says": "the path of a directory", "pasted": True})]
Secret = Annotated[str, Meta(extra={"secret": True}, extra_json_schema={"writeOnly": True})]


class ChangeTopic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of several change topics."""

    name: Annotated[Topic, Meta(description="The topic.")]
    sources: Annotated[
        tuple[Filled, ...],
        Meta(min_length=1, description="Globs over the sources that may write to it, case-sensitive."),
    ]


def is_secret(wanted: Any) -> bool:
    """Whether the values of a type are never shown."""
    return "secret" in _extra(_type_info(wanted))


def unshown(_: type, fields: "list[attrs.Attribute[Any]]") -> "list[attrs.Attribute[Any]]":
    """Leave secrets out of a group's representation; used as its `field_transformer`."""
    return [field.evolve(repr=False) if is_secret(field.type) else field for field in fields]


def _extra(kind: inspect.Type) -> Mapping[str, Any]:
    return (kind.extra if isinstance(kind, inspect.Metadata) else None) or {}


# ---------------------------------------------------------------------------------------------------------- conversion


def from_text(given: str, wanted: Any) -> Any:
    """Convert the text of an environment variable. Raises ValueError with what is allowed."""
    kind = _type_info(wanted)
    match kind.type if isinstance(kind, inspect.Metadata) else kind:
        case inspect.VarTupleType():
            return convert(listed(given), wanted)
        case inspect.BoolType():
            return convert(_TRUTHS.get(given.strip().lower(), given), wanted)
        case inspect.IntType() if _INTEGER.fullmatch(number := given.strip()):
            return convert(int(number), wanted)
        case inspect.FloatType() if _NUMBER.fullmatch(number := given.strip()):
            return convert(float(number), wanted)
    return convert(given, wanted)


def convert(given: object, wanted: Any) -> Any:
    """
    Convert a TOML or JSON value strictly: `"1"` is not a number and `1` is not a truth value.

    Raises ValueError whose message continues "section.key: …" and never shows a secret.
    """
    kind = _type_info(wanted)
    try:
        found = msgspec.convert(given, wanted)
    except msgspec.ValidationError as error:
        raise ValueError(_fault(given, kind, str(error))) from None
    if _is_huge(found):
        raise ValueError(_fault(given, kind))
    for wrong in () if "lines" in _extra(kind) else filter(_CONTROL.search, _texts(given)):
        raise ValueError(f"must be one line of UTF-8 without control characters{_but(wrong, kind)}")
    return found


def tables(given: object, kind: type[msgspec.Struct], name: str, where: str, faults: list[str]) -> list[dict[str, Any]]:
    """
    Convert a list of tables, `[[name]]` in a file, to the values of the keys of `kind`.

    It leaves out values that can't be used, and adds each to `faults` with its place: `where` and the table's number.
    """
    needed = " and ".join(field.name for field in msgspec.structs.fields(kind) if field.required)
    if not isinstance(given, list):
        faults.append(f"{where}: must be a list of tables with {needed}; write each as [[{name}]]")
        return []
    found = []
    for number, table in enumerate(given, 1):
        if not isinstance(table, dict):
            faults.append(f"{where}[{number}]: must be a table with {needed}")
        found.append(_table(table, kind, f"{where}[{number}]", faults) if isinstance(table, dict) else {})
    return found


def _table(table: dict[str, object], kind: type[msgspec.Struct], where: str, faults: list[str]) -> dict[str, Any]:
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    found = {}
    for key, given in table.items():
        if key not in fields:
            faults.append(f"{where}.{key}: unknown key; {among(key, fields)}")
            continue
        try:
            found[key] = convert(given, fields[key].type)
        except ValueError as error:
            faults.append(f"{where}.{key}: {error}")
    faults += [f"{where}: needs {key}" for key, field in fields.items() if field.required and key not in table]
    return found


def _is_huge(found: object) -> bool:
    """Whether a number is larger than any clock or counter; nan and inf count too."""
    return isinstance(found, int | float) and not abs(found) < _HUGE


def _texts(given: object) -> Iterator[str]:
    match given:
        case str():
            yield given
        case list():
            yield from chain.from_iterable(map(_texts, given))
        case dict():
            yield from _texts(list(given.values()))


def listed(given: str) -> object:
    """Return the list in a text: parts between commas, or JSON."""
    if not given.lstrip().startswith("["):
        return [part for part in (part.strip() for part in given.split(",")) if part]
    try:
        return orjson.loads(given)
    except ValueError:
        return given  # not a list


# -------------------------------------------------------------------------------------------------------------- faults


def _fault(given: Any, kind: inspect.Type, error: str = "") -> str:
    """Return what is wrong with a value, or with the part of it that msgspec's error names."""
    for index in _STEP.findall(error.partition(" - at ")[2]):
        kind = kind.type if isinstance(kind, inspect.Metadata) else kind
        assert isinstance(kind, inspect.VarTupleType)
        given, kind = given[int(index)], kind.item_type
    return f"must be {allowed(kind)}{_but(given, kind)}"


def _but(given: object, kind: inspect.Type) -> str:
    return "" if {"secret", "pasted"} & _extra(kind).keys() else f", not {_shown(given)}"


def allowed(kind: inspect.Type) -> str:
    """Return in words what a type accepts."""
    match kind:
        case inspect.Metadata(type=inner, extra=extra):
            extra = extra or {}
            return extra.get("says") or _number(inner, extra.get("unit")) or allowed(inner)
        case inspect.VarTupleType(item_type=item, min_length=least):
            return f"a list{' with at least one entry' if least else ''}, each {allowed(item)}"
        case inspect.LiteralType(values=values):
            return f"one of {', '.join(map(json.dumps, values))}"
        case inspect.EnumType(cls=cls):
            return f"one of {', '.join(map(json.dumps, cls))}"
        case inspect.UnionType(types=(one, *_)):
            return allowed(one)
        case inspect.BoolType():
            return "true or false"
        case inspect.StrType(min_length=least):
            return "a text that is not empty" if least else "a text of one line"
    return _number(kind, None)


def _number(kind: inspect.Type, unit: str | None) -> str:
    if not isinstance(kind, inspect.IntType | inspect.FloatType):
        return ""
    limits = {"of at least": kind.ge, "above": kind.gt, "at most": kind.le}
    parts = [f"{words} {_amount(limit, unit)}" for words, limit in limits.items() if limit is not None]
    return f"a {'whole ' if isinstance(kind, inspect.IntType) else ''}number {' and '.join(parts)}".rstrip()


def _amount(number: float, unit: str | None) -> str:
    """Return a number as in the file, followed by a unit that people read."""
    for of_unit, name in _UNITS.get(unit or "", ()):
        if number >= of_unit and number % of_unit == 0:
            return f"{number:.15g} ({number / of_unit:g} {name})"
    return f"{number:.15g}"


def _shown(given: object) -> str:
    text = json.dumps(given, default=str, ensure_ascii=False)
    if "@" in text:
        return "this"  # an address with a password in it, most likely
    return text if len(text) <= 80 else f"{text[:77]}…"


# ------------------------------------------------------------------------------------------------------------- nearest


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like `name`, `None` if none is."""
    meant = name.lower()
    alike = difflib.get_close_matches(meant, list(known), n=3)
    # By common letters alone, `ce_file` would be more like `cert_file` than like `ca_file`.
    return min(alike, key=lambda one: _slips(meant, one), default=None)


def _slips(left: str, right: str) -> int:
    """Return the number of letters added, missing, wrong or swapped (optimal string alignment)."""
    above: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        before, above, row = above, row, [i]
        for j, b in enumerate(right, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and b == left[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
    return row[-1]


def among(name: str, known: Iterable[str]) -> str:
    """Return advice for an unknown name: the closest known one, otherwise all of them."""
    names = list(known)
    found = closest(name, names)
    return f"did you mean {found}?" if found else f"known are {', '.join(names)}"
