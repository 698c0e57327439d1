"""
The life of a working copy: check out, change, check in or undo.

One set of rules for the dialect's users and for the people whom the control API steers. A refusal is returned as
the reply that the dialect gives.
"""

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from attrs import evolve, frozen

from reconciler.simulator import fields
from reconciler.simulator.history import Kind, Writer
from reconciler.simulator.messages import Reply
from reconciler.simulator.wrs import replies
from reconciler.simulator.wrs.shelf import Iteration, WorkingCopy

if TYPE_CHECKING:
    from reconciler.simulator.world import World

Event = Literal["CheckOut", "CheckIn", "UndoCheckOut"]
_CYCLES_MAX = 100_000


@frozen
class Step:
    """One step in the life of a working copy, as the control API shows it."""

    sequence: int
    time: datetime
    document: str
    event: Event
    user: str
    holder: str
    """Whose working copy it is; differs from the user where an administrator undoes it."""
    working_copy: int
    iteration: int
    """What it was made from, or what became of it."""
    note: str | None = None
    kept: bool = False
    """Whether a check-in kept the document checked out."""


class Cycles:
    """Every step of every check-out, the oldest forgotten first."""

    def __init__(self) -> None:
        self.steps: deque[Step] = deque(maxlen=_CYCLES_MAX)
        self._last = 0

    def record(self, step: Step) -> None:
        """Append a step; its number is given here."""
        self._last += 1
        self.steps.append(evolve(step, sequence=self._last))


def check_out(
    world: "World", found: Iteration | WorkingCopy, user: str, note: str | None
) -> WorkingCopy | Iteration | Reply:
    """Make a working copy. An iteration comes back where somebody else was first and the server doesn't say so."""
    side, key = world.wrs, found.key
    if isinstance(found, WorkingCopy):
        return _again(world, found) if found.holder == user else locked(world, found.holder, 409)
    latest = side.shelf.latest(key)
    assert latest is not None
    if found.number != latest.number:
        if side.switches.stale_checkout != "latest":
            status = int(side.switches.stale_checkout)
            return replies.refusal(status, "STALE_ITERATION", "This is not the latest iteration.", cause="stale")
        found = latest
    holder = world.documents.locks.get(key)
    if holder is not None and holder != user:
        if side.switches.checkout_conflict == "same":
            world.statistics.causes["locked"] += 1
            return found
        return locked(world, holder, int(side.switches.checkout_conflict))
    copy = side.shelf.copy_of(key)
    if copy is not None:
        return _again(world, copy)
    made = side.shelf.check_out(found, user, world.clock())
    made.note = note or None
    _record(world, made, "CheckOut", user, found.number, note=note or None)
    return made


def change(world: "World", copy: WorkingCopy, patch: Mapping[str, Any], guard: str | None) -> None:
    """Merge `patch` into the working copy; `guard` is the token that its holder had last seen."""
    if not copy.edits:
        copy.guard = guard
    copy.edits += 1
    copy.modified = world.clock()
    copy.document = fields.merge(copy.document, patch, world.documents.behaviour.cleared_fields)


def check_in(
    world: "World", copy: WorkingCopy, note: str | None, *, keep: bool = False, kind: Kind = "rest"
) -> Iteration:
    """Make the working copy the new iteration."""
    side, user = world.wrs, copy.holder
    token = copy.origin.version.token
    guard = token if kind != "rest" or not copy.edits else copy.guard
    side.shelf.release(copy.key, keep_number=side.switches.checkin_id == "working_copy")
    world.documents.write(copy.key, copy.document, Writer(user, kind, guard, "CheckIn", guard))
    made = side.shelf.latest(copy.key)
    assert made is not None
    _record(world, copy, "CheckIn", user, made.number, note=note or None, kept=keep)
    if keep:
        side.shelf.check_out(made, user, world.clock())
    return made


def undo(world: "World", found: Iteration | WorkingCopy, user: str) -> Iteration | Reply:
    """Drop a working copy and unlock its document. Administrators may name the original instead."""
    shelf = world.wrs.shelf
    administrator = user in world.wrs.switches.administrators
    copy = shelf.copy_of(found.key) if administrator else found
    if not isinstance(copy, WorkingCopy):
        return replies.invalid("UndoCheckOut needs a working copy.", cause="not_checked_out")
    if copy.holder != user and not administrator:
        return replies.refusal(403, "FORBIDDEN", f"Checked out by {copy.holder}.", cause="forbidden")
    shelf.release(copy.key)
    latest = shelf.latest(copy.key)
    assert latest is not None
    _record(world, copy, "UndoCheckOut", user, latest.number)
    return latest


def locked(world: "World", holder: str, status: int) -> Reply:
    """The refusal of what somebody else has checked out."""
    switches = world.wrs.switches
    message = switches.locked_message.replace("{holder}", switches.display_names.get(holder, holder))
    return replies.refusal(status, "CHECKED_OUT", message, cause="locked")


def _again(world: "World", copy: WorkingCopy) -> WorkingCopy | Reply:
    if world.wrs.switches.checkout_again == "working_copy":
        return copy
    return replies.refusal(400, "CHECKED_OUT", "The object is already checked out by you.", cause="locked")


def _record(world: "World", copy: WorkingCopy, event: Event, user: str, iteration: int, **more: Any) -> None:
    world.wrs.cycles.record(Step(0, world.clock(), copy.key, event, user, copy.holder, copy.number, iteration, **more))
