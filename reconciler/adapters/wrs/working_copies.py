"""
Working copies: whose one is, and whether a person has worked in it.

Rules
- A CheckOut that is answered with 200 proves nothing: a second one by the same account gets the existing copy.
- Our mark in a note proves that a copy is ours, unless the iteration below shows the same mark: then it was inherited.
- Once a property has shown our mark, a copy that shows another text there is not ours.
- A copy that shows no note is ours if the read right before our CheckOut showed the document checked in. One race
  remains: a person checks it out under our account between that read and our CheckOut.
- A copy that differs from its iteration before we have written into it holds a person's work. Notes and hidden fields
  are not compared.
"""

import attrs
from msgspec import structs

from reconciler.adapters import replies
from reconciler.adapters.wrs import checked_out, writable
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
    """A check-out that was left behind. `ours`: we may undo it; otherwise it may hold a person's work."""

    key: str
    copy: str
    mark: str
    ours: bool
    why: str


class LeftBehind:
    """
    The check-outs that were left behind, and stop all others.

    While there is one, nothing is written: the next document would most likely be left behind as well. Once a minute
    a write looks whether it is gone. A restart forgets them.
    """

    def __init__(self) -> None:
        self._left: dict[str, Left] = {}
        self._look_at_s = 0.0

    def leave(self, left: Left, now_s: float) -> None:
        """Note a check-out that is left behind."""
        self._left[left.copy] = left
        self._look_at_s = now_s + _LOOK_AGAIN_S

    def gone(self, copy: str) -> None:
        """Note that a check-out is gone."""
        self._left.pop(copy, None)

    def due(self, now_s: float) -> Left | None:
        """Return the check-out to look at now, at most once a minute."""
        if not self._left or now_s < self._look_at_s:
            return None
        self._look_at_s = now_s + _LOOK_AGAIN_S
        return next(iter(self._left.values()))

    @property
    def message(self) -> str:
        """Say why nothing is checked out and what to do; empty when nothing was left behind."""
        for left in self._left.values():
            return replies.cut(
                f"writing has stopped, because {left.key} was left checked out ({left.why}): undo that check-out"
                " in Windchill; writing goes on when it is gone"
            )
        return ""


@attrs.frozen
class Compared:
    """A document as a read shows it, and the fields in which its working copy differs from it."""

    shown: Snapshot
    differs: tuple[str, ...]


class WorkingCopies:
    """Judges the working copies of one service."""

    def __init__(self, service: Service, reader: Reader) -> None:
        self._service = service
        self._reader = reader
        self._notes: dict[object, str] = {}  # type → the property in which a copy of it has shown a mark of ours

    def shows_notes(self, entity: Row) -> bool:
        """Whether a working copy of this type has shown a mark of ours before."""
        return entity.get("@odata.type") in self._notes

    def is_ours(self, mark: str, copy: Row, *, below: Row, before: Row) -> bool | None:
        """
        Whether notes prove that a working copy is ours, or another's; None if it shows no note.

        `below` is the iteration that it was made from, as it is now; `before` the same before the check-out.
        """
        kind, known = copy.get("@odata.type"), checked_out.marks(before, mark)
        for name, value in copy.items():
            if checked_out.marks({name: value}, mark) - known:
                self._notes[kind] = name
                return True
        if checked_out.marks(below, mark) - known:
            return True
        note = copy.get(self._notes.get(kind, ""))
        return False if note and note != before.get(self._notes[kind]) else None

    async def compared(self, key: str, copy: Row, below: Row, mark: str) -> Compared | Trouble:
        """Compare a working copy with the iteration that it was made from."""
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
        left, right = writable.changeable(shown, schema), writable.changeable(copied, schema)
        names = (left.keys() & right.keys()) - _NOTES
        names -= {name for name in names if checked_out.marks({name: right[name]}, mark)}
        differs = sorted(name for name in names if canonical(left[name]) != canonical(right[name]))
        body = {name: value for name, value in shown.body.items() if name not in hidden}
        return Compared(structs.replace(shown, body=body, unreadable=hidden, locked_by_us=False), tuple(differs))
