"""Shapes: what all of them have in common."""

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from reconciler.model import instant
from reconciler.model.value import MISSING, Json, Missing

Instant = Annotated[str, Meta(description="RFC 3339, UTC, microseconds.", extra_json_schema={"format": "date-time"})]
Next = Annotated[str | None, Meta(description="`after` of the next page, however few are on this; null: the last.")]
Value = Annotated[Any, Meta(description="Any JSON value; left out where none is known.")]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What all have in common."""


_Shape = TypeVar("_Shape", bound=Shape)


def of(shape: type[_Shape], found: object, **said: object) -> _Shape:
    """Return a shape: members that are not `said` are what the model calls by the same name."""
    same = {name: getattr(found, name) for name in shape.__struct_fields__ if name not in said}
    return shape(**same, **said)


def at(instant_us: int | None) -> str | None:
    """Return a moment that may not be known."""
    return None if instant_us is None else instant.from_us(instant_us)


def known(value: Json | Missing) -> object:
    """Return a value; what is not known is left out."""
    return msgspec.UNSET if value is MISSING else value
