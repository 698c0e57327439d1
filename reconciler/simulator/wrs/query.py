"""
The query of a request, read and checked against the types: what is asked for, or why it can't be had.

$filter: from text to a tree, and from a tree to an answer for one row. Pure functions.

    or < and < not < comparison           Number eq 'O''Brien' and not (State/Value ne 'INWORK')
    eq ne gt ge lt le, in (where known)   LastModified ge 2026-01-05T00:00:00Z
    startswith, endswith, contains        contains(Title,'bracket')

A name alone stands for itself being true. `null` equals null, differs from everything else and is neither less nor
greater than anything (OData 4.01 Part 2, 5.1.1.1).
"""

import operator
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_plus

from attrs import frozen

from reconciler.simulator.wrs.options import Wrs
from reconciler.simulator.wrs.types import NAVIGATIONS, Property, Types

# -------------------------------------------------------------------------------------------------------------- filters

_DEPTH_MAX = 40
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^']|'')*')
    | (?P<instant>\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d))
    | (?P<day>\d{4}-\d\d-\d\d)(?![\dT])
    | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w])
    | (?P<name>[A-Za-z_]\w*(?:/[A-Za-z_]\w*)*)
    | (?P<mark>[(),])
    )""",
    re.VERBOSE,
)
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}
_CALLS: dict[str, Callable[[str, str], bool]] = {
    "startswith": str.startswith,
    "endswith": str.endswith,
    "contains": str.__contains__,
}
_CONSTANTS = {"true": True, "false": False, "null": None}


class Malformed(Exception):
    """A filter that can't be read; the message says where."""


@frozen
class Every:
    """Every part holds."""

    parts: "tuple[Node, ...]"


@frozen
class Some:
    """Some part holds."""

    parts: "tuple[Node, ...]"


@frozen
class Not:
    """The part doesn't hold."""

    part: "Node"


@frozen
class Comparison:
    """`path operator value`; for `in`, the value is a tuple."""

    path: str
    operator: str
    value: Any


Node = Every | Some | Not | Comparison
Look = Callable[[str], Any]
"""A row's value at a path."""


@lru_cache(maxsize=512)
def matcher(node: Node) -> Callable[[Look], bool]:
    """A function of a row's values that says whether it matches: read once, asked of every row."""
    match node:
        case Every(parts):
            every = [matcher(part) for part in parts]
            return lambda look: all(part(look) for part in every)
        case Some(parts):
            some = [matcher(part) for part in parts]
            return lambda look: any(part(look) for part in some)
        case Not(part):
            inner = matcher(part)
            return lambda look: not inner(look)
        case Comparison(path, "in", wanted):
            return lambda look: look(path) in wanted
        case Comparison(path, name, wanted) if name in _CALLS:
            call = _CALLS[name]
            return lambda look: isinstance(found := look(path), str) and call(found, wanted)
        case Comparison(path, name, wanted):
            return lambda look: _compare(look(path), name, wanted)


def adjusted(node: Node, change: Callable[[Comparison], Comparison]) -> Node:
    """The filter with each comparison changed."""
    match node:
        case Every(parts):
            return Every(tuple(adjusted(part, change) for part in parts))
        case Some(parts):
            return Some(tuple(adjusted(part, change) for part in parts))
        case Not(part):
            return Not(adjusted(part, change))
    return change(node)


def bound(node: Node, path: str) -> frozenset[Any] | None:
    """The only values at `path` with which a row can match; None where any may."""
    match node:
        case Comparison(at, "eq", value) if at == path:
            return frozenset((value,))
        case Comparison(at, "in", wanted) if at == path:
            return frozenset(wanted)
        case Every(parts):
            known = [values for part in parts if (values := bound(part, path)) is not None]
            return frozenset.intersection(*known) if known else None
        case Some(parts):
            each = [bound(part, path) for part in parts]
            some = [values for values in each if values is not None]
            return frozenset().union(*some) if len(some) == len(each) else None
    return None


@lru_cache(maxsize=512)
def parse(text: str) -> Node:
    """The tree of a filter; raises Malformed."""
    return _Parser(text).whole()


def _compare(found: Any, name: str, wanted: Any) -> bool:
    if found is None or wanted is None:
        # Null is equal to itself and in no order with anything.
        return (found is None and wanted is None) if name == "eq" else name == "ne" and found is not wanted
    if isinstance(found, datetime) is not isinstance(wanted, datetime):
        return name == "ne"
    try:
        return _OPERATORS[name](found, wanted)
    except TypeError:
        return False


class _Parser:
    """Recursive descent over the tokens of one filter."""

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        self._at = 0
        self._depth = 0
        position, text = 0, text.rstrip()
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None or found.lastgroup is None:
                raise Malformed(f"Syntax error at position {position} of $filter")
            self._tokens.append((found.lastgroup, found[found.lastgroup]))
            position = found.end()

    def whole(self) -> Node:
        node = self._either()
        if self._at < len(self._tokens):
            raise Malformed(f"Unexpected '{self._tokens[self._at][1]}' in $filter")
        return node

    def _either(self) -> Node:
        parts = [self._both()]
        while self._take("name", "or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Some(tuple(parts))

    def _both(self) -> Node:
        parts = [self._one()]
        while self._take("name", "and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def _one(self) -> Node:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise Malformed("$filter is nested too deeply")
        try:
            if self._take("name", "not"):
                return Not(self._one())
            if self._take("mark", "("):
                inner = self._either()
                self._demand(")")
                return inner
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Node:
        kind, word = self._next()
        if kind != "name" or word in _CONSTANTS:
            raise Malformed(f"A property was expected in $filter, not '{word}'")
        if word in _CALLS and self._take("mark", "("):
            return self._call(word)
        following = self._peek()
        if following == ("name", "in"):
            self._at += 1
            return Comparison(word, "in", self._several())
        if following[0] == "name" and following[1] in _OPERATORS:
            self._at += 1
            return Comparison(word, following[1], self._value())
        return Comparison(word, "eq", True)

    def _call(self, name: str) -> Node:
        kind, path = self._next()
        self._demand(",")
        wanted = self._value()
        self._demand(")")
        if kind != "name" or not isinstance(wanted, str):
            raise Malformed(f"{name} takes a property and a text")
        made = Comparison(path, name, wanted)
        if self._take("name", "eq"):
            wanted = self._value()
            if not isinstance(wanted, bool):
                raise Malformed(f"{name} is true or false")
            return made if wanted else Not(made)
        return made

    def _several(self) -> tuple[Any, ...]:
        self._demand("(")
        found = [self._value()]
        while self._take("mark", ","):
            found.append(self._value())
        self._demand(")")
        return tuple(found)

    def _value(self) -> Any:
        kind, word = self._next()
        try:
            match kind:
                case "text":
                    return word[1:-1].replace("''", "'")
                case "instant":
                    return datetime.fromisoformat(word)
                case "day":
                    return date.fromisoformat(word)
                case "number":
                    return float(word) if set(word) & set(".eE") else int(word)
                case "name" if word in _CONSTANTS:
                    return _CONSTANTS[word]
        except ValueError as mistake:
            raise Malformed(f"'{word}' in $filter is no value: {mistake}") from mistake
        raise Malformed(f"A value was expected in $filter, not '{word}'")

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "the end")

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        self._at += 1
        return token

    def _take(self, kind: str, word: str) -> bool:
        if self._peek() != (kind, word):
            return False
        self._at += 1
        return True

    def _demand(self, mark: str) -> None:
        if not self._take("mark", mark):
            raise Malformed(f"'{mark}' was expected in $filter, not '{self._peek()[1]}'")


# -------------------------------------------------------------------------------------------------------------- queries

_KNOWN = ("$filter", "$top", "$skip", "$count", "$orderby", "$select", "$expand", "$skiptoken", "$format")
_BOOKKEEPING = frozenset((
    "ID", "MasterID", "Number", "Version", "VersionID", "Latest", "LastModified",
    "CheckoutState", "CheckOutStatus", "WorkInProgressState",
))  # fmt: skip
_INSIDE = {"PTC.EnumType": ("Value", "Display")}


@frozen
class Order:
    """One part of $orderby."""

    path: str
    descending: bool


@frozen
class Asked:
    """What a query asks for."""

    filter: Node | None = None
    top: int | None = None
    skip: int = 0
    count: bool = False
    orders: tuple[Order, ...] = ()
    select: tuple[str, ...] = ()
    expand: tuple[str, ...] = ()
    after: int = 0
    """Rows that former pages have shown."""
    latest: bool = False
    on_time: bool = False
    """Whether the time of day counts in filters."""

    @property
    def shows_content(self) -> bool:
        """Whether the answer shows more of a document than which one it is and that it has changed."""
        return not self.select or not _BOOKKEEPING.issuperset(self.select)


def parsed(query: bytes) -> dict[str, str]:
    """Names and values, decoded; the last one counts."""
    pairs = (part.partition("=") for part in query.decode("latin-1").split("&") if part)
    return {unquote_plus(name): unquote_plus(value) for name, _, value in pairs}


def read(query: bytes, types: Types, switches: Wrs) -> Asked:
    """What is asked; raises Malformed."""
    given = parsed(query)
    for name in given:
        if name.startswith("$") and name not in _KNOWN:
            raise Malformed(f"The query option '{name}' is not supported")
    on_time = _flag(given, "ptc.search.allowFilterOnTime")
    return Asked(
        filter=_filter(given["$filter"], types, switches, on_time=on_time) if "$filter" in given else None,
        top=_count(given, "$top", None),
        skip=_count(given, "$skip", 0) or 0,
        count=_flag(given, "$count"),
        orders=tuple(_order(part, types) for part in _parts(given, "$orderby")),
        select=tuple(_selected(name, types) for name in _parts(given, "$select")),
        expand=tuple(_expanded(name) for name in _parts(given, "$expand")),
        after=_count(given, "$skiptoken", 0) or 0,
        latest=_flag(given, "ptc.search.latestversion"),
        on_time=on_time,
    )


def _filter(text: str, types: Types, switches: Wrs, *, on_time: bool) -> Node:
    zone = timezone(timedelta(minutes=switches.utc_offset_minutes))

    def checked(comparison: Comparison) -> Comparison:
        found = _property(comparison.path, types)
        if not found.filterable:
            raise Malformed(f"The property '{found.name}' can't be filtered on")
        if comparison.operator == "in" and not switches.in_operator:
            raise Malformed("The operator 'in' is not supported")
        values = comparison.value if comparison.operator == "in" else (comparison.value,)
        for value in values:
            if value is not None and not _comparable(found, value):
                raise Malformed(f"The value '{value}' can't be compared with the property '{comparison.path}'")
        if found.kind == "Edm.DateTimeOffset" and isinstance(comparison.value, datetime) and not on_time:
            return Comparison(comparison.path, comparison.operator, comparison.value.astimezone(zone).date())
        return comparison

    return adjusted(parse(text), checked)


def _property(path: str, types: Types) -> Property:
    """The property at the beginning of a path, which must lead to something simple."""
    name, _, rest = path.partition("/")
    found = types.any(name)
    if found is None:
        raise Malformed(f"The property '{name}' does not exist")
    inside = _INSIDE.get(found.kind, ("",))
    if rest not in inside:
        raise Malformed(f"The property '{path}' can't be used here")
    return found


def _comparable(found: Property, value: object) -> bool:
    match found.kind:
        case "Edm.Boolean":
            return isinstance(value, bool)
        case "Edm.Int64" | "Edm.Double":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case "Edm.DateTimeOffset":
            return isinstance(value, date)  # an instant is one, too
    return isinstance(value, str)


def _order(text: str, types: Types) -> Order:
    path, _, direction = text.partition(" ")
    if direction.strip() not in ("", "asc", "desc"):
        raise Malformed(f"$orderby can't be read: '{text}'")
    found = _property(path, types)
    if not found.sortable:
        raise Malformed(f"The property '{found.name}' can't be sorted by")
    return Order(path, direction.strip() == "desc")


def _selected(name: str, types: Types) -> str:
    if types.any(name) is None:
        raise Malformed(f"The property '{name}' does not exist")
    return name


def _expanded(name: str) -> str:
    if name not in NAVIGATIONS:
        raise Malformed(f"The navigation '{name}' does not exist")
    return name


def _parts(given: dict[str, str], name: str) -> list[str]:
    return [part.strip() for part in given.get(name, "").split(",") if part.strip()]


def _count(given: dict[str, str], name: str, default: int | None) -> int | None:
    text = given.get(name)
    if text is None:
        return default
    if not text.isdecimal():
        raise Malformed(f"{name} must be a whole number")
    return int(text)


def _flag(given: dict[str, str], name: str) -> bool:
    text = given.get(name, "false").lower()
    if text not in ("true", "false"):
        raise Malformed(f"{name} must be true or false")
    return text == "true"
