"""
Profile: the field names and values that an event may carry, and the topics and fields that a source may write.

The limits keep the storage of an event in proportion to its size, and every accepted value exactly writable.
"""

import functools
from collections.abc import Iterable
from typing import Any

from reconciler.model.event import Topics
from reconciler.model.policy import Policy

_FIELD_LENGTH_MAX = 256
_SEGMENTS_MAX = 16
NUMBER_MAX = 2**63 - 1  # as in SQL, in JSON Schema's "integer" in practice, and in most producers


class Invalid(Exception):
    """A record that can't be used, with a reason for its producer. Ends the decoding of one record, and stays in it."""


def check_field(field: str) -> None:
    """Raise Invalid unless `field` is a dotted path of printable names."""
    problem = _field_problem(field)
    if problem is not None:
        raise Invalid(problem)


def check_value(value: object, depth_left: int) -> None:
    """Raise Invalid for a value that can't be stored and written exactly: more than 64 bits, or nested too deeply."""
    if isinstance(value, dict | list):
        if depth_left <= 0:
            raise Invalid("a value is nested too deeply")
        for inner in value.values() if isinstance(value, dict) else value:
            check_value(inner, depth_left - 1)
    elif isinstance(value, int) and not -NUMBER_MAX <= value <= NUMBER_MAX:
        raise Invalid("a number has more than 64 bits; send it as text")


def leaves(said: dict[str, Any]) -> dict[str, Any]:
    """Return values by the dotted names of their leaves: an object is another way to write such names."""
    if not any(isinstance(value, dict) for value in said.values()):
        return said
    leaves: dict[str, Any] = {}
    for name, value in said.items():
        for path, leaf in _walked(name, value):
            if path in leaves:
                raise Invalid(f"one event sets `{path}` twice")
            leaves[path] = leaf
    return leaves


def _walked(name: str, value: object) -> Iterable[tuple[str, object]]:
    if not isinstance(value, dict):
        yield name, value
        return
    check_field(name)  # its length limit also ends the nesting
    if not value:
        raise Invalid(f"`{name}` is an empty object: name its fields, or release them")
    for key, inner in value.items():
        if "." in key:
            raise Invalid(f"{key!r} within `{name}` has a dot: write the whole dotted name outside of objects")
        yield from _walked(f"{name}.{key}", inner)


@functools.lru_cache(maxsize=16_384)  # bounded: field names come from outside
def _field_problem(field: str) -> str | None:
    if not 0 < len(field) <= _FIELD_LENGTH_MAX:
        return f"a field's name has 1 to {_FIELD_LENGTH_MAX} characters, not {len(field)}"
    segments = field.split(".")
    if not all(segments) or len(segments) > _SEGMENTS_MAX or not field.isprintable():
        return f"{field!r} is not a dotted path of at most {_SEGMENTS_MAX} printable names"
    return None


def nested_problem(fields: Iterable[str]) -> str | None:
    """Return why fields cannot be claimed together, `None` if they can: one must not lie within another."""
    names = set(fields)
    for name in sorted(names):
        for place, character in enumerate(name):
            if character == "." and name[:place] in names:
                return f"one event names both `{name}` and its group `{name[:place]}`: name fields only"
    return None


# ------------------------------------------------------------------------------------------------------------- sources
# The topic shows who can have written a record; the policy says which sources may set a field (docs/topics.md). A
# release of a whole document is about every field, so any rule that names its sources can forbid it.


def refusal(source: str, topic: str, topics: Topics, policy: Policy, *, releases: bool) -> str | None:
    """Return why a source may not write to a topic, or release a whole document; `None` if it may."""
    reason = topics.refusal(topic, source)
    if reason is not None or not releases or (rule := policy.keeps_out(source)) is None:
        return reason
    return (
        f"source {source!r} may not release a whole document: {rule.name} ({', '.join(rule.fields)}) allows"
        f" {', '.join(rule.sources)}; release fields by name, or let an operator release the document"
    )


def forbidden(source: str, fields: Iterable[str], policy: Policy) -> str | None:
    """Return why a source may not set one of these fields; `None` if it may set all."""
    for field in fields:
        rule = policy.refuses(field, source)
        if rule is not None:
            return f"source {source!r} may not set `{field}`: {rule.name} allows {', '.join(rule.sources)}"
    return None
