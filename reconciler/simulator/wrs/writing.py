"""What changes a document: PATCH, and the actions. Each leaves its entry in the history, saying what guarded it."""

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import evolve

from reconciler.simulator import fields
from reconciler.simulator.documents import READ_ONLY
from reconciler.simulator.history import Way, Writer
from reconciler.simulator.messages import Reply
from reconciler.simulator.wrs import checkout, replies, values
from reconciler.simulator.wrs.entities import View
from reconciler.simulator.wrs.iterations import Iteration, WorkingCopy
from reconciler.simulator.wrs.options import Wrs
from reconciler.simulator.wrs.state import WrsState
from reconciler.simulator.wrs.values import Unfit

_COMMON = {"Name": "name", "Number": "number", "Organization": "organization"}


def patch(state: WrsState, view: View, writer: Writer, given: Mapping[str, Any]) -> Reply | None:
    """Change attributes of a working copy, or in place if this server allows that; None: done."""
    found, switches = view.found, state.switches
    if isinstance(found, Iteration):
        refused = _in_place_refused(state, found, writer.who)
        if refused is None and switches.patch_without_checkout == "refused":
            refused = replies.invalid("The object must be checked out before it is updated.", cause="not_checked_out")
        if refused is not None:
            return refused
    elif found.holder != writer.who:
        return replies.refusal(403, "FORBIDDEN", f"Checked out by {found.holder}.", cause="forbidden")
    wanted = _wanted(state, view, given)
    if isinstance(wanted, Reply):
        return wanted
    if isinstance(found, WorkingCopy):
        seen = state.seen(writer.who, found.key)
        checkout.change(state, found, wanted, found.origin.version.token if found.read else seen)
        return None
    merged = fields.merge(found.version.fields, wanted, state.documents.behaviour.cleared_fields)
    state.documents.write(found.key, merged, _by(state, writer, "patch", found))
    return None


def set_state(state: WrsState, found: Iteration | WorkingCopy, writer: Writer, given: object) -> Reply | None:
    """Move a document to another lifecycle state, without a check-out; None: done."""
    switches = state.switches
    if not isinstance(given, Mapping) or not all(isinstance(given.get(part), str) for part in ("Value", "Display")):
        return replies.invalid("SetState needs State with both Value and Display.")
    value = given["Value"]
    if value not in switches.states or given["Display"] != switches.states[value]:
        return replies.invalid(f"The state '{value}' ('{given['Display']}') does not exist.")
    refused = _in_place_refused(state, found, writer.who, locked=switches.set_state_when_checked_out == "refused")
    if refused is not None:
        return refused
    assert isinstance(found, Iteration)
    now = found.version.fields.get("status")
    if value not in allowed(switches, now):
        return replies.invalid(f"The object can't go from state {now} to {value}.", cause="business_rule")
    if switches.set_state_effect == "ignored":
        return None
    stamped, writer = switches.set_state_moves_last_modified, _by(state, writer, "SetState", found)
    state.documents.write(found.key, {**found.version.fields, "status": value}, writer, stamped=stamped)
    return None


def allowed(switches: Wrs, state: object) -> list[str]:
    """The states to which SetState can lead from `state`."""
    others = [name for name in switches.states if name != state]
    return switches.transitions.get(str(state), others)


def update_common_properties(
    state: WrsState, found: Iteration | WorkingCopy, writer: Writer, given: object
) -> Reply | None:
    """Change Name, Number or Organization, without a check-out; None: done."""
    if not isinstance(given, Mapping) or not given:
        return replies.invalid("UpdateCommonProperties needs Updates.")
    for name, value in given.items():
        if name not in _COMMON:
            return replies.invalid(f"The property '{name}' is not a common property.", cause="refused_field")
        if not isinstance(value, str) or not value.strip():
            return replies.invalid(f"The property '{name}' needs a value.", cause="refused_field")
    iterations = state.iterations
    if iterations.latest(found.key) is found:  # Number and Name are the master's, whichever revision they are given to
        found = iterations.latest(iterations.shared(found.key, {})[0]) or found
    refused = _in_place_refused(state, found, writer.who, locked=True) or _refused_field(
        state, [_COMMON[name] for name in given]
    )
    if refused is not None:
        return refused
    assert isinstance(found, Iteration)
    number = given.get("Number")
    if number is not None and state.iterations.key_of(number) not in (None, found.key):
        return replies.invalid(f"The Number '{number}' is taken.", cause="refused_field")
    new = {**found.version.fields, **{_COMMON[name]: value for name, value in given.items()}}
    writer = _by(state, writer, "UpdateCommonProperties", found)
    stamped = state.switches.common_properties_move_last_modified
    state.documents.write(found.key, new, writer, stamped=stamped)
    return None


def _by(state: WrsState, writer: Writer, way: Way, found: Iteration) -> Writer:
    return evolve(writer, way=way, seen=state.seen(writer.who, found.key))


def _in_place_refused(
    state: WrsState, found: Iteration | WorkingCopy, user: str, *, locked: bool | None = None
) -> Reply | None:
    """Why the iteration can't be changed in place; `locked`: whether any check-out is in the way, None: others'."""
    if isinstance(found, WorkingCopy):
        return replies.refusal(400, "CHECKED_OUT", "The object is checked out by you.", cause="locked")
    if state.iterations.latest(found.key) is not found:
        return replies.refusal(400, "STALE_ITERATION", "This is not the latest iteration.", cause="stale")
    holder = state.documents.locks.get(found.key)
    if holder is None or locked is False or (locked is None and holder == user):
        return None
    conflict = state.switches.checkout_conflict
    return checkout.locked(state, holder, 400 if conflict == "same" else int(conflict))


def _wanted(state: WrsState, view: View, given: Mapping[str, Any]) -> dict[str, Any] | Reply:
    """What is given as a merge patch of the document."""
    known = state.types.properties[view.type]
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
    return _refused_field(state, paths) or fields.nested(paths)


def _refused_field(state: WrsState, paths: Iterable[str]) -> Reply | None:
    """The refusal of a field that a test wants refused in all dialects."""
    refused = state.documents.behaviour.refused_fields
    for path in sorted(refused.keys() & paths):
        name = path.rpartition(".")[2]
        return replies.invalid(f"The property '{name}' {refused[path]}", cause="refused_field")
    return None
