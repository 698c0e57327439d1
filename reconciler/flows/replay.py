"""
Replay: folds logs into a store from their beginning, and compares two stores.

The fold is a join, so folding again changes nothing, and logs may overlap and come in any order. Outcomes give back
what was last agreed with Windchill (see `recovery`).
"""

from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial

import attrs

from reconciler.core.events import anchoring
from reconciler.core.events.anchoring import Span
from reconciler.core.folding.projection_file import Header
from reconciler.errors import LogTruncatedError
from reconciler.flows import collector, recovery
from reconciler.flows.ingest import Ingest
from reconciler.flows.recovery import Bases
from reconciler.model import codec
from reconciler.model.desired import Desired
from reconciler.model.event import Event
from reconciler.model.stamp import NO_ANCHORS, NO_POSITIONS, Anchor, Partition
from reconciler.ports import Clock, EventLog, Store

BATCH = 20_000  # records a fetch. They are folded newest first, so large batches save work; all are held in memory
_DOCUMENTS_MAX = 100_000  # of a transaction: no one else waits for the store
_FETCH_TIMEOUT_S = 1.0


@attrs.frozen
class Replayed:
    """The result of a replay."""

    records: int
    changed: int  # rows changed, counted once per batch
    rebased: int  # documents whose agreement was recovered


@attrs.frozen
class Difference:
    """A document whose folded row is not the same in two stores; `None` where a store has none."""

    key: str
    here: Desired | None
    there: Desired | None


@attrs.define
class Archives:
    """The Kafka offsets in the archives that were replayed before; a log may begin where they end."""

    accept_truncation: bool = False
    alone: bool = False  # only one log is replayed
    anchors: dict[Partition, Anchor] = attrs.field(factory=dict)  # the last records that projection archives know
    _spans: dict[Partition, list[Span]] = attrs.field(factory=dict)

    def begin_with(self, header: Header) -> None:
        """Note that a projection archive has all before its positions."""
        self.add({place: (0, offset) for place, offset in header.places.items()})
        for place, anchor in header.anchors.items():
            self.anchors[place] = max(anchor, self.anchors.get(place, anchor))

    def reached(self) -> dict[Partition, int]:
        """Return up to where the files have everything."""
        return {place: anchoring.whole_to(spans) for place, spans in self._spans.items()}

    def add(self, spans: Mapping[Partition, Span]) -> None:
        """Note the offsets of one file."""
        for place, span in spans.items():
            self._spans.setdefault(place, []).append(span)

    def require(self, begins: Mapping[Partition, int]) -> None:
        """Raise LogTruncatedError if no file has what is before these offsets, unless that is accepted."""
        gaps = [
            f"{place.topic}/{place.partition} offset {first} to {after - 1}"
            for place, begin in sorted(begins.items())
            for first, after in anchoring.missing(self._spans.get(place, ()), begin)
        ]
        if gaps and not self.accept_truncation:
            raise LogTruncatedError(
                f"neither the log nor the given archives have {'; '.join(gaps)}. Name the archives before"
                " Kafka (`--from ARCHIVE --from kafka`), or go on without these records: --accept-truncation"
            )


async def replay(
    log: EventLog, ingest: Ingest, bases: Bases, archives: Archives | None = None, *, follows: bool = False
) -> Replayed:
    """
    Fold a log from its beginning to its present end, and take the bases of its outcomes.

    `archives` are those replayed before; this log is added to them. If it `follows` a projection archive, it is read
    from where they end. Raises LogTruncatedError when the log does not hold what comes next, or its beginning is gone
    and none of them has it.
    """
    archives = archives or Archives(alone=True)
    begin, anchors = (archives.reached(), archives.anchors) if follows else (NO_POSITIONS, NO_ANCHORS)
    await log.open(begin, accept_truncation=archives.accept_truncation or not follows, anchors=anchors)
    archives.require(await log.positions())
    ends = dict(await log.ends())
    spans: dict[Partition, Span] = {}
    ingest.no_event, ingest.documents_max = bases.see, _DOCUMENTS_MAX
    if not archives.alone:
        ingest.folding = partial(_told, spans, ingest.folding)
    records, changed, more = 0, 0, True
    while more:
        with collector.paused():  # it is on between two transactions
            room = BATCH
            while room and (batch := await log.fetch(min(room, BATCH), _FETCH_TIMEOUT_S)):
                room = await ingest.gather(batch)  # each record may be of another document
                records += len(batch)
                if bases.full:
                    await bases.store({})
            changed += await ingest.commit()
        reached = await log.positions()  # past gaps that hold no record
        more = bool(batch) or any(reached.get(place, 0) < end for place, end in ends.items())
    await bases.store({})
    archives.add(spans)
    archives.add(bases.spans)
    return Replayed(records, changed, bases.taken)


async def outcomes(log: EventLog, bases: Bases, clock: Clock, archives: Archives, *, keep_positions: bool) -> Replayed:
    """Take every base from an outcome log; with `keep_positions` a later start need not read it again."""
    await log.open({}, accept_truncation=True)
    archives.require(await log.positions())
    records = await recovery.take(log, bases, clock, lambda: False, keep_positions=keep_positions)
    return Replayed(records, 0, bases.taken)


async def differences(here: Store, there: Store) -> AsyncIterator[Difference]:
    """Yield the documents whose rows differ, in key order; both stores are read in constant memory."""
    left, right = here.export_projection(), there.export_projection()
    one, other = await anext(left, None), await anext(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None
            yield Difference(one[0], one[1], None)
            one = await anext(left, None)
        elif one is None or other[0] < one[0]:
            yield Difference(other[0], None, other[1])
            other = await anext(right, None)
        else:
            if codec.encode(one[1]) != codec.encode(other[1]):
                yield Difference(one[0], one[1], other[1])
            one, other = await anext(left, None), await anext(right, None)


def _told(spans: dict[Partition, Span], others: Callable[[list[Event]], None] | None, events: list[Event]) -> None:
    if others is not None:
        others(events)
    for event in events:
        place = Partition(event.topic, event.partition)
        first, after = spans.get(place, (event.offset, event.offset))
        spans[place] = min(first, event.offset), max(after, event.offset + 1)
