"""How a group of settings is made from JSON: what each field accepts; unknown names are refused."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs
from attrs import validators

T = TypeVar("T", bound=attrs.AttrsInstance)
Check = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def within(low: float, high: float = float("inf")) -> Check:
    """A number, bounds included."""

    def check(_: Any, attribute: "attrs.Attribute[Any]", value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{attribute.name} must be a number, not {value!r}")
        if not low <= value <= high:
            raise ValueError(f"{attribute.name} must lie between {low} and {high}, not at {value!r}")

    return check


def none_or(check: Check) -> Check:
    """None, or what `check` accepts."""
    return lambda group, attribute, value: None if value is None else check(group, attribute, value)


not_negative = within(0)


def number(default: float, low: float = 0, high: float = float("inf")) -> Any:
    """A setting that is a number, bounds included."""
    return attrs.field(default=default, validator=within(low, high))


def chance(default: float) -> Any:
    """A setting from 0 to 1."""
    return number(default, 0, 1)


def one_of(*values: Any) -> Any:
    """A choice; the first value is the default."""
    return attrs.field(default=values[0], validator=validators.in_(values))


def switch(default: bool) -> Any:
    """A setting that is on or off."""
    return attrs.field(default=default, validator=validators.instance_of(bool))


def text(default: str) -> Any:
    """A setting that is a text."""
    return attrs.field(default=default, validator=validators.instance_of(str))


def texts(*default: str, some: bool = False) -> Any:
    """A list of texts; with `some`, it can't be empty."""
    each = validators.deep_iterable(validators.instance_of(str))
    return attrs.field(default=default, converter=tuple_of, validator=(each, validators.min_len(some)))


def table(default: Mapping[str, Any]) -> Any:
    """A JSON object."""
    return attrs.field(factory=lambda: dict(default), validator=validators.instance_of(dict))


def tuple_of(given: object) -> tuple[Any, ...]:
    """A list as a tuple."""
    if not isinstance(given, (list, tuple)):
        raise TypeError(f"a list was expected, not {given!r}")
    return tuple(given)


def chosen(over: T, given: Mapping[str, Any]) -> T:
    """`over` with the given members; ValueError names unknown or impossible ones."""
    known = attrs.fields_dict(type(over))
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    try:
        group: Any = over  # mypy wants to see the class, which only the caller knows
        made: T = attrs.evolve(group, **given)
        return made
    except (TypeError, ValueError) as mistake:
        raise ValueError(str(mistake.args[0] if mistake.args else mistake)) from mistake
