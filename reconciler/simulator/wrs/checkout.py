"""
The life of a working copy: check out, change, check in or undo.

The rules are the same for the dialect's users and for people whom the control API directs. A refusal is returned as
the dialect's reply.
"""

from collections.abc import Mapping
from typing import Any

from reconciler.simulator import fields
from reconciler.simulator.history import Kind, Writer
from reconciler.simulator.messages import Reply
from reconciler.simulator.wrs import replies
from reconciler.simulator.wrs.iterations import Iteration, WorkingCopy
from reconciler.simulator.wrs.state import Event, Step, WrsState


def check_out(
    state: WrsState, found: Iteration | WorkingCopy, user: str, note: str | None
) -> WorkingCopy | Iteration | Reply:
    """Make a working copy. Returns an iteration if another user was first and the server doesn't say so."""
    key = found.key
    if isinstance(found, WorkingCopy):
        return _again(state, found) if found.holder == user else locked(state, found.holder, 409)
    latest = state.iterations.latest(key)
    assert latest is not None
    if found.number != latest.number:
        if state.switches.stale_checkout != "latest":
            status = int(state.switches.stale_checkout)
            return replies.refusal(status, "STALE_ITERATION", "This is not the latest iteration.", cause="stale")
        found = latest
    holder = state.documents.locks.get(key)
    if holder is not None and holder != user:
        if state.switches.checkout_conflict == "same":
            state.refusals["locked"] += 1
            return found
        return locked(state, holder, int(state.switches.checkout_conflict))
    copy = state.iterations.copy_of(key)
    if copy is not None:
        return _again(state, copy)
    made = state.iterations.check_out(found, user, state.clock())
    made.note = note or None
    _record(state, made, "CheckOut", user, found.number, note=note or None)
    return made


def change(state: WrsState, copy: WorkingCopy, patch: Mapping[str, Any], guard: str | None) -> None:
    """Merge `patch` into the working copy; `guard` is the token that its holder had last seen."""
    if not copy.edits:
        copy.guard = guard
    copy.edits += 1
    copy.modified = state.clock()
    copy.document = fields.merge(copy.document, patch, state.documents.behaviour.cleared_fields)


def check_in(
    state: WrsState, copy: WorkingCopy, note: str | None, *, keep: bool = False, kind: Kind = "rest"
) -> Iteration:
    """Make the working copy the new iteration."""
    user = copy.holder
    token = copy.origin.version.token
    guard = token if kind != "rest" or not copy.edits else copy.guard
    state.iterations.release(copy.key, keep_number=state.switches.checkin_id == "working_copy")
    state.documents.write(copy.key, copy.document, Writer(user, kind, guard, "CheckIn", guard))
    made = state.iterations.latest(copy.key)
    assert made is not None
    _record(state, copy, "CheckIn", user, made.number, note=note or None, kept=keep)
    if keep:
        state.iterations.check_out(made, user, state.clock())
    return made


def undo(state: WrsState, found: Iteration | WorkingCopy, user: str) -> Iteration | Reply:
    """Drop a working copy and unlock its document. Administrators may name the original instead."""
    iterations = state.iterations
    administrator = user in state.switches.administrators
    copy = iterations.copy_of(found.key) if administrator else found
    if not isinstance(copy, WorkingCopy):
        return replies.invalid("UndoCheckOut needs a working copy.", cause="not_checked_out")
    if copy.holder != user and not administrator:
        return replies.refusal(403, "FORBIDDEN", f"Checked out by {copy.holder}.", cause="forbidden")
    iterations.release(copy.key)
    latest = iterations.latest(copy.key)
    assert latest is not None
    _record(state, copy, "UndoCheckOut", user, latest.number)
    return latest


def locked(state: WrsState, holder: str, status: int) -> Reply:
    """The refusal of a document that another user has checked out."""
    switches = state.switches
    message = switches.locked_message.replace("{holder}", switches.display_names.get(holder, holder))
    return replies.refusal(status, "CHECKED_OUT", message, cause="locked")


def _again(state: WrsState, copy: WorkingCopy) -> WorkingCopy | Reply:
    if state.switches.checkout_again == "working_copy":
        return copy
    return replies.refusal(400, "CHECKED_OUT", "The object is already checked out by you.", cause="locked")


def _record(state: WrsState, copy: WorkingCopy, event: Event, user: str, iteration: int, **more: Any) -> None:
    state.record(Step(0, state.clock(), copy.key, event, user, copy.holder, copy.number, iteration, **more))
