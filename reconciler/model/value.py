"""JSON values, and the difference between `null` and a missing value."""

import enum
from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

Scalar: TypeAlias = str | int | float | bool | None
# A recursive alias gains nothing at this boundary and costs a cast at every use, hence `object` inside containers.
Json: TypeAlias = Scalar | list[object] | dict[str, object]


class Missing(enum.Enum):
    """The type of `MISSING`, which differs from a `null`."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing.MISSING


def or_null(value: Json | Missing) -> Json:
    """Return a value, or `null` in the place of a missing one."""
    return None if value is MISSING else value


DEPTH_MAX = 100  # of a document's values: deeper ones can be read, but not always compared or stored

_canonical = msgspec.json.Encoder(order="deterministic")


def canonical(value: object) -> str:
    """
    Return the one JSON text of a value: object keys sorted, no spaces.

    Equal texts mean equal JSON. Python's `==` is not used for this, since it holds `1`, `1.0` and `True` to be equal.
    """
    return _canonical.encode(value).decode()


def is_deep(value: object) -> bool:
    """Whether a value is nested deeper than `DEPTH_MAX`, so that recursive functions could fail on it."""
    level = [value]
    for _ in range(DEPTH_MAX + 1):
        if not level:
            return False
        level = [inner for outer in level for inner in _within(outer)]
    return bool(level)


def _within(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def same(left: object, right: object) -> bool:
    """Whether two JSON values are the same JSON, type for type (`1` is not `true`, `1.0` is not `1`)."""
    if isinstance(left, str) and isinstance(right, str):  # by far the most frequent
        return left == right
    return canonical(left) == canonical(right)
