"""
The documents behind the second server, as Windchill keeps them: masters, revisions, iterations and working copies.

People's actions are plain method calls, and so are ours, once the server has read a request. `actions` lists all that
was carried out, and each iteration knows who made it: tests judge by these, never by what the client says of itself.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import attrs

from tests.stock.asking import ZONE

STATES = {"INWORK": "In Arbeit", "UNDERREVIEW": "In Prüfung", "RELEASED": "Freigegeben", "CANCELLED": "Verworfen"}
LIFE_CYCLE = {
    "INWORK": ["UNDERREVIEW", "CANCELLED"],
    "UNDERREVIEW": ["INWORK", "RELEASED"],
    "RELEASED": ["INWORK"],
    "CANCELLED": [],
}
COMMON = ("Name", "Number", "Organization")


@attrs.define(eq=False)
class Iteration:
    """One iteration, or a working copy that may become one. `fields` are those that an iteration has for itself."""

    id: str
    revision: str
    number: int
    fields: dict[str, Any]
    who: str
    at: datetime
    note: str = ""
    state: str = "INWORK"
    modifier: str = ""  # who was at it last, if not who made it


@attrs.define(eq=False)
class Master:
    """A document: its identity, its iterations by age, and its working copy while someone has one."""

    id: str
    shared: dict[str, Any]  # Number, Name
    type: str
    iterations: list[Iteration] = attrs.field(factory=list)
    copy: Iteration | None = None

    @property
    def latest(self) -> Iteration:
        return max(self.iterations, key=lambda one: (one.revision, one.number))

    def last_of(self, revision: str) -> Iteration:
        return [one for one in self.iterations if one.revision == revision][-1]

    def is_latest(self, one: Iteration) -> bool:
        """Whether it is the latest iteration *of its revision*, which is what `Latest` says."""
        return one is self.last_of(one.revision)


@attrs.frozen
class Action:
    """Something that was carried out."""

    number: str
    who: str
    what: str  # CheckOut, PATCH, CheckIn, UndoCheckOut, SetState, UpdateCommonProperties, Revise
    note: str = ""
    fields: dict[str, Any] = attrs.field(factory=dict)


class Refusal(Exception):
    """The server's no: a status and an OData error."""

    def __init__(self, status: int, message: str, code: str = "BAD_REQUEST") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


class Vault:
    """All documents. `now` can be set where a test lives in another time."""

    def __init__(self) -> None:
        self.now: Callable[[], float] = time.time
        self.masters: list[Master] = []
        self.actions: list[Action] = []
        self.admins: set[str] = set()
        self.checkin_keeps_id = True  # the working copy's ID becomes the new iteration's; else that has one of its own
        self.guard = threading.RLock()
        self.actions_touch = True  # State and Name by their actions show in LastModified and ModifiedBy
        self._ids = itertools.count(48_796_553, 7)

    # ---------------------------------------------------------------------------------------------------------- finding

    def master(self, number: str) -> Master:
        return next(one for one in self.masters if one.shared["Number"] == number)

    def by_id(self, id: str) -> tuple[Master, Iteration]:
        for master in self.masters:
            for one in (*master.iterations, *([master.copy] if master.copy else ())):
                if one.id == id or (id == version_id(master, one) and master.is_latest(one)):
                    return master, one
        raise Refusal(404, f"no object with the identifier {id}", "ENTITY_NOT_FOUND")

    def all(self) -> Iterator[tuple[Master, Iteration]]:
        return ((master, one) for master in self.masters for one in master.iterations)

    # ----------------------------------------------------------------------------------------------------------- seeing

    def current(self, number: str) -> dict[str, Any]:
        """Every field of the latest iteration, with its State."""
        master = self.master(number)
        return {**master.shared, **master.latest.fields, "State": master.latest.state}

    def history(self, number: str) -> list[Iteration]:
        return list(self.master(number).iterations)

    def made_by(self, who: str, number: str = "") -> list[Iteration]:
        """The iterations that someone has made by check-in."""
        return [one for master, one in self.all() if one.who == who and number in ("", master.shared["Number"])
                and one.note != "created"]  # fmt: skip

    def checked_out(self) -> dict[str, str]:
        """Number → who has it checked out."""
        return {one.shared["Number"]: one.copy.who for one in self.masters if one.copy}

    def done(self, number: str = "", who: str = "") -> list[str]:
        """What was carried out, in order."""
        return [action.what for action in self.actions if number in ("", action.number) and who in ("", action.who)]

    # ---------------------------------------------------------------------------------------------------------- actions

    def make(self, number: str, *, name: str = "Bracket", type: str = "acme_Specification", who: str = "mrossi",
             age_s: float = 86_400.0, **fields: Any) -> Iteration:  # fmt: skip
        """Create a document, `age_s` seconds ago."""
        with self.guard:
            at = datetime.fromtimestamp(int(self.now() - age_s), ZONE)
            first = Iteration(self._id(), "A", 1, {"Title": None, "Description": None, **fields}, who, at, "created")
            master = Master(self._id("WTDocumentMaster"), {"Number": number, "Name": name}, type, [first])
            self.masters.append(master)
            return first

    def check_out(self, who: str, number: str, note: str = "", revision: str = "") -> Iteration:
        """Check out, the latest revision or an older one; who has it already gets the working copy that there is."""
        with self.guard:
            master = self.master(number)
            if master.copy and master.copy.who != who:
                raise Refusal(409, f"{number} is checked out by another user")
            if master.copy is None:
                of = master.last_of(revision or master.latest.revision)
                master.copy = Iteration(
                    self._id(), of.revision, of.number + 1, dict(of.fields), who, self._at(), note, of.state
                )
                self._did(number, who, "CheckOut", note)
            return master.copy

    def change(self, who: str, number: str, **fields: Any) -> None:
        """Write into one's working copy."""
        with self.guard:
            copy = self._copy(who, number)
            copy.fields.update(fields)
            copy.at = self._at()
            self._did(number, who, "PATCH", fields=fields)

    def check_in(self, who: str, number: str, note: str = "") -> Iteration:
        with self.guard:
            copy, master = self._copy(who, number), self.master(number)
            copy.note, copy.at = note, self._at()
            copy.id = copy.id if self.checkin_keeps_id else self._id()
            master.iterations.append(copy)
            master.copy = None
            self._did(number, who, "CheckIn", note, dict(copy.fields))
            return copy

    def undo(self, who: str, number: str) -> None:
        """Undo a check-out: one's own, or anyone's for an administrator."""
        with self.guard:
            master = self.master(number)
            if master.copy is None:
                raise Refusal(400, f"{number} is not checked out")
            if who not in {master.copy.who, *self.admins}:
                raise Refusal(403, f"{number} is not yours")
            master.copy = None
            self._did(number, who, "UndoCheckOut")

    def edit(self, who: str, number: str, note: str = "", **fields: Any) -> Iteration:
        """Check out, change, check in: one iteration."""
        with self.guard:
            self.check_out(who, number)
            self.change(who, number, **fields)
            return self.check_in(who, number, note)

    def set_state(self, who: str, number: str, state: str, revision: str = "") -> None:
        with self.guard:
            master = self.master(number)
            if master.copy:
                raise Refusal(400, f"{number} is checked out")
            one = master.last_of(revision or master.latest.revision)
            if state not in LIFE_CYCLE[one.state]:
                raise Refusal(400, f"No transition from {one.state} to {state}")
            one.state = state
            self._touch(one, who)
            self._did(number, who, "SetState", fields={"State": state})

    def update_common(self, who: str, number: str, **fields: Any) -> None:
        """Give another Name or Number. No iteration comes of it."""
        with self.guard:
            master = self.master(number)
            if master.copy:
                raise Refusal(400, f"{number} is checked out")
            if wrong := set(fields) - set(COMMON):
                raise Refusal(400, f"{', '.join(sorted(wrong))} can't be changed by this action")
            master.shared.update(fields)
            self._touch(master.latest, who)
            self._did(number, who, "UpdateCommonProperties", fields=fields)

    def revise(self, who: str, number: str) -> Iteration:
        """Make the next revision. The old one's last iteration goes on calling itself `Latest`."""
        with self.guard:
            master = self.master(number)
            if master.copy:
                raise Refusal(400, f"{number} is checked out")
            of = master.latest
            made = Iteration(self._id(), chr(ord(of.revision) + 1), 1, dict(of.fields), who, self._at(), "revised")
            master.iterations.append(made)
            self._did(number, who, "Revise")
            return made

    # ----------------------------------------------------------------------------------------------------------- inside

    def _copy(self, who: str, number: str) -> Iteration:
        copy = self.master(number).copy
        if copy is None or copy.who != who:
            raise Refusal(400, f"{number} must be checked out by {who} before it is changed")
        return copy

    def _did(self, number: str, who: str, what: str, note: str = "", fields: dict[str, Any] | None = None) -> None:
        self.actions.append(Action(number, who, what, note, dict(fields or {})))

    def _touch(self, one: Iteration, who: str) -> None:
        if self.actions_touch:
            one.at, one.modifier = self._at(), who

    def _at(self) -> datetime:
        return datetime.fromtimestamp(int(self.now()), ZONE)

    def _id(self, sort: str = "WTDocument") -> str:
        return f"OR:wt.doc.{sort}:{next(self._ids)}"


def version_id(master: Master, one: Iteration) -> str:
    """What names a revision, whichever its latest iteration is."""
    return f"VR:wt.doc.WTDocument:{master.id.rpartition(':')[2]}{ord(one.revision)}"
