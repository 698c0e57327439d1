"""
What changes a document: PATCH, and the actions. Each leaves its entry in the history, saying what guarded it.

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

from attrs import evolve

from reconciler.simulator import fields
from reconciler.simulator.documents import READ_ONLY
from reconciler.simulator.history import Way, Writer
from reconciler.simulator.messages import Reply
from reconciler.simulator.wrs import checkout, replies, values
from reconciler.simulator.wrs.entities import View
from reconciler.simulator.wrs.shelf import Iteration, WorkingCopy
from reconciler.simulator.wrs.values import Unfit

if TYPE_CHECKING:
    from reconciler.simulator.world import World

from typing import TYPE_CHECKING

from reconciler.simulator.wrs.entities import identity
from reconciler.simulator.wrs.shelf import revision_of

if TYPE_CHECKING:
    from reconciler.simulator.world import World

_COMMON = {"Name": "name", "Number": "number", "Organization": "organization"}


def patch(world: "World", view: View, writer: Writer, given: Mapping[str, Any]) -> Reply | None:
    """Change attributes: of a working copy, or in place where this server lets it; None: done."""
    found, switches = view.found, world.wrs.switches
    if isinstance(found, Iteration):
        refused = _in_place_refused(world, found, writer.who)
        if refused is None and switches.patch_without_checkout == "refused":
            refused = replies.invalid("The object must be checked out before it is updated.", cause="not_checked_out")
        if refused is not None:
            return refused
    elif found.holder != writer.who:
        return replies.refusal(403, "FORBIDDEN", f"Checked out by {found.holder}.", cause="forbidden")
    wanted = _wanted(world, view, given)
    if isinstance(wanted, Reply):
        return wanted
    if isinstance(found, WorkingCopy):
        seen = world.wrs.seen(writer.who, found.key)
        checkout.change(world, found, wanted, found.origin.version.token if found.read else seen)
        return None
    merged = fields.merge(found.version.fields, wanted, world.documents.behaviour.cleared_fields)
    world.documents.write(found.key, merged, _by(world, writer, "patch", found))
    return None


def set_state(world: "World", found: Iteration | WorkingCopy, writer: Writer, given: object) -> Reply | None:
    """Move a document on in its lifecycle, outside any check-out; None: done."""
    switches = world.wrs.switches
    if not isinstance(given, Mapping) or not all(isinstance(given.get(part), str) for part in ("Value", "Display")):
        return replies.invalid("SetState needs State with both Value and Display.")
    value = given["Value"]
    if value not in switches.states or given["Display"] != switches.states[value]:
        return replies.invalid(f"The state '{value}' ('{given['Display']}') does not exist.")
    refused = _in_place_refused(world, found, writer.who, locked=switches.set_state_when_checked_out == "refused")
    if refused is not None:
        return refused
    assert isinstance(found, Iteration)
    now = found.version.fields.get("status")
    if value not in allowed(world, now):
        return replies.invalid(f"The object can't go from state {now} to {value}.", cause="business_rule")
    if switches.set_state_effect == "ignored":
        return None
    stamped, writer = switches.set_state_moves_last_modified, _by(world, writer, "SetState", found)
    world.documents.write(found.key, {**found.version.fields, "status": value}, writer, stamped=stamped)
    return None


def allowed(world: "World", state: object) -> list[str]:
    """The states to which SetState can lead from `state`."""
    switches = world.wrs.switches
    others = [name for name in switches.states if name != state]
    return switches.transitions.get(str(state), others)


def update_common_properties(
    world: "World", found: Iteration | WorkingCopy, writer: Writer, given: object
) -> Reply | None:
    """Change Name, Number or Organization, outside any check-out; None: done."""
    if not isinstance(given, Mapping) or not given:
        return replies.invalid("UpdateCommonProperties needs Updates.")
    for name, value in given.items():
        if name not in _COMMON:
            return replies.invalid(f"The property '{name}' is not a common property.", cause="refused_field")
        if not isinstance(value, str) or not value.strip():
            return replies.invalid(f"The property '{name}' needs a value.", cause="refused_field")
    shelf = world.wrs.shelf
    if shelf.latest(found.key) is found:  # Number and Name are the master's, whichever revision they are given to
        found = shelf.latest(shelf.shared(found.key, {})[0]) or found
    refused = _in_place_refused(world, found, writer.who, locked=True) or _standing_in_the_way(world, given)
    if refused is not None:
        return refused
    assert isinstance(found, Iteration)
    number = given.get("Number")
    if number is not None and world.wrs.shelf.key_of(number) not in (None, found.key):
        return replies.invalid(f"The Number '{number}' is taken.", cause="refused_field")
    new = {**found.version.fields, **{_COMMON[name]: value for name, value in given.items()}}
    writer = _by(world, writer, "UpdateCommonProperties", found)
    stamped = world.wrs.switches.common_properties_move_last_modified
    world.documents.write(found.key, new, writer, stamped=stamped)
    return None


def _by(world: "World", writer: Writer, way: Way, found: Iteration) -> Writer:
    return evolve(writer, way=way, seen=world.wrs.seen(writer.who, found.key))


def _in_place_refused(
    world: "World", found: Iteration | WorkingCopy, user: str, *, locked: bool | None = None
) -> Reply | None:
    """Why the iteration can't be changed in place; `locked`: whether any check-out is in the way, None: others'."""
    if isinstance(found, WorkingCopy):
        return replies.refusal(400, "CHECKED_OUT", "The object is checked out by you.", cause="locked")
    if world.wrs.shelf.latest(found.key) is not found:
        return replies.refusal(400, "STALE_ITERATION", "This is not the latest iteration.", cause="stale")
    holder = world.documents.locks.get(found.key)
    if holder is None or locked is False or (locked is None and holder == user):
        return None
    conflict = world.wrs.switches.checkout_conflict
    return checkout.locked(world, holder, 400 if conflict == "same" else int(conflict))


def _wanted(world: "World", view: View, given: Mapping[str, Any]) -> dict[str, Any] | Reply:
    """What is given as a merge patch of the document."""
    known = world.wrs.types.properties[view.type]
    paths: dict[str, Any] = {}
    for name, value in given.items():
        if name.startswith("@") or "@" in name:
            continue
        found = known.get(name)
        if found is None:
            return replies.invalid(f"The property '{name}' does not exist in {view.type}.", cause="refused_field")
        if found.action:
            message = f"The property '{name}' can be updated only by the action {found.action}."
            return replies.invalid(message, cause="refused_field")
        if found.read_only or found.path in READ_ONLY:
            return replies.invalid(f"The property '{name}' is read-only.", cause="refused_field")
        if name in view.secured:
            message = f"You are not allowed to update the property '{name}'."
            return replies.refusal(403, "FORBIDDEN", message, cause="secured")
        try:
            paths[found.path] = values.incoming(found, value)
        except Unfit as unfit:
            return replies.invalid(str(unfit), cause="refused_field")
    refused = _business(world, paths)
    return fields.nested(paths) if refused is None else refused


def _business(world: "World", paths: Mapping[str, Any]) -> Reply | None:
    """The rules that the tester gave to all dialects, by dotted paths."""
    behaviour = world.documents.behaviour
    for path, value in sorted(paths.items(), key=lambda pair: pair[0]):
        name = path.rpartition(".")[2]
        if path in behaviour.refused_fields:
            return replies.invalid(f"The property '{name}' {behaviour.refused_fields[path]}", cause="refused_field")
        if value in behaviour.business_rules.get(path, ()):
            return replies.invalid(behaviour.business_rule_message, cause="business_rule")
    return None


def _standing_in_the_way(world: "World", given: Mapping[str, Any]) -> Reply | None:
    return _business(world, {_COMMON[name]: value for name, value in given.items()})


# ------------------------------------------------------------------------------------------------------- what people do


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
