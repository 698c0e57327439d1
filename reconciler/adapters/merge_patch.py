"""
Merge patches (RFC 7396) from dotted paths. Pure.

Rules
- Applied to the document as we read it, the patch gives what `Snapshot.with_fields` gives, except that a field set to
  null is cleared: absent and null are the same to a merge patch.
- A member whose own name contains the dots is one member, as for `Snapshot.value`.
- An object given as a value *replaces* the live one: members that it lacks are cleared one by one, since a merge patch
  would keep them. That is exact because the write is guarded: the server applies it to what we read, or not at all.
- What can't be said is not said: a null that is to stand inside an object would be taken for "clear it".
"""

from collections.abc import Mapping

import attrs

from reconciler.model.snapshot import Snapshot
from reconciler.model.value import Json

_Path = tuple[str, ...]


@attrs.frozen
class Inexpressible:
    """These fields would get values that a merge patch can't say."""

    fields: tuple[str, ...]


class _NullInsideError(Exception):
    """A null is to stand inside an object."""


def build(snapshot: Snapshot, fields: Mapping[str, Json]) -> dict[str, Json] | Inexpressible:
    """Return the patch that gives the document `fields`, or the fields for which there is none."""
    paths = {field: _resolved(snapshot.body, field) for field in fields}
    target: dict[str, Json] | None = None
    if len({path[0] for path in paths.values()}) < len(paths) and _overlap(list(paths.values())):
        # `attributes` and `attributes.Note` together: what they make of each other goes into the outer one.
        target = snapshot.with_fields(dict(fields), None).body
        paths = {field: path for field, path in paths.items() if not _is_inside(path, list(paths.values()))}
    patch: dict[str, Json] = {}
    refused: list[str] = []
    for field, path in paths.items():
        value = fields[field] if target is None else _at(target, path)
        try:
            _put(patch, path, _replacing(_at(snapshot.body, path), value))
        except _NullInsideError:
            refused.append(field)
    return Inexpressible(tuple(refused)) if refused else patch


def _resolved(body: object, field: str) -> _Path:
    """Return the members that lead to a field: as `Snapshot.value` finds them, and from there on the field's parts."""
    head, dot, rest = field.partition(".")
    if not dot or (isinstance(body, dict) and field in body):
        return (field,)
    return (head, *_resolved(body.get(head) if isinstance(body, dict) else None, rest))


def _overlap(paths: list[_Path]) -> bool:
    return any(_is_inside(path, paths) for path in paths)


def _is_inside(path: _Path, others: list[_Path]) -> bool:
    return any(path[:length] in others for length in range(1, len(path)))


def _at(body: object, path: _Path) -> Json:
    value = body
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value  # type: ignore[return-value]  # whatever a document holds is Json; the alias is not recursive


def _put(patch: dict[str, Json], path: _Path, value: Json) -> None:
    inside: dict[str, Json] = patch
    for name in path[:-1]:
        inside = inside.setdefault(name, {})  # type: ignore[assignment]  # paths don't overlap, so this is an object
    inside[path[-1]] = value


def _replacing(live: Json, wanted: Json) -> Json:
    """Return the patch value that makes `wanted` of `live`."""
    if not isinstance(wanted, dict):
        return wanted
    before = live if isinstance(live, dict) else {}
    patch: dict[str, object] = {name: None for name in before if name not in wanted}
    for name, value in wanted.items():
        if value is not None:
            patch[name] = _replacing(before.get(name), value)  # type: ignore[arg-type]  # Json is not recursive
        elif name not in before or before[name] is not None:
            raise _NullInsideError  # a null that is there already is simply left alone
    return patch
