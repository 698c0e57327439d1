"""
Ingest: log → decode → fold → projection, one transaction a batch.

Rows and offsets advance together, so a crash between two batches costs nothing and repeats nothing. It never calls
Windchill: it marks documents as due and lets the reconciler know.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import attrs
import structlog

from reconciler.core import decode, fold, outcomes
from reconciler.model.desired import NOTHING_DESIRED, Desired
from reconciler.model.document import Due, Lane
from reconciler.model.event import DeadLetter, Event, Foreign, Outgoing, Record, Refusal
from reconciler.model.policy import OPERATORS
from reconciler.model.stamp import Partition
from reconciler.ports import Clock, EventLog, FoldBatch, Projection, Telemetry

_log = structlog.get_logger(__name__)

_SLICE = 250  # records decoded and folded between two turns of the other tasks: a few milliseconds
_FETCH_TIMEOUT_S = 1.0
_PAUSE_S = 0.05  # after an empty fetch: one at the end of a file that does not grow returns at once


@attrs.define
class _Sorted:
    """What a batch of records turned out to be."""

    events: dict[str, list[Event]] = attrs.field(factory=dict)
    urgent: set[str] = attrs.field(factory=set)
    dead: list[tuple[DeadLetter, Outgoing]] = attrs.field(factory=list)
    replayed: set[str] = attrs.field(factory=set)
    positions: dict[Partition, int] = attrs.field(factory=dict)
    foreign: int = 0
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
    ) -> None:
        self._log = log
        self._projection = projection
        self._clock = clock
        self._telemetry = telemetry
        self._rules = rules
        self._dead_letter_topic = dead_letter_topic
        self._batch_max = batch_max
        self._offer = offer
        self._until = until  # canonical instant; events after it are left out, and positions are not advanced
        self._stopping = False
        self.lane = Lane.EVENT
        self.reached: Mapping[Partition, int] = {}  # everything before these offsets is folded, or was a gap
        self._wake = wake  # set when a batch had dead letters: the outbox has something to publish

    def stop(self) -> None:
        """End the loop after the batch under way."""
        self._stopping = True

    async def run(self) -> None:
        """Fold what comes until stopped."""
        while not self._stopping:
            records = await self._log.fetch(self._batch_max, _FETCH_TIMEOUT_S)
            if records:
                await self.take(records)
            self.reached = await self._log.positions()
            if not records:
                await self._clock.sleep(_PAUSE_S)

    async def take(self, records: Sequence[Record]) -> int:
        """Fold one batch durably; return how many documents changed."""
        found = await self._sort(records)
        rows = await self._fold(found)
        now_us = self._clock.now_us()
        urgent = frozenset(found.urgent & rows.keys())
        await self._projection.fold(
            FoldBatch(
                rows=rows,
                positions=found.positions if self._until is None else {},
                dead_letters=found.dead,
                lane=self.lane,
                at_us=now_us,
                urgent=urgent,
                replayed=frozenset(found.replayed),
            )
        )
        for key in rows:
            self._offer(Due(key, Lane.OPERATOR if key in urgent else self.lane, now_us))
        if found.dead:
            self._wake.set()
        self._count(found)
        return len(rows)

    async def _sort(self, records: Sequence[Record]) -> _Sorted:
        found = _Sorted()
        for start in range(0, len(records), _SLICE):
            for record in records[start : start + _SLICE]:
                self._sort_one(record, found)
            await self._clock.sleep(0)
        return found

    def _sort_one(self, record: Record, found: _Sorted) -> None:
        found.count += 1
        found.positions[Partition(record.topic, record.partition)] = record.offset + 1
        decoded = decode.record(record, self._rules)
        if type(decoded) is Event:
            if self._until is not None and decoded.stamp.time > self._until:
                return
            of_document = found.events.get(decoded.key)
            if of_document is None:
                found.events[decoded.key] = [decoded]
            else:
                of_document.append(decoded)
            if decoded.stamp.source == OPERATORS:
                found.urgent.add(decoded.key)
        elif isinstance(decoded, Refusal):
            found.dead.append(self._bury(record, decoded))
        elif isinstance(decoded, Foreign):
            found.foreign += 1
        if record.headers:
            found.replayed.update(
                letter.decode(errors="replace")
                for name, letter in record.headers
                if name == outcomes.REPLAY_OF and letter
            )

    async def _fold(self, found: _Sorted) -> dict[str, Desired]:
        """Fold the events of each document into its row; return the rows that changed."""
        keys = sorted(found.events)  # in order: the store's pages are then touched once each
        stored = await self._projection.desired(keys)
        rows: dict[str, Desired] = {}
        for start in range(0, len(keys), _SLICE):
            for key in keys[start : start + _SLICE]:
                old = stored.get(key, NOTHING_DESIRED)
                new = fold.steps(old, found.events[key])
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

    def _count(self, found: _Sorted) -> None:
        folded = found.count - len(found.dead) - found.foreign
        for result, count in (("folded", folded), ("refused", len(found.dead)), ("foreign", found.foreign)):
            if count:
                self._telemetry.add("events_total", count, result=result)
        _log.debug("batch folded", records=found.count, documents=len(found.events), refused=len(found.dead))
