"""
What people do in the GUI, step by step, under the same locks as everybody: at once by the control API, or by script
right before or after a client's request.

    {"document": KEY, "user": NAME, "do": DEED or [DEED, …], "set": {path: value}, "note": TEXT, "state": VALUE,
     "name": TEXT}

`checkout` and `checkin` take the note, `edit` changes the working copy by dotted paths, `undo` drops it. `setstate`
moves the document to a state, and `rename` gives it a name, asking for neither transition nor lock. `revise` makes the
next revision: a copy of the latest iteration, in the first state of the life cycle. What was there goes on beside it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reconciler.simulator import fields
from reconciler.simulator.history import Writer
from reconciler.simulator.messages import Reply
from reconciler.simulator.wrs import checkout, replies
from reconciler.simulator.wrs.entities import identity
from reconciler.simulator.wrs.shelf import Iteration, WorkingCopy, revision_of

if TYPE_CHECKING:
    from reconciler.simulator.world import World

_NEEDED = frozenset(("document", "user", "do"))
_MORE = {"edit": "set", "setstate": "state", "rename": "name"}
"""What a deed can't be done without."""
_DEEDS = ("checkout", "edit", "checkin", "undo", "setstate", "rename", "revise")


class NotDone(ValueError):
    """A person was refused, in the server's words."""


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, with a list of deeds; ValueError says what is missing or unknown."""
    unknown = given.keys() - _NEEDED - {"set", "note", "state", "name"}
    if unknown or not given.keys() >= _NEEDED:
        raise ValueError(f"needed: {', '.join(sorted(_NEEDED))}; unknown: {', '.join(sorted(unknown)) or 'nothing'}")
    deeds = [given["do"]] if isinstance(given["do"], str) else given["do"]
    if not isinstance(deeds, list) or not set(deeds) <= set(_DEEDS):
        raise ValueError(f"do must be of {', '.join(_DEEDS)}")
    missing = [more for deed, more in _MORE.items() if deed in deeds and more not in given]
    if missing:
        raise ValueError(f"missing: {', '.join(missing)}")
    return {**given, "do": deeds}


def perform(world: "World", given: Mapping[str, Any]) -> None:
    """Do what can be done; the first thing that can't ends it, and counts in the statistics."""
    try:
        for deed in given["do"]:
            do(world, deed, given)
    except (NotDone, KeyError):
        world.statistics.causes["deed"] += 1


def where(world: "World", key: str) -> dict[str, Any]:
    """By which IDs a document goes now; KeyError where there is none."""
    latest, copy = world.wrs.shelf.latest(key), world.wrs.shelf.copy_of(key)
    if latest is None:
        raise KeyError(key)
    return {
        "latest": identity(latest.number),
        "version": f"{revision_of(latest.version.fields)}.{latest.ordinal}",
        "former_revisions": world.wrs.shelf.revisions(key)[:-1],
        "iterations": latest.ordinal,
        "working_copy": None if copy is None else identity(copy.number),
        "locked_by": world.documents.locks.get(key),
    }


def do(world: "World", deed: str, given: Mapping[str, Any]) -> None:
    """One deed; raises NotDone where a person would be refused, and KeyError where there is no such document."""
    key, user, note = given["document"], given["user"], given.get("note")
    latest, copy = world.wrs.shelf.latest(key), world.wrs.shelf.copy_of(key)
    if latest is None:
        raise KeyError(key)
    if deed == "setstate":
        moved = latest.version.fields | {"status": given["state"]}
        world.documents.write(key, moved, Writer(user, "control", None, "SetState"))
        return
    if deed == "rename":
        named = latest.version.fields | {"name": given["name"]}
        world.documents.write(key, named, Writer(user, "control", None, "UpdateCommonProperties"))
        return
    if deed == "revise":
        if key in world.documents.locks or key in world.documents.former:
            raise NotDone(f"{key} is checked out, or is an old revision")
        begun = {"revision": _next_revision(latest), "status": next(iter(world.wrs.switches.states))}
        world.documents.write(key, latest.version.fields | begun, Writer(user, "control", None, "Revise"))
        return
    if deed == "checkout":
        made = checkout.check_out(world, latest, user, note)
        if isinstance(made, WorkingCopy):
            return
        raise NotDone(replies.message_of(made) if isinstance(made, Reply) else "checked out by somebody else")
    if copy is None or copy.holder != user:
        raise NotDone(f"{user} has no working copy of {key}")
    if deed == "edit":
        checkout.change(world, copy, fields.nested(given["set"]), None)
    elif deed == "checkin":
        checkout.check_in(world, copy, note, kind="control")
    else:
        checkout.undo(world, copy, user)


def _next_revision(latest: Iteration) -> str:
    revision = revision_of(latest.version.fields)
    if revision >= "Z":
        raise NotDone("there is no revision after Z")
    return chr(ord(revision[-1]) + 1)
