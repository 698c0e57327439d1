"""Values as documents keep them, and as JSON, by the kind of the property. Pure functions."""

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
    if not _fits(found, given):
        raise Unfit(f"The value of property '{found.name}' is not valid for {found.kind}")
    return given["Value"] if found.kind == "PTC.EnumType" else given


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


def _fits(found: Property, given: Any) -> bool:
    if isinstance(given, bool):
        return found.kind == "Edm.Boolean"
    match found.kind:
        case "Edm.String":
            return isinstance(given, str)
        case "Edm.Int64":
            return isinstance(given, int) and abs(given) <= _INT64_MAX
        case "Edm.Double":
            return isinstance(given, (int, float))
        case "Edm.DateTimeOffset":
            return isinstance(given, str) and "T" in given and parsed(given) is not None
        case "Collection(Edm.String)":
            return isinstance(given, list) and all(isinstance(one, str) for one in given)
        case "PTC.EnumType" if isinstance(given, dict) and given.keys() <= {"Value", "Display"}:
            return given.get("Value") in (found.values or {})
    return False
