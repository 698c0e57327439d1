"""
Actions: what is written outside of any lock, State by SetState and the common properties by UpdateCommonProperties.

Neither can be done to a document that is checked out, so there is no lock for them. They are done in one go instead:
read, decide again if anything has moved, ask (State), write, read again and compare. Where the server shows ETags, the
write carries one, and nothing can come in between.

Where it does not, the race that remains is this: whoever changes the same field between that read and the write, one
request later (State: two), is overwritten unnoticed. Other fields are not touched, and a state can only go where the
server lets it go from the one that it is in then.
"""

from collections.abc import Mapping

import attrs

from reconciler.adapters import replies
from reconciler.adapters.replies import Reply
from reconciler.adapters.wrs import answers, portions, reading, transitions
from reconciler.adapters.wrs.answers import Unfulfilled
from reconciler.adapters.wrs.locking import Locks
from reconciler.adapters.wrs.metadata import Schema
from reconciler.adapters.wrs.portions import Way
from reconciler.adapters.wrs.reading import Entity, Reader
from reconciler.adapters.wrs.service import Service
from reconciler.adapters.wrs.transitions import Unreadable
from reconciler.core import normalise
from reconciler.model.answer import (
    NotAvailable,
    Refused,
    Trouble,
    VersionConflict,
    WriteAnswer,
    Written,
)
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import Json
from reconciler.ports import Journal


@attrs.frozen
class _Moment:
    """The document as it is right now: the iteration, its ETag, and what it shows."""

    id: str
    etag: Token | None
    snapshot: Snapshot


class Actions:
    """Writes what takes an action."""

    def __init__(self, service: Service, reader: Reader, locks: Locks) -> None:
        self._service = service
        self._reader = reader
        self._locks = locks

    async def write(
        self, snapshot: Snapshot, fields: Mapping[str, Json], way: Way, *, id: str, token: Token, journal: Journal
    ) -> WriteAnswer:
        """Write fields of one portion; `token` is what was decided on, `id` its iteration."""
        schema = await self._service.schema(snapshot.type)
        if not isinstance(schema, Schema):
            return schema
        now = await self._now(snapshot.key, id, schema)
        if not isinstance(now, _Moment):
            return now
        if now.snapshot.token != token:
            fields = await journal.redraft(now.snapshot)
            if not fields:
                return VersionConflict(0, "it has moved since it was read, and nothing of this write is left")
        body = portions.body(fields, way, now.snapshot, schema, self._service.options.key_property)
        if isinstance(body, Refused):
            return body
        if way is Way.STATE:
            state = await self._state(now, body["State"], schema)
            if not isinstance(state, dict):
                return state
            given: dict[str, Json] = {"State": state}
        else:
            given = {"Updates": {**body}}
        name = schema.action(way.value)
        assert name is not None, "that is how the way was chosen"
        exchange = await self._service.post(self._service.action(now.id, name), given, now.etag)
        answer = answers.of(self._service, exchange, fields)
        if not isinstance(answer, Reply):
            return await answers.unless_stale(self._reader, snapshot.key, now.id, answer)
        return await self._verified(now, fields)

    async def _now(self, key: str, id: str, schema: Schema) -> _Moment | Unfulfilled:
        """Return the document as it is now; `id` is where it was when it was read."""
        latest = id
        entity = await self._reader.entity(latest)
        if not self._is_it(entity, key):
            shown = await answers.latest(self._reader, key)
            if not isinstance(shown, Snapshot):
                return shown
            latest = answers.id_of(shown) or id
            entity = await self._reader.entity(latest)
        if not isinstance(entity, Entity):
            return entity
        if reading.is_checked_out(entity.row) or reading.is_working_copy(entity.row):
            return self._locks.held(entity.row)
        etag = answers.etag(entity)
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

    async def _state(self, now: _Moment, wanted: Json, schema: Schema) -> dict[str, object] | Unfulfilled:
        """Return the state that is set. Value and Display both come from the transitions that the server allows now."""
        value = wanted.get("Value") if isinstance(wanted, dict) else wanted
        allowed = await transitions.read(self._service, schema, now.id)
        if isinstance(allowed, Unreadable):
            # Held, not retried: the next answer will look the same. Other fields go out meanwhile.
            return Refused(0, allowed.message, ("State",))
        if allowed is None:
            # Not to be had: the metadata knows no more than the type, so Display is said as Value; the server decides.
            return {"Value": value, "Display": value}
        if not isinstance(allowed, list):
            return allowed
        for one in allowed:
            if one.get("Value") == value:
                return {"Value": value, "Display": one.get("Display", value)}
        names = ", ".join(str(one.get("Value")) for one in allowed) or "no other"
        before = now.snapshot.body.get("State")
        said = f"State can't go from {before} to {value}; Windchill allows {names}"
        return Refused(0, replies.cut(said), ("State",))

    async def _verified(self, now: _Moment, fields: Mapping[str, Json]) -> Written:
        """Return what the document shows after the write; nothing, if what it shows may be somebody else's work."""
        shown = await answers.latest(self._reader, now.snapshot.key, now.id)
        if not isinstance(shown, Snapshot) or answers.id_of(shown) != now.id:
            return Written(None, None)
        before = now.snapshot
        steps = shown.compared_as
        as_sent = all(normalise.equal(shown.value(name), value, steps.get(name, ())) for name, value in fields.items())
        untouched = (shown.modified_at, shown.modified_by) == (before.modified_at, before.modified_by)
        ours = shown.modified_by is not None and shown.modified_by == self._service.options.account
        # Something else than was sent: the server's own doing only if nobody else can have been here since.
        return Written(shown, shown.token) if as_sent or untouched or ours else Written(None, None)
