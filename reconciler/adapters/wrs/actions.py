"""
Actions: fields that are written without a lock, State by SetState and the common properties by UpdateCommonProperties.

The server refuses both while a document is checked out, so no lock is possible. They are done quickly instead: ask
which states can follow (State), read, decide again if anything has changed, write, read again and compare. If the
server shows ETags, the write carries one, and nothing can come in between.

Otherwise one race remains: a change of the same field between that read and the write, which is the next request, is
overwritten unnoticed. Other fields are not touched, and a state can only change to one that the server allows from the
state it has then. If a document is revised after its number was looked up, the old revision may get the state; so the
number is read again after the write, and the document is decided again on that.

The last read may show something else than was written. The server itself altered it if its answer to the write showed
that already, or if no one else can have changed it since; anything else is someone's edit, and is decided as one.
"""

from collections.abc import Mapping

import attrs

from reconciler.adapters import replies
from reconciler.adapters.replies import Reply
from reconciler.adapters.wrs import checked_out, functions, results, writable
from reconciler.adapters.wrs.checkout import CheckOuts
from reconciler.adapters.wrs.functions import Told, Unreadable
from reconciler.adapters.wrs.metadata import Schema
from reconciler.adapters.wrs.reading import Entity, Reader
from reconciler.adapters.wrs.results import Unfulfilled
from reconciler.adapters.wrs.service import Row, Service
from reconciler.adapters.wrs.writable import Way
from reconciler.core.folding import normalise
from reconciler.model.answer import (
    NotAvailable,
    Refused,
    Trouble,
    VersionConflict,
    WriteAnswer,
    Written,
)
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import Json, Missing
from reconciler.ports import Journal

_TRIES = 3  # to see one state twice


@attrs.frozen
class _Moment:
    """The document right now: its iteration, its ETag, and what it shows."""

    id: str
    etag: Token | None
    snapshot: Snapshot


class Actions:
    """Writes the fields that need an action."""

    def __init__(self, service: Service, reader: Reader, locks: CheckOuts) -> None:
        self._service = service
        self._reader = reader
        self._locks = locks

    async def write(
        self, snapshot: Snapshot, fields: Mapping[str, Json], way: Way, *, id: str, token: Token, journal: Journal
    ) -> WriteAnswer:
        """Write fields of one portion; `token` was decided on, `id` is its iteration."""
        schema = await self._service.schema(snapshot.type)
        if not isinstance(schema, Schema):
            return schema
        now, told = await self._at_hand(snapshot, id, way, schema)
        if not isinstance(now, _Moment):
            return now
        if now.snapshot.token != token:
            fields = await journal.redraft(now.snapshot)
            if not fields:
                return VersionConflict(0, "it has changed since it was read, and nothing of this write is left to do")
        body = writable.body(fields, way, now.snapshot, schema, self._service.options.key_property)
        if isinstance(body, Refused):
            return body
        if way is Way.STATE:
            state = _state(now, body["State"], told)
            if not isinstance(state, dict):
                return state
            given: dict[str, Json] = {"State": state}
        else:
            given = {"Updates": {**body}}
        name = schema.action(way.value)
        assert name is not None, "the way was chosen by this action"
        exchange = await self._service.post(self._service.action(now.id, name), given, now.etag)
        answer = results.of(self._service, exchange, fields)
        if not isinstance(answer, Reply):
            return results.perhaps_stale(answer)
        return await self._verified(now, fields, replies.json_object(answer))

    async def _at_hand(
        self, snapshot: Snapshot, id: str, way: Way, schema: Schema
    ) -> tuple[_Moment | Unfulfilled, Told]:
        """
        Return the document as it is now, and which states can follow; the read comes last.

        If it shows another iteration or state than the states were asked for, they are asked for again.
        """
        place = id, snapshot.body.get("State")
        for _ in range(_TRIES):
            told = await functions.transitions(self._service, schema, place[0]) if way is Way.STATE else None
            now = await self._now(snapshot.key, place[0], schema)
            if way is not Way.STATE or not isinstance(now, _Moment):
                return now, told
            if (now.id, now.snapshot.body.get("State")) == place:
                return now, told
            place = now.id, now.snapshot.body.get("State")
        return VersionConflict(0, "its state moved each time that we asked which ones can follow"), None

    async def _now(self, key: str, id: str, schema: Schema) -> _Moment | Unfulfilled:
        """Return the document as it is now; `id` is where it was when it was read."""
        latest = id
        entity = await self._reader.entity(latest)
        if not self._is_it(entity, key):
            shown = await results.latest(self._reader, key)
            if not isinstance(shown, Snapshot):
                return shown
            latest = results.id_of(shown) or id
            entity = await self._reader.entity(latest)
        if not isinstance(entity, Entity):
            return entity
        if checked_out.is_checked_out(entity.row) or checked_out.is_working_copy(entity.row):
            return self._locks.held(entity.row)
        etag = results.etag(entity)
        under_lock = self._service.options.checks_out(possible=schema.action("CheckOut") is not None)
        # Where check-out guards, an ETag in a header alone is no part of a token: a list would not show it.
        snapshot = await self._reader.snapshot(key, entity.row, None if under_lock else entity.etag)
        return _Moment(latest, etag, snapshot) if isinstance(snapshot, Snapshot) else snapshot

    def _is_it(self, entity: Entity | Trouble, key: str) -> bool:
        """Whether that is the document's latest iteration, or trouble that has nothing to do with which one it is."""
        match entity:
            case Entity(row):
                return row.get("Latest") is not False and row.get(self._service.options.key_property) == key
            case NotAvailable(status):
                return status == 403
            case _:
                return True

    async def _verified(self, now: _Moment, fields: Mapping[str, Json], answer: Row | None) -> Written:
        """Return the document after the write, or why it has to be read again; `answer` is the write's."""
        shown = await results.latest(self._reader, now.snapshot.key)  # by its number: it may have been revised
        if not isinstance(shown, Snapshot):
            return Written(None, None, replies.cut(f"written, but it can't be read back yet: {shown.message}"))
        by = f" by {shown.modified_by}" if shown.modified_by else ""
        if results.id_of(shown) != now.id:
            return Written(None, None, f"there is another iteration{by} since our write")
        if not (other := _others(shown, fields)):
            return Written(shown, shown.token)
        before = now.snapshot
        made = await self._reader.snapshot(shown.key, answer) if answer and "ID" in answer else None
        if isinstance(made, Snapshot) and fields.keys() <= made.body.keys():
            altered = not _others(shown, {name: made.body[name] for name in other})
        else:
            untouched = (shown.modified_at, shown.modified_by) == (before.modified_at, before.modified_by)
            alone = untouched or (shown.modified_by or "") == self._service.options.account != ""
            # Only another SetState leads to a third state.
            altered = alone and ("State" not in fields or not _others(shown, {"State": before.value("State")}))
        if altered:
            return Written(shown, shown.token)
        return Written(None, None, replies.cut(f"{', '.join(other)} changed{by} right after our write"))


def _others(shown: Snapshot, fields: Mapping[str, Json | Missing]) -> list[str]:
    """Return the names of fields that show other values than these."""
    steps = shown.type_normalisers
    return [
        name for name, value in fields.items() if not normalise.equal(shown.value(name), value, steps.get(name, ()))
    ]


def _state(now: _Moment, wanted: Json, told: Told) -> dict[str, object] | Unfulfilled:
    """Return the state to set. Value and Display both come from the transitions that the server allows now."""
    value = wanted.get("Value") if isinstance(wanted, dict) else wanted
    match told:
        case None:
            # The server does not say, and the metadata knows only the type: send Value as Display, the server decides.
            return {"Value": value, "Display": value}
        case Unreadable(message):
            # Held, not retried: the next answer would be the same. Other fields are written meanwhile.
            return Refused(0, message, ("State",))
        case list():
            for one in told:
                if one.get("Value") == value:
                    return {"Value": value, "Display": one.get("Display", value)}
            names = ", ".join(str(one.get("Value")) for one in told) or "no other"
            said = f"State can't go from {now.snapshot.body.get('State')} to {value}; Windchill allows {names}"
            return Refused(0, replies.cut(said), ("State",))
        case trouble:
            return trouble
