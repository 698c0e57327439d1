"""The store over SQLite: each method of the port is a query, a transaction, or one change of a group commit."""

import contextlib
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import attrs
from msgspec import structs

from reconciler.adapters import packing
from reconciler.adapters.changes import Decided
from reconciler.adapters.group_commit import GroupCommit
from reconciler.adapters.sqlite import queries, transactions
from reconciler.adapters.sqlite.damage import Lines, PackedLines, unpacked
from reconciler.adapters.sqlite.database import Database
from reconciler.adapters.sqlite.opening import path_of
from reconciler.core.folding import rows
from reconciler.model import codec
from reconciler.model.action import Change, OperatorAction
from reconciler.model.audit import AuditRecord, Settlement
from reconciler.model.chain import SPAN, Cut, Entry, Head
from reconciler.model.codec import StoredDesired
from reconciler.model.desired import Desired
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
from reconciler.ports import Changed, FoldBatch, OutboxMessage, Refolded

__all__ = ["SqliteStore", "open_store", "path_of"]

_EVER_US = 2**63 - 1  # SQLite's greatest integer: no time is later
_EXPORT_ROWS = 500
_PUBLISHED_MAX = 500  # messages that wait to be forgotten: `waiting` leaves them out
_ENTRIES = 200  # audit records a statement: some kilobytes each, and twice that on their way

# The shapes of the lines of `queries`.
_document_line = Lines(tuple[Row, int, StoredDesired])
_desired_line = Lines(tuple[str, StoredDesired])
_position_line = Lines(tuple[str, int, int])
_superseded_line = Lines(Superseded)
_anchor_line = Lines(tuple[str, int, int, str])
_due_line = Lines(Due)
_count_line = Lines(tuple[str, int])
_number_line = Lines(int)
_key_line = Lines(str)
_message_line = PackedLines(codec.decode_message)
_conflict_line = Lines(tuple[tuple[str, int | None], Conflict])
_decision_line = PackedLines(codec.decode_decision)
_action_line = PackedLines(codec.decode_action)
_letter_line = Lines(tuple[int, str, DeadLetter])
_span_line = Lines(tuple[int, int])
_hotspot_line = Lines(HotSpot)
_noted_line = Lines(Noted)
_cut_line = Lines(tuple[int, Cut])
_obedience_line = Lines(transactions.Obedience)


async def open_store(path: Path | str, *, owner: bool) -> "SqliteStore":
    """Open a store; the owner makes the file if there is none, and is refused while another owner has it."""
    return SqliteStore(await Database.open(Path(path), owner=owner))


class SqliteStore:
    """`ports.Store` over one connection; the port says what each method does."""

    slots = shared = None  # the file has one owner

    def __init__(self, database: Database) -> None:
        self._database = database
        self._group = GroupCommit(self._commit)
        self._published: set[int] = set()  # messages that are forgotten with the next transaction, if not already

    # ------------------------------------------------------------------------------------------------------ projection

    async def positions(self) -> Mapping[Partition, int]:
        lines = map(_position_line.decode, await self._database.read(queries.POSITIONS))
        return {Partition(topic, partition): offset for topic, partition, offset in lines}

    async def anchors(self) -> Mapping[Partition, Anchor]:
        lines = map(_anchor_line.decode, await self._database.read(queries.ANCHORS))
        return {Partition(topic, partition): Anchor(offset, digest) for topic, partition, offset, digest in lines}

    async def reposition(self, positions: Mapping[Partition, int]) -> None:
        await self._database.write("store positions", lambda db: transactions.reposition(db, positions))

    async def refused(self) -> frozenset[Place]:
        return frozenset(map(Place.parse, map(_key_line.decode, await self._database.read(queries.REFUSED))))

    async def refold(self, refolded: Refolded, action: OperatorAction) -> bool:
        work = partial(transactions.refold, refolded=refolded, action=action)
        return await self._database.write_by_hand("fold a document again", work)

    async def fold(self, batch: FoldBatch) -> Changed:
        return await self._database.write("fold", lambda db: transactions.fold(db, batch))

    # ---------------------------------------------------------------------------------------------------------- ledger

    async def due(self, now_us: int, limit: int) -> list[Due]:
        return list(map(_due_line.decode, await self._database.read(queries.DUE, now_us, limit)))

    async def next_due_us(self) -> int | None:
        return await self._number(queries.NEXT_DUE)

    async def documents(self, keys: Iterable[str]) -> dict[str, Document]:
        lines = await self._database.read(queries.DOCUMENTS, _wanted(keys))
        return {document.key: document for document in map(_document, lines)}

    async def hold(self, keys: Iterable[str]) -> dict[str, Document]:
        return await self.documents(keys)  # there are no others

    async def give_back(self, keys: Iterable[str]) -> None:
        """There is nobody who would take them."""

    async def intend(self, key: str, agreement: Agreement, policy: str = "") -> bool:
        return await self._group.add(Decided.of_intent(key, agreement, policy))

    async def settle(self, settlement: Settlement) -> None:
        await self._group.add(Decided.of_settlement(settlement))

    async def requeue(self, keys: Iterable[str], lane: Lane, at_us: int) -> int:
        work = partial(transactions.requeue, keys=list(keys), lane=lane, at_us=at_us)
        return await self._database.write_by_hand("make documents due", work)

    async def bring_forward(self, now_us: int, longest_us: Mapping[Status, int]) -> int:
        work = partial(transactions.bring_forward, now_us=now_us, longest_us=longest_us)
        return await self._database.write("bring documents forward", work)

    async def count_ahead(self, now_us: int, longest_us: Mapping[Status, int]) -> int:
        counted = [await self._number(queries.COUNT_AHEAD[one], now_us, most) for one, most in longest_us.items()]
        return sum(number or 0 for number in counted)

    async def last_audited_us(self) -> int | None:
        return await self._number(queries.LAST_AUDITED)

    async def settled_keys(self, statuses: Sequence[Status], after: str, limit: int) -> list[str]:
        lines = await self._database.read(queries.SETTLED_KEYS, after, limit, codec.encode(list(statuses)).decode())
        return list(map(_key_line.decode, lines))

    async def compare_again(self, keys: Sequence[str], statuses: Sequence[Status], at_us: int) -> int:
        work = partial(transactions.compare, keys=list(keys), statuses=statuses, at_us=at_us)
        return await self._database.write_by_hand("make documents due for a comparison", work)

    async def count_due(self, lane: Lane, until_us: int) -> int:
        return await self._number(queries.COUNT_DUE, int(lane), until_us) or 0

    async def keep_policy(self, digest: str, policy: Policy) -> None:
        await self._database.write("keep a policy", lambda db: transactions.keep_policy(db, digest, policy))

    async def rebase(
        self,
        agreements: Mapping[str, Agreement],
        positions: Mapping[Partition, int],
        at_us: int,
        anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
    ) -> None:
        work = partial(transactions.rebase, agreements=agreements, positions=positions, at_us=at_us, anchors=anchors)
        await self._database.write("rebase", work)

    async def signing(self) -> Noted | None:
        found = await self._database.read(queries.SIGNING)
        return _noted_line.decode(found[0]) if found else None

    async def note_signing(self, noted: Noted, announcement: Outgoing) -> None:
        work = partial(transactions.note_signing, noted=noted, announcement=announcement)
        await self._database.write("note since when everything is signed", work)

    async def reading(self) -> bytes:
        found = await self._database.read(queries.READING)
        return found[0] if found else b""

    async def note_reading(self, said: bytes) -> None:
        await self._database.write("note by what the log is read", lambda db: transactions.note_reading(db, said))

    async def _commit(self, changes: Sequence[Decided]) -> Collection[str]:
        return await self._database.write("settle", lambda db: transactions.commit(db, changes))

    async def record_actions(
        self, change: Change, actions: Sequence[OperatorAction], *, at_us: int, reason: str = ""
    ) -> bool:
        work = partial(transactions.record_actions, change=change, done=actions, at_us=at_us, reason=reason)
        return await self._database.write_by_hand("record what operators do", work)

    # ------------------------------------------------------------------------------------------------------ write stop

    async def write_stop(self) -> WriteStop | None:
        return (await self._obedience()).stop

    async def obey_stop(self, number: int) -> None:
        await self._database.write("obey the stop of all writes", lambda db: transactions.obey_stop(db, number))

    async def replicas(self) -> Sequence[Replica]:
        owner = await self._database.owner()
        if not owner:
            return []
        return [Replica(0, f"process {owner}", 0.0, evicted=False, obeys_stop=(await self._obedience()).obeyed)]

    async def _obedience(self) -> transactions.Obedience:
        found = await self._database.read(queries.WRITE_STOP)
        return _obedience_line.decode(found[0]) if found else transactions.Obedience(0, 0, None)

    # ---------------------------------------------------------------------------------------------------------- outbox

    async def waiting(self, limit: int) -> list[OutboxMessage]:
        published = codec.encode(list(self._published)).decode()
        return list(map(_message, await self._database.read(queries.WAITING, limit, published)))

    async def published(self, numbers: Sequence[int], positions: Mapping[Partition, int]) -> None:
        # A transaction of its own would wait for the disk for each event, to save a repetition after a crash.
        if not self._database.riding:
            self._published.clear()
        self._published.update(numbers)
        self._database.riding.append(partial(transactions.published, numbers=numbers, positions=positions))
        if not numbers or len(self._published) >= _PUBLISHED_MAX:
            await self._database.write("forget published messages", lambda _: None)

    # ----------------------------------------------------------------------------------------------------------- views

    async def counts(self) -> Mapping[Status, int]:
        lines = dict(map(_count_line.decode, await self._database.read(queries.COUNTS)))
        documents = lines.pop("")
        counts = {status: lines.get(status, 0) for status in Status}
        return counts | {Status.SYNCED: documents - sum(lines.values())}

    async def list_documents(self, status: Status | None, after: str, limit: int) -> list[Document]:
        return list(map(_document, await self._database.read(queries.LIST[status], after, limit)))

    async def list_waiting(self, status: Status, after: tuple[int, str], limit: int) -> list[Document]:
        return list(map(_document, await self._database.read(queries.LIST_WAITING, *after, limit, status.value)))

    async def list_aside(self, status: Status, after: tuple[int, str], limit: int) -> list[Document]:
        return list(map(_document, await self._database.read(queries.LIST_ASIDE, *after, limit, status.value)))

    async def oldest_pending_us(self) -> int | None:
        return await self._number(queries.OLDEST_PENDING)

    async def conflicts(
        self, *, closed: bool = False, limit: int = 1000, after: tuple[int, str] = (-1, "")
    ) -> list[ConflictRow]:
        lines = await self._database.read(queries.ALL_CONFLICTS if closed else queries.OPEN_CONFLICTS, limit, *after)
        return list(map(_conflict, lines))

    async def count_conflicts(self) -> int:
        return await self._number(queries.COUNT_CONFLICTS) or 0

    async def conflict(self, conflict_id: str) -> ConflictRow | None:
        lines = await self._database.read(queries.CONFLICT, conflict_id)
        return _conflict(lines[0]) if lines else None

    async def conflicts_with_prefix(self, prefix: str, *, closed: bool, limit: int) -> list[ConflictRow]:
        lines = await self._database.read(queries.CONFLICTS_WITH_PREFIX, prefix, closed, limit)
        return list(map(_conflict, lines))

    async def audit(
        self,
        document: str | None = None,
        since_us: int = 0,
        until_us: int | None = None,
        limit: int = 1000,
        before: tuple[int, int] | None = None,
    ) -> list[AuditRecord]:
        at_us, number = before or (_EVER_US, 0)
        span = (since_us, min(_EVER_US if until_us is None else until_us, at_us + 1), limit, at_us, number)
        if document is None:
            lines = await self._database.read(queries.DECISIONS, *span)
        else:
            lines = await self._database.read(queries.DECISIONS_OF_DOCUMENT, *span, document)
        return [structs.replace(found, id=number) for number, found in map(_decision_line.decode, lines)]

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
        of_kinds = codec.encode(kinds).decode() if kinds else None
        given = zip(queries.SEARCHED, (document, target, who, of_kinds), strict=True)
        asked = {column: value for column, value in given if value is not None}
        last = _EVER_US if before is None else before
        lines = await self._database.read(queries.ACTIONS[tuple(asked)], last, limit, *asked.values())
        return [structs.replace(found, id=number) for number, found in map(_action_line.decode, lines)]

    async def audit_heads(self) -> list[Head]:
        return [queries.head(await self._database.read(queries.HEAD))]

    async def audit_entry(self, number: int) -> Entry | None:
        lines = await self._database.read(queries.ENTRIES, number - 1, number, 1)
        return _entry(lines[0]) if lines else None

    async def audit_chain(
        self, document: str | None = None, since_us: int = 0, until_us: int | None = None
    ) -> AsyncIterator[Entry]:
        end_us = _EVER_US if until_us is None else until_us
        if document is not None:
            found = await self._database.read(queries.NUMBERS_OF_DOCUMENT, since_us, end_us, document)
            numbers = sorted(map(int, found))
            for start in range(0, len(numbers), _ENTRIES):
                wanted = codec.encode(numbers[start : start + _ENTRIES]).decode()
                for line in await self._database.read(queries.ENTRIES_NUMBERED, wanted):
                    yield _entry(line)
            return
        first, last = -_EVER_US, _EVER_US  # none of ours is below 1
        if since_us or until_us is not None:
            first, last = _span_line.decode((await self._database.read(queries.AUDIT_SPAN, since_us, end_us))[0])
        after = first - 1
        while lines := await self._database.read(queries.ENTRIES, after, last, _ENTRIES):
            for entry in map(_entry, lines):
                yield entry
                after = entry.number

    async def dead_letters(self, status: str | None = "open", limit: int = 1000, after: str = "") -> list[DeadLetter]:
        if status is None:
            lines = await self._database.read(queries.LETTERS, limit, after)
        else:
            lines = await self._database.read(queries.LETTERS_OF_STATUS, limit, after, status)
        return list(map(_letter, lines))

    async def letters_after(self, number: int, limit: int) -> list[tuple[int, DeadLetter]]:
        found = map(_letter_line.decode, await self._database.read(queries.LETTERS_AFTER, limit, number))
        return [(place, attrs.evolve(letter, status=status)) for place, status, letter in found]

    async def dead_letter(self, letter_id: str) -> DeadLetter | None:
        lines = await self._database.read(queries.LETTER, letter_id)
        return _letter(lines[0]) if lines else None

    async def letter_ids_with_suffix(self, suffix: str, limit: int) -> list[str]:
        return list(map(_key_line.decode, await self._database.read(queries.LETTERS_WITH_SUFFIX, suffix, limit)))

    async def last_letter(self) -> int:
        return await self._number(queries.LAST_LETTER) or 0

    async def count_dead_letters(self) -> int:
        return await self._number(queries.COUNT_LETTERS) or 0

    async def policy_texts(self) -> Mapping[str, bytes]:
        lines = [line.decode().split(" ") for line in await self._database.read(queries.POLICIES)]
        return {bytes.fromhex(digest).decode(errors="replace"): bytes.fromhex(text) for digest, text in lines}

    async def superseded(self, key: str) -> Superseded | None:
        lines = await self._database.read(queries.SUPERSEDED, key)
        return _superseded_line.decode(lines[0]) if lines else None

    async def hotspots(self, now_us: int, limit: int = 50) -> list[HotSpot]:
        lines = await self._database.read(queries.HOTSPOTS, limit, hour_of(now_us))
        spots = map(_hotspot_line.decode, lines)
        return [attrs.evolve(spot, hours=tuple(sorted(spot.hours))) for spot in spots]

    async def export_projection(self) -> AsyncIterator[tuple[str, Desired]]:
        after = ""
        while lines := await self._database.read(queries.EXPORT, after, _EXPORT_ROWS):
            for key, stored in map(_desired_line.decode, lines):
                yield key, stored.desired()
                after = key

    # ------------------------------------------------------------------------------------------------------- retention

    async def cuts(self) -> list[Cut]:
        lines = map(_cut_line.decode, await self._database.read(queries.CUTS))
        return [structs.replace(cut, act=act) for act, cut in lines]

    async def audit_after(self, number: int, limit: int) -> list[Entry]:
        last = (number // SPAN + 1) * SPAN - 1
        return list(map(_entry, await self._database.read(queries.ENTRIES, number, last, limit)))

    async def prune(
        self,
        action: OperatorAction,
        *,
        cut: Cut | None = None,
        conflicts: Sequence[ConflictRow] = (),
        letters: Sequence[DeadLetter] = (),
    ) -> bool:
        work = partial(transactions.prune, action=action, cut=cut, conflicts=conflicts, letters=letters)
        return await self._database.write_by_hand("note what was archived", work)

    async def forget(self, limit: int) -> int:
        return await self._database.write_by_hand("delete archived records", partial(transactions.forget, limit=limit))

    async def close(self) -> None:
        await self._group.close()
        await self._database.close()

    async def _number(self, query: queries.Query, *parameters: object) -> int | None:
        lines = await self._database.read(query, *parameters)
        return _number_line.decode(lines[0]) if lines else None


def _wanted(keys: Iterable[str]) -> list[tuple[object, ...]]:
    """Return the values of queries about many keys, in key order: neighbours share pages."""
    return [(key,) for key in sorted(set(keys))]


def _document(line: bytes) -> Document:
    packed, _, line = line.partition(b" ")
    columns, refolded, stored = _document_line.decode(line)
    desired = stored.desired()
    agreement = unpacked(codec.decode_agreement, packed) if packed else NO_AGREEMENT
    if refolded:
        agreement = rows.refolded_agreement(agreement, desired)
    return Document(**columns._asdict(), desired=desired, agreement=agreement)


def _conflict(line: bytes) -> ConflictRow:
    (document, closed_at_us), conflict = _conflict_line.decode(line)
    return ConflictRow(document, conflict, closed_at_us)


def _letter(line: bytes) -> DeadLetter:
    _, status, letter = _letter_line.decode(line)
    return attrs.evolve(letter, status=status)


def _entry(line: bytes) -> Entry:
    number, previous, link, record, at_us, *texts = line.decode().split(" ")
    columns: tuple[str | int | None, ...] = ()
    if "!" not in (at_us, *texts):
        # Bytes that are not UTF-8 become a text that no record of ours has.
        said = [None if text == "-" else bytes.fromhex(text).decode(errors="surrogateescape") for text in texts]
        columns = (said[0], int(at_us), *said[1:])
    before = bytes.fromhex(previous) if previous else None
    stored = bytes.fromhex(record)
    with contextlib.suppress(ValueError):  # someone has changed it; verifying says so
        stored = packing.unpack(stored)
    return Entry(int(number), before, bytes.fromhex(link), stored, columns)


def _message(line: bytes) -> OutboxMessage:
    number, message = _message_line.decode(line)
    return OutboxMessage(number, message._replace(headers=tuple(message.headers)))  # a sequence is decoded as a list
