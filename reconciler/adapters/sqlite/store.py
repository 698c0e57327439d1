"""The store over SQLite: each method of the port is a query, a transaction, or one change of a group commit."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import attrs

from reconciler.adapters.sqlite import queries, transactions
from reconciler.adapters.sqlite.damage import Lines
from reconciler.adapters.sqlite.database import Database, off_loop
from reconciler.adapters.sqlite.deeds import Deeds
from reconciler.adapters.sqlite.group_commit import GroupCommit
from reconciler.adapters.sqlite.letters import Letters
from reconciler.adapters.sqlite.opening import path_of
from reconciler.adapters.sqlite.transactions import Change
from reconciler.core import refolding
from reconciler.model import codec
from reconciler.model.audit import AuditRecord
from reconciler.model.chain import Entry, Head
from reconciler.model.desired import Desired
from reconciler.model.document import Agreement, Conflict, ConflictRow, Document, Due, Lane, Row, Status, Superseded
from reconciler.model.event import Outgoing
from reconciler.model.hotspot import HotSpot, hour_of
from reconciler.model.policy import Policy
from reconciler.model.settlement import Settlement
from reconciler.model.signing import Noted
from reconciler.model.stamp import NO_ANCHORS, Anchor, Partition
from reconciler.ports import FoldBatch, OutboxMessage

__all__ = ["SqliteStore", "open_store", "path_of"]

_EVER_US = 2**63 - 1  # SQLite's greatest integer: no time is later
_EXPORT_ROWS = 500
_ENTRIES = 200  # audit records a statement: some kilobytes each, and twice that on their way


# The shapes of the lines that `queries` gives.
_document_line = Lines(tuple[Row, int, Desired, Agreement])
_desired_line = Lines(tuple[str, Desired])
_position_line = Lines(tuple[str, int, int])
_superseded_line = Lines(Superseded)
_anchor_line = Lines(tuple[str, int, int, str])
_due_line = Lines(Due)
_count_line = Lines(tuple[str, int])
_number_line = Lines(int)
_key_line = Lines(str)
_message_line = Lines(OutboxMessage)
_conflict_line = Lines(tuple[tuple[str, int | None], Conflict])
_audit_line = Lines(tuple[int, AuditRecord])
_span_line = Lines(tuple[int, int])
_hotspot_line = Lines(HotSpot)
_noted_line = Lines(Noted)


async def open_store(path: Path | str, *, owner: bool) -> "SqliteStore":
    """Open a store; the owner makes the file when there is none, and is refused while there is another owner."""
    return SqliteStore(await Database.open(Path(path), owner=owner))


class SqliteStore(Deeds, Letters):
    """`ports.Store` over one connection."""

    def __init__(self, database: Database) -> None:
        super().__init__(_entry)
        self._database = database
        self._group = GroupCommit(self._commit)

    # ------------------------------------------------------------------------------------------------------ projection

    async def positions(self) -> Mapping[Partition, int]:
        """See `ports.Projection`."""
        lines = map(_position_line.decode, await self._database.read(queries.POSITIONS))
        return {Partition(topic, partition): offset for topic, partition, offset in lines}

    async def anchors(self) -> Mapping[Partition, Anchor]:
        """See `ports.Projection`."""
        lines = map(_anchor_line.decode, await self._database.read(queries.ANCHORS))
        return {Partition(topic, partition): Anchor(offset, digest) for topic, partition, offset, digest in lines}

    async def reposition(self, positions: Mapping[Partition, int]) -> None:
        """See `ports.Projection`."""
        await self._database.write("store positions", lambda db: transactions.reposition(db, positions))

    async def desired(self, keys: Iterable[str]) -> dict[str, Desired]:
        """See `ports.Projection`."""
        lines = await self._database.read_of(queries.DESIRED, _wanted(keys))
        return await off_loop(partial(_desired_rows, lines))

    async def fold(self, batch: FoldBatch) -> None:
        """See `ports.Projection`."""
        desired = await off_loop(partial(transactions.encoded, batch))
        await self._database.write("fold", lambda db: transactions.fold(db, batch, desired))

    # ---------------------------------------------------------------------------------------------------------- ledger

    async def due(self, now_us: int, limit: int) -> list[Due]:
        """See `ports.Ledger`."""
        return list(map(_due_line.decode, await self._database.read(queries.DUE, now_us, limit)))

    async def next_due_us(self) -> int | None:
        """See `ports.Ledger`."""
        return await self._number(queries.NEXT_DUE)

    async def documents(self, keys: Iterable[str]) -> dict[str, Document]:
        """See `ports.Ledger`."""
        lines = await self._database.read_of(queries.DOCUMENTS, _wanted(keys))
        return {document.key: document for document in map(_document, lines)}

    async def intend(self, key: str, agreement: Agreement) -> bool:
        """See `ports.Ledger`."""
        return await self._group.add(Change.of_intent(key, agreement))

    async def settle(self, settlement: Settlement) -> None:
        """See `ports.Ledger`."""
        await self._group.add(Change.of_settlement(settlement))

    async def hasten(self, keys: Iterable[str], lane: Lane, at_us: int) -> int:
        """See `ports.Ledger`."""
        work = partial(transactions.hasten, keys=list(keys), lane=lane, at_us=at_us)
        return await self._database.write_by_hand("make documents due", work)

    async def bring_forward(self, now_us: int, longest_us: Mapping[Status, int]) -> int:
        """See `ports.Ledger`."""
        total = 0
        for status, most_us in longest_us.items():
            work = partial(transactions.bring_forward, status=status, now_us=now_us, longest_us=most_us)
            while made := await self._database.write(f"bring {status} documents forward", work):
                total += made
        since = partial(transactions.since_now, now_us=now_us, longest_us=longest_us)
        while await self._database.write("mend since when documents stand where they stand", since):
            pass
        return total

    async def count_ahead(self, now_us: int, longest_us: Mapping[Status, int]) -> int:
        """See `ports.Views`."""
        counted = [await self._number(queries.COUNT_AHEAD[one], now_us, most) for one, most in longest_us.items()]
        return sum(number or 0 for number in counted)

    async def last_audited_us(self) -> int | None:
        """See `ports.Views`."""
        return await self._number(queries.LAST_AUDITED)

    async def settled_keys(self, statuses: Sequence[Status], after: str, limit: int) -> list[str]:
        """See `ports.Comparing`."""
        lines = await self._database.read(queries.SETTLED_KEYS, after, limit, codec.encode(list(statuses)).decode())
        return list(map(_key_line.decode, lines))

    async def compare_again(self, keys: Sequence[str], statuses: Sequence[Status], at_us: int) -> int:
        """See `ports.Comparing`."""
        work = partial(transactions.compare, keys=list(keys), statuses=statuses, at_us=at_us)
        return await self._database.write_by_hand("make documents due for a comparison", work)

    async def count_due(self, lane: Lane, until_us: int) -> int:
        """See `ports.Comparing`."""
        return await self._number(queries.COUNT_DUE, int(lane), until_us) or 0

    async def keep_policy(self, digest: str, policy: Policy) -> None:
        """See `ports.Ledger`."""
        await self._database.write("keep a policy", lambda db: transactions.keep_policy(db, digest, policy))

    async def rebase(
        self,
        agreements: Mapping[str, Agreement],
        positions: Mapping[Partition, int],
        at_us: int,
        anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
    ) -> None:
        """See `ports.Ledger`."""
        work = partial(transactions.rebase, agreements=agreements, positions=positions, at_us=at_us, anchors=anchors)
        await self._database.write("rebase", work)

    async def signing(self) -> Noted | None:
        """See `ports.Ledger`."""
        found = await self._database.read(queries.SIGNING)
        return _noted_line.decode(found[0]) if found else None

    async def note_signing(self, noted: Noted, announcement: Outgoing) -> None:
        """See `ports.Ledger`."""
        work = partial(transactions.note_signing, noted=noted, announcement=announcement)
        await self._database.write("note from where on everything is signed", work)

    async def _commit(self, changes: Sequence[Change]) -> Collection[str]:
        return await self._database.write("settle", lambda db: transactions.commit(db, changes))

    # ---------------------------------------------------------------------------------------------------------- outbox

    async def waiting(self, limit: int) -> list[OutboxMessage]:
        """See `ports.Outbox`."""
        return list(map(_message, await self._database.read(queries.WAITING, limit)))

    async def published(self, numbers: Sequence[int], positions: Mapping[Partition, int]) -> None:
        """See `ports.Outbox`."""
        work = partial(transactions.published, numbers=numbers, positions=positions)
        await self._database.write("forget published messages", work)

    # ----------------------------------------------------------------------------------------------------------- views

    async def counts(self) -> Mapping[Status, int]:
        """See `ports.Views`."""
        lines = dict(map(_count_line.decode, await self._database.read(queries.COUNTS)))
        documents = lines.pop("")
        counts = {status: lines.get(status, 0) for status in Status}
        return counts | {Status.SYNCED: documents - sum(lines.values())}

    async def list_documents(self, status: Status | None, after: str, limit: int) -> list[Document]:
        """See `ports.Views`."""
        match status:
            case None:
                lines = await self._database.read(queries.LIST_ALL, after, limit)
            case Status.SYNCED:
                lines = await self._database.read(queries.LIST_SYNCED, after, limit)
            case _:
                lines = await self._database.read(queries.LIST_UNSETTLED, after, limit, status.value)
        return list(map(_document, lines))

    async def list_waiting(self, status: Status, after: tuple[int, str], limit: int) -> list[Document]:
        """See `ports.Views`."""
        return list(map(_document, await self._database.read(queries.LIST_WAITING, *after, limit, status.value)))

    async def oldest_pending_us(self) -> int | None:
        """See `ports.Views`."""
        return await self._number(queries.OLDEST_PENDING)

    async def conflicts(
        self, *, closed: bool = False, limit: int = 1000, after: tuple[int, str] = (-1, "")
    ) -> list[ConflictRow]:
        """See `ports.Views`."""
        lines = await self._database.read(queries.ALL_CONFLICTS if closed else queries.OPEN_CONFLICTS, limit, *after)
        return list(map(_conflict, lines))

    async def count_conflicts(self) -> int:
        """See `ports.Views`."""
        return await self._number(queries.COUNT_CONFLICTS) or 0

    async def conflict(self, conflict_id: str) -> ConflictRow | None:
        """See `ports.Views`."""
        lines = await self._database.read(queries.CONFLICT, conflict_id)
        return _conflict(lines[0]) if lines else None

    async def audit(
        self,
        document: str | None = None,
        since_us: int = 0,
        until_us: int | None = None,
        limit: int = 1000,
        before: tuple[int, int] | None = None,
    ) -> list[AuditRecord]:
        """See `ports.Views`. `since_us` is included, `until_us` is not."""
        at_us, number = before or (_EVER_US, 0)
        span = (since_us, min(_EVER_US if until_us is None else until_us, at_us + 1), limit, at_us, number)
        if document is None:
            lines = await self._database.read(queries.AUDIT, *span)
        else:
            lines = await self._database.read(queries.AUDIT_OF_DOCUMENT, *span, document)
        return [attrs.evolve(record, id=number) for number, record in map(_audit_line.decode, lines)]

    async def audit_head(self) -> Head | None:
        """See `ports.Views`."""
        return queries.head(await self._database.read(queries.AUDIT_HEAD))

    async def audit_chain(
        self, document: str | None = None, since_us: int = 0, until_us: int | None = None
    ) -> AsyncIterator[Entry]:
        """See `ports.Views`."""
        end_us = _EVER_US if until_us is None else until_us
        if document is not None:
            found = await self._database.read(queries.NUMBERS_OF_DOCUMENT, document, since_us, end_us)
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

    async def policy_texts(self) -> Mapping[str, bytes]:
        """See `ports.Views`."""
        lines = [line.decode().split(" ") for line in await self._database.read(queries.POLICIES)]
        return {bytes.fromhex(digest).decode(errors="replace"): bytes.fromhex(text) for digest, text in lines}

    async def superseded(self, key: str) -> Superseded | None:
        """See `ports.Views`."""
        lines = await self._database.read(queries.SUPERSEDED, key)
        return _superseded_line.decode(lines[0]) if lines else None

    async def hotspots(self, now_us: int, limit: int = 50) -> list[HotSpot]:
        """See `ports.Views`."""
        lines = await self._database.read(queries.HOTSPOTS, limit, hour_of(now_us))
        spots = map(_hotspot_line.decode, lines)
        return [attrs.evolve(spot, hours=tuple(sorted(spot.hours))) for spot in spots]

    async def export_projection(self) -> AsyncIterator[tuple[str, Desired]]:
        """See `ports.Views`. Reads page by page: rows that change meanwhile are exported as they are when reached."""
        after = ""
        while lines := await self._database.read(queries.EXPORT, after, _EXPORT_ROWS):
            for key, desired in map(_desired_line.decode, lines):
                yield key, desired
                after = key

    async def close(self) -> None:
        """Finish what is under way and close."""
        await self._group.close()
        await self._database.close()

    async def _number(self, query: queries.Query, *parameters: object) -> int | None:
        lines = await self._database.read(query, *parameters)
        return _number_line.decode(lines[0]) if lines else None


def _wanted(keys: Iterable[str]) -> list[tuple[object, ...]]:
    """Return the values of queries about many keys, in key order: neighbours share pages."""
    return [(key,) for key in sorted(set(keys))]


def _document(line: bytes) -> Document:
    columns, refolded, desired, agreement = _document_line.decode(line)
    if refolded:
        agreement = refolding.standing(agreement, desired)
    return Document(**columns._asdict(), desired=desired, agreement=agreement)


def _conflict(line: bytes) -> ConflictRow:
    (document, closed_at_us), conflict = _conflict_line.decode(line)
    return ConflictRow(document, conflict, closed_at_us)


def _entry(line: bytes) -> Entry:
    number, document, at_us, previous, link, record = line.decode().split(" ")
    columns = bytes.fromhex(document), at_us.encode()
    before = bytes.fromhex(previous) if previous else None
    return Entry(int(number), before, bytes.fromhex(link), bytes.fromhex(record), columns)


def _message(line: bytes) -> OutboxMessage:
    message = _message_line.decode(line)
    record = message.record._replace(headers=tuple(message.record.headers))  # any sequence is decoded as a list
    return OutboxMessage(message.number, record)


def _desired_rows(lines: list[bytes]) -> dict[str, Desired]:
    # Not `dict(map(…))`: that is one long call in C, and the event loop gets a turn only between bytecodes.
    return {key: desired for key, desired in map(_desired_line.decode, lines)}  # noqa: C416  see above
