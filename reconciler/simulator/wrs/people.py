"""
What people do in the GUI, under the same locks as everyone else.

They act when the control API says so, or by script right before or after a client's request.

    {"document": KEY, "user": NAME, "do": ACTION or [ACTION, …], "set": {path: value}, "note": TEXT, "state": VALUE,
     "name": TEXT}

`checkout` and `checkin` take the note, `edit` changes the working copy by dotted paths, `undo` drops it. `setstate`
moves the document to a state, and `rename` gives it a name; neither checks transitions or locks. `revise` makes the
next revision: a copy of the latest iteration, in the first state of the life cycle. The old revision stays beside it.
"""

from collections.abc import Mapping
from typing import Any

from reconciler.simulator import fields
from reconciler.simulator.history import Writer
from reconciler.simulator.messages import Reply
from reconciler.simulator.wrs import checkout, replies
from reconciler.simulator.wrs.iterations import Iteration, WorkingCopy, identity, revision_of
from reconciler.simulator.wrs.state import WrsState

_NEEDED = frozenset(("document", "user", "do"))
_MORE = {"edit": "set", "setstate": "state", "rename": "name"}
"""What a action can't be done without."""
_ACTIONS = ("checkout", "edit", "checkin", "undo", "setstate", "rename", "revise")


class NotDone(ValueError):
    """A person was refused, in the server's words."""


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, with a list of actions; ValueError says what is missing or unknown."""
    unknown = given.keys() - _NEEDED - {"set", "note", "state", "name"}
    if unknown or not given.keys() >= _NEEDED:
        raise ValueError(f"needed: {', '.join(sorted(_NEEDED))}; unknown: {', '.join(sorted(unknown)) or 'nothing'}")
    actions = [given["do"]] if isinstance(given["do"], str) else given["do"]
    if not isinstance(actions, list) or not set(actions) <= set(_ACTIONS):
        raise ValueError(f"do must be of {', '.join(_ACTIONS)}")
    missing = [more for action, more in _MORE.items() if action in actions and more not in given]
    if missing:
        raise ValueError(f"missing: {', '.join(missing)}")
    return {**given, "do": actions}


def perform(state: WrsState, given: Mapping[str, Any]) -> None:
    """Do the actions up to the first that is refused, which the statistics count."""
    try:
        for action in given["do"]:
            do(state, action, given)
    except (NotDone, KeyError):
        state.refusals["act"] += 1


def where(state: WrsState, key: str) -> dict[str, Any]:
    """The present IDs of a document; KeyError if there is none."""
    latest, copy = state.iterations.latest(key), state.iterations.copy_of(key)
    if latest is None:
        raise KeyError(key)
    return {
        "latest": identity(latest.number),
        "version": f"{revision_of(latest.version.fields)}.{latest.ordinal}",
        "former_revisions": state.iterations.revisions(key)[:-1],
        "iterations": latest.ordinal,
        "working_copy": None if copy is None else identity(copy.number),
        "locked_by": state.documents.locks.get(key),
    }


def do(state: WrsState, action: str, given: Mapping[str, Any]) -> None:
    """Do one action; raises NotDone if the person is refused, KeyError if there is no such document."""
    key, user, note = given["document"], given["user"], given.get("note")
    latest, copy = state.iterations.latest(key), state.iterations.copy_of(key)
    if latest is None:
        raise KeyError(key)
    if action == "setstate":
        moved = latest.version.fields | {"status": given["state"]}
        state.documents.write(key, moved, Writer(user, "control", None, "SetState"))
        return
    if action == "rename":
        named = latest.version.fields | {"name": given["name"]}
        state.documents.write(key, named, Writer(user, "control", None, "UpdateCommonProperties"))
        return
    if action == "revise":
        if key in state.documents.locks or key in state.documents.former:
            raise NotDone(f"{key} is checked out, or is an old revision")
        begun = {"revision": _next_revision(latest), "status": next(iter(state.switches.states))}
        state.documents.write(key, latest.version.fields | begun, Writer(user, "control", None, "Revise"))
        return
    if action == "checkout":
        made = checkout.check_out(state, latest, user, note)
        if isinstance(made, WorkingCopy):
            return
        raise NotDone(replies.message_of(made) if isinstance(made, Reply) else "checked out by someone else")
    if copy is None or copy.holder != user:
        raise NotDone(f"{user} has no working copy of {key}")
    if action == "edit":
        checkout.change(state, copy, fields.nested(given["set"]), None)
    elif action == "checkin":
        checkout.check_in(state, copy, note, kind="control")
    else:
        checkout.undo(state, copy, user)


def _next_revision(latest: Iteration) -> str:
    revision = revision_of(latest.version.fields)
    if revision >= "Z":
        raise NotDone("there is no revision after Z")
    return chr(ord(revision[-1]) + 1)
