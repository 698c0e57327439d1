"""
Copies: whose a working copy is, and whether a person has worked in it.

Rules
- That CheckOut was answered with 200 proves nothing: a second one by the same account gets the copy that is there.
- Our mark in a note proves a copy ours, unless the iteration below shows the same: then the copy has inherited it.
- Where a property has once shown our mark, a copy that shows another text there is not ours.
- Where a copy shows no note, it is ours if the read right before our CheckOut showed the document checked in. In the
  race that remains, a person checks out under our account between that read and our CheckOut.
- A copy that differs from its iteration before we have written holds a person's work. Notes don't count, nor does what
  is hidden in either.
"""

import attrs

from reconciler.adapters import replies
from reconciler.adapters.wrs import holders, portions
from reconciler.adapters.wrs.metadata import Schema
from reconciler.adapters.wrs.reading import Reader
from reconciler.adapters.wrs.service import Row, Service
from reconciler.model.answer import Trouble
from reconciler.model.snapshot import Snapshot
from reconciler.model.value import canonical

_NOTES = frozenset(("Comments", "Comment", "CheckOutNote", "CheckInNote", "CheckOutComments", "IterationNote"))


_LOOK_AGAIN_S = 60.0


@attrs.frozen
class Left:
    """One check-out that was left behind. `ours`: it may be undone; else a person's work may be in it."""

    key: str
    copy: str
    mark: str
    ours: bool
    why: str


class Stuck:
    """
    The check-outs that keep all others from being made.

    While there is one, nothing is written: the next document would most likely be left behind as well. A minute after
    each look the next write looks whether it is gone; a restart forgets them.
    """

    def __init__(self) -> None:
        self._left: dict[str, Left] = {}
        self._look_at_s = 0.0

    def leave(self, left: Left, now_s: float) -> None:
        """Take note of a check-out that is left behind."""
        self._left[left.copy] = left
        self._look_at_s = now_s + _LOOK_AGAIN_S

    def gone(self, copy: str) -> None:
        """Take note that a check-out is there no more."""
        self._left.pop(copy, None)

    def due(self, now_s: float) -> Left | None:
        """Return the one to look at now, if its time has come; it comes once a minute."""
        if not self._left or now_s < self._look_at_s:
            return None
        self._look_at_s = now_s + _LOOK_AGAIN_S
        return next(iter(self._left.values()))

    @property
    def message(self) -> str:
        """Return why nothing is checked out, and what to do; empty when nothing keeps anything."""
        for left in self._left.values():
            return replies.cut(
                f"nothing is written any more, because {left.key} was left checked out ({left.why}): look at it"
                " in Windchill and undo that check-out by hand; writing starts again when it is gone"
            )
        return ""


@attrs.frozen
class Compared:
    """A document as a read shows it, and the fields in which its working copy differs."""

    shown: Snapshot
    differs: tuple[str, ...]


class Copies:
    """Judges working copies of one service."""

    def __init__(self, service: Service, reader: Reader) -> None:
        self._service = service
        self._reader = reader
        self._notes: dict[object, str] = {}  # type → the property in which a copy of it has shown a mark of ours

    def shows_notes(self, entity: Row) -> bool:
        """Whether a working copy of this type has shown a mark of ours before."""
        return entity.get("@odata.type") in self._notes

    def is_ours(self, mark: str, copy: Row, *, below: Row, before: Row) -> bool | None:
        """
        Whether notes prove a working copy ours, or another's; None where it shows none.

        `below` is the iteration that it was made of, as it is now, and `before` as it was before the check-out.
        """
        kind, known = copy.get("@odata.type"), holders.marks(before, mark)
        for name, value in copy.items():
            if holders.marks({name: value}, mark) - known:
                self._notes[kind] = name
                return True
        if holders.marks(below, mark) - known:
            return True
        note = copy.get(self._notes.get(kind, ""))
        return False if note and note != before.get(self._notes[kind]) else None

    async def compared(self, key: str, copy: Row, below: Row, mark: str) -> Compared | Trouble:
        """Compare a working copy with the iteration that it was made of."""
        shown = await self._reader.snapshot(key, below)
        if not isinstance(shown, Snapshot):
            return shown
        copied = await self._reader.snapshot(key, copy)
        if not isinstance(copied, Snapshot):
            return copied
        schema = await self._service.schema(shown.type)
        if not isinstance(schema, Schema):
            return schema
        hidden = shown.unreadable | copied.unreadable
        left, right = portions.changeable(shown, schema), portions.changeable(copied, schema)
        names = (left.keys() & right.keys()) - _NOTES
        names -= {name for name in names if holders.marks({name: right[name]}, mark)}
        differs = sorted(name for name in names if canonical(left[name]) != canonical(right[name]))
        body = {name: value for name, value in shown.body.items() if name not in hidden}
        return Compared(attrs.evolve(shown, body=body, unreadable=hidden, locked_by_us=False), tuple(differs))
