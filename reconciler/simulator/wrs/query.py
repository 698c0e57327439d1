"""
The query of a request, checked against the types: what is asked for, or why the server refuses it. Pure functions.

A `$filter` becomes a tree, and the tree a function that answers for one row. This server knows as much of the language
as clients of documents need:

    or < and < comparison       Number eq 'O''Brien' and (State/Value ne 'INWORK' or Latest)
    eq ne gt ge lt le           LastModified ge 2026-01-05T00:00:00Z

A name alone means that it is true. A property without a value differs from every value and is in no order with any
(OData 4.01 Part 2, 5.1.1.1).
"""

import operator
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from functools import lru_cache
from typing import Any
from urllib.parse import unquote_plus

from attrs import evolve, frozen

from reconciler.simulator.wrs.options import Wrs
from reconciler.simulator.wrs.types import NAVIGATIONS, Property, Types

# -------------------------------------------------------------------------------------------------------------- filters

_DEPTH_MAX = 40
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>'(?:[^']|'')*')
    | (?P<instant>\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d))
    | (?P<day>\d{4}-\d\d-\d\d)(?![\dT])
    | (?P<name>[A-Za-z_]\w*(?:/[A-Za-z_]\w*)*)
    | (?P<mark>[()])
    )""",
    re.VERBOSE,
)
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    name: getattr(operator, name) for name in ("eq", "ne", "gt", "ge", "lt", "le")
}
_CONSTANTS = {"true": True, "false": False}


class Malformed(Exception):
    """A query that can't be read or answered; the message says why."""


@frozen
class Every:
    """Every part holds."""

    parts: "tuple[Node, ...]"


@frozen
class Some:
    """Some part holds."""

    parts: "tuple[Node, ...]"


@frozen
class Comparison:
    """`path operator value`."""

    path: str
    operator: str
    value: Any


Node = Every | Some | Comparison
Look = Callable[[str], Any]
"""A row's value at a path."""


@lru_cache(maxsize=512)
def matcher(node: Node) -> Callable[[Look], bool]:
    """A function of a row's values that says whether it matches: made once, asked of every row."""
    match node:
        case Every(parts):
            every = [matcher(part) for part in parts]
            return lambda look: all(part(look) for part in every)
        case Some(parts):
            some = [matcher(part) for part in parts]
            return lambda look: any(part(look) for part in some)
        case Comparison(path, name, wanted):
            return lambda look: _compare(look(path), name, wanted)


def adjusted(node: Node, change: Callable[[Comparison], Comparison]) -> Node:
    """The filter with each comparison changed."""
    if isinstance(node, Comparison):
        return change(node)
    return evolve(node, parts=tuple(adjusted(part, change) for part in node.parts))


def bound(node: Node, path: str) -> frozenset[Any] | None:
    """The only values at `path` with which a row can match; None where any may."""
    match node:
        case Comparison(at, "eq", value) if at == path:
            return frozenset((value,))
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
    if found is None or isinstance(found, datetime) is not isinstance(wanted, datetime):
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
        if not self._take("mark", "("):
            return self._comparison()
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise Malformed("$filter is nested too deeply")
        inner = self._either()
        if not self._take("mark", ")"):
            raise Malformed(f"')' was expected in $filter, not '{self._peek()[1]}'")
        self._depth -= 1
        return inner

    def _comparison(self) -> Node:
        kind, word = self._next()
        if kind != "name" or word in _CONSTANTS:
            raise Malformed(f"A property was expected in $filter, not '{word}'")
        kind, name = self._peek()
        if kind != "name" or name not in _OPERATORS:
            return Comparison(word, "eq", True)
        self._at += 1
        return Comparison(word, name, self._value())

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


# -------------------------------------------------------------------------------------------------------------- queries

_KNOWN = ("$filter", "$select", "$expand", "$skiptoken")
_BOOKKEEPING = frozenset((
    "ID", "MasterID", "Number", "Version", "VersionID", "Latest", "LastModified",
    "CheckoutState", "CheckOutStatus", "WorkInProgressState",
))  # fmt: skip
_INSIDE = {"PTC.EnumType": ("Value", "Display")}


@frozen
class Asked:
    """What a query asks for."""

    filter: Node | None = None
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
    after, select, expand = given.get("$skiptoken", "0"), _parts(given, "$select"), _parts(given, "$expand")
    if not after.isdecimal():
        raise Malformed("$skiptoken must be a whole number")
    for name in select:
        if types.any(name) is None:
            raise Malformed(f"The property '{name}' does not exist")
    for name in expand:
        if name not in NAVIGATIONS:
            raise Malformed(f"The navigation '{name}' does not exist")
    on_time = _flag(given, "ptc.search.allowFilterOnTime")
    return Asked(
        filter=_filter(given["$filter"], types, switches, on_time=on_time) if "$filter" in given else None,
        select=select,
        expand=expand,
        after=int(after),
        latest=_flag(given, "ptc.search.latestversion"),
        on_time=on_time,
    )


def _filter(text: str, types: Types, switches: Wrs, *, on_time: bool) -> Node:
    zone = timezone(timedelta(minutes=switches.utc_offset_minutes))

    def checked(comparison: Comparison) -> Comparison:
        found, value = _property(comparison.path, types), comparison.value
        if not found.filterable:
            raise Malformed(f"The property '{found.name}' can't be filtered on")
        if not _comparable(found, value):
            raise Malformed(f"The value '{value}' can't be compared with the property '{comparison.path}'")
        if isinstance(value, datetime) and not on_time:
            return evolve(comparison, value=value.astimezone(zone).date())
        return comparison

    return adjusted(parse(text), checked)


def _property(path: str, types: Types) -> Property:
    """The property at the beginning of a path, which must lead to something simple."""
    name, _, rest = path.partition("/")
    found = types.any(name)
    if found is None:
        raise Malformed(f"The property '{name}' does not exist")
    if rest not in _INSIDE.get(found.kind, ("",)):
        raise Malformed(f"The property '{path}' can't be used here")
    return found


def _comparable(found: Property, value: object) -> bool:
    match found.kind:
        case "Edm.Boolean":
            return isinstance(value, bool)
        case "Edm.DateTimeOffset":
            return isinstance(value, date)  # an instant is one, too
        case "Edm.String" | "PTC.EnumType":
            return isinstance(value, str)
    return False


def _parts(given: dict[str, str], name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in given.get(name, "").split(",") if part.strip())


def _flag(given: dict[str, str], name: str) -> bool:
    text = given.get(name, "false").lower()
    if text not in ("true", "false"):
        raise Malformed(f"{name} must be true or false")
    return text == "true"
