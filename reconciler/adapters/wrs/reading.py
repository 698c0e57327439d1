"""
Reading: from a document's number to its latest iteration, and what that shows.

Theory of operation. An ID names one iteration and goes stale with each check-in. So a read by a remembered ID counts
only if it still shows the document's latest iteration; otherwise the number is looked up again (`lookup`). The row that
is found shows the document, so a first read is one request.

Rules
- A row counts only if it has the number that was asked for, is the latest iteration, and is no one's working copy, not
  even ours: others don't see working copies.
- Two such rows for one number are two documents. Neither is read; a person has to say which one is meant.
- A missing service, domain or entity set says nothing about a document: it is `Failed`, not 404.
- A token is the entity's ETag if lists show it as well as reads do, or if it guards writes; else a digest of what was
  shown and of `LastModified`. So a list of changes gives the same token as a read. (If a server shows ETags only in
  headers and writes rely on them, a list can't: its sightings then only say that something may have changed.)
- Lists may leave out fields, which must not look like cleared ones. The first row that lacks what only its own type has
  is compared with a read by ID, which shows whether lists are complete.
- If lists leave fields out, the token of a read is remembered with the iteration, its LastModified and the row that a
  list showed. When a list shows the same again, the document has not changed and is not read again.
- An iteration may call itself the latest of its revision only. So a remembered ID counts for some minutes after a list
  has shown it, and the number is then looked up again. Otherwise new revisions would go unseen.
- A conditional read is only sent where IDs don't go stale: an old iteration never changes.
"""

from collections.abc import Sequence
from typing import TypeVar

import attrs

from reconciler.adapters import replies
from reconciler.adapters.credentials import Headers
from reconciler.adapters.replies import Reply
from reconciler.adapters.wrs import checked_out, service, tokens, values, writable
from reconciler.adapters.wrs.lookup import Lookup
from reconciler.adapters.wrs.metadata import Schema
from reconciler.adapters.wrs.service import Row, Service
from reconciler.adapters.wrs.tokens import Place
from reconciler.model import instant
from reconciler.model.answer import Broken, NotAvailable, ReadAnswer, Trouble, Unchanged
from reconciler.model.snapshot import Sighting, Snapshot, Token
from reconciler.ports import Clock

_COMMON = ("Name", "Number", "Organization")  # written by UpdateCommonProperties, not by PATCH
_PAGES_MAX = 2000  # of a list of changes
_KEPT_MAX = 20_000  # documents for which something is remembered
_VOUCHED_S = 300.0  # how long a listed ID is good: below the usual interval of comparisons
_SECOND_US = 1_000_000
_Value = TypeVar("_Value")
_WESTMOST_US = 12 * 3600 * _SECOND_US  # nowhere does a day begin later than this after its beginning in UTC


@attrs.frozen
class Entity:
    """One iteration as it came, with the ETag of its reply."""

    row: Row
    etag: Token | None = None


@attrs.frozen
class _Sighted:
    """The ID that a list showed for a number, and when."""

    id: str
    seen_s: float


@attrs.frozen
class _Seen:
    """An iteration as a read has shown it, and the digest of its row in a list; None: not listed yet."""

    token: Token
    modified_at: str | None
    row: Token | None = None


class Reader:
    """Reads the documents of one service."""

    def __init__(self, service: Service, clock: Clock) -> None:
        self._service = service
        self._options = service.options
        self._clock = clock
        self._numbers = Lookup(service, clock)
        self._sighted: dict[str, _Sighted] = {}  # document → the ID that a list last showed
        self._seen: dict[str, _Seen] = {}  # ID → what a read of it has shown
        self._rows_show_all: bool | None = None  # whether lists show all fields; None: not known yet

    async def read(self, key: str, known: Snapshot | None = None) -> ReadAnswer:
        """Read the latest iteration of a document; `Unchanged` if it is what `known` shows."""
        if not _can_be_said(key):
            return NotAvailable(404, f"the key {key!r} can't be written in a URL")
        schema = await self._service.schema()
        if not isinstance(schema, Schema):
            return schema
        token = None if known is None else known.token
        place = None if token is None else tokens.place(token)
        found: ReadAnswer | None = None
        if place is not None and (self._has_latest(schema) or not self._options.service):
            found = await self._remembered(key, place, schema)
        if found is None:
            found = await self._resolved(key, schema)
        if isinstance(found, Snapshot) and found.token is not None and (at := tokens.place(found.token)) is not None:
            _keep(self._seen, at.id, _Seen(found.token, found.modified_at))
        if isinstance(found, Snapshot) and token is not None and found.token == token and not found.locked_by_us:
            return Unchanged()
        return found

    async def iteration(self, key: str, id: str) -> Snapshot | Trouble:
        """Read any iteration by its ID, also a working copy or an old one, with its ETag."""
        entity = await self.entity(id)
        return await self.snapshot(key, entity.row, entity.etag) if isinstance(entity, Entity) else entity

    async def entity(self, id: str) -> Entity | Trouble:
        """Read one iteration by its ID, as it came."""
        reply = await self._entity(id)
        return self._service.not_promised(reply) if isinstance(reply, Reply) else reply

    async def snapshot(self, key: str, entity: Row, etag: Token | None = None) -> Snapshot | Trouble:
        """Return what an entity shows; `etag` is its reply's, if it counts beside the entity's own."""
        kind = _text(entity, "@odata.type")
        if not isinstance(schema := await self._service.schema(kind), Schema):
            return schema
        identity = _identity(entity, schema)
        if identity is None:
            return Broken(replies.cut(f"the answer for document {key} has no ID"))
        known = schema.type(kind)
        shown = values.incoming(entity, known, self._options.expand)
        modified_at = _instant(entity)
        etag = _guarding(_text(entity, "@odata.etag")) or etag
        token: Token | None = None
        if etag is not None and self._options.lock != "checkout":
            token = tokens.guarded(identity, etag)
        elif self._options.checks_out(possible=schema.action("CheckOut") is not None):
            seen = {"body": shown.body, "hidden": sorted(shown.unreadable), "modified": modified_at, "type": kind}
            token = tokens.seen(identity, seen)
        return Snapshot(
            key,
            shown.body,
            token,
            modified_at=modified_at,
            modified_by=_text(entity, "ModifiedBy"),
            type=None if kind is None else kind.rpartition("#")[2],
            unreadable=shown.unreadable,
            read_only=writable.read_only(shown.body, known or schema.document, self._options.key_property),
            later_portions=_later_portions(schema),
            iterates=self._options.checks_out(possible=schema.action("CheckOut") is not None),
            locked_by_us=checked_out.is_checked_out(entity)
            and checked_out.is_us(checked_out.holder(entity), self._options.account),
            type_normalisers=values.compared_as(known),
        )

    async def changed(self, since_us: int) -> Sequence[Sighting] | Trouble:
        """
        Return every document modified since then, once, with the token that reading it would give.

        Pages after the first `_PAGES_MAX` are left out: failing would mean reading all of them again, and each document
        is also compared by itself.
        """
        schema = await self._service.schema()
        if not isinstance(schema, Schema):
            return schema
        known = schema.document.properties.get("LastModified")
        if (known is None and schema.document.whole) or (known is not None and not known.filterable):
            return Broken("documents can't be asked for by LastModified on this server; resync.poll_s = 0 stops it")
        by_time = self._options.time_filters == "time"
        # Windchill counts whole seconds. If it filters by date alone, that may be the date at its own place.
        since_us -= since_us % _SECOND_US
        from_us = since_us if by_time else since_us - _WESTMOST_US
        moment = instant.from_us(max(from_us, 0)).partition(".")[0] + "Z"
        options = ("ptc.search.allowFilterOnTime=true",) if by_time and self._options.service else ()
        query = self._numbers.query(f"LastModified ge {moment}", schema, *options)
        found: dict[str, Sighting] = {}
        pages = 0
        async for page in self._service.pages(query, _PAGES_MAX + 1):
            if not isinstance(page, list):
                return page
            for row in page:
                sighting = await self._sighting(row, since_us)
                if isinstance(sighting, Sighting):
                    found[sighting.key] = sighting
                elif sighting is not None:
                    return sighting
            pages += 1
            if pages == _PAGES_MAX:
                break
        return list(found.values())

    async def current(self, key: str) -> dict[str, Row] | Trouble:
        """Return the rows of a number right now, by ID: its latest iteration and, if listed, working copies."""
        schema = await self._service.schema()
        if not isinstance(schema, Schema):
            return schema
        rows = await self._numbers.rows(key, schema)
        if not isinstance(rows, Sequence):
            return rows
        latest = [row for row in rows if row.get("Latest") is not False]
        return {identity: row for row in latest if (identity := _identity(row, schema))}

    def doubt(self, key: str) -> None:
        """Forget the ID that is remembered for a number: it leads elsewhere now."""
        self._sight(key, None)

    def vouches_for(self, key: str, id: str, schema: Schema) -> bool:
        """Whether a list has recently shown that a number leads to this iteration."""
        if not self._has_latest(schema):
            return True  # it is always read by its number, or there are no iterations
        sighted = self._sighted.get(key)
        return sighted is not None and sighted.id == id and self._clock.monotonic_s() < sighted.seen_s + _VOUCHED_S

    def succeeds(self, key: str, old: str, new: str) -> None:
        """Note that we have made a new iteration, to which the number leads now."""
        sighted = self._sighted.get(key)
        if sighted is not None and sighted.id == old:
            self._sighted[key] = attrs.evolve(sighted, id=new)

    # --------------------------------------------------------------------------------------------------------- inside

    async def _sighting(self, row: Row, since_us: int) -> Sighting | Trouble | None:
        key = _text(row, self._options.key_property)
        modified_at = _instant(row)
        if key is None or not _is_current(row):
            return None
        if modified_at is not None and instant.to_us(modified_at) < since_us:
            return None
        snapshot = await self.snapshot(key, row)
        if not isinstance(snapshot, Snapshot):
            return snapshot
        place = None if snapshot.token is None else tokens.place(snapshot.token)
        self._sight(key, None if place is None else place.id)
        if snapshot.token is None:
            return Sighting(key, tokens.seen(key, {"body": snapshot.body, "modified": modified_at}))
        schema = await self._service.schema()
        if place is None or self._rows_show_all is True or not isinstance(schema, Schema) or not _missing(row, schema):
            return Sighting(key, snapshot.token)
        return Sighting(key, self._as_seen(place.id, modified_at, snapshot.token))

    def _as_seen(self, id: str, modified_at: str | None, row: Token) -> Token:
        """Return the token of the read that showed what this row shows in part; else the row's own."""
        seen = self._seen.get(id)
        if seen is None or modified_at is None or seen.modified_at != modified_at or seen.row not in (None, row):
            return row
        _keep(self._seen, id, attrs.evolve(seen, row=row))
        return seen.token

    def _sight(self, key: str, id: str | None) -> None:
        """Remember the ID that a list shows, which may be of a new revision."""
        if id is None:
            self._sighted.pop(key, None)
        else:
            _keep(self._sighted, key, _Sighted(id, self._clock.monotonic_s()))

    async def _remembered(self, key: str, place: Place, schema: Schema) -> ReadAnswer | None:
        """Read by a remembered ID; None if that is no longer the document's latest iteration."""
        if not self.vouches_for(key, place.id, schema):
            return None
        stays = place.etag is not None and not self._has_latest(schema)
        condition: Headers = ((b"if-none-match", place.etag.encode()),) if stays and place.etag is not None else ()
        entity = await self._entity(place.id, condition)
        match entity:
            case Entity(row, etag):
                current = row.get("Latest") is True if self._has_latest(schema) else _is_current(row)
                if not current or checked_out.is_working_copy(row) or row.get(self._options.key_property) != key:
                    return None
                return await self.snapshot(key, row, self._counting(etag, schema))
            case Reply():  # 304
                return Unchanged()
            case NotAvailable(status) if status != 403:
                return None
            case _:
                return entity

    async def _resolved(self, key: str, schema: Schema) -> Snapshot | Trouble:
        rows = await self._numbers.rows(key, schema)
        if not isinstance(rows, Sequence):
            return rows
        possible = [row for row in rows if _is_current(row)]
        certain = [row for row in possible if row.get("Latest") is True]
        current = {identity: row for row in certain or possible if (identity := _identity(row, schema))}
        if not current:
            copies = "but a working copy " if any(checked_out.is_working_copy(row) for row in rows) else ""
            said = replies.cut(f"there is no document {copies}with {self._options.key_property} {key}")
            return NotAvailable(404, said, absent=not copies)
        if len(current) > 1:
            named = ", ".join(sorted(current)[:3])
            return NotAvailable(409, replies.cut(f"{len(current)} documents have the number {key}: {named}"))
        ((identity, row),) = current.items()
        self._sight(key, identity)
        if self._rows_show_all is not True and (missing := _missing(row, schema)):
            whole = await self.entity(identity)
            if not isinstance(whole, Entity):
                return whole
            self._rows_show_all = missing <= _missing(whole.row, schema)
            return await self.snapshot(key, whole.row, self._counting(whole.etag, schema))
        snapshot = await self.snapshot(key, row)
        if not isinstance(snapshot, Snapshot) or snapshot.token is not None:
            return snapshot
        # The list showed no ETag; perhaps the entity itself does.
        entity = await self.entity(identity)
        return await self.snapshot(key, entity.row, entity.etag) if isinstance(entity, Entity) else entity

    async def _entity(self, id: str, condition: Headers = ()) -> Entity | Reply | Trouble:
        """Read one entity; a reply is a 304 to `condition`."""
        expand = self._options.expand
        exchange = await self._service.get(
            self._service.entity(id), f"$expand={','.join(expand)}" if expand else "", condition
        )
        match exchange:
            case Reply(status=200):
                body = replies.json_object(exchange) if replies.is_json(exchange) else None
                return self._service.not_promised(exchange) if body is None else Entity(body, replies.token(exchange))
            case Reply(status=304) if condition:
                return exchange
            case Reply():
                return self._service.explained(exchange)
            case _:
                return replies.no_reply(exchange)

    def _counting(self, etag: Token | None, schema: Schema) -> Token | None:
        """Return a header's ETag if writes rely on it; otherwise a list of changes could not show the same token."""
        return None if self._options.checks_out(possible=schema.action("CheckOut") is not None) else etag

    def _has_latest(self, schema: Schema) -> bool:
        return "Latest" in schema.document.properties


def _keep(kept: dict[str, _Value], key: str, value: _Value) -> None:
    """Keep a value, and drop the oldest one if there are too many."""
    kept.pop(key, None)
    kept[key] = value
    if len(kept) > _KEPT_MAX:
        del kept[next(iter(kept))]


def _is_current(row: Row) -> bool:
    return row.get("Latest") is not False and not checked_out.is_working_copy(row)


def _missing(row: Row, schema: Schema) -> set[str]:
    """Return the properties that a row leaves out, of those that only its own type has."""
    kind = schema.type(_text(row, "@odata.type"))
    return set() if kind is None else kind.properties.keys() - schema.document.properties.keys() - row.keys()


def _can_be_said(key: str) -> bool:
    try:
        return bool(service.encoded(key))
    except UnicodeEncodeError:
        return False


def _identity(entity: Row, schema: Schema) -> str | None:
    """Return an entity's ID: the key in the metadata, else `ID`."""
    said = entity.get(schema.document.key[0] if len(schema.document.key) == 1 else "ID")
    return str(said) if isinstance(said, str | int) and not isinstance(said, bool) and said != "" else None


def _later_portions(schema: Schema) -> tuple[tuple[str, ...], ...]:
    common = (_COMMON,) if schema.action("UpdateCommonProperties") else ()
    return (*common, ("State",)) if schema.action("SetState") else common


def _guarding(etag: str | None) -> Token | None:
    """Return an ETag that can be sent and guards something, byte for byte."""
    good = etag is not None and etag.strip() not in ("", "*") and etag.isprintable()
    return Token(etag) if etag is not None and good else None


def _instant(entity: Row) -> str | None:
    try:
        return instant.canonical(_text(entity, "LastModified") or "")
    except ValueError:
        return None


def _text(entity: Row, name: str) -> str | None:
    value = entity.get(name)
    return value if isinstance(value, str) else None
