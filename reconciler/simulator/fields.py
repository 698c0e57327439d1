"""Documents as JSON: merge patches, dotted paths, and what differs between two versions. Pure functions."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

Changes = dict[str, tuple[Any, Any]]
"""Dotted path → (old, new). A field that is absent on one side shows as None there."""

_ABSENT: Any = object()
"""Not the same as null: a field that becomes null has changed."""


def merge(target: Any, patch: Any, cleared: Literal["removed", "null"] = "removed") -> Any:
    """
    The target with a JSON merge patch applied; neither is changed.

    RFC 7396, section 2. `cleared` "null" departs from it for servers that keep cleared fields and show them as null.
    """
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if isinstance(value, dict):
            merged[name] = merge(merged.get(name), value, cleared)
        elif value is None and cleared == "removed":
            merged.pop(name, None)
        else:
            merged[name] = value
    return merged


def nested(paths: Mapping[str, Any]) -> dict[str, Any]:
    """A merge patch from dotted paths: `{"attributes.Note": "x"}` → `{"attributes": {"Note": "x"}}`."""
    patch: dict[str, Any] = {}
    for path, value in paths.items():
        *parents, name = path.split(".")
        inside = patch
        for parent in parents:
            inside = inside.setdefault(parent, {})
            if not isinstance(inside, dict):
                raise TypeError(f"{path} lies inside another path that is given a value")
        inside[name] = value
    return patch


def at(document: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    value: Any = document
    for name in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted path with its value; an empty object counts as a value, a list is one value."""
    for name, inner in value.items():
        path = prefix + name
        if isinstance(inner, dict) and inner:
            yield from leaves(inner, path + ".")
        else:
            yield path, inner


def changes(old: Mapping[str, Any], new: Mapping[str, Any], ignored: frozenset[str] = frozenset()) -> Changes:
    """What differs, path by path; `ignored` names top-level fields that don't count."""
    found: Changes = {}
    _compare_members("", old, new, found, ignored)
    return found


def _compare_members(
    prefix: str, old: Mapping[str, Any], new: Mapping[str, Any], found: Changes, ignored: frozenset[str] = frozenset()
) -> None:
    for name in old.keys() | new.keys():
        before, after = old.get(name, _ABSENT), new.get(name, _ABSENT)
        # A merge keeps the objects that it doesn't touch, so this settles almost every field.
        if before is not after and name not in ignored:
            _compare(prefix + name, before, after, found)


def _compare(path: str, old: Any, new: Any, found: Changes) -> None:
    old_inner = old if isinstance(old, dict) and old else None
    new_inner = new if isinstance(new, dict) and new else None
    if old_inner is None and new_inner is None:
        if type(old) is not type(new) or old != new:
            found[path] = (None if old is _ABSENT else old, None if new is _ABSENT else new)
        return
    # Where an object is replaced by a plain value (or replaces one), each of its fields disappears (or appears) as well
    # as the plain value, so that an edit of a field inside it is seen to be lost.
    if (old_inner is None and old is not _ABSENT) or (new_inner is None and new is not _ABSENT):
        found[path] = (
            old if old_inner is None and old is not _ABSENT else None,
            new if new_inner is None and new is not _ABSENT else None,
        )
    _compare_members(f"{path}.", old_inner or {}, new_inner or {}, found)
