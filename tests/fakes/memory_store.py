"""
A store in dicts, for tests of flows. It passes the contract suite of every store (`tests/contracts/test_store.py`).

What becomes of a row is decided by `core/folding/rows.py`, as in every store. Nothing here is durable, and nothing
is awaited: each method is done in one go, hence atomic.
"""

import heapq
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence

import attrs
from msgspec import structs

from reconciler.core.folding import rows
from reconciler.errors import LostError, MovedError, StoreError
from reconciler.model import chain, codec
from reconciler.model.action import Change, OperatorAction
from reconciler.model.audit import AuditRecord, Settlement
from reconciler.model.chain import Cut, Entry, Head, Recorded
from reconciler.model.desired import Claims, Desired
from reconciler.model.document import (
    NO_AGREEMENT,
    SET_ASIDE,
    Agreement,
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
from reconciler.model.stamp import Anchor, Partition, Place
from reconciler.model.standing import DAY_H, DOUBT, KEPT_H, HotSpot, Replica, WriteStop, hour_of
from reconciler.ports import Changed, Chosen, FoldBatch, OutboxMessage, Refolded

_BROUGHT_MAX = 100  # documents brought forward by one call


class MemoryStore:
    """`ports.Store` in dicts. Tests may look at the dicts."""

    slots = shared = None

    def __init__(self) -> None:
        self.rows: dict[str, Document] = {}
        self.elsewhere: set[str] = set()  # documents that another replica has
        self.stops: rows.Stops = (0, None)
        self.obeyed = 0  # the number of the stop that the owner obeys
        self.owned = True  # by whoever obeys
        self.chosen: list[Chosen] = []  # the policies that replicas put in force
        self.offsets: dict[Partition, int] = {}
        self.last: dict[Partition, Anchor] = {}
        self.refolded: set[str] = set()
        self.outdone: dict[str, Superseded] = {}
        self.refolded_last = 0
        self.outbox: dict[int, Outgoing] = {}
        self.letters: dict[str, DeadLetter] = {}
        self.letters_gone: set[int] = set()  # their numbers
        self.recorded: list[Recorded] = []
        self.chain: list[Entry] = []  # the same, as it is stored
        self.archived: list[Cut] = []
        self.clashes: dict[str, ConflictRow] = {}
        self.policies: dict[str, Policy] = {}
        self.noted: Noted | None = None
        self.read_by = b""
        self.field_conflicts: Counter[str] = Counter()
        self.field_attempts: Counter[str] = Counter()
        self.hours: dict[tuple[int, str, str], tuple[int, int]] = {}  # hour, kind, name → conflicts, attempts
        self._numbers = itertools.count(1)
        self._open = True

    # ------------------------------------------------------------------------------------------------------ projection

    async def positions(self) -> Mapping[Partition, int]:
        self._require_open()
        return dict(self.offsets)

    async def anchors(self) -> Mapping[Partition, Anchor]:
        self._require_open()
        return {place: anchor for place, anchor in self.last.items() if place in self.offsets}

    async def reposition(self, positions: Mapping[Partition, int]) -> None:
        self._require_open()
        topics = {place.topic for place in positions}
        moved = {place for place, n in self.offsets.items() if place.topic in topics and positions.get(place) != n}
        self.offsets = {place: n for place, n in self.offsets.items() if place.topic not in topics} | dict(positions)
        self.last = {place: anchor for place, anchor in self.last.items() if place not in moved}

    async def refused(self) -> frozenset[Place]:
        self._require_open()
        return frozenset(letter.place for letter in self.letters.values() if letter.stage == "clock")

    async def refold(self, refolded: Refolded, action: OperatorAction) -> bool:
        self._require_open()
        read = refolded.positions
        before = self._before(refolded.key)
        after = before and rows.refolded(before, action.at_us)
        if after is None or any(self.offsets.get(place, 0) > read[place] for place in read):
            return False
        self._append(action)
        self._bury(refolded.dead_letters)
        self.refolded_last += 1
        self.refolded.add(refolded.key)
        self._put(after, desired=refolded.desired)
        return True

    async def fold(self, batch: FoldBatch) -> Changed:
        self._require_open()
        if any(self.offsets.get(place, 0) != offset for place, offset in batch.since.items()):
            raise MovedError("another replica has read on")
        changed, superseded = [], 0
        for key in sorted(batch.rows):
            row = self._before(key) or rows.unknown(key)
            stored = Claims.of(self.rows[key].desired) if row.revision else None
            claims, lost = rows.joined(stored, batch.rows[key])
            if lost is not None:
                before = 0 if key not in self.outdone else self.outdone[key].count
                self.outdone[key] = structs.replace(lost, count=before + lost.count)
                superseded += lost.count
            if claims is not stored:
                lane = Lane.OPERATOR if key in batch.urgent else batch.lane
                self._put(rows.folded(row, lane, batch.at_us), desired=claims.desired())
                changed.append(key)
        self.offsets.update(batch.positions)
        self.last.update(batch.anchors)
        self._bury(batch.dead_letters)
        for letter_id in batch.replayed & self.letters.keys():
            self.letters[letter_id] = attrs.evolve(self.letters[letter_id], status=rows.MARKS[Change.REPLAY])
        return Changed(changed, superseded, self.refolded_last)

    def _bury(self, dead_letters: Iterable[tuple[DeadLetter, Outgoing | None]]) -> None:
        for letter, announcement in dead_letters:
            if letter.id not in self.letters:
                self.letters[letter.id] = letter
                if announcement is not None:
                    self.outbox[next(self._numbers)] = announcement

    # ---------------------------------------------------------------------------------------------------------- ledger

    async def due(self, now_us: int, limit: int) -> list[Due]:
        self._require_open()
        rows = self._free()
        due = [Due(row.key, row.lane, row.due_us) for row in rows if row.due_us is not None and row.due_us <= now_us]
        return sorted(due, key=lambda one: (one.lane, one.due_us, one.key))[:limit]

    async def next_due_us(self) -> int | None:
        self._require_open()
        return min((row.due_us for row in self._free() if row.due_us is not None), default=None)

    def _free(self) -> list[Document]:
        return [row for row in self.rows.values() if row.key not in self.elsewhere]

    async def documents(self, keys: Iterable[str]) -> dict[str, Document]:
        self._require_open()
        return {key: self.shown(self.rows[key]) for key in set(keys) if key in self.rows}

    async def hold(self, keys: Iterable[str]) -> dict[str, Document]:
        self._require_open()
        return {key: self.shown(self.rows[key]) for key in set(keys) - self.elsewhere if key in self.rows}

    async def give_back(self, keys: Iterable[str]) -> None:
        assert not self.elsewhere.intersection(keys), "it is not ours"

    def _require_ours(self, key: str) -> None:
        if key in self.elsewhere:
            raise LostError(f"another replica has {key}")

    def shown(self, row: Document) -> Document:
        """A row as whoever asks for it gets it."""
        if row.key not in self.refolded:
            return row
        return structs.replace(row, agreement=rows.refolded_agreement(row.agreement, row.desired))

    async def signing(self) -> Noted | None:
        self._require_open()
        return self.noted

    async def note_signing(self, noted: Noted, announcement: Outgoing) -> None:
        self._require_open()
        self.noted = noted
        self.outbox[next(self._numbers)] = announcement

    async def reading(self) -> bytes:
        self._require_open()
        return self.read_by

    async def note_reading(self, said: bytes) -> None:
        self._require_open()
        self.read_by = said

    async def intend(self, key: str, agreement: Agreement, policy: str = "") -> bool:
        self._require_ours(key)
        if policy and self.chosen and self.chosen[-1].digest != policy:
            raise LostError(f"{key} was decided by a policy that is not in force any more")
        row = self._row(key)
        self._put(row, agreement=agreement)
        return row.status is not Status.PAUSED and not (policy and self.stops[1])

    async def settle(self, settlement: Settlement) -> None:
        self._require_ours(settlement.key)
        row = rows.settled(self._row(settlement.key), settlement)
        self._put(row, agreement=settlement.agreement)
        for record in settlement.audit:
            self._append(record)
        for outcome in settlement.outcomes:
            self.outbox[next(self._numbers)] = outcome
        self._keep_conflicts(settlement)
        for spot in settlement.contention:
            self.field_conflicts[spot.field] += spot.conflicts
            self.field_attempts[spot.field] += spot.attempts
            self._count(settlement.at_us, "field", spot.field, spot.conflicts, spot.attempts)
        if row.conflicts:
            self._count(settlement.at_us, "document", row.key, settlement.conflicts, settlement.attempts)
        oldest = hour_of(settlement.at_us) - KEPT_H
        self.hours = {place: counts for place, counts in self.hours.items() if place[0] > oldest}

    @property
    def trail(self) -> list[AuditRecord]:
        return [record for record in self.recorded if isinstance(record, AuditRecord)]

    @property
    def _head(self) -> Head:
        return Head(self.chain[-1].number, self.chain[-1].link) if self.chain else chain.BEGIN

    def _append(self, record: Recorded) -> None:
        text = codec.encode_record(record)
        before = self._head
        head = chain.extend(before, text)
        previous = before.link if self.chain else None
        self.chain.append(Entry(head.number, previous, head.link, text, chain.columns_of(record)))
        self.recorded.append(structs.replace(record, id=head.number))

    def _keep_conflicts(self, settlement: Settlement) -> None:
        for conflict_id in settlement.closed:
            found = self.clashes.get(conflict_id)
            if found and found.closed_at_us is None:
                self.clashes[conflict_id] = structs.replace(found, closed_at_us=settlement.at_us)
        for conflict in settlement.opened:
            found = self.clashes.get(conflict.id)
            if found is None or found.closed_at_us is not None:
                self.clashes[conflict.id] = ConflictRow(settlement.key, conflict, None)

    async def requeue(self, keys: Iterable[str], lane: Lane, at_us: int) -> int:
        self._require_open()
        return self._put_all(rows.requeued(row, lane, at_us) for row in self._found(keys))

    async def bring_forward(self, now_us: int, longest_us: Mapping[Status, int]) -> int:
        self._require_open()
        early = [row for row in self.rows.values() if row.pending_since_us and row.pending_since_us > now_us]
        found = self._found(row.key for row in [*self._ahead(now_us, longest_us), *early][:_BROUGHT_MAX])
        return self._put_all(rows.brought_forward(row, now_us, longest_us[row.status]) for row in found)

    async def count_ahead(self, now_us: int, longest_us: Mapping[Status, int]) -> int:
        self._require_open()
        return len(self._ahead(now_us, longest_us))

    def _ahead(self, now_us: int, longest_us: Mapping[Status, int]) -> list[Document]:
        rows = self.rows.values()
        return [row for row in rows if row.due_us is not None and row.due_us > now_us + longest_us[row.status]]

    async def last_audited_us(self) -> int | None:
        self._require_open()
        return self.recorded[-1].at_us if self.recorded else None

    async def write_stop(self) -> WriteStop | None:
        self._require_open()
        return self.stops[1]

    async def obey_stop(self, number: int) -> None:
        self._require_open()
        self.obeyed = number if number == self.stops[0] else self.obeyed

    async def replicas(self) -> Sequence[Replica]:
        self._require_open()
        return [Replica(0, "here", 0.0, evicted=False, obeys_stop=self.obeyed)] if self.owned else []

    async def settled_keys(self, statuses: Sequence[Status], after: str, limit: int) -> list[str]:
        self._require_open()
        rows = sorted(self.rows.items())
        return [key for key, row in rows if key > after and row.revision and row.status in statuses][:limit]

    async def compare_again(self, keys: Sequence[str], statuses: Sequence[Status], at_us: int) -> int:
        self._require_open()
        return self._put_all(rows.compared(row, statuses, at_us) for row in self._found(keys))

    async def count_due(self, lane: Lane, until_us: int) -> int:
        self._require_open()
        return sum(row.lane is lane and row.due_us is not None and row.due_us <= until_us for row in self.rows.values())

    async def keep_policy(self, digest: str, policy: Policy) -> None:
        self._require_open()
        self.policies.setdefault(digest, policy)

    async def rebase(
        self,
        agreements: Mapping[str, Agreement],
        positions: Mapping[Partition, int],
        at_us: int,
        anchors: Mapping[Partition, Anchor] | None = None,
    ) -> None:
        self._require_open()
        self.last.update(anchors or {})
        for key, agreement in agreements.items():
            stored = self.rows[key].agreement if key in self.rows else NO_AGREEMENT
            if rows.outdated(None if stored == NO_AGREEMENT else stored.told, agreement.told):
                self._put(rows.rebased(self._before(key) or rows.unknown(key), at_us), agreement=agreement)
        self.offsets.update(positions)

    # ---------------------------------------------------------------------------------------------------------- outbox

    async def waiting(self, limit: int) -> list[OutboxMessage]:
        self._require_open()
        return [OutboxMessage(number, record) for number, record in itertools.islice(self.outbox.items(), limit)]

    async def published(self, numbers: Sequence[int], positions: Mapping[Partition, int]) -> None:
        self._require_open()
        self.offsets.update(positions)
        for number in numbers:
            self.outbox.pop(number, None)

    # ----------------------------------------------------------------------------------------------------------- views

    async def counts(self) -> Mapping[Status, int]:
        self._require_open()
        found = Counter(row.status for row in self.rows.values())
        return {status: found[status] for status in Status}

    async def list_documents(self, status: Status | None, after: str, limit: int) -> list[Document]:
        self._require_open()
        keys = (key for key, row in self.rows.items() if key > after and status in (None, row.status))
        return [self.shown(self.rows[key]) for key in heapq.nsmallest(limit, keys)]

    async def list_waiting(self, status: Status, after: tuple[int, str], limit: int) -> list[Document]:
        self._require_open()
        rows = [row for row in self.rows.values() if row.status is status and row.pending_since_us is not None]
        found = sorted((row.pending_since_us or 0, row.key) for row in rows)
        return [self.shown(self.rows[key]) for since_us, key in found if (since_us, key) > after][:limit]

    async def list_aside(self, status: Status, after: tuple[int, str], limit: int) -> list[Document]:
        self._require_open()
        asides = ((row.agreement.aside_us, row.key) for row in self.rows.values() if row.status is status)
        found = sorted((at_us, key) for at_us, key in asides if at_us is not None and (at_us, key) > after)
        return [self.shown(self.rows[key]) for _, key in found[:limit]]

    async def oldest_pending_us(self) -> int | None:
        self._require_open()
        since = (row.pending_since_us for row in self.rows.values() if row.status not in SET_ASIDE)
        return min((since_us for since_us in since if since_us is not None), default=None)

    async def conflicts(
        self, *, closed: bool = False, limit: int = 1000, after: tuple[int, str] = (-1, "")
    ) -> list[ConflictRow]:
        self._require_open()
        rows = [row for row in self.clashes.values() if closed or row.closed_at_us is None]
        found = sorted((row.conflict.opened_at_us, row.conflict.id) for row in rows)
        return [self.clashes[conflict_id] for at_us, conflict_id in found if (at_us, conflict_id) > after][:limit]

    async def count_conflicts(self) -> int:
        return len(await self.conflicts(limit=len(self.clashes)))

    async def conflict(self, conflict_id: str) -> ConflictRow | None:
        self._require_open()
        return self.clashes.get(conflict_id)

    async def conflicts_with_prefix(self, prefix: str, *, closed: bool, limit: int) -> list[ConflictRow]:
        rows = [row for row in await self.conflicts(closed=closed) if row.conflict.id.startswith(prefix)]
        return sorted(rows, key=lambda row: row.conflict.id)[:limit]

    async def dead_letters(self, status: str | None = "open", limit: int = 1000, after: str = "") -> list[DeadLetter]:
        self._require_open()
        order = list(self.letters)
        first = order.index(after) + 1 if after in self.letters else 0
        found = [self.letters[one] for one in order[first:] if status in (None, self.letters[one].status)]
        return [attrs.evolve(letter, key=None, value=None, headers=()) for letter in found[:limit]]

    async def letters_after(self, number: int, limit: int) -> list[tuple[int, DeadLetter]]:
        self._require_open()
        found = [(n, one) for n, one in zip(self._letter_numbers(), self.letters.values(), strict=False) if n > number]
        return [(place, attrs.evolve(letter, key=None, value=None, headers=())) for place, letter in found[:limit]]

    def _letter_numbers(self) -> Iterator[int]:
        return (number for number in itertools.count(1) if number not in self.letters_gone)

    async def last_letter(self) -> int:
        self._require_open()
        return len(self.letters) + len(self.letters_gone)

    async def dead_letter(self, letter_id: str) -> DeadLetter | None:
        self._require_open()
        return self.letters.get(letter_id)

    async def letter_ids_with_suffix(self, suffix: str, limit: int) -> list[str]:
        self._require_open()
        return sorted(letter_id for letter_id in self.letters if letter_id.endswith(suffix))[:limit]

    async def count_dead_letters(self) -> int:
        return len(await self.dead_letters(limit=len(self.letters)))

    async def audit(
        self,
        document: str | None = None,
        since_us: int = 0,
        until_us: int | None = None,
        limit: int = 1000,
        before: tuple[int, int] | None = None,
    ) -> list[AuditRecord]:
        self._require_open()
        records = [
            record
            for record in self.trail
            if document in (None, record.document)
            and record.at_us >= since_us
            and (until_us is None or record.at_us < until_us)
            and (before is None or (record.at_us, record.id) < before)
        ]
        return sorted(records, key=lambda record: (record.at_us, record.id), reverse=True)[:limit]

    async def audit_heads(self) -> list[Head]:
        self._require_open()
        return [self._head]

    async def audit_entry(self, number: int) -> Entry | None:
        self._require_open()
        return next((entry for entry in self.chain if entry.number == number), None)

    async def audit_chain(
        self, document: str | None = None, since_us: int = 0, until_us: int | None = None
    ) -> AsyncIterator[Entry]:
        self._require_open()
        numbers = {
            record.id
            for record in self.recorded
            if document in (None, record.document)
            and record.at_us >= since_us
            and (until_us is None or record.at_us < until_us)
        }
        if document is None and numbers:
            numbers = set(range(min(numbers), max(numbers) + 1))
        for entry in self.chain:
            if entry.number in numbers:
                yield entry

    async def policy_texts(self) -> Mapping[str, bytes]:
        self._require_open()
        return {digest: codec.encode(policy) for digest, policy in self.policies.items()}

    async def superseded(self, key: str) -> Superseded | None:
        return self.outdone.get(key)

    async def hotspots(self, now_us: int, limit: int = 50) -> list[HotSpot]:
        self._require_open()
        spots = [HotSpot("document", row.key, row.conflicts, row.attempts) for row in self.rows.values()]
        spots += [HotSpot("field", name, n, self.field_attempts[name]) for name, n in self.field_conflicts.items()]
        hot = [self._lately(spot, hour_of(now_us)) for spot in spots if spot.conflicts]
        return sorted(hot, key=lambda spot: (-_doubted(spot), -spot.conflicts, spot.kind, spot.name))[:limit]

    def _lately(self, spot: HotSpot, hour: int) -> HotSpot:
        counts = [self.hours.get((hour - ago, spot.kind, spot.name), (0, 0)) for ago in range(2 * DAY_H)]
        day, before = counts[:DAY_H], counts[DAY_H:]
        return attrs.evolve(
            spot,
            day_conflicts=sum(conflicts for conflicts, _ in day),
            day_attempts=sum(attempts for _, attempts in day),
            before_conflicts=sum(conflicts for conflicts, _ in before),
            before_attempts=sum(attempts for _, attempts in before),
            hours=tuple((ago, conflicts) for ago, (conflicts, _) in enumerate(counts) if conflicts),
        )

    def _count(self, at_us: int, kind: str, name: str, conflicts: int, attempts: int) -> None:
        place = hour_of(at_us), kind, name
        before = self.hours.get(place, (0, 0))
        self.hours[place] = before[0] + conflicts, before[1] + attempts

    async def export_projection(self) -> AsyncIterator[tuple[str, Desired]]:
        self._require_open()
        for key, row in sorted(self.rows.items()):
            if row.revision:
                yield key, row.desired

    # ----------------------------------------------------------------------------------------------------------- deeds

    async def record_actions(
        self, change: Change, actions: Sequence[OperatorAction], *, at_us: int, reason: str = ""
    ) -> bool:
        self._require_open()
        targets = [action.target for action in actions]
        if change in rows.MARKS:
            if any(target not in self.letters for target in targets):
                return False
            for target in targets:
                self.letters[target] = attrs.evolve(self.letters[target], status=rows.MARKS[change])
        elif change in rows.WRITES:
            stops = rows.after_writes_action(change, self.stops, actions[0])
            if stops is None:
                return False
            self.stops = stops
        elif change is not Change.NOTHING:
            after = [rows.after_action(change, self._before(target), at_us, reason) for target in targets]
            if None in after:
                return False
            self._put_all(after)
        for action in actions:
            self._append(action)
        return True

    async def cuts(self) -> list[Cut]:
        self._require_open()
        return list(self.archived)

    async def audit_after(self, number: int, limit: int) -> list[Entry]:
        self._require_open()
        return [entry for entry in self._entries_of(number) if entry.number > number][:limit]

    def _entries_of(self, number: int) -> list[Entry]:
        """What there is of the chain that has this number."""
        return [] if number // chain.SPAN else self.chain

    async def prune(
        self,
        action: OperatorAction,
        *,
        cut: Cut | None = None,
        conflicts: Sequence[ConflictRow] = (),
        letters: Sequence[DeadLetter] = (),
    ) -> bool:
        self._require_open()
        if cut is not None:
            ends = [one.end for one in self.archived if one.chain == cut.chain]
            begin = ends[-1] if ends else chain.begin(cut.chain)
            if cut.begin != begin or not await self.audit_after(cut.end.number, 1):
                return False
        self._append(action)
        if cut is not None:
            cuts = [*self.archived, structs.replace(cut, act=self.recorded[-1].id)]
            self.archived = sorted(cuts, key=lambda one: one.end.number)
        for row in conflicts:
            if self.clashes.get(row.conflict.id) == row:
                del self.clashes[row.conflict.id]
        for letter in letters:
            if letter.id in self.letters and self.letters[letter.id].status == letter.status:
                place = list(self.letters).index(letter.id)
                self.letters_gone.add(next(itertools.islice(self._letter_numbers(), place, None)))
                del self.letters[letter.id]
        return True

    async def forget(self, limit: int) -> int:
        self._require_open()
        count = 0
        for last in (cut.end.number for cut in self.archived):
            entries = self._entries_of(last)
            while entries and entries[0].number <= last and count < limit:
                gone = entries.pop(0).number
                self.recorded = [record for record in self.recorded if record.id != gone]
                count += 1
        return count

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
        self._require_open()
        found = [
            action
            for action in self.recorded[::-1]
            if isinstance(action, OperatorAction)
            and document in (None, action.document)
            and who in (None, action.who)
            and target in (None, action.target)
            and (not kinds or action.kind in kinds)
        ]
        return [action for action in found if before is None or action.id < before][:limit]

    async def close(self) -> None:
        self._open = False

    def _row(self, key: str) -> Row:
        self._require_open()
        if (row := self._before(key)) is None:
            raise StoreError(f"can't settle {key!r}: the store has no such document")
        return row

    def _before(self, key: str) -> Row | None:
        document = self.rows.get(key)
        return None if document is None else Row(*(getattr(document, name) for name in Row._fields))

    def _found(self, keys: Iterable[str]) -> list[Row]:
        return [row for row in map(self._before, sorted(set(keys))) if row is not None]

    def _put(self, row: Row, **blobs: Desired | Agreement) -> None:
        before = self.rows.get(row.key) or Document(row.key)
        self.rows[row.key] = structs.replace(before, **row._asdict(), **blobs)

    def _put_all(self, after: Iterable[Row | None]) -> int:
        changed = [row for row in after if row is not None]
        for row in changed:
            self._put(row)
        return len(changed)

    def _require_open(self) -> None:
        if not self._open:
            raise StoreError("the store is closed")


def _doubted(spot: HotSpot) -> float:
    return spot.day_conflicts / (max(spot.day_attempts, spot.day_conflicts) + DOUBT)
