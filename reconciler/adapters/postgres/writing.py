"""
Writing: reads rows without a lock, asks the rules, stores their answer if nothing has moved, or else begins again.

Rules. Rules about documents never go here. Each decision may be made several times, so it changes nothing but the
`Change` that it returns; `None` stands for "it may not be".

Theory. Of several who change the same rows or append to the same chain, at least one gets through each time, so all do.
"""

import asyncio
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from reconciler.adapters import packing
from reconciler.adapters.changes import Decided, appended, packed
from reconciler.adapters.postgres import change as changing
from reconciler.adapters.postgres import queries, shared
from reconciler.adapters.postgres.change import Change, Stored, encoded
from reconciler.adapters.postgres.server import Done, Server
from reconciler.adapters.postgres.slots import Slot, evicted
from reconciler.core.folding import rows
from reconciler.core.folding.rows import Stops
from reconciler.errors import LostError, StoreDamagedError, StoreError
from reconciler.model import action as actions
from reconciler.model import codec
from reconciler.model.action import OperatorAction
from reconciler.model.chain import Cut, Head
from reconciler.model.document import Agreement, ConflictRow, Lane, Row, Status, Superseded
from reconciler.model.event import DeadLetter, Outgoing
from reconciler.model.signing import Noted
from reconciler.model.stamp import NO_ANCHORS, Anchor, Partition
from reconciler.model.standing import KEPT_H, WriteStop, hour_of
from reconciler.ports import BUCKETS, Changed, FoldBatch, Refolded

GUESTS = 0  # the slot whose audit chain has what guests do
PAGE = 2_000  # rows brought forward in a transaction
CHUNK = 2_000  # rows folded in a statement
FEW = 20  # rows that are encoded or decoded in less time than it takes to ask another thread

_stop = msgspec.json.Decoder(WriteStop).decode

Rows = Mapping[str, Stored]
T = TypeVar("T")


class Writer:
    """Stores changes as the holder of a slot, or as a guest."""

    def __init__(self, server: Server, slot: Slot | None) -> None:
        self._server = server
        self._slot = slot
        self._number = GUESTS if slot is None else slot.slot
        self._agreed: dict[str, int] = {}  # the documents that we hold, with the versions of their agreements
        self._appending = asyncio.Lock()  # two appends of one process would only refuse each other
        self._place: tuple[Head, int] | None = None  # of the owner: the chain's head and its turn, None: not known
        self._folding = asyncio.Lock()
        self._fold_next: int | None = None  # the turn of the next fold, None: not known
        self._refolds = 0  # as the store last said
        self._policy: str | None = None  # digest of the one in force, as far as we know
        self._stops = 0  # how often writes were stopped or resumed, as far as we know
        self._stopped = False

    async def rows(self, keys: Iterable[str]) -> dict[str, Stored]:
        """Return the rows of those documents that have one, in key order."""
        wanted = sorted({key.encode() for key in keys})
        found = await self._server.fetch("read documents", queries.ROWS, wanted) if wanted else ()
        stored = {one.row.key: one for one in map(Stored.of, found)}
        return {key: stored[key] for key in sorted(stored)}

    async def change_rows(self, operation: str, keys: Iterable[str], rule: Callable[[Row], Row | None]) -> int:
        """Change rows by a rule; return how many changed."""
        wanted = list(keys)
        while True:
            stored, change = await self.rows(wanted), Change()
            count = change.rows((one, rule(one.row)) for one in stored.values())
            if not count or await self.store(operation, change) == changing.DONE:
                return count

    async def decide(self, operation: str, keys: Collection[str], decision: Callable[[Rows], Change | None]) -> bool:
        """Store what a decision about these rows changes; return whether it may be."""
        while True:
            change = decision(await self.rows(keys))
            answer = None if change is None else await self.store(operation, change)
            if answer not in changing.AGAIN:
                return answer == changing.DONE

    async def store(self, operation: str, change: Change) -> str:
        """Store a change once; return the answer. Raises EvictedError if we do not have our slot any more."""
        change.say(by_slot=self._number)
        if self._slot:
            generation = self._slot.generation
            change.say(by_epoch=self._slot.epoch, by_generation=generation.number, by_identity=generation.identity)
        if change.folded:
            async with self._folding:
                turn = await self._turn(queries.FOLD_TURN) if self._fold_next is None else self._fold_next
                change.say(fold_turn=turn)
                answer = await self._call(operation, change, lambda: self._was_stored(*queries.OF_FOLDS, turn))
                if answer == changing.LATE:
                    await self._require_ahead(operation, queries.FOLD_TURN, turn)
                self._fold_next = turn + 1 if answer == changing.DONE else None
            return answer
        if not change.chained:
            return await self._call(operation, change, None)
        async with self._appending:
            head, turn = self._place or await self._look()
            ahead = change.follow(head, turn if self._slot else None)
            answer = await self._call(operation, change, lambda: self._appended(ahead, turn))
            if answer == changing.HEAD:
                await self._require_ahead(operation, queries.OF_CHAIN[1], turn)
            self._place = (ahead, turn + 1) if self._slot and answer == changing.DONE else None
        return answer

    async def _call(self, operation: str, change: Change, done: Done | None) -> str:
        answered = await self._server.change(operation, *change.call(), done)
        answer = changing.DONE if answered is None else str(answered[0])
        if answer in (changing.FENCED, changing.REPLACED):
            raise evicted(operation, self._server) if self._slot is None else await self._slot.lost(operation)
        return answer

    async def _require_ahead(self, operation: str, reading: str, turn: int) -> None:
        """Raise ReplacedError if a store that refused our turn does not know it yet: it is in an earlier state."""
        if self._slot is not None and await self._turn(reading) < turn:
            raise await self._slot.went_back(operation)

    async def _look(self) -> tuple[Head, int]:
        ((number, link, turn),) = await self._server.fetch("read the slot's place", queries.PLACE, self._number)
        return Head(number, link), int(turn)

    async def _turn(self, sql: str) -> int:
        ((turn,),) = await self._server.fetch("read the slot's turn", sql, self._number)
        return int(turn)

    async def _was_stored(self, passing: str, reading: str, turn: int) -> bool:
        """
        Whether a change of this turn, whose answer was lost, is stored; if not, it will never be.

        The server may still be at it. So the turn is passed over first, which waits for that, and leaves a change that
        comes later without its turn. A change goes on by one turn, this by two.
        """
        await self._server.fetch("pass over a lost change", passing, self._number, turn)
        return await self._turn(reading) == turn + 1

    async def _appended(self, head: Head, turn: int) -> bool:
        """Whether a change whose answer was lost is stored."""
        if self._slot:
            return await self._was_stored(*queries.OF_CHAIN, turn)
        found = await self._server.fetch("read the audit trail", queries.LINK, head.number)
        return bool(found) and found[0][0] == head.link

    # ------------------------------------------------------------------------------------------------------------ fold

    async def fold(self, batch: FoldBatch) -> Changed:
        """
        Join a batch with the stored rows, some rows a statement; the last one stores the rest, and moves the positions.

        If a document was folded again meanwhile, an earlier statement's rows may have lost what they were given: all is
        joined once more. That does no harm, because it is a join.
        """
        keys = sorted(batch.rows)
        parts = [keys[start : start + CHUNK] for start in range(0, len(keys), CHUNK)] or [[]]
        changed: dict[str, None] = {}
        outdone: dict[str, Superseded] = {}
        stored = 0  # of the parts
        while True:
            for number, part in enumerate(parts):
                rest = batch if part is parts[-1] else None
                answer, some, lost = await self._fold_some(batch, part, rest, outdone, counting=number >= stored)
                if answer == changing.DONE:
                    changed |= dict.fromkeys(some)
                    outdone |= lost
                    stored = max(stored, number + 1)
            if answer == changing.DONE:
                return Changed(list(changed), sum(one.count for one in outdone.values()), self._refolds)
            ((self._refolds,),) = await self._server.fetch("count documents folded again", queries.REFOLDS)

    async def _fold_some(
        self,
        batch: FoldBatch,
        keys: Sequence[str],
        rest: FoldBatch | None,
        outdone: Mapping[str, Superseded],
        *,
        counting: bool,
    ) -> tuple[str, list[str], dict[str, Superseded]]:
        """
        Join what a batch says about these documents; return the answer, which have changed, and which events lost.

        Events count as lost only the first time: the second time they have lost against themselves.
        """
        wanted = [key.encode() for key in keys]
        while True:
            found = await self._server.fetch("fold", queries.FOLDED, wanted) if wanted else ()
            change, changed, lost = await beside(len(keys), partial(_joined, batch, keys, found))
            lost = lost if counting else {}
            if rest is not None:
                _rest(change, rest, {**outdone, **lost})
                change.say(refolds_seen=self._refolds)
            change.folded = True
            answer = await self.store("fold", change)
            if answer not in changing.AGAIN:
                return answer, changed, lost

    async def refold(self, refolded: Refolded, action: OperatorAction) -> bool:
        """Replace a document's desired state, unless the store has read further than the new one."""

        def decision(stored: Rows) -> Change | None:
            before = stored.get(refolded.key)
            after = before and rows.refolded(before.row, action.at_us)
            if before is None or after is None:
                return None
            change = Change()
            change.rows([(before, after)])
            change.desired([(refolded.key, codec.encode_desired(refolded.desired))])
            change.say(refold_key=refolded.key.encode())
            change.places("limit", refolded.positions)
            change.say(limit_offset=list(refolded.positions.values()))
            change.letters(refolded.dead_letters)
            change.records([appended(action)])
            return change

        return await self.decide("fold a document again", [refolded.key], decision)

    # ---------------------------------------------------------------------------------------------------------- ledger

    async def hold(self, slot: Slot, keys: Iterable[str]) -> list[Any]:
        """Take documents that nobody has, and return the rows of those that are ours now (`queries.HELD`)."""
        wanted = sorted({key.encode() for key in keys})
        if not wanted:
            return []
        if not await self._server.fetch("take documents", queries.HOLD, slot.slot, slot.epoch, wanted):
            raise await slot.lost("take documents")
        found = await self._server.fetch("read documents", queries.HELD, wanted, slot.slot)
        self._agreed |= {columns["key"].decode(): columns["agreed"] for columns in found}
        return found

    async def give_back(self, slot: Slot, keys: Iterable[str]) -> None:
        """Leave documents of ours to others."""
        given = list(keys)
        for key in given:
            self._agreed.pop(key, None)
        wanted = sorted({key.encode() for key in given})
        await self._server.fetch("give documents back", queries.GIVE_BACK, slot.slot, slot.epoch, wanted)

    async def commit(
        self, changes: Sequence[Decided], published: Collection[int], positions: Mapping[Partition, int]
    ) -> Collection[str]:
        """
        Store a group of changes of different documents, and what was published; return which are paused.

        Raises LostError, and stores nothing, if one of the documents is not ours, or has another agreement than the one
        that its change was decided on, or if that was decided by a policy that is not in force. Writes that would begin
        while all are stopped count as paused.
        """
        by = {one.policy for one in changes if one.policy}  # a group of several is cut up when one of them is refused
        if not by <= {self._policy}:
            await self._look_what_is_in_force()
        answer = changing.MOVED if by <= {self._policy} else changing.OUTDATED
        while answer in changing.AGAIN:
            stored = await self._ours([one.key for one in changes])
            change = _committed(changes, stored, self._agreed)
            _forget(change, published, positions)
            if by:
                change.say(by_policy=self._policy, by_stops=self._stops)
            answer = await self.store("settle", change)
            if answer == changing.STOPS:
                await self._look_what_is_in_force()
                answer = changing.MOVED if by <= {self._policy} else changing.OUTDATED
        if answer != changing.DONE:
            raise LostError("decided by a policy that replicas do not decide by any more")
        for one in changes:
            if one.end is None:
                self._agreed[one.key] += 1
            else:
                del self._agreed[one.key]
        begun = {one.key for one in changes if one.policy and self._stopped}
        return begun.union(key for key, one in stored.items() if one.row.status is Status.PAUSED)

    async def _look_what_is_in_force(self) -> None:
        ((self._policy, self._stops, self._stopped),) = await self._server.fetch(
            "read what is in force", shared.IN_FORCE
        )

    async def stops(self) -> Stops:
        """Return how often writes were stopped or resumed, and the stop in force."""
        ((number, text),) = await self._server.fetch("read whether writes are stopped", shared.STOP)
        return number, None if text is None else readable(_stop, text)

    async def _ours(self, keys: Sequence[str]) -> dict[str, Stored]:
        """Return the rows of documents that we hold, with the agreements that we know; raises LostError."""
        found = await self._server.fetch("settle", queries.SETTLING, sorted(key.encode() for key in keys))
        stored: dict[str, Stored] = {}
        for *columns, holder, agreed in found:
            one = Stored.of(columns)
            stored[one.row.key] = one
            if holder != self._number or agreed != self._agreed.get(one.row.key):
                raise LostError(f"can't settle {one.row.key!r}: another process has it, or had it meanwhile")
        for key in keys:  # else what we know of the document would be lost without a trace
            if key not in stored:
                raise StoreError(f"can't settle {key!r}: the store has no such document")
        return stored

    async def rebase(
        self,
        agreements: Mapping[str, Agreement],
        positions: Mapping[Partition, int],
        at_us: int,
        anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
    ) -> None:
        """Store recovered agreements that are later than the stored ones."""
        wanted = [key.encode() for key in sorted(agreements)]
        while True:
            change = Change()
            found = await self._server.fetch("read documents", queries.AGREED, wanted)
            told: dict[str, int | None] = {}
            versions: dict[str, int] = {}
            known = {key: Stored(0, None, rows.unknown(key)) for key in sorted(agreements)}
            for *columns, version, text in found:
                one = Stored.of(columns)
                known[one.row.key] = one
                versions[one.row.key] = version
                told[one.row.key] = None if text is None else readable(decode_agreement, text).told
            later = [(one, agreements[key]) for key, one in known.items()]
            later = [(one, by) for one, by in later if rows.outdated(told.get(one.row.key), by.told)]
            change.settled((one, rows.rebased(one.row, at_us), by.aside_us) for one, by in later)
            change.agreements((one.row.key, versions.get(one.row.key, 0), codec.encode(by)) for one, by in later)
            change.positions(positions, anchors)
            change.folded = True
            if await self.store("rebase", change) == changing.DONE:
                return

    async def bring_forward(self, now_us: int, longest_us: Mapping[Status, int]) -> int:
        """Correct some documents that wait too long, or are pending since a time to come; return how many."""
        while True:
            found = list(await self._server.fetch("read documents", queries.SINCE_AHEAD, now_us, PAGE))
            for status, most_us in longest_us.items():
                found += await self._server.fetch("read documents", queries.AHEAD[status], now_us, most_us, PAGE)
            stored = {one.row.key: one for one in map(Stored.of, found)}
            change = Change()
            count = change.rows(
                (one, rows.brought_forward(one.row, now_us, longest_us[one.row.status])) for one in stored.values()
            )
            if not count or await self.store("bring documents forward", change) == changing.DONE:
                return count

    async def note_signing(self, noted: Noted, announcement: Outgoing) -> None:
        """Store since when everything is signed, and queue the record that announces it."""

        def decision(_: Rows) -> Change:
            change = Change()
            change.counted = True
            change.say(signed=codec.encode(noted))
            change.messages([(0, packed(announcement))])
            return change

        await self.decide("note since when everything is signed", (), decision)

    async def record_actions(
        self, change: actions.Change, done: Sequence[OperatorAction], at_us: int, reason: str
    ) -> bool:
        """Record actions with what they change; return whether their targets allowed it."""
        if change in rows.WRITES:
            return await self._steer_writes(change, done)
        targets = [action.target for action in done]
        on_documents = change is not actions.Change.NOTHING and change not in rows.MARKS
        if change in rows.MARKS:
            ids = [target.encode() for target in set(targets)]
            ((known,),) = await self._server.fetch("find dead letters", queries.LETTERS_OF, ids)
            if known < len(ids):
                return False

        def decision(stored: Rows) -> Change | None:
            made = Change()
            if change in rows.MARKS:
                made.marks((target, rows.MARKS[change]) for target in targets)
            for target in dict.fromkeys(targets) if on_documents else ():
                before = stored.get(target)
                after = before and rows.after_action(change, before.row, at_us, reason)
                if before is None or after is None:
                    return None
                made.rows([(before, after)])
            made.records(map(appended, done))
            return made

        return await self.decide("record what operators do", targets if on_documents else (), decision)

    async def prune(
        self, action: OperatorAction, cut: Cut | None, conflicts: Iterable[ConflictRow], letters: Iterable[DeadLetter]
    ) -> bool:
        """Record an action with what it has archived; return whether a piece of the trail could be cut."""

        def decision(_: Rows) -> Change:
            made = Change()
            made.records([appended(action)])
            if cut is not None:
                number, link = cut.end
                made.say(cut_after=cut.begin.number, cut_last=number, cut_link=link, cut_text=codec.encode(cut))
            closed = [(one.conflict.id.encode(), one.closed_at_us) for one in conflicts]
            made.put(("pruned_conflict", "pruned_closed_at_us"), closed)
            made.put(("pruned_letter", "pruned_status"), [(one.id.encode(), one.status) for one in letters])
            return made

        return await self.decide("note what was archived", (), decision)

    async def _steer_writes(self, change: actions.Change, done: Sequence[OperatorAction]) -> bool:
        before = await self.stops()
        after = rows.after_writes_action(change, before, done[0])
        if after is None:
            return False
        _, stop = after

        def decision(_: Rows) -> Change:
            made = Change()
            made.say(stops_seen=before[0], stop_text=None if stop is None else codec.encode(stop))
            made.records(map(appended, done))
            return made

        return await self.decide("stop or resume all writes", (), decision)

    # ------------------------------------------------------------------------------------------------------- positions

    async def published(self, numbers: Collection[int], positions: Mapping[Partition, int]) -> None:
        """Forget messages that the log has."""
        change = Change()
        _forget(change, numbers, positions)
        await self.store("forget published messages", change)

    async def reposition(self, positions: Mapping[Partition, int]) -> None:
        """Store these positions as the only ones of their topics; partitions that do not move keep their anchors."""
        found = await self._server.fetch("read positions", queries.POSITIONS)
        stored = [(Partition(topic.decode(), partition), offset) for topic, partition, offset in found]
        topics = {place.topic for place in positions}
        change = Change()
        change.places("forget", (place for place, n in stored if place.topic in topics and positions.get(place) != n))
        change.positions(positions)
        await self.store("store positions", change)


def _joined(
    batch: FoldBatch, keys: Sequence[str], found: Sequence[Any]
) -> tuple[Change, list[str], dict[str, Superseded]]:
    stored = {one.row.key: (one, text) for *columns, text in found for one in [Stored.of(columns)]}
    folded: list[tuple[Stored, Row]] = []
    desired: list[tuple[str, bytes]] = []
    outdone: dict[str, Superseded] = {}
    for key in keys:
        one, text = stored.get(key) or (Stored(0, None, rows.unknown(key)), None)
        before = None if text is None else readable(codec.decode_claims, text)
        now, lost = rows.joined(before, batch.rows[key])
        if lost is not None:
            outdone[key] = lost
        if now is not before:
            lane = Lane.OPERATOR if key in batch.urgent else batch.lane
            folded.append((one, rows.folded(one.row, lane, batch.at_us)))
            desired.append((key, codec.encode_claims(now)))
    change = Change()
    change.rows(folded)
    change.desired(desired)
    return change, [key for key, _ in desired], outdone


def _rest(change: Change, batch: FoldBatch, outdone: Mapping[str, Superseded]) -> None:
    change.positions(batch.positions, batch.anchors, batch.since)
    change.letters(batch.dead_letters)
    change.marks((letter, rows.MARKS[actions.Change.REPLAY]) for letter in batch.replayed)
    change.put(
        ("superseded_key", "superseded_count", "superseded_last"),
        [(key.encode(), one.count, codec.encode(one)) for key, one in outdone.items()],
    )


def _committed(changes: Sequence[Decided], stored: Rows, agreed: Mapping[str, int]) -> Change:
    change = Change()
    change.counted = True
    ends = [(one, one.end, stored[one.key]) for one in changes if one.end is not None]
    after = [(before, rows.settled(before.row, end), end) for _, end, before in ends]
    change.rests_on(stored[one.key] for one in changes if one.end is None)
    change.settled((before, row, end.agreement.aside_us) for before, row, end in after)
    change.say(releasing=True)
    change.agreements((one.key, agreed[one.key], one.agreement) for one in changes)
    change.records(record for one, _, _ in ends for record in one.audit)
    change.messages((bucket_of(one.key), packing.pack(text)) for one, _, _ in ends for text in one.outcomes)
    change.put(("close_id", "close_at_us"), [(name.encode(), end.at_us) for _, end, _ in ends for name in end.closed])
    change.put(
        ("open_id", "open_document", "open_at_us", "open_text"),
        [[encoded(cell) for cell in opened] for one, _, _ in ends for opened in one.opened],
    )
    spots = [
        (hour_of(end.at_us), "field", spot.field.encode(), spot.conflicts, spot.attempts)
        for _, end, _ in ends
        for spot in end.contention
    ]
    # A document's first version conflict counts too. Most documents never meet one.
    spots += [
        (hour_of(end.at_us), "document", end.key.encode(), end.conflicts, end.attempts)
        for _, row, end in after
        if row.conflicts
    ]
    change.put(("spot_hour", "spot_kind", "spot_name", "spot_conflicts", "spot_attempts"), spots)
    if ends:
        change.say(forget_hour=max(hour_of(end.at_us) for _, end, _ in ends) - KEPT_H)
    return change


def _forget(change: Change, numbers: Collection[int], positions: Mapping[Partition, int]) -> None:
    if numbers:
        change.say(published=sorted(numbers))
    change.positions(positions)


async def beside(count: int, work: Callable[[], T]) -> T:
    """Do some work on rows beside the event loop, if they are many."""
    return work() if count <= FEW else await asyncio.to_thread(work)


def decode_agreement(stored: bytes) -> Agreement:
    """Return a stored agreement; raises one of `codec.UNREADABLE`."""
    return codec.decode_agreement(packing.unpack(stored))


def readable(decode: Callable[[bytes], T], text: bytes) -> T:
    """Return what is stored, decoded; raises StoreDamagedError."""
    try:
        return decode(text)
    except codec.UNREADABLE as error:
        raise StoreDamagedError(
            f"the store has a row that can't be read ({error}): it is damaged; restore it from a backup"
        ) from error


def bucket_of(key: str) -> int:
    """Return the bucket of the outbox that has a document's messages."""
    return zlib.crc32(key.encode()) % BUCKETS
