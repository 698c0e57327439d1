"""
Writing: the fields of one portion, in the server's own way, under the server's own guard.

    attributes                    read, CheckOut, read the working copy, look the number up, decide again, PATCH,
                                  CheckIn, read what came of it
    attributes, `lock = "etag"`   PATCH with `If-Match`
    State, Name, …                actions, outside of any lock (`actions`)

Rules
- A write that the metadata forbids is refused before anything is sent, so it costs no check-out.
- A document that was read some time ago, or is written by an action, is looked up by its number first: there may be a
  new revision.
- The working copy's ID is journalled before anything else is sent, and the plan is made again on what is there then.
- The journal decides on the iteration below the working copy, as a read would show it. On the working copy itself we
  are the last to have modified it, just now, so every event would seem too old.
- A write that ends before the check-in is surely not applied, if the check-out is undone. A check-in in doubt stays so.
"""

from collections.abc import Mapping

from reconciler.adapters import replies
from reconciler.adapters.replies import Reply
from reconciler.adapters.wrs import results, tokens, values, writable
from reconciler.adapters.wrs.actions import Actions
from reconciler.adapters.wrs.bisection import Bisection
from reconciler.adapters.wrs.checkout import CheckOuts, NotOurs, Sight, Taken
from reconciler.adapters.wrs.metadata import Schema
from reconciler.adapters.wrs.reading import Entity, Reader
from reconciler.adapters.wrs.results import Unfulfilled
from reconciler.adapters.wrs.service import Service
from reconciler.adapters.wrs.tokens import Place
from reconciler.adapters.wrs.writable import Way
from reconciler.model.answer import (
    Locked,
    NotAvailable,
    Refused,
    Released,
    Throttled,
    Unknown,
    VersionConflict,
    WriteAnswer,
    Written,
)
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import Json
from reconciler.ports import Journal

_GONE = (404, 410)
_NO_ETAG = "the server shows no ETag for it, so nothing can be written safely: use check-out"
_UNPROVEN = "this server was not seen to refuse a stale If-Match: see what `reconciler doctor --probe` says"
_BLIND = "the service can check documents out, but none of its properties says whether a document is checked out"


class Writer:
    """Writes documents of one service."""

    def __init__(self, service: Service, reader: Reader, locks: CheckOuts) -> None:
        self._service = service
        self._reader = reader
        self._locks = locks
        self._actions = Actions(service, reader, locks)
        self._options = service.options

    async def write(
        self, snapshot: Snapshot, fields: Mapping[str, Json], *, token: Token, journal: Journal
    ) -> WriteAnswer:
        """
        Write `fields`, all of one portion, if the document as it is now still needs them.

        Raises ValueError for a token that guards nothing: that would be a bug of ours.
        """
        if not token.strip() or token.strip() == "*":
            raise ValueError(f"a write needs the token of a read, not {token!r}")
        schema = await self._service.schema(snapshot.type)
        if not isinstance(schema, Schema):
            return schema
        place = tokens.place(token)
        if place is None:
            return VersionConflict(0, "it was read through another dialect and has to be read again")
        schema, way, body = await self._said(fields, snapshot, schema)
        if isinstance(body, Refused):
            return body
        latest = place.id
        if way is not Way.ATTRIBUTES or not self._reader.vouches_for(snapshot.key, latest, schema):
            shown = await results.latest(self._reader, snapshot.key)
            if not isinstance(shown, Snapshot):
                return shown
            latest = results.id_of(shown) or latest  # if it is another iteration, the plan is made again on it
        if way is not Way.ATTRIBUTES:
            if (barred := await self._locks.barred()) is not None:
                return barred
            answer = await self._actions.write(snapshot, fields, way, id=latest, token=token, journal=journal)
            return await self._unless_ours(snapshot.key, answer, journal)
        if self._options.checks_out(possible=schema.action("CheckOut") is not None):
            return await self._under_lock(snapshot, latest, journal, schema)
        if latest != place.id:
            return VersionConflict(0, "its number now leads to another iteration")
        return await self._guarded(snapshot, place, body, schema)

    async def _said(
        self, fields: Mapping[str, Json], snapshot: Snapshot, schema: Schema
    ) -> tuple[Schema, Way, dict[str, Json] | Refused]:
        """Return how fields are written and as what; what an old schema forbids, a newer one may allow."""
        way = writable.way(fields, schema)
        body = writable.body(fields, way, snapshot, schema, self._options.key_property)
        if not isinstance(body, Refused) and writable.described(fields, snapshot, schema):
            return schema, way, body
        schema = await self._service.schema_since(schema)
        way = writable.way(fields, schema)
        return schema, way, writable.body(fields, way, snapshot, schema, self._options.key_property)

    async def _unless_ours(self, key: str, answer: WriteAnswer, journal: Journal) -> WriteAnswer:
        """Return an answer; but if a leftover check-out of ours kept the action from being sent, release it."""
        if not isinstance(answer, Locked) or answer.status:
            return answer
        released = await self._locks.release(key, None, journal.mark)
        gone = VersionConflict(0, "a check-out of ours was in the way, and is gone now")
        return gone if isinstance(released, Released) else released

    # -------------------------------------------------------------------------------------------------------- check-out

    async def _under_lock(self, snapshot: Snapshot, id: str, journal: Journal, schema: Schema) -> WriteAnswer:
        if schema.document.properties.keys().isdisjoint(values.CHECK_OUT):
            return NotAvailable(0, _BLIND)
        async with self._locks.careful():
            taken = await self._locks.take(snapshot.key, id, journal.mark, journal.note)
            if not isinstance(taken, Taken):
                return taken
            await journal.locked(taken.copy)
            changed = await self._changed(snapshot.key, taken, journal, schema)
            if isinstance(changed, NotOurs):
                return changed.answer
            if not isinstance(changed, Reply):
                return await self._locks.end(snapshot.key, taken.copy, changed, journal.mark)
            return await self._check_in(snapshot.key, taken, journal)

    async def _changed(self, key: str, taken: Taken, journal: Journal, schema: Schema) -> Reply | NotOurs | Unfulfilled:
        """Decide again, and change the working copy; return the reply to that, or why it was not changed."""
        seen = await self._locks.first_sight(key, taken, journal.mark)
        if not isinstance(seen, Sight):
            return seen
        fields = await journal.redraft(seen.shown)
        if not fields:
            return VersionConflict(0, "it changed before it was checked out, and nothing of this write is left to do")
        body = writable.body(fields, Way.ATTRIBUTES, seen.shown, schema, self._options.key_property)
        if isinstance(body, Refused):
            return body
        kind = schema.type(seen.shown.type)
        search = Bisection(self._service, self._reader, taken.copy, kind, results.etag(seen.copy))
        answer = await search.patch(body)
        if isinstance(answer, Reply) and search.refused:
            await journal.refused(search.refused)
        return answer if isinstance(answer, Reply) else results.undone_by_others(answer)

    async def _check_in(self, key: str, taken: Taken, journal: Journal) -> WriteAnswer:
        answer = await self._locks.act(taken.copy, "CheckIn", {"CheckInNote": journal.note, "KeepCheckedOut": False})
        match answer:
            case Reply():
                self._locks.went_well()
                return await self._checked_in(key, taken, answer)
            case Unknown() | Throttled(perhaps_applied=True):
                return answer
            case NotAvailable(status, message) if status in _GONE:
                return Unknown(replies.cut(f"our working copy was gone before its check-in: {message}"))
            case refusal:
                return await self._locks.end(key, taken.copy, refusal, journal.mark)

    async def _checked_in(self, key: str, taken: Taken, reply: Reply) -> Written | Unknown:
        """Return the document after a check-in, if it shows the iteration that we have made."""
        made = results.identity(reply) or taken.copy
        self._reader.succeeds(key, taken.origin, made)
        shown = await results.latest(self._reader, key, made)
        if not isinstance(shown, Snapshot):
            return Written(None, None, replies.cut(f"checked in, but it can't be read back yet: {shown.message}"))
        latest = results.id_of(shown)
        if latest == taken.origin:
            return Unknown("the check-in was answered as done, but the document shows the iteration before it")
        if latest == made:
            return Written(shown, shown.token)
        return Written(None, None, f"{shown.modified_by or 'someone'} made another iteration after our check-in")

    # ------------------------------------------------------------------------------------------------------------- ETag

    async def _guarded(self, snapshot: Snapshot, place: Place, body: dict[str, Json], schema: Schema) -> WriteAnswer:
        """PATCH with `If-Match` (RFC 9110 section 13.1.1)."""
        if place.etag is None or not self._options.etag_proven:
            return NotAvailable(0, _NO_ETAG if place.etag is None else _UNPROVEN)
        answer = results.of(
            self._service, await self._service.patch(self._service.entity(place.id), body, place.etag), body
        )
        if not isinstance(answer, Reply):
            return results.perhaps_stale(answer)
        etag, entity = replies.token(answer), replies.json_object(answer)
        if entity is not None:
            return await self._written_and_shown(snapshot, body, Entity(entity, etag))
        if etag is None:
            return Written(None, None)
        if "Latest" not in schema.document.properties:
            return Written(None, tokens.guarded(place.id, etag))
        # The write may have made an iteration with an ID of its own.
        shown = await results.latest(self._reader, snapshot.key)
        latest = results.place_of(shown) if isinstance(shown, Snapshot) else None
        if isinstance(shown, Snapshot) and latest is not None and latest.etag == etag:
            return Written(shown, shown.token)
        return Written(None, None)

    async def _written_and_shown(self, snapshot: Snapshot, body: dict[str, Json], entity: Entity) -> Written | Unknown:
        said = entity.row.get(self._options.key_property, snapshot.key)
        if said != snapshot.key:
            return Unknown(replies.cut(f"wrote document {snapshot.key}, the answer is document {said}"))
        shown = await self._reader.snapshot(snapshot.key, entity.row, entity.etag)
        cleared = {name for name, value in body.items() if value is None}
        if not isinstance(shown, Snapshot) or not snapshot.body.keys() - cleared <= shown.body.keys():
            return Written(None, None)  # an excerpt, which does not show what else the write changed
        return Written(shown, shown.token)
