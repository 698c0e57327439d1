"""The store over PostgreSQL: each method of the port is a query or a change."""

import contextlib
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import attrs
import msgspec
from msgspec import structs

from reconciler.adapters import packing
from reconciler.adapters.changes import Decided
from reconciler.adapters.group_commit import GroupCommit
from reconciler.adapters.postgres import migrating, queries, slots
from reconciler.adapters.postgres.change import Stored
from reconciler.adapters.postgres.server import Address, Server
from reconciler.adapters.postgres.shared import Shared
from reconciler.adapters.postgres.slots import Slot, Terms
from reconciler.adapters.postgres.writing import Writer, beside, decode_agreement, readable
from reconciler.core.folding import rows
from reconciler.model import codec
from reconciler.model.action import Change, OperatorAction
from reconciler.model.audit import AuditRecord, Settlement
from reconciler.model.chain import CHECKPOINTS, SPAN, Cut, Entry, Head
from reconciler.model.desired import NOTHING_DESIRED, Desired
from reconciler.model.document import (
    NO_AGREEMENT,
    Agreement,
    Conflict,
    ConflictRow,
    Document,
    Due,
    Lane,
    Row,
    Status,
    Superseded,
)
from reconciler.model.event import DeadLetter, Outgoing
from reconciler.model.policy import Policy
from reconciler.model.signing import Noted
from reconciler.model.stamp import NO_ANCHORS, Anchor, Partition, Place
from reconciler.model.standing import HotSpot, Replica, WriteStop, hour_of
from reconciler.ports import OUTBOX_DUTIES, Changed, Clock, FoldBatch, OutboxMessage, Refolded, Slots

T = TypeVar("T")

_EVER_US = 2**63 - 1  # no time is later
_EXPORT_ROWS = 500
_PUBLISHED_MAX = 500  # messages that wait to be forgotten: `waiting` leaves them out
_ENTRIES = 200  # audit records a statement: some kilobytes each

_superseded = msgspec.json.Decoder(Superseded).decode
_conflict = msgspec.json.Decoder(Conflict).decode
_letter = msgspec.json.Decoder(DeadLetter).decode
_noted = msgspec.json.Decoder(Noted).decode
_cut = msgspec.json.Decoder(Cut).decode


async def open_store(address: Address, clock: Clock, *, owner: bool, terms: Terms | None = None) -> "PostgresStore":
    """Open a store, as its owner beside others, or as a guest; an unknown schema is refused."""
    server = Server(address, clock)
    try:
        await server.open()
        await migrating.require_current(server)
        slot = await Slot.enter(server, clock, terms or Terms()) if owner else None
        if owner:  # it has nothing else to do; its lease says what it may not do meanwhile
            server.patience_s = float("inf")
    except BaseException:
        await server.close()
        raise
    return PostgresStore(server, slot)


async def migrate_store(address: Address, clock: Clock) -> list[str]:
    """Bring a store's schema up to date; return the names of the migrations that were run."""
    server = Server(address, clock)
    try:
        await server.open()
        return await migrating.migrate(server)
    finally:
        await server.close()


class PostgresStore:
    """`ports.Store` over one server; the port says what each method does."""

    def __init__(self, server: Server, slot: Slot | None) -> None:
        self._server = server
        self._slot = slot
        self.shared = Shared(server, slot)
        self._writer = Writer(server, slot)
        self._group = GroupCommit(self._commit)
        self._mine = -1 if slot is None else slot.slot  # no slot has this number
        self._reading = frozenset[str]()  # duties whose messages `waiting` reads at this moment
        self._publishing: dict[int, str] = {}  # messages that it returned, until they are forgotten, with their duties
        self._published: set[int] = set()  # those of them that are forgotten with the next settlement
        self._reached: dict[Partition, int] = {}  # positions after them
        if slot is not None:
            slot.busy = lambda: self._reading.union(self._publishing.values())
            slot.before_leaving = self._forget

    @property
    def slots(self) -> Slots | None:
        return self._slot

    # ------------------------------------------------------------------------------------------------------ projection

    async def positions(self) -> Mapping[Partition, int]:
        found = await self._server.fetch("read positions", queries.POSITIONS)
        return {Partition(topic.decode(), partition): offset for topic, partition, offset in found}

    async def anchors(self) -> Mapping[Partition, Anchor]:
        found = await self._server.fetch("read positions", queries.ANCHORS)
        return {Partition(topic.decode(), place): Anchor(offset, digest) for topic, place, offset, digest in found}

    async def reposition(self, positions: Mapping[Partition, int]) -> None:
        await self._writer.reposition(positions)

    async def refused(self) -> frozenset[Place]:
        found = await self._server.fetch("list records refused by our clock", queries.REFUSED)
        return frozenset(Place.parse(letter_id.decode()) for (letter_id,) in found)

    async def refold(self, refolded: Refolded, action: OperatorAction) -> bool:
        return await self._writer.refold(refolded, action)

    async def fold(self, batch: FoldBatch) -> Changed:
        return await self._writer.fold(batch)

    # ---------------------------------------------------------------------------------------------------------- ledger

    async def due(self, now_us: int, limit: int) -> list[Due]:
        found = await self._server.fetch("list due documents", queries.DUE, queries.LANES, self._mine, now_us, limit)
        return [Due(key.decode(), Lane(lane), due_us) for key, lane, due_us in found]

    async def next_due_us(self) -> int | None:
        return await self._number("find the next due time", queries.NEXT_DUE, queries.LANES, self._mine)

    async def documents(self, keys: Iterable[str]) -> dict[str, Document]:
        wanted = [key.encode() for key in sorted(set(keys))]
        found = await self._documents(queries.DOCUMENTS, wanted)
        return {document.key: document for document in found}

    async def hold(self, keys: Iterable[str]) -> dict[str, Document]:
        assert self._slot is not None, "only an owner makes attempts"
        found = await self._writer.hold(self._slot, keys)
        documents = await beside(len(found), lambda: [_document(columns) for _, *columns in found])
        return {document.key: document for document in documents}

    async def give_back(self, keys: Iterable[str]) -> None:
        assert self._slot is not None, "only an owner makes attempts"
        await self._writer.give_back(self._slot, keys)

    async def intend(self, key: str, agreement: Agreement, policy: str = "") -> bool:
        return await self._group.add(Decided.of_intent(key, agreement, policy))

    async def settle(self, settlement: Settlement) -> None:
        await self._group.add(Decided.of_settlement(settlement))

    async def _commit(self, changes: Sequence[Decided]) -> Collection[str]:
        published, reached = set(self._published), dict(self._reached)
        paused = await self._writer.commit(changes, published, reached)
        self._forgotten(published, reached)
        return paused

    async def requeue(self, keys: Iterable[str], lane: Lane, at_us: int) -> int:
        rule = partial(rows.requeued, lane=lane, at_us=at_us)
        return await self._writer.change_rows("make documents due", keys, rule)

    async def bring_forward(self, now_us: int, longest_us: Mapping[Status, int]) -> int:
        return await self._writer.bring_forward(now_us, longest_us)

    async def count_ahead(self, now_us: int, longest_us: Mapping[Status, int]) -> int:
        operation = "count documents that wait too long"
        counts = [
            await self._number(operation, queries.COUNT_AHEAD[status], now_us, most_us)
            for status, most_us in longest_us.items()
        ]
        return sum(count or 0 for count in counts)

    async def settled_keys(self, statuses: Sequence[Status], after: str, limit: int) -> list[str]:
        wanted = [status.value for status in statuses]
        operation = "list documents to be compared"
        found = await self._server.fetch(operation, queries.SETTLED_KEYS, after.encode(), limit, wanted)
        return [key.decode() for (key,) in found]

    async def compare_again(self, keys: Sequence[str], statuses: Sequence[Status], at_us: int) -> int:
        rule = partial(rows.compared, statuses=statuses, at_us=at_us)
        return await self._writer.change_rows("make documents due for a comparison", keys, rule)

    async def count_due(self, lane: Lane, until_us: int) -> int:
        return await self._number("count documents to be compared", queries.COUNT_DUE, int(lane), until_us) or 0

    async def keep_policy(self, digest: str, policy: Policy) -> None:
        assert self._slot is not None, "only an owner decides by a policy"
        text = codec.encode(policy)
        await self._server.fetch("keep a policy", queries.KEEP_POLICY, self._mine, self._slot.epoch, digest, text)

    async def rebase(
        self,
        agreements: Mapping[str, Agreement],
        positions: Mapping[Partition, int],
        at_us: int,
        anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
    ) -> None:
        await self._writer.rebase(agreements, positions, at_us, anchors)

    async def signing(self) -> Noted | None:
        found = await self._server.fetch("read since when everything is signed", queries.SIGNING)
        return readable(_noted, found[0][0]) if found else None

    async def note_signing(self, noted: Noted, announcement: Outgoing) -> None:
        await self._writer.note_signing(noted, announcement)

    async def reading(self) -> bytes:
        found = await self._server.fetch("read by what the log was read", queries.READING)
        return bytes(found[0][0]) if found else b""

    async def note_reading(self, said: bytes) -> None:
        assert self._slot is not None, "only an owner reads the log"
        await self._server.fetch(
            "note by what the log is read", queries.NOTE_READING, self._mine, self._slot.epoch, said
        )

    async def record_actions(
        self, change: Change, actions: Sequence[OperatorAction], *, at_us: int, reason: str = ""
    ) -> bool:
        return await self._writer.record_actions(change, actions, at_us, reason)

    # ------------------------------------------------------------------------------------------------------ write stop

    async def write_stop(self) -> WriteStop | None:
        return (await self._writer.stops())[1]

    async def obey_stop(self, number: int) -> None:
        assert self._slot is not None, "only an owner writes"
        await self._slot.obey_stop(number)

    async def replicas(self) -> Sequence[Replica]:
        return await slots.replicas(self._server)

    # ---------------------------------------------------------------------------------------------------------- outbox

    async def waiting(self, limit: int) -> list[OutboxMessage]:
        if self._slot is None:
            return []
        if self._published and not self._slot.wanted.issuperset(self._publishing.values()):
            await self._forget()  # before another replica publishes what comes after
        self._publishing = {number: self._publishing[number] for number in self._published & self._publishing.keys()}
        self._reading = self._slot.wanted.intersection(OUTBOX_DUTIES)
        ours = self._mine, self._slot.epoch, sorted(self._reading)
        found = await self._server.fetch("list messages", queries.WAITING, limit, sorted(self._published), *ours)
        self._publishing |= {number: OUTBOX_DUTIES[bucket] for number, bucket, _ in found}
        self._reading = frozenset()
        return [OutboxMessage(number, readable(_message, text)) for number, _, text in found]

    async def published(self, numbers: Sequence[int], positions: Mapping[Partition, int]) -> None:
        # A transaction of its own would wait for the disk for each event, to save a repetition after a crash.
        self._published.update(numbers)
        self._reached |= positions
        if not numbers or len(self._published) >= _PUBLISHED_MAX:
            await self._forget()

    async def _forget(self) -> None:
        published, reached = set(self._published), dict(self._reached)
        if published or reached:
            await self._writer.published(published, reached)
            self._forgotten(published, reached)

    def _forgotten(self, published: set[int], reached: Mapping[Partition, int]) -> None:
        self._published -= published
        self._publishing = {number: duty for number, duty in self._publishing.items() if number not in published}
        self._reached = {place: offset for place, offset in self._reached.items() if reached.get(place) != offset}

    # ----------------------------------------------------------------------------------------------------------- views

    async def counts(self) -> Mapping[Status, int]:
        found = dict(await self._server.fetch("count documents", queries.COUNTS))
        documents = found.pop("")
        counts = {status: found.get(status.value, 0) for status in Status}
        return counts | {Status.SYNCED: documents - sum(found.values())}

    async def list_documents(self, status: Status | None, after: str, limit: int) -> list[Document]:
        return await self._documents(queries.LIST[status], after.encode(), limit)

    async def list_waiting(self, status: Status, after: tuple[int, str], limit: int) -> list[Document]:
        return await self._documents(queries.LIST_WAITING, after[0], after[1].encode(), limit, status.value)

    async def list_aside(self, status: Status, after: tuple[int, str], limit: int) -> list[Document]:
        return await self._documents(queries.LIST_ASIDE, after[0], after[1].encode(), limit, status.value)

    async def oldest_pending_us(self) -> int | None:
        return await self._number("find the longest pending document", queries.OLDEST_PENDING)

    async def last_audited_us(self) -> int | None:
        return await self._number("read when the last record was made", queries.LAST_AUDITED)

    async def conflicts(
        self, *, closed: bool = False, limit: int = 1000, after: tuple[int, str] = (-1, "")
    ) -> list[ConflictRow]:
        sql = queries.ALL_CONFLICTS if closed else queries.OPEN_CONFLICTS
        return await self._conflicts(sql, limit, after[0], after[1].encode())

    async def count_conflicts(self) -> int:
        return await self._number("count conflicts", queries.COUNT_CONFLICTS) or 0

    async def conflict(self, conflict_id: str) -> ConflictRow | None:
        found = await self._conflicts(queries.CONFLICT, conflict_id.encode())
        return found[0] if found else None

    async def conflicts_with_prefix(self, prefix: str, *, closed: bool, limit: int) -> list[ConflictRow]:
        return await self._conflicts(queries.CONFLICTS_WITH_PREFIX, prefix.encode(), closed, limit)

    async def dead_letters(self, status: str | None = "open", limit: int = 1000, after: str = "") -> list[DeadLetter]:
        if status is None:
            found = await self._letters(queries.LETTERS, limit, after.encode())
        else:
            found = await self._letters(queries.LETTERS_OF_STATUS, limit, after.encode(), status)
        return [letter for _, letter in found]

    async def letters_after(self, number: int, limit: int) -> list[tuple[int, DeadLetter]]:
        return await self._letters(queries.LETTERS_AFTER, limit, number)

    async def dead_letter(self, letter_id: str) -> DeadLetter | None:
        found = await self._letters(queries.LETTER, letter_id.encode())
        return found[0][1] if found else None

    async def letter_ids_with_suffix(self, suffix: str, limit: int) -> list[str]:
        found = await self._server.fetch("find dead letters", queries.LETTERS_WITH_SUFFIX, suffix.encode(), limit)
        return [letter_id.decode() for (letter_id,) in found]

    async def last_letter(self) -> int:
        return await self._number("find the last dead letter", queries.LAST_LETTER) or 0

    async def count_dead_letters(self) -> int:
        return await self._number("count dead letters", queries.COUNT_LETTERS) or 0

    async def audit(
        self,
        document: str | None = None,
        since_us: int = 0,
        until_us: int | None = None,
        limit: int = 1000,
        before: tuple[int, int] | None = None,
    ) -> list[AuditRecord]:
        at_us, number = before or (_EVER_US, 0)
        end_us = min(_EVER_US if until_us is None else until_us, at_us + 1)
        span = (since_us, end_us, limit, at_us, number)
        sql, of_document = (queries.DECISIONS, ()) if document is None else (queries.DECISIONS_OF_DOCUMENT, (document,))
        found = await self._server.fetch("list decisions", sql, *span, *(key.encode() for key in of_document))
        return [structs.replace(readable(_decision, text), id=number, ordinal=place) for number, place, text in found]

    async def actions(
        self,
        *,
        document: str | None = None,
        who: str | None = None,
        target: str | None = None,
        kinds: Sequence[str] = (),
        limit: int = 1000,
        before: int | None = None,
    ) -> list[OperatorAction]:
        given = {"document": document, "who": who, "target": target}
        searched = {name: [text.encode()] for name, text in given.items() if text is not None}
        if kinds:
            searched["kind"] = [kind.encode() for kind in kinds]
        last = _EVER_US if before is None else before
        found = await self._server.fetch("list acts", queries.actions(searched), last, limit, *searched.values())
        return [structs.replace(readable(_action, text), id=number, ordinal=place) for number, place, text in found]

    async def audit_heads(self) -> list[Head]:
        return [Head(*found) for found in await self._server.fetch("read the heads of the audit trail", queries.HEADS)]

    async def audit_entry(self, number: int) -> Entry | None:
        found = await self._entries(number - 1, number, 1)
        return found[0] if found else None

    async def _entries(self, after: int, last: int, limit: int) -> list[Entry]:
        """Return records of one chain."""
        if last // SPAN == CHECKPOINTS:
            found = await self._server.fetch("read checkpoints", queries.CHECKPOINTS, after, last, limit)
            return [Entry(*columns) for columns in found]
        found = await self._server.fetch("read the audit trail", queries.ENTRIES, after, last, limit)
        return list(map(_entry, found))

    async def audit_chain(
        self, document: str | None = None, since_us: int = 0, until_us: int | None = None
    ) -> AsyncIterator[Entry]:
        operation, end_us = "read the audit trail", _EVER_US if until_us is None else until_us
        if document is not None:
            found = await self._server.fetch(
                operation, queries.NUMBERS_OF_DOCUMENT, since_us, end_us, document.encode()
            )
            numbers = [number for (number,) in found]
            for start in range(0, len(numbers), _ENTRIES):
                wanted = numbers[start : start + _ENTRIES]
                for line in await self._server.fetch(operation, queries.ENTRIES_NUMBERED, wanted):
                    yield _entry(line)
            return
        spans: Sequence[Sequence[int]] = [(-_EVER_US, _EVER_US)]  # none of ours is below 1
        if since_us or until_us is not None:
            spans = await self._server.fetch(operation, queries.AUDIT_SPANS, since_us, end_us)
        else:
            after = -_EVER_US
            while lines := await self._server.fetch(operation, queries.CHECKPOINTS, after, _EVER_US, _ENTRIES):
                for line in lines:
                    yield Entry(*line)
                    after = line[0]
        for first, last in spans:
            after = first - 1
            while lines := await self._server.fetch(operation, queries.ENTRIES, after, last, _ENTRIES):
                for entry in map(_entry, lines):
                    yield entry
                    after = entry.number

    async def policy_texts(self) -> Mapping[str, bytes]:
        return dict(await self._server.fetch("read policies", queries.POLICIES))

    async def superseded(self, key: str) -> Superseded | None:
        found = await self._server.fetch("read superseded events", queries.SUPERSEDED, key.encode())
        return structs.replace(readable(_superseded, found[0][1]), count=found[0][0]) if found else None

    async def hotspots(self, now_us: int, limit: int = 50) -> list[HotSpot]:
        found = await self._server.fetch("list hot spots", queries.HOTSPOTS, limit, hour_of(now_us))
        spots = [(HotSpot(kind, name.decode(), *counts), hours or ()) for kind, name, *counts, hours in found]
        return [attrs.evolve(spot, hours=tuple(sorted(map(tuple, hours)))) for spot, hours in spots]

    async def export_projection(self) -> AsyncIterator[tuple[str, Desired]]:
        after = b""
        while found := await self._server.fetch("export the projection", queries.EXPORT, after, _EXPORT_ROWS):
            for key, text in found:
                yield key.decode(), readable(codec.decode_desired, text)
                after = key

    async def close(self) -> None:
        if self._slot:
            self._slot.hurry()
        await self._group.close()
        if self._slot and not self._server.closed:
            await self._slot.leave()
        await self._server.close()

    # ------------------------------------------------------------------------------------------------------- retention

    async def cuts(self) -> list[Cut]:
        found = await self._server.fetch("read what was archived", queries.CUTS)
        return [structs.replace(readable(_cut, text), act=act) for act, text in found]

    async def audit_after(self, number: int, limit: int) -> list[Entry]:
        return await self._entries(number, (number // SPAN + 1) * SPAN - 1, limit)

    async def prune(
        self,
        action: OperatorAction,
        *,
        cut: Cut | None = None,
        conflicts: Sequence[ConflictRow] = (),
        letters: Sequence[DeadLetter] = (),
    ) -> bool:
        return await self._writer.prune(action, cut, conflicts, letters)

    async def forget(self, limit: int) -> int:
        deleted = 0
        for sql in queries.FORGET:
            deleted += len(await self._server.fetch("delete archived records", sql, limit - deleted))
        return deleted

    # ---------------------------------------------------------------------------------------------------------- shared

    async def _number(self, operation: str, sql: str, *arguments: Any) -> int | None:
        found = await self._server.fetch(operation, sql, *arguments)
        return found[0][0] if found else None

    async def _documents(self, sql: str, *arguments: Any) -> list[Document]:
        found = await self._server.fetch("read documents", sql, *arguments)
        return await beside(len(found), lambda: list(map(_document, found)))

    async def _conflicts(self, sql: str, *arguments: Any) -> list[ConflictRow]:
        found = await self._server.fetch("list conflicts", sql, *arguments)
        return [ConflictRow(key.decode(), readable(_conflict, text), closed_us) for key, closed_us, text in found]

    async def _letters(self, sql: str, *arguments: Any) -> list[tuple[int, DeadLetter]]:
        found = await self._server.fetch("list dead letters", sql, *arguments)
        return [(number, attrs.evolve(readable(_letter, text), status=status)) for number, status, text in found]


def _document(columns: Sequence[Any]) -> Document:
    *scalars, refolded, desired_text, agreement_text = columns
    row: Row = Stored.of(scalars).row
    desired = NOTHING_DESIRED if desired_text is None else readable(codec.decode_desired, desired_text)
    agreement = NO_AGREEMENT if agreement_text is None else readable(decode_agreement, agreement_text)
    if refolded:
        agreement = rows.refolded_agreement(agreement, desired)
    return Document(**row._asdict(), desired=desired, agreement=agreement)


def _decision(stored: bytes) -> AuditRecord:
    return codec.decode_decision(packing.unpack(stored))


def _action(stored: bytes) -> OperatorAction:
    return codec.decode_action(packing.unpack(stored))


def _message(stored: bytes) -> Outgoing:
    message = codec.decode_message(packing.unpack(stored))
    return message._replace(headers=tuple(message.headers))  # a sequence is decoded as a list


def _entry(columns: Sequence[Any]) -> Entry:
    number, previous, link, ordinal, stored, document, at_us, *of_action = columns
    with contextlib.suppress(ValueError):  # someone has changed it; verifying says so
        stored = packing.unpack(stored)
    # Bytes that are not UTF-8 become a text that no record of ours has.
    texts = [None if one is None else one.decode(errors="surrogateescape") for one in (document, *of_action)]
    return Entry(number, previous, link, stored, (texts[0], at_us, *texts[1:]), ordinal)
