"""
Ingest: log → decode → fold → projection, one transaction a batch.

Rows and offsets advance together, so a crash between two batches costs nothing and repeats nothing. It never calls
Windchill: it marks documents as due and lets the reconciler know.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

import attrs
import structlog

from reconciler.core import decode, fold, outcomes, usual
from reconciler.flows import beats
from reconciler.model.desired import Desired
from reconciler.model.document import Due, Lane
from reconciler.model.event import DeadLetter, Event, Foreign, Outgoing, Record, Refusal
from reconciler.model.policy import OPERATORS
from reconciler.model.stamp import Partition
from reconciler.ports import Clock, EventLog, FoldBatch, Projection, Telemetry
from reconciler.tracing import NO_TRACING, Tracing

_log = structlog.get_logger(__name__)

_SLICE = 250  # records decoded and folded between two turns of the other tasks: a few milliseconds
_FETCH_TIMEOUT_S = 1.0
_BACKLOG_TIMEOUT_S = 0.05  # for what the client is about to have
_FIELDS_MAX = 70_000  # of a transaction's rows in memory: about a kilobyte each
_FIELDS_A_ROW = 4.0  # as long as no row has been seen
_ROOM_MIN = 2_000  # smaller fetches cost more than they bring
_RECORDS_MAX = 250_000  # of a transaction: a few seconds of work to do again after a crash
_LETTERS_MAX = 1_000  # of a transaction: they are kept whole
_partition, _headers = attrgetter("topic", "partition"), attrgetter("headers")
_PAUSE_S = 0.05  # after an empty fetch: one at the end of a file that does not grow returns at once


@attrs.define
class _Batch:
    """What the records of one transaction say."""

    rows: dict[str, Desired] = attrs.field(factory=dict)
    urgent: set[str] = attrs.field(factory=set)
    dead: list[tuple[DeadLetter, Outgoing]] = attrs.field(factory=list)
    replayed: set[str] = attrs.field(factory=set)
    positions: dict[Partition, int] = attrs.field(factory=dict)
    foreign: int = 0
    outlived: int = 0  # read long ago, and refused by the policy of today
    count: int = 0


class Ingest:
    """The fold loop. `run` goes on until `stop`."""

    def __init__(
        self,
        log: EventLog,
        projection: Projection,
        clock: Clock,
        telemetry: Telemetry,
        *,
        rules: decode.Rules,
        dead_letter_topic: str,
        batch_max: int,
        offer: Callable[[Due], None],
        wake: asyncio.Event,
        until: str | None = None,
        tracing: Tracing = NO_TRACING,
        beside: asyncio.Lock | None = None,
    ) -> None:
        self._log = log
        self._projection = projection
        self._clock = clock
        self._telemetry = telemetry
        self._rules = rules
        self._dead_letter_topic = dead_letter_topic
        self._tracing = tracing
        self._batch_max = batch_max
        self._offer = offer
        self._until = until  # canonical instant; events after it are left out, and positions are not advanced
        self._stopping = False
        self._batch = _Batch()
        self._fields_a_row = _FIELDS_A_ROW
        self._kept: dict[Partition, int] = {}  # positions stored so far
        self._read: Mapping[Partition, int] | None = None  # what the store has read before us; None: to be asked
        self.lane = Lane.EVENT if beside is None else Lane.REPLAY
        self.reached: Mapping[Partition, int] = {}  # everything before these offsets is folded, or was a gap
        self.no_event: Callable[[Record], None] | None = None  # told of every record that is none, in the log's order
        self.folding: Callable[[list[Event]], None] | None = None  # told of every event, in no order
        self._wake = wake  # set when a batch had dead letters: the outbox has something to publish
        self._folding = beside or asyncio.Lock()  # rows are read, joined and written by one fold at a time
        self._aside = beside is not None

    def decode_by(self, rules: decode.Rules) -> None:
        """Decode by other rules from the next record on."""
        self._rules = rules

    def stop(self) -> None:
        """End the loop after the batch under way."""
        self._stopping = True

    def aside(self, log: EventLog) -> "Ingest":
        """
        Return a fold of the same log from another client of it, for folding again what this one has folded.

        Both may be at work at the same time. The other stores no positions, counts nothing, and is never urgent.
        """
        return Ingest(
            log,
            self._projection,
            self._clock,
            self._telemetry,
            rules=self._rules,
            dead_letter_topic=self._dead_letter_topic,
            batch_max=self._batch_max,
            offer=self._offer,
            wake=self._wake,
            beside=self._folding,
        )

    async def run(self) -> None:
        """Fold what comes until stopped."""
        while not self._stopping:
            beats.turn()
            records = await self._log.fetch(self._batch_max, _FETCH_TIMEOUT_S)
            if records:
                await self._take_backlog(records)
            self.reached = await self._log.positions()
            if not records:
                await self._pass_gaps()
                await self._clock.sleep(_PAUSE_S)

    async def _pass_gaps(self) -> None:
        """
        Store how far we are where the last offsets hold no record, as after a transaction.

        Retention takes them too some day; a position before them would then look like records lost.
        """
        passed = {place: offset for place, offset in self.reached.items() if offset > self._kept.get(place, 0)}
        if passed and self._until is None:
            self._batch.positions |= passed
            await self.commit()

    async def take(self, records: Sequence[Record]) -> int:
        """Fold records durably; return how many documents changed."""
        await self.gather(records)
        return await self.commit()

    async def gather(self, records: Sequence[Record]) -> int:
        """
        Fold records into the batch that the next `commit` stores; return for how many more it has room.

        Newest first: most of what older events say has lost by then, and need not be built (see `fold.into`).
        """
        batch = self._batch
        if self._read is None:
            self._read = await self._projection.positions()
        others: list[tuple[Record, Refusal | Foreign]] = []
        for end in range(len(records), 0, -_SLICE):
            self._gather_slice(records[max(0, end - _SLICE) : end], batch, others)
            await self._clock.sleep(0)
        for record, found in reversed(others):  # in the log's order
            self._set_aside(record, found, batch)
        batch.count += len(records)
        room = round(_FIELDS_MAX / self._fields_a_row) - len(batch.rows)
        full = room < _ROOM_MIN or len(batch.dead) >= _LETTERS_MAX or batch.count >= _RECORDS_MAX
        return 0 if full else room

    async def commit(self) -> int:
        """Store what was gathered, durably; return how many documents changed."""
        batch, self._batch = self._batch, _Batch()
        async with self._folding:
            rows = await self._changed(batch.rows)
            now_us = self._clock.now_us()
            urgent = frozenset() if self._aside else frozenset(batch.urgent & rows.keys())
            await self._projection.fold(
                FoldBatch(
                    rows=rows,
                    positions={} if self._aside or self._until is not None else batch.positions,
                    dead_letters=batch.dead,
                    lane=self.lane,
                    at_us=now_us,
                    urgent=urgent,
                    replayed=frozenset(batch.replayed),
                )
            )
        if rows:  # with what was stored of them: later events find fuller rows
            self._fields_a_row = max(1.0, sum(len(row.fields) for row in rows.values()) / len(rows))
        self._kept |= batch.positions
        for key in rows:
            self._offer(Due(key, Lane.OPERATOR if key in urgent else self.lane, now_us))
        if batch.dead:
            self._wake.set()
        if batch.outlived:
            _log.warning("events of before left as they are: their sources may not set a field", events=batch.outlived)
        if not self._aside:
            self._count(batch)
        return len(rows)

    async def _take_backlog(self, records: Sequence[Record]) -> None:
        """Fold records, and if there is a backlog what comes right behind them: a row is then written once for all."""
        room, backlog = await self.gather(records), len(records) >= self._batch_max
        while backlog and room and not self._stopping:
            records = await self._log.fetch(room, _BACKLOG_TIMEOUT_S)  # each may be of another document
            if not records:
                break
            beats.turn()
            room = await self.gather(records)
        await self.commit()

    def _gather_slice(
        self, records: Sequence[Record], batch: _Batch, others: list[tuple[Record, Refusal | Foreign]]
    ) -> None:
        newest_first = list(records)[::-1]
        if self._tracing.on:
            self._tracing.note(records)
        events, left = usual.events(newest_first, self._rules)
        for record in left:
            decoded = decode.record(record, self._rules)
            if isinstance(decoded, Event):
                events.append(decoded)
            else:
                others.append((record, decoded))
        if self._until is not None:
            events = [event for event in events if event.stamp.time <= self._until]
        if self.folding is not None:
            self.folding(events)
        fold.into(batch.rows, events)
        batch.urgent.update(event.key for event in events if event.stamp.source == OPERATORS)
        for (topic, partition), (last, *_) in groupby(newest_first, _partition):
            place = Partition(topic, partition)
            batch.positions[place] = max(batch.positions.get(place, 0), last.offset + 1)
        batch.replayed.update(
            letter.decode(errors="replace")
            for record in filter(_headers, newest_first)
            for name, letter in record.headers
            if name == outcomes.REPLAY_OF and letter
        )

    def _set_aside(self, record: Record, found: Refusal | Foreign, batch: _Batch) -> None:
        """Keep what is no event. Of what was read long ago, and was one then, today's policy makes no dead letter."""
        if isinstance(found, Foreign):
            batch.foreign += 1
        elif found.stage == decode.POLICY and self._was_read(record):
            batch.outlived += 1
        else:
            batch.dead.append(self._bury(record, found))
        if self.no_event is not None:
            self.no_event(record)

    def _was_read(self, record: Record) -> bool:
        assert self._read is not None, "it is read before any record is looked at"
        return record.offset < self._read.get(Partition(record.topic, record.partition), 0)

    async def _changed(self, said: Mapping[str, Desired]) -> dict[str, Desired]:
        """Join what a batch says with what is stored; return the rows that changed."""
        keys = sorted(said)  # in order: the store's pages are then touched once each
        stored = await self._projection.desired(keys)
        rows: dict[str, Desired] = {}
        for start in range(0, len(keys), _SLICE):
            for key in keys[start : start + _SLICE]:
                old = stored.get(key)
                new = said[key] if old is None else fold.join(old, said[key])
                if new is not old:
                    rows[key] = new
            await self._clock.sleep(0)
        return rows

    def _bury(self, record: Record, refusal: Refusal) -> tuple[DeadLetter, Outgoing]:
        letter = DeadLetter(
            place=refusal.place,
            timestamp=record.timestamp,
            key=record.key,
            value=record.value,
            headers=tuple(record.headers),
            stage=refusal.stage,
            reason=refusal.reason,
            refused_at_us=self._clock.now_us(),
        )
        _log.warning("event refused", letter=letter.id, stage=letter.stage, reason=letter.reason)
        return letter, outcomes.dead_letter(letter, self._dead_letter_topic)

    def _count(self, found: _Batch) -> None:
        folded = found.count - len(found.dead) - found.foreign - found.outlived
        for result, count in (("folded", folded), ("refused", len(found.dead)), ("foreign", found.foreign)):
            if count:
                self._telemetry.add("events_total", count, result=result)
        _log.debug("batch folded", records=found.count, documents=len(found.rows), refused=len(found.dead))
