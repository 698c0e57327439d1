"""The query of a request, read and checked against the types: what is asked for, or why it can't be had."""

from datetime import date, datetime, timedelta, timezone
from urllib.parse import unquote_plus

from attrs import frozen

from reconciler.simulator.wrs import filters
from reconciler.simulator.wrs.entities import NAVIGATIONS
from reconciler.simulator.wrs.filters import Comparison, Malformed, Node
from reconciler.simulator.wrs.options import Wrs
from reconciler.simulator.wrs.types import Property, Types

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

    return filters.adjusted(filters.parse(text), checked)


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
