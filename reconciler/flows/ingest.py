"""
Ingest: log → decode → fold → projection, one transaction a batch.

Rows and offsets advance together, so a crash between two batches loses and repeats nothing. Ingest never calls
Windchill: it marks documents as due and tells the reconciler.

Of several replicas each reads the partitions that the group gives it. Whoever has one may change at any moment, and two
may believe to have it: then only the one that began where the store is may move the position; the other drops what it
has gathered, and takes its share anew.

Records that are read for the first time are checked by the host's clock (`core/events/timing.py`). If a timestamp of
the broker shows that this clock is behind, folding waits, because good events would be refused.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

import attrs
import structlog

from reconciler.core.events import anchoring, decode, decode_fast, outcomes, timing
from reconciler.core.events.part import ELSEWHERE
from reconciler.core.folding import gathering
from reconciler.errors import ClockBehindError, LogError, LogTruncatedError, MovedError
from reconciler.flows import collector, watchdog
from reconciler.model.document import Due, Lane
from reconciler.model.event import DeadLetter, Event, Foreign, Outgoing, Record, Refusal
from reconciler.model.limits import MIB
from reconciler.model.policy import OPERATORS
from reconciler.model.stamp import Anchor, Partition, Place
from reconciler.ports import Changed, Clock, EventLog, FoldBatch, Folded, ReaderGroup, SharedLog, Telemetry
from reconciler.tracing import NO_TRACING, Tracing

_log = structlog.get_logger(__name__)

_SLICE = 250  # records decoded and folded before other tasks get a turn: a few milliseconds
_FETCH_TIMEOUT_S = 1.0
_BACKLOG_TIMEOUT_S = 0.25  # for the next records of a backlog: a smaller transaction costs more than this wait
_BACKLOG_S_MAX = 5.0  # of gathering: behind a backlog, a few records each moment must not delay it for ever
_DOCUMENTS_MAX = 35_000  # of a transaction, during which the store does nothing else: a second or two
_ROOM_MIN = 2_000  # smaller fetches are not worth their cost
_RECORDS_MAX = 250_000  # of a transaction: a few seconds of work are repeated after a crash
_BYTES_MAX = 64 * MIB  # of the records of a transaction, all of which may be in its rows
_LETTERS_MAX = 1_000  # of a transaction; they are held in memory whole
_partition, _headers, _timestamp = attrgetter("topic", "partition"), attrgetter("headers"), attrgetter("timestamp")
_value = attrgetter("value")
_BY_BROKER = 1  # a record's `timestamp_type`: LogAppendTime
_BEHIND_S = 1.0  # between two checks whether this host's clock is right again
_PAUSE_S = 0.05  # from an empty fetch to the next: at the end of a file that does not grow it returns at once


@attrs.define
class _Batch:
    """What one transaction stores."""

    said: gathering.Gathered = attrs.field(factory=gathering.Gathered)
    urgent: set[str] = attrs.field(factory=set)
    dead: list[tuple[DeadLetter, Outgoing]] = attrs.field(factory=list)
    replayed: set[str] = attrs.field(factory=set)
    positions: dict[Partition, int] = attrs.field(factory=dict)
    last: dict[Partition, Record] = attrs.field(factory=dict)
    foreign: int = 0
    elsewhere: int = 0  # events of another part of the log
    outlived: int = 0  # events read before that the present policy refuses
    count: int = 0
    bytes: int = 0  # of the records

    @property
    def full(self) -> bool:
        """Whether it must be stored before more is gathered, however few rows it has."""
        return len(self.dead) >= _LETTERS_MAX or self.count >= _RECORDS_MAX or self.bytes >= _BYTES_MAX


@attrs.frozen
class Sharing:
    """The log that we read together with other replicas, the group that divides it, and what was read of it last."""

    log: SharedLog
    group: ReaderGroup
    anchors: Callable[[], Awaitable[Mapping[Partition, Anchor]]]


@attrs.define(eq=False, slots=False)
class Ingest:
    """The fold loop. `run` goes on until `stop`."""

    _log: EventLog
    _projection: Folded
    _clock: Clock
    _telemetry: Telemetry
    _options: decode.Options
    _dead_letter_topic: str
    _batch_max: int
    _offer: Callable[[Due], None]
    _wake: asyncio.Event  # set when a batch had dead letters, which are left in the outbox
    _until: str | None = None  # canonical instant; later events are left out, and positions are not stored
    _tracing: Tracing = NO_TRACING
    _sharing: Sharing | None = None  # None: we read the whole log
    waits_for: str = attrs.field(init=False, default="")  # why folding waits, if it does
    seen: Counter[str] = attrs.field(init=False, factory=Counter)  # records since the start, by what came of them
    lane: Lane = attrs.field(init=False, default=Lane.EVENT)
    documents_max: int = attrs.field(init=False, default=_DOCUMENTS_MAX)
    reached: Mapping[Partition, int] = attrs.field(init=False, factory=dict)  # offsets before which all is folded
    no_event: Callable[[Record], None] | None = attrs.field(init=False, default=None)  # gets all others, in log order
    folding: Callable[[list[Event]], None] | None = attrs.field(init=False, default=None)  # gets events, in no order
    _stopping: bool = attrs.field(init=False, default=False)
    _batch: _Batch = attrs.field(init=False, factory=_Batch)
    _kept: dict[Partition, int] = attrs.field(init=False, factory=dict)  # positions stored so far
    _read: Mapping[Partition, int] | None = attrs.field(init=False, default=None)  # stored before us; None: not asked
    _refused: frozenset[Place] = attrs.field(init=False, default=frozenset())  # by our clock, when first read
    _refolds: int = attrs.field(init=False, default=0)  # the store's number when we last asked what was refused

    def decode_by(self, options: decode.Options) -> None:
        """Decode with other options from the next record on."""
        self._options = options

    def stop(self) -> None:
        """End the loop after the batch under way."""
        self._stopping = True

    async def run(self) -> None:
        """Fold new records until stopped."""
        await self._begin()
        if self._sharing is not None:
            self._sharing.group.changed.set()
        while not self._stopping:
            watchdog.beat()
            try:
                await self._read_on()
            except (MovedError, LogTruncatedError) as error:
                if self._sharing is None or not await self._is_outdated(error):
                    raise
                self._batch = _Batch()
                self._sharing.group.changed.set()
                _log.info("taking our share of the log anew", reason=str(error))

    async def _read_on(self) -> None:
        began_s = self._clock.monotonic_s()
        await self._take_share()
        records = await self._fetch(self._batch_max, _FETCH_TIMEOUT_S)
        if records is None:
            return
        if records:
            with collector.paused():
                await self._take_backlog(records)
        ours = await self._log.positions()
        if not records:
            await self._pass_gaps(ours)
        self.reached = ours if self._sharing is None else await self._reached_by_all(ours)
        if not records:
            await self._clock.sleep(began_s + _PAUSE_S - self._clock.monotonic_s())

    async def _is_outdated(self, error: MovedError | LogTruncatedError) -> bool:
        """Whether others have read on where we were, perhaps so long ago that the log has lost what we read."""
        stored = self._of_log(await self._projection.positions())
        return isinstance(error, MovedError) or any(offset > self._read_to(place) for place, offset in stored.items())

    async def _take_share(self) -> None:
        """Read what the group gives us, from where the store is."""
        if self._sharing is None or not self._sharing.group.changed.is_set():
            return
        group = self._sharing.group
        group.changed.clear()
        stored = self._of_log(await self._projection.positions())
        try:
            await self._sharing.log.share(group.assigned, stored, await self._sharing.anchors())
        except LogTruncatedError:
            now = await self._projection.positions()
            if all(now.get(place, 0) == stored.get(place, 0) for place in group.assigned):
                raise
            group.changed.set()
            return
        except LogError as error:
            _log.warning("can't take our share of the log yet", reason=str(error))
            group.changed.set()
            return
        self._read, self._kept = stored, {}
        _log.info("our share of the log", partitions=[f"{place.topic}/{place.partition}" for place in group.assigned])

    async def _reached_by_all(self, ours: Mapping[Partition, int]) -> dict[Partition, int]:
        return {**self._of_log(await self._projection.positions()), **ours}

    def _of_log(self, positions: Mapping[Partition, int]) -> dict[Partition, int]:
        topics = self._options.topics.names
        return {place: offset for place, offset in positions.items() if place.topic in topics}

    async def _pass_gaps(self, ours: Mapping[Partition, int]) -> None:
        """
        Store positions past offsets that hold no record, as after a transaction.

        Retention will take them too; an older position would then look like lost records.
        """
        passed = {place: offset for place, offset in ours.items() if offset > self._read_to(place)}
        if passed and self._until is None:
            self._batch.positions |= passed
            await self.commit()

    async def take(self, records: Sequence[Record]) -> int:
        """Fold records durably; return how many documents changed."""
        with collector.paused():
            await self.gather(records)
            return await self.commit()

    async def gather(self, records: Sequence[Record]) -> int:
        """
        Fold records into the batch that the next `commit` stores; return how many more it has room for.

        Newest first, so that most older claims have lost and need not be built (see `gathering.Gathered`). Raises
        ClockBehindError, and takes no record, if this host's clock is behind the one that stamped them.
        """
        batch = self._batch
        await self._begin()
        if (fault := self._behind(records)) is not None:
            raise ClockBehindError(fault)
        others: list[tuple[Record, Refusal | Foreign]] = []
        for end in range(len(records), 0, -_SLICE):
            self._gather_slice(records[max(0, end - _SLICE) : end], batch, others)
            await self._clock.sleep(0)
        for record, found in reversed(others):  # in the log's order
            self._set_aside(record, found, batch)
        batch.count += len(records)
        room = self.documents_max - len(batch.said)
        return 0 if batch.full or room < _ROOM_MIN else room

    async def commit(self) -> int:
        """Store what was gathered, durably; return how many documents changed."""
        batch, self._batch = self._batch, _Batch()
        await self._begin()
        now_us = self._clock.now_us()
        changed = await self._store(batch, now_us)
        self._kept |= batch.positions
        self._refused |= {letter.place for letter, _ in batch.dead if letter.stage == decode.CLOCK}
        if changed.refolds != self._refolds:  # another process may have refused records too
            self._refolds, self._refused = changed.refolds, await self._projection.refused()
        for key in changed.keys:
            self._offer(Due(key, Lane.OPERATOR if key in batch.urgent else self.lane, now_us))
        if batch.dead:
            self._wake.set()
        if batch.outlived:
            _log.warning("kept old events whose sources may no longer set a field", events=batch.outlived)
        self._count(batch, changed.superseded)
        return len(changed.keys)

    async def _begin(self) -> None:
        """Ask once what the store has read and refused before."""
        if self._read is None:
            self._read, self._refused = await self._projection.positions(), await self._projection.refused()

    async def _store(self, batch: _Batch, now_us: int) -> Changed:
        positions = {} if self._until is not None else batch.positions
        return await self._projection.fold(
            FoldBatch(
                rows=batch.said,
                positions=positions,
                dead_letters=batch.dead,
                lane=self.lane,
                at_us=now_us,
                urgent=frozenset(batch.urgent),
                replayed=frozenset(batch.replayed),
                anchors={place: anchoring.of(batch.last[place]) for place in positions.keys() & batch.last.keys()},
                since={} if self._sharing is None else {place: self._read_to(place) for place in positions},
            )
        )

    async def _take_backlog(self, records: Sequence[Record]) -> None:
        """Fold records, and in a backlog also those right behind them, so that a row is written once for all."""
        room, backlog = await self.gather(records), len(records) >= self._batch_max
        end_s = self._clock.monotonic_s() + _BACKLOG_S_MAX
        while backlog and room and not self._stopping and self._clock.monotonic_s() < end_s:
            more = await self._fetch(room, _BACKLOG_TIMEOUT_S)  # each may be of another document
            if not more:
                break
            watchdog.beat()
            room = await self.gather(more)
        await self.commit()

    async def _fetch(self, records_max: int, timeout_s: float) -> Sequence[Record] | None:
        """
        Return the next records, once this host's clock is not behind them; None when stopped before.

        Meanwhile later records are fetched too, as they may show that the broker's clock was ahead.
        """
        records = await self._log.fetch(records_max, timeout_s)
        while (fault := self._behind(records)) is not None:
            if self._stopping:
                return None
            if self._batch.count:
                await self.commit()
            if not self.waits_for:
                _log.error("folding waits: this host's clock is behind", reason=fault)
            self.waits_for = fault
            watchdog.beat()
            more = await self._log.fetch(records_max, _BEHIND_S) if len(records) < 2 * records_max else ()
            records = [*records, *more]
            await self._clock.sleep(_BEHIND_S)
        self.waits_for = ""
        return records

    def _behind(self, records: Sequence[Record]) -> str | None:
        """Say which timestamp of the broker shows that this host's clock is behind; None if none does."""
        if not records or records[0].timestamp <= 0:  # lines of a file have none
            return None
        now_us = self._clock.now_us()
        limit_ms = (now_us + self._options.clock_skew_us_max) // 1000
        if max(map(_timestamp, records)) <= limit_ms:
            return None
        last = {_partition(record): record for record in records}.values()
        ahead = next((one for one in last if one.timestamp > limit_ms and one.timestamp_type == _BY_BROKER), None)
        if ahead is None:
            return None
        place = f"{ahead.topic}/{ahead.partition} offset {ahead.offset}"
        return (
            f"this host's clock is behind: {place} was appended at {timing.of_record(ahead.timestamp * 1000)} by the"
            f" broker's clock, and here it is {timing.of_record(now_us)}. Set this host's clock, and folding goes on by"
            " itself; it also does once a later record shows that it was the broker's clock that was ahead"
        )

    def _parted(self, newest_first: Sequence[Record]) -> list[tuple[Sequence[Record], timing.Present]]:
        """Separate records that were read before from new ones, which our clock checks."""
        first = timing.Present.of(self._clock.now_us(), self._options.clock_skew_us_max, self._refused)
        groups = groupby(reversed(newest_first), _partition)
        if not any(next(group).offset < self._read_to(place) for place, group in groups):
            return [(newest_first, first)]
        parted: tuple[list[Record], list[Record]] = ([], [])
        for record in newest_first:
            parted[self._was_read(record)].append(record)
        return [(parted[False], first), (parted[True], attrs.evolve(timing.READ_BEFORE, refused=self._refused))]

    def _gather_slice(
        self, records: Sequence[Record], batch: _Batch, others: list[tuple[Record, Refusal | Foreign]]
    ) -> None:
        newest_first: list[Record] = list(records)[::-1]
        if self._tracing.on:
            self._tracing.note(records)
        batch.bytes += sum(map(len, filter(None, map(_value, newest_first))))
        events: list[Event] = []
        for some, present in self._parted(newest_first):
            taken, left = decode_fast.events(some, self._options, present)
            events += taken
            batch.elsewhere += len(some) - len(taken) - len(left)
            for record in left:
                decoded = decode.record(record, self._options, present)
                if isinstance(decoded, Event):
                    events.append(decoded)
                else:
                    others.append((record, decoded))
        if self._until is not None:
            events = [event for event in events if event.time <= self._until]
        if self.folding is not None:
            self.folding(events)
        batch.said.add(events)
        batch.urgent.update(event.key for event in events if event.source == OPERATORS)
        for (topic, partition), (last, *_) in groupby(newest_first, _partition):
            place = Partition(topic, partition)
            if last.offset >= batch.positions.get(place, 0):
                batch.positions[place], batch.last[place] = last.offset + 1, last
        again = self._options.topics.again
        batch.replayed.update(
            letter
            for record in filter(_headers, newest_first)
            for name, said in record.headers
            if name == outcomes.REPLAY_OF and said
            # A letter is replayed to its own topic; a header in another topic does not count.
            if again((letter := said.decode(errors="replace")).split("/")[0]) == record.topic
        )

    def _set_aside(self, record: Record, found: Refusal | Foreign, batch: _Batch) -> None:
        """Keep a record that is no event. If it was read before, a new policy makes no dead letter of it."""
        if isinstance(found, Foreign):
            batch.elsewhere += found.type == ELSEWHERE
            batch.foreign += found.type != ELSEWHERE
        elif found.stage == decode.POLICY and self._was_read(record):
            batch.outlived += 1
        else:
            batch.dead.append(self._bury(record, found))
        if self.no_event is not None:
            self.no_event(record)

    def _was_read(self, record: Record) -> bool:
        return record.offset < self._read_to((record.topic, record.partition))

    def _read_to(self, place: tuple[str, int]) -> int:
        assert self._read is not None, "it is read before any record is looked at"
        return max(self._read.get(Partition(*place), 0), self._kept.get(Partition(*place), 0))

    def _bury(self, record: Record, refusal: Refusal) -> tuple[DeadLetter, Outgoing]:
        letter = outcomes.letter_of(record, refusal, self._clock.now_us())
        _log.warning("event refused", letter=letter.id, stage=letter.stage, reason=letter.reason)
        return letter, outcomes.dead_letter(letter, self._dead_letter_topic)

    def _count(self, found: _Batch, superseded: int) -> None:
        skipped = {"foreign": found.foreign, "elsewhere": found.elsewhere}
        folded = found.count - len(found.dead) - sum(skipped.values()) - found.outlived - superseded
        known = {"folded": folded, "superseded": superseded, "refused": len(found.dead), **skipped}
        self.seen.update(known)
        for result, count in known.items():
            if count:
                self._telemetry.add("events_total", count, result=result)
        _log.debug("batch folded", records=found.count, documents=len(found.said), refused=len(found.dead))
