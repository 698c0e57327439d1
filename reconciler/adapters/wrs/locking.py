"""
Locking: check-out, which stands in for the guard that this server does not know, and how it is given up again.

Theory of operation. CheckOut makes a working copy that only we can change, and check-in makes the next iteration of it.
Nothing on the way is visible to others but that the document is checked out, so up to the check-in every end is
"surely not applied", provided that the check-out is undone; and whatever became of a PATCH is undone with it.

Rules
- Undone is only what a read has just shown to be a working copy that is ours: by the ID that a check-out of ours was
  answered with, or because the server says that we hold it. An administrator's UndoCheckOut works on anybody's.
- CheckOut, CheckIn and UndoCheckOut are never repeated on suspicion. After a lost reply somebody reads first.
- The one check-out that asks about another: when the server says that we hold a document and nobody knows the working
  copy's ID, checking it out again tells it. (Should ours have ended meanwhile, that is a new one, given up at once.)
"""

import attrs

from reconciler.adapters import replies
from reconciler.adapters.replies import Reply
from reconciler.adapters.wrs import answers, holders, reading
from reconciler.adapters.wrs.answers import Unfulfilled
from reconciler.adapters.wrs.metadata import Schema
from reconciler.adapters.wrs.reading import Entity, Reader
from reconciler.adapters.wrs.service import Row, Service
from reconciler.model.answer import (
    Broken,
    Failed,
    Locked,
    NotAvailable,
    Refused,
    ReleaseAnswer,
    Released,
    Throttled,
    Unauthorised,
    Unguarded,
    Unknown,
)
from reconciler.model.snapshot import Snapshot

_GONE = (404, 410)
_CONTRADICTIONS_MAX = 3
_STALE = (400, 404, 409, 410)
_SAME = "the check-out was answered with the document itself: somebody else has it checked out"
_OURS = "checked out by our own account already, perhaps by a write that was cut short"
_BY_HAND = "undo that check-out by hand if nobody is at work on it"
_UNPROVEN = "it is checked out, and nothing proves by whom"
_NAME_US = "set windchill.account to our account's name in Windchill, or"


@attrs.frozen
class Taken:
    """A check-out of ours: the working copy's ID, and that of the iteration it was made of."""

    copy: str
    origin: str


class Locks:
    """Takes check-outs and gives them up."""

    def __init__(self, service: Service, reader: Reader) -> None:
        self._service = service
        self._reader = reader
        self._account = service.options.account
        self._contradictions = 0  # check-outs of ours in a row that were answered with somebody else's working copy
        self._contradiction = ""

    # ---------------------------------------------------------------------------------------------------- while writing

    async def take(self, key: str, id: str, note: str) -> Taken | Unfulfilled:
        """
        Check a document out. An `id` that went stale is looked up once more.

        Nothing is checked out any more once a few in a row were answered with somebody else's working copy: most likely
        `windchill.account` is wrong, and each further one would be left behind as those were.
        """
        if self._contradictions >= _CONTRADICTIONS_MAX:
            return NotAvailable(0, self._contradiction)
        answer = await self._check_out(id, note)
        match answer:
            case Refused(status) | NotAvailable(status) if status in _STALE:
                shown = await answers.latest(self._reader, key)
                if not isinstance(shown, Snapshot):
                    return shown  # nobody knows what the refusal was about; taken for one, fields would be held for it
                latest = answers.id_of(shown)
                if latest in (None, id):
                    return await self._unless_held(id, answer)
                return await self._check_out(latest, note)
        return answer

    async def end(self, copy: str, answer: Unfulfilled) -> Unfulfilled:
        """
        Give up a check-out before its check-in was sent, and return what `answer`, the reason, has become by that.

        With the check-out undone, surely nothing was applied. Else the lock is in doubt, whatever the reason was.
        """
        released = await self._give_up(copy)
        match released:
            case Released():
                match answer:
                    case Unknown(message) | Broken(message):
                        return Failed(replies.cut(f"{message}; the check-out was undone"))
                return answer
        return Unknown(replies.cut(f"{answer.message}; and our check-out is perhaps still there: {released.message}"))

    def held(self, entity: Row, message: str = "it is checked out") -> Locked | Unknown:
        """Return what it means that a document is checked out although we have just not checked it out."""
        who = holders.holder(entity)
        if holders.is_us(who, self._account):
            return Unknown(_OURS)  # an open end: the next attempt gives it up, and reads before it writes
        return Locked(0, f"checked out by {who}" if who else message, who)

    def not_ours(self, copy: str, entity: Row) -> Locked | None:
        """Return that a working copy is somebody else's, None where nothing says so."""
        who = holders.holder(entity)
        if who is None or not self._account or holders.is_us(who, self._account):
            return None
        said = f"the working copy {copy} is {who}'s, and windchill.account says that we are {self._account}"
        return Locked(0, replies.cut(said), who)

    def judged(self, theirs: Locked | None) -> None:
        """Take note whether a check-out of ours was answered with a working copy of ours."""
        self._contradictions = 0 if theirs is None else self._contradictions + 1
        if theirs is not None:
            self._contradiction = replies.cut(
                "no document is checked out any more: check-outs of ours were answered with what seems somebody else's;"
                f" correct windchill.account (`doctor --probe` prints it) and start again: {theirs.message}"
            )

    async def act(self, id: str, action: str, body: Row) -> Reply | Unfulfilled:
        """Call one of the actions of a check-out. No guard is needed; where the server insists, it gets one."""
        schema = await self._service.schema()
        if not isinstance(schema, Schema):
            return schema
        name = schema.action(action)
        if name is None:
            return NotAvailable(0, f"the service's metadata knows no action {action}")
        path = self._service.action(id, name)
        urgent = action == "UndoCheckOut"
        answer = answers.of(self._service, await self._service.post(path, body, urgent=urgent))
        if not isinstance(answer, Unguarded):
            return answer
        entity = await self._reader.entity(id)  # a 428 was not carried out (RFC 6585 section 3)
        etag = answers.etag(entity) if isinstance(entity, Entity) else None
        return (
            answer
            if etag is None
            else answers.of(self._service, await self._service.post(path, body, etag, urgent=urgent))
        )

    # ------------------------------------------------------------------------------------------------------- afterwards

    async def release(self, key: str, lock: str | None) -> ReleaseAnswer:
        """Give up a check-out of ours that a write has perhaps left behind; None: it is not known whether one has."""
        schema = await self._service.schema()
        if not isinstance(schema, Schema):
            return schema
        if not self._service.options.checks_out(possible=schema.action("CheckOut") is not None):
            return Released()
        return await self._give_up(lock) if lock is not None else await self._give_up_unknown(key)

    async def _give_up(self, copy: str) -> ReleaseAnswer:
        """Undo a check-out by its working copy's ID, if it still is one."""
        standing = await self._standing(copy)
        if not isinstance(standing, Entity):
            return standing
        theirs = self.not_ours(copy, standing.row)
        if theirs is not None:
            return theirs
        undone = await self.act(copy, "UndoCheckOut", {})
        if isinstance(undone, Reply):
            return Released()
        # A check-in of ours that was late, or an administrator, may have been first. Only a read can tell.
        standing = await self._standing(copy)
        if isinstance(standing, Released):
            return standing
        return _as_release(undone, f"our check-out could not be undone ({undone.message})")

    async def _standing(self, copy: str) -> Entity | ReleaseAnswer:
        """Return a working copy as it is; `Released` when there is none with that ID, or no longer one."""
        entity = await self._reader.entity(copy)
        match entity:
            case NotAvailable(status) if status in _GONE:
                return Released()
            case Entity(row) if reading.is_working_copy(row):
                return entity
            case Entity(row) if holders.says_ordinary(row, self._account):
                return Released()
            case Entity():
                return Locked(0, f"nothing tells whether {copy} is still our working copy; {_BY_HAND}")
            case trouble:
                return trouble

    async def _give_up_unknown(self, key: str) -> ReleaseAnswer:
        shown = await answers.latest(self._reader, key)
        if not isinstance(shown, Snapshot):
            return shown
        latest = answers.id_of(shown)
        if latest is None:
            return Released()
        entity = await self._reader.entity(latest)
        if not isinstance(entity, Entity):
            return entity
        if not reading.is_checked_out(entity.row):
            return Released()
        who = holders.holder(entity.row)
        if not holders.is_us(who, self._account):
            hint = _BY_HAND if self._account else f"{_NAME_US} {_BY_HAND}"
            unsure = "" if self._account else f"; if that is our account, {hint}"
            said = f"checked out by {who}{unsure}" if who else f"{_UNPROVEN}: {hint}"
            return Locked(0, said, who)
        copy = await self._check_out(latest, "")
        if isinstance(copy, Taken):
            return await self._give_up(copy.copy)
        if isinstance(copy, Locked) or copy == Unknown(_OURS):
            return Locked(
                0, f"{_OURS}, and the server does not tell its working copy; {_BY_HAND}", self._account or None
            )
        return _as_release(copy, f"whether a check-out of ours was left behind can't be found out ({copy.message})")

    # ----------------------------------------------------------------------------------------------------------- inside

    async def _check_out(self, id: str, note: str) -> Taken | Unfulfilled:
        answer = await self.act(id, "CheckOut", {"CheckOutNote": note})
        match answer:
            case Reply():
                copy = answers.identity(answer)
                if copy is None:
                    return Unknown("the answer to a check-out names no working copy")
                return await self._by_whom(id, Locked(answer.status, _SAME)) if copy == id else Taken(copy, id)
            case Locked():
                return await self._by_whom(id, answer)
        return answer

    async def _unless_held(self, id: str, answer: Unfulfilled) -> Unfulfilled:
        """Return a refusal, or that somebody has it checked out: the server may say so in a language we don't read."""
        entity = await self._reader.entity(id)
        if isinstance(entity, Entity) and reading.is_checked_out(entity.row):
            return self.held(entity.row, answer.message)
        return answer

    async def _by_whom(self, id: str, answer: Locked) -> Locked | Unknown:
        """Return who holds a document, as far as that can be had; `Unknown` if it is our own account."""
        if answer.holder is not None:
            return Unknown(_OURS) if holders.is_us(answer.holder, self._account) else answer
        entity = await self._reader.entity(id)
        held = self.held(entity.row) if isinstance(entity, Entity) else None
        if held is None or isinstance(held, Unknown):
            return held or answer
        return Locked(answer.status, answer.message, held.holder)


def _as_release(answer: Unfulfilled, message: str) -> ReleaseAnswer:
    """Return what a request that failed means for a release."""
    match answer:
        case Locked() | NotAvailable() | Unauthorised() | Throttled():
            return answer
        case _:
            return Failed(replies.cut(message))
