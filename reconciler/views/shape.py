"""The base of all views, and helpers to fill them."""

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from reconciler.model import instant
from reconciler.model.value import MISSING, Json, Missing

Instant = Annotated[str, Meta(description="RFC 3339, UTC, microseconds.", extra_json_schema={"format": "date-time"})]
Next = Annotated[str | None, Meta(description="`after` of the next page; null: this is the last page.")]
Value = Annotated[Any, Meta(description="Any JSON value; absent if unknown.")]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """The base of all views."""


_Shape = TypeVar("_Shape", bound=Shape)


def of(shape: type[_Shape], found: object, **said: object) -> _Shape:
    """Return a view; members that are not given come from the attributes of the same name."""
    same = {name: getattr(found, name) for name in shape.__struct_fields__ if name not in said}
    return shape(**same, **said)


def at(instant_us: int | None) -> str | None:
    """Return a time that may be unknown."""
    return None if instant_us is None else instant.from_us(instant_us)


def known(value: Json | Missing) -> object:
    """Return a value; an unknown one is left out."""
    return msgspec.UNSET if value is MISSING else value
