"""
Check-out: the lock that guards a write where the server has no other guard, and how it is released.

Theory of operation. CheckOut makes a working copy that only our account can change, and check-in turns it into the next
iteration. Others see nothing of this but that the document is checked out. So a write that ends before the check-in is
surely not applied, provided that the check-out is undone, which also undoes any PATCH.

Rules
- The document is read right before CheckOut, and checked out only if it shows that no one else has it. That read and
  our mark in the note decide whether the working copy is ours (`working_copies`).
- A check-out is undone only if it is ours: by the ID in our store, or by our mark. The holder's name proves nothing.
- The number is looked up under the check-out. If it leads elsewhere (a new revision), the check-out is released.
- CheckOut, CheckIn and UndoCheckOut are never repeated on suspicion. After a lost reply, read first.
- One check-out finds another: when a document is checked out, perhaps by us, and we don't know the working copy's ID,
  checking it out again returns that ID. (If ours has ended meanwhile, this is a new one, and released at once.)
- The first check-out that can be neither used nor undone stops all others (`LeftBehind`). Until a first one has
  succeeded, they are made one at a time.
"""

import asyncio
import contextlib
from contextlib import AbstractAsyncContextManager

import attrs
from msgspec import structs

from reconciler.adapters import replies
from reconciler.adapters.replies import Reply
from reconciler.adapters.wrs import checked_out, functions, results
from reconciler.adapters.wrs.metadata import Schema
from reconciler.adapters.wrs.reading import Entity, Reader
from reconciler.adapters.wrs.results import Unfulfilled
from reconciler.adapters.wrs.service import Row, Service
from reconciler.adapters.wrs.working_copies import Compared, Left, LeftBehind, WorkingCopies
from reconciler.model.answer import (
    Broken,
    Failed,
    Locked,
    NotAvailable,
    NotSent,
    Refused,
    ReleaseAnswer,
    Released,
    Throttled,
    Unauthorised,
    Unguarded,
    Unknown,
    VersionConflict,
)
from reconciler.model.snapshot import Snapshot
from reconciler.ports import Clock

_GONE = (404, 410)
_NOTE_CHARACTERS_MAX = 250  # fits a comment everywhere
_STALE = (400, 404, 409, 410)
_SAME = "the check-out was answered with the document itself, so someone else has it checked out"
_NOT_KNOWN = (
    "the reconciler does not know this check-out: a person or another program uses the account, or a write was cut"
    " short and Windchill shows no check-out notes. Check it in, or undo it, by hand"
)
_BY_HAND = "undo that check-out by hand if no one is working on it"
_MUTE = (
    "Windchill does not show whether it is checked out (CheckoutState, CheckOutStatus and WorkInProgressState are empty"
    " or secured), so nothing is written: let the account read them"
)
_MOVED = "it has a newer revision or iteration than the one that was checked out"


@attrs.frozen
class Taken:
    """A check-out of ours: the working copy's ID, and that of the iteration it was made from."""

    copy: str
    origin: str
    before: Row  # the iteration right before the check-out


@attrs.frozen
class NotOurs:
    """A check-out of ours was answered with a working copy that we must not touch."""

    answer: Locked


@attrs.frozen
class Sight:
    """Our working copy before anything was written, and the document as a read shows it."""

    copy: Entity
    shown: Snapshot


class CheckOuts:
    """Makes check-outs and releases them."""

    def __init__(self, service: Service, reader: Reader, clock: Clock) -> None:
        self._service = service
        self._reader = reader
        self._clock = clock
        self._account = service.options.account
        self._copies = WorkingCopies(service, reader)
        self._stuck = LeftBehind()
        self._alone = asyncio.Lock()
        self._goes_well = False

    # ---------------------------------------------------------------------------------------------------- while writing

    def careful(self) -> AbstractAsyncContextManager[object]:
        """Write within this: one write at a time, until a first check-out has ended well."""
        return contextlib.nullcontext() if self._goes_well else self._alone

    def went_well(self) -> None:
        """Note that a check-out has ended well."""
        self._goes_well = True

    async def barred(self) -> NotAvailable | None:
        """Return why nothing may be written: a check-out was left behind. Once a minute, look whether it is gone."""
        if (left := self._stuck.due(self._clock.monotonic_s())) is not None:
            await self._look_again(left)
        return NotAvailable(0, self._stuck.message) if self._stuck.message else None

    async def take(self, key: str, id: str, mark: str, note: str) -> Taken | Unfulfilled:
        """Check a document out, if no one has it. A stale `id` is looked up once more."""
        if (barred := await self.barred()) is not None:
            return barred
        answer = await self._take(key, id, mark, note)
        match answer:
            case Refused(status) | NotAvailable(status) if status in _STALE:
                shown = await results.latest(self._reader, key)
                if not isinstance(shown, Snapshot):
                    return shown  # why it was refused is not known, and must not hold fields
                latest = results.id_of(shown)
                if latest in (None, id):
                    return await self._unless_held(id, answer)
                return await self._take(key, latest, mark, note)
        return answer

    async def _take(self, key: str, id: str, mark: str, note: str) -> Taken | Unfulfilled:
        before = await self._free(key, id, mark)
        if not isinstance(before, Entity):
            return before
        if (forbidden := await functions.forbidden(self._service, id)) is not None:
            return forbidden
        answer = await self._check_out(id, mark, note)
        return Taken(answer, id, before.row) if isinstance(answer, str) else answer

    async def first_sight(self, key: str, taken: Taken, mark: str) -> Sight | NotOurs | Unfulfilled:
        """Return our working copy before anything is written, if it is ours and of the latest iteration."""
        copy = await self._reader.entity(taken.copy)
        if not isinstance(copy, Entity):
            return results.undone_by_others(copy)
        if checked_out.says_checked_in(copy.row):
            return VersionConflict(0, "our working copy was already gone when it was read")
        now = await self._reader.current(key)
        if not isinstance(now, dict):
            return now
        below = now.get(taken.origin, {})
        ours, who = self._copies.is_ours(mark, copy.row, below=below, before=taken.before), checked_out.holder(copy.row)
        if ours is False:
            return NotOurs(Locked(0, _NOT_KNOWN, checked_out.OURSELVES))
        if ours is None and checked_out.is_another(who, self._account):
            said = f"{taken.copy} is {who}'s, but windchill.account says that we are {self._account}"
            return self._left_alone(key, taken.copy, mark, f"{said}: correct it if it is wrong")
        if taken.origin not in now or now.keys() - {taken.origin, taken.copy}:
            self._reader.doubt(key)
            return VersionConflict(0, _MOVED)
        compared = await self._copies.compared(key, copy.row, taken.before, mark)
        if isinstance(compared, Compared) and compared.differs:  # a change in place keeps the ID
            again = await self._reader.entity(taken.origin)
            if not isinstance(again, Entity):
                return again
            compared = await self._copies.compared(key, copy.row, again.row, mark)
        if not isinstance(compared, Compared):
            return compared
        if compared.differs:
            why = f"its working copy {taken.copy} differed in {', '.join(compared.differs)} before anything was written"
            return self._left_alone(key, taken.copy, mark, f"{why}: a person works in it under our account")
        return Sight(copy, compared.shown)

    def _left_alone(self, key: str, copy: str, mark: str, why: str) -> NotOurs:
        """Leave a check-out that we must not undo, and make no other after it."""
        self._leave(Left(key, copy, mark, ours=False, why=why))
        return NotOurs(Locked(0, replies.cut(f"{why}; check it in or undo it by hand"), checked_out.OURSELVES))

    def _leave(self, left: Left) -> None:
        self._stuck.leave(left, self._clock.monotonic_s())
        self._goes_well = False

    async def end(self, key: str, copy: str, answer: Unfulfilled, mark: str) -> Unfulfilled:
        """
        Release a check-out before its check-in was sent; return the answer to the write that failed with `answer`.

        If the check-out is undone, surely nothing was applied. Otherwise the lock is in doubt, whatever the reason was.
        """
        released = await self._give_up(key, copy, mark)
        match released:
            case Released():
                match answer:
                    case Unknown(message) | Broken(message):
                        return Failed(replies.cut(f"{message}; the check-out was undone"))
                    case Throttled():
                        return structs.replace(answer, perhaps_applied=False)
                return answer
        return Unknown(replies.cut(f"{answer.message}; and our check-out may still be there: {released.message}"))

    def held(self, entity: Row, message: str = "it is checked out") -> Locked:
        """Return the answer for a document that is checked out, but not by this write."""
        who = checked_out.holder(entity)
        if checked_out.is_us(who, self._account):
            return Locked(0, _NOT_KNOWN, checked_out.OURSELVES)
        return Locked(0, f"checked out by {who}" if who else message, who)

    async def act(self, id: str, action: str, body: Row) -> Reply | Unfulfilled:
        """Call an action of a check-out. It needs no guard; a server that insists on one gets it."""
        schema = await self._service.schema()
        if not isinstance(schema, Schema):
            return schema
        name = schema.action(action)
        if name is None:
            return NotAvailable(0, f"the service's metadata describes no action {action}")
        path = self._service.action(id, name)
        urgent = action == "UndoCheckOut"
        answer = results.of(self._service, await self._service.post(path, body, urgent=urgent))
        if not isinstance(answer, Unguarded):
            return answer
        entity = await self._reader.entity(id)  # a 428 was not carried out (RFC 6585 section 3)
        etag = results.etag(entity) if isinstance(entity, Entity) else None
        return (
            answer
            if etag is None
            else results.of(self._service, await self._service.post(path, body, etag, urgent=urgent))
        )

    # ------------------------------------------------------------------------------------------------------- afterwards

    async def release(self, key: str, lock: str | None, mark: str) -> ReleaseAnswer:
        """Release a check-out of ours that a write may have left behind; `lock` None: of which no ID is known."""
        schema = await self._service.schema()
        if not isinstance(schema, Schema):
            return schema
        if not self._service.options.checks_out(possible=schema.action("CheckOut") is not None):
            return Released()
        return await self._give_up(key, lock, mark) if lock is not None else await self._search(key, mark)

    async def _give_up(self, key: str, copy: str, mark: str) -> ReleaseAnswer:
        """Undo a check-out by its working copy's ID, if there still is one; while it stays, no other is made."""
        standing = await self._standing(key, copy)
        if not isinstance(standing, Entity):
            return standing
        who = checked_out.holder(standing.row)
        if checked_out.is_another(who, self._account) and not checked_out.marks(standing.row, mark):
            return Locked(0, f"the working copy {copy} is {who}'s", who)
        undone = await self.act(copy, "UndoCheckOut", {})
        if isinstance(undone, Reply):
            self._stuck.gone(copy)
            self.went_well()
            return Released()
        # A late check-in of ours or an administrator may have come first. Only a read can tell.
        standing = await self._standing(key, copy)
        if isinstance(standing, Released):
            return standing
        if isinstance(undone, Refused | Locked | NotAvailable):
            self._leave(Left(key, copy, mark, ours=True, why=f"UndoCheckOut was refused: {undone.message}"))
            return Locked(0, replies.cut(f"our check-out could not be undone ({undone.message}); {_BY_HAND}"))
        return _as_release(undone, f"our check-out could not be undone ({undone.message})")

    async def _standing(self, key: str, copy: str) -> Entity | ReleaseAnswer:
        """Return a working copy as it is; `Released` if none with that ID is there any more."""
        entity = await self._reader.entity(copy)
        match entity:
            case NotAvailable(status) if status in _GONE:
                over = True
            case Entity(row) if checked_out.is_working_copy(row):
                over = False
            case Entity(row) if checked_out.says_checked_in(row):
                over = True
            case Entity():  # its state is shown in an unknown form: look at what the number leads to
                now = await self._reader.current(key)
                if not isinstance(now, dict):
                    return now
                over = now.keys() == {copy} or any(checked_out.says_checked_in(now[one]) for one in now.keys() - {copy})
            case trouble:
                return trouble
        if over:
            self._stuck.gone(copy)
            return Released()
        assert isinstance(entity, Entity)
        return entity

    async def _search(self, key: str, mark: str) -> ReleaseAnswer:
        """Release a check-out of ours of which only the mark is known, if there is one."""
        shown = await results.latest(self._reader, key)
        latest = results.id_of(shown) if isinstance(shown, Snapshot) else None
        if not isinstance(shown, Snapshot) or latest is None:
            return Released() if isinstance(shown, Snapshot) else shown
        below = await self._reader.entity(latest)
        if not isinstance(below, Entity):
            return below
        if not checked_out.is_checked_out(below.row):
            return Released()
        who = checked_out.holder(below.row)
        if checked_out.is_another(who, self._account):
            return Locked(0, f"checked out by {who}", who)
        copy = await self._check_out(latest, f"{mark}x", "looking for a check-out that was cut short")
        if isinstance(copy, str):
            return await self._found(key, copy, below.row, mark)
        if isinstance(copy, Locked):
            who = copy.holder or who
        if isinstance(copy, Locked | Refused) and checked_out.is_us(who, self._account):
            return Locked(0, f"the server does not name its working copy; {_BY_HAND}", checked_out.OURSELVES)
        if isinstance(copy, Locked):
            return copy
        if isinstance(copy, Refused | Unknown) and who is None:  # in a language that we don't read
            return Locked(0, copy.message)
        return _as_release(copy, f"it can't be found out whether a check-out of ours was left behind ({copy.message})")

    async def _found(self, key: str, copy: str, below: Row, mark: str) -> ReleaseAnswer:
        """Release the working copy that another check-out of the document has returned, if it is ours."""
        entity = await self._reader.entity(copy)
        if not isinstance(entity, Entity):
            return Released() if isinstance(entity, NotAvailable) and entity.status in _GONE else entity
        ours = self._copies.is_ours(mark, entity.row, below={}, before=below)
        if not ours and mark not in checked_out.marks(below, mark):
            return Locked(0, _NOT_KNOWN, checked_out.OURSELVES)
        compared = await self._copies.compared(key, entity.row, below, mark)
        if not isinstance(compared, Compared):
            return compared
        if compared.differs:
            said = f"a person has worked in our working copy {copy} ({', '.join(compared.differs)})"
            return Locked(0, replies.cut(f"{said}: check it in or undo it by hand"), checked_out.OURSELVES)
        return await self._give_up(key, copy, mark)

    # ----------------------------------------------------------------------------------------------------------- inside

    async def _look_again(self, left: Left) -> None:
        """Look whether a check-out that was left behind is gone; undo it if it is ours."""
        if left.ours:
            await self._give_up(left.key, left.copy, left.mark)
        else:
            await self._standing(left.key, left.copy)

    async def _free(self, key: str, id: str, mark: str) -> Entity | Unfulfilled:
        """Return the iteration to check out, if it shows that no one has it; a check-out of ours is released first."""
        before = await self._reader.entity(id)
        if isinstance(before, Entity) and checked_out.is_checked_out(before.row):
            released = await self._search(key, mark)
            if not isinstance(released, Released):
                return released
            before = await self._reader.entity(id)
        if not isinstance(before, Entity):
            return before
        if checked_out.is_checked_out(before.row):
            return self.held(before.row)
        if before.row.get("Latest") is False or before.row.get(self._service.options.key_property, key) != key:
            return NotAvailable(_GONE[0], f"{id} is no longer its latest iteration")
        if not checked_out.says_checked_in(before.row) and not self._copies.shows_notes(before.row):
            return NotAvailable(0, _MUTE)
        return before

    async def _check_out(self, id: str, mark: str, note: str) -> str | Unfulfilled:
        """Check out and return the working copy's ID, no matter whose it is."""
        answer = await self.act(id, "CheckOut", {"CheckOutNote": f"[{mark}] {note}"[:_NOTE_CHARACTERS_MAX]})
        match answer:
            case Reply():
                copy = results.identity(answer)
                if copy is None:
                    return Unknown("the answer to a check-out names no working copy")
                return copy if copy != id else await self._by_whom(id, Locked(answer.status, _SAME))
            case Locked():
                return await self._by_whom(id, answer)
        return answer

    async def _unless_held(self, id: str, answer: Unfulfilled) -> Unfulfilled:
        """Return a refusal, or that someone has it checked out: the server may say so in a language we don't read."""
        entity = await self._reader.entity(id)
        if isinstance(entity, Entity) and checked_out.is_checked_out(entity.row):
            return self.held(entity.row, answer.message)
        return answer

    async def _by_whom(self, id: str, answer: Locked) -> Locked:
        """Return who has a document checked out, if that can be read."""
        if answer.kind or answer.holder is not None:
            return answer
        entity = await self._reader.entity(id)
        return structs.replace(answer, holder=checked_out.holder(entity.row)) if isinstance(entity, Entity) else answer


def _as_release(answer: Unfulfilled, message: str) -> ReleaseAnswer:
    """Return what a failed request means for a release."""
    match answer:
        case Locked() | NotAvailable() | Unauthorised() | Throttled() | NotSent():
            return answer
        case _:
            return Failed(replies.cut(message))
