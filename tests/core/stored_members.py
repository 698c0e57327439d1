"""
The members of every value that the store holds as JSON, as the last release has them.

`python -m tests.core.stored_members` records them in `stored_members.json`, when a release is cut (docs/release.md).
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import inspect

from reconciler import __version__
from reconciler.model.action import OperatorAction
from reconciler.model.audit import AuditRecord
from reconciler.model.chain import Checkpoint, Cut
from reconciler.model.codec import StoredDesired
from reconciler.model.document import Agreement, Conflict, Superseded
from reconciler.model.event import DeadLetter, Outgoing
from reconciler.model.policy import Policy
from reconciler.model.signing import Noted
from reconciler.model.standing import WriteStop

FILE = Path(__file__).with_name("stored_members.json")
STORED = (
    *(StoredDesired, Agreement, AuditRecord, OperatorAction, Checkpoint, Cut, Policy, DeadLetter),
    *(Conflict, Superseded, Noted, WriteStop, Outgoing),
)
Members = dict[str, list[str]]


def present() -> Members:
    """Return the members of each type, in their order, by the type's name."""
    return {name: [field.name for field in one.fields] for name, one in sorted(_types().items())}


def optional() -> set[str]:
    """Return the members, as TYPE.MEMBER, that a row may lack, and that an older program passes over."""
    return {
        f"{name}.{field.name}"
        for name, one in _types().items()
        if isinstance(one, inspect.StructType | inspect.DataclassType)  # others are arrays, of one length
        for field in one.fields
        if not field.required
    }


def _types() -> dict[str, Any]:
    """Return every type with members that is in a stored value."""
    found: dict[str, Any] = {}
    waiting: list[Any] = list(inspect.multi_type_info(STORED))
    while waiting:
        one = waiting.pop()
        name = one.cls.__name__ if hasattr(one, "fields") else ""
        if name not in found:
            waiting += _inside(one)
        if name:
            found[name] = one
    return found


def _inside(one: Any) -> Iterator[Any]:
    for field in getattr(one, "fields", ()):
        yield field.type
    for name in ("item_type", "key_type", "value_type", "type"):
        if isinstance(inner := getattr(one, name, None), inspect.Type):
            yield inner
    yield from getattr(one, "item_types", ())
    yield from getattr(one, "types", ())


def faults(before: Mapping[str, list[str]], now: Mapping[str, list[str]], read: set[str]) -> list[str]:
    """Return what a program of the release with the members of `before` could not live with; `read` are only read."""
    said = [f"{name}.{member} is gone" for name in before for member in before[name] if member not in now.get(name, ())]
    new = [f"{name}.{member}" for name in now if name in before for member in now[name] if member not in before[name]]
    return [*said, *(f"{member} is new" for member in new if member not in read)]


if __name__ == "__main__":
    FILE.write_text(json.dumps({"release": __version__, "members": present()}, indent=1) + "\n", encoding="utf-8")
