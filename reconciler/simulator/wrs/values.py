"""Values as documents keep them, and as JSON, by the kind of the property. Pure functions."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from reconciler.simulator.wrs.options import Wrs
from reconciler.simulator.wrs.types import Property

_INT64_MAX = 2**63 - 1


class Unfit(Exception):
    """A value that its property can't take; the message is for the client."""


def outgoing(found: Property, kept: Any, switches: Wrs) -> Any:
    """As JSON. A value that doesn't fit its kind is shown as it is: other dialects are not so strict."""
    match found.kind:
        case "PTC.EnumType" if isinstance(kept, str):
            return {"Value": kept, "Display": (found.values or {}).get(kept, kept)}
        case "Edm.DateTimeOffset" if isinstance(kept, str):
            moment = parsed(kept)
            return kept if moment is None else instant(moment, switches)
        case "Collection(Edm.String)" if kept is None:
            return []
    return kept


def incoming(found: Property, given: Any) -> Any:
    """As a document keeps it; raises Unfit."""
    if given is None:
        if not found.nullable:
            raise Unfit(f"The property '{found.name}' can't be null")
        return None
    kept = _TAKEN[found.kind](given, found.values)
    if kept is None:
        raise Unfit(f"The value of property '{found.name}' is not valid for {found.kind}")
    return kept


def instant(moment: datetime, switches: Wrs) -> str:
    """Whole seconds, at the server's offset."""
    zone = timezone(timedelta(minutes=switches.utc_offset_minutes))
    return moment.astimezone(zone).isoformat(timespec="seconds")


def parsed(text: str) -> datetime | None:
    """An instant; None for anything else. One without an offset counts as UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _text(given: Any, _: Mapping[str, str] | None) -> str | None:
    return given if isinstance(given, str) else None


def _integer(given: Any, _: Mapping[str, str] | None) -> int | None:
    fits = isinstance(given, int) and not isinstance(given, bool) and abs(given) <= _INT64_MAX
    return given if fits else None


def _number(given: Any, _: Mapping[str, str] | None) -> float | None:
    return given if isinstance(given, (int, float)) and not isinstance(given, bool) else None


def _flag(given: Any, _: Mapping[str, str] | None) -> bool | None:
    return given if isinstance(given, bool) else None


def _moment(given: Any, _: Mapping[str, str] | None) -> str | None:
    fits = isinstance(given, str) and "T" in given and parsed(given) is not None
    return given if fits else None


def _texts(given: Any, _: Mapping[str, str] | None) -> list[str] | None:
    return given if isinstance(given, list) and all(isinstance(one, str) for one in given) else None


def _value(given: Any, values: Mapping[str, str] | None) -> str | None:
    known = isinstance(given, dict) and given.keys() <= {"Value", "Display"} and given.get("Value") in (values or {})
    return str(given["Value"]) if known else None


_TAKEN: dict[str, Callable[[Any, Mapping[str, str] | None], Any]] = {
    "Edm.String": _text,
    "Edm.Int64": _integer,
    "Edm.Double": _number,
    "Edm.Boolean": _flag,
    "Edm.DateTimeOffset": _moment,
    "Collection(Edm.String)": _texts,
    "PTC.EnumType": _value,
}
