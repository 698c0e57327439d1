"""
Recovery: takes from the outcome log what was last agreed with Windchill (ARCHITECTURE.md).

Rules:
1. The log is read at every start, from the stored position, and nothing is written to Windchill before its end. So a
   new store, or an older copy of one, never decides on less than was agreed.
2. Of two agreements the one with more outcomes is the later one (`Agreement.told`). Reading the log twice, or archives
   of it in any order, changes nothing.
3. Where outcomes must be signed, an unsigned one becomes a dead letter and changes nothing.

It can't give back an agreement whose outcome was still in the outbox when the store was lost, or a write in doubt. Nor
audit records: but the log has the heads that checkpoints have announced, so it shows what the store does not have.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import attrs
import structlog

from reconciler.core.events import anchoring, decode, outcomes, signing
from reconciler.core.events.anchoring import Span
from reconciler.core.events.outcomes import Heading, OutcomeType
from reconciler.core.events.signing import Required
from reconciler.core.folding.rows import agreement_before
from reconciler.model import instant
from reconciler.model.base import Base
from reconciler.model.chain import Head
from reconciler.model.document import NO_AGREEMENT, Agreement, Lane
from reconciler.model.event import DeadLetter, Record, Refusal
from reconciler.model.stamp import NO_ANCHORS, Anchor, Partition, Place
from reconciler.ports import Clock, EventLog, FoldBatch, Store

_log = structlog.get_logger(__name__)

_BATCH = 5_000
_SLICE = 100  # outcomes decoded before other tasks get a turn: some milliseconds
_BYTES_MAX = 64 * 1024 * 1024  # of outcomes in memory: the last one of each document
_CHUNK = 1_000  # documents of a transaction
_LETTERS = 100  # dead letters a fetch: each may be a megabyte
_FETCH_TIMEOUT_S = 1.0
_UNSIGNED = "its writer does not have log.signing_key. Check who may write to the outcome log, and discard this"
_DAY_US = 86_400_000_000  # no valid claim is further ahead of its outcome, whatever skew is configured
_RECONCILED = OutcomeType.RECONCILED.value.encode()
_CHECKPOINT = OutcomeType.CHECKPOINT.value.encode()


@attrs.frozen
class Belief:
    """
    Which outcomes are accepted; the others become dead letters in `letters_topic`.

    `vouched`: an operator gave the log as an archive, so the places that its lines name count.
    """

    required: Required
    letters_topic: str
    vouched: bool = False

    def refusal(self, record: Record, heading: Heading | None = None) -> Refusal | None:
        """Return why an outcome is not accepted, `None` if it is; a `reconciled` one has a heading."""
        assert record.value is not None
        place = Place(record.topic, record.partition, record.offset)
        named = heading.place if heading is not None and self.vouched else None
        stood = place if named is None else Place(*named[0], named[1])
        fault = self.required.fault(record.value, stood)
        reason = f"this outcome is not accepted: {fault}; {_UNSIGNED}"
        return None if fault is None else Refusal(place, signing.STAGE, reason)


@attrs.define(eq=False, slots=False)
class Bases:
    """Collects the last base of each document from outcomes, until `store` stores them."""

    _ledger: Store
    _clock: Clock
    _until: str | None = None  # canonical instant; later outcomes are left out
    belief: Belief | None = None
    spans: dict[Partition, Span] = attrs.field(init=False, factory=dict)  # Kafka offsets named by lines of an archive
    refused: int = attrs.field(init=False, default=0)  # outcomes that were not accepted
    taken: int = attrs.field(init=False, default=0)  # agreements that were new to the store
    announced: tuple[Head, ...] = attrs.field(init=False, default=())  # by the last checkpoint
    _refused: list[DeadLetter] = attrs.field(init=False, factory=list)
    _last: dict[str, tuple[Heading, bytes]] = attrs.field(init=False, factory=dict)
    _bytes: int = attrs.field(init=False, default=0)

    @property
    def full(self) -> bool:
        """Whether to store before more are collected."""
        return self._bytes >= _BYTES_MAX

    def see(self, record: Record) -> None:
        """Keep a record if it is the last outcome of its document so far."""
        if record.value is None:
            return
        if _RECONCILED not in record.value:
            if _CHECKPOINT in record.value and (self.belief is None or self.belief.refusal(record) is None):
                self.announced = outcomes.announced(record.value) or self.announced
            return
        try:
            found = outcomes.heading(record.value)
        except ValueError:
            return  # not an outcome, it only mentions one
        if found is None or (self._until is not None and found.time > self._until):
            return
        if found.place is not None:
            place, offset = found.place
            first, after = self.spans.get(place, (offset, offset))
            self.spans[place] = min(first, offset), max(after, offset + 1)
        if self.belief is not None and (refusal := self.belief.refusal(record, found)) is not None:
            self._refused.append(outcomes.letter_of(record, refusal, self._clock.now_us()))
            self._bytes += len(record.value)
            return
        known = self._last.get(found.key)
        if known is None or (known[0].number, known[0].time) <= (found.number, found.time):
            self._last[found.key] = found, record.value
            self._bytes += len(record.value) - (0 if known is None else len(known[1]))

    async def store(self, positions: Mapping[Partition, int], anchors: Mapping[Partition, Anchor] = NO_ANCHORS) -> None:
        """Store the agreements that the store does not have, and then how far the log was read."""
        last, self._last, self._bytes = self._last, {}, 0
        keys = sorted(last)
        for start in range(0, len(keys), _CHUNK):
            await self._store(keys[start : start + _CHUNK], last)
        if self.belief is not None and self._refused:
            await self._bury(self.belief.letters_topic)
        if positions:
            await self._ledger.rebase({}, positions, self._clock.now_us(), anchors)

    async def _bury(self, topic: str) -> None:
        letters, self._refused = self._refused, []
        first = letters[0]
        _log.warning("outcomes not accepted", outcomes=len(letters), letter=first.id, reason=first.reason)
        self.refused += len(letters)
        dead = [(letter, outcomes.dead_letter(letter, topic)) for letter in letters]
        await self._ledger.fold(FoldBatch({}, {}, dead, Lane.RESYNC, self._clock.now_us()))

    async def _store(self, keys: Iterable[str], last: Mapping[str, tuple[Heading, bytes]]) -> None:
        rows = await self._ledger.documents(keys)
        agreements: dict[str, Agreement] = {}
        for key in keys:
            found, text = last[key]
            old = rows[key].agreement if key in rows else NO_AGREEMENT
            if old != NO_AGREEMENT and old.told >= found.number:
                continue
            base = _base(text)
            if base is not None:
                # Its conflicts stay open, so that the next attempt can close them.
                taken = Agreement(base=base, told=found.number, held=old.held)
                agreements[key] = agreement_before(taken, _latest(found.time))
            if len(agreements) % _SLICE == 0:
                await self._clock.sleep(0)
        if agreements:
            await self._ledger.rebase(agreements, {}, self._clock.now_us())
        self.taken += len(agreements)


def _latest(told: str) -> str:
    """
    Return the latest time of a claim that an outcome of that time can rest on.

    The present clock may be behind, and nearly every claim would then seem to lie in the future.
    """
    try:
        return instant.from_us(instant.to_us(told) + _DAY_US)
    except (OverflowError, ValueError):
        return told


def _base(text: bytes) -> Base | None:
    try:
        told = outcomes.told(text)
    except ValueError as error:
        _log.warning("can't read an outcome; its document keeps its base", error=str(error))
        return None
    return None if told is None else told.base


async def recover(
    log: EventLog,
    store: Store,
    clock: Clock,
    stop: asyncio.Event,
    *,
    accept_truncation: bool = False,
    belief: Belief | None = None,
    gone: Callable[[Sequence[Head]], Awaitable[None]] | None = None,
) -> int:
    """
    Take the agreements that are new to the store from the outcome log; return how many.

    `log` is opened and closed. Ends early when `stop` is set. `gone` is told the announced heads of audit chains that
    the store does not have. Raises LogTruncatedError when outcomes after the stored position are gone, LogError when
    the log can't be read.
    """
    bases = Bases(store, clock, belief=belief)
    try:
        anchors = await store.anchors()
        await log.open(await store.positions(), accept_truncation=accept_truncation, anchors=anchors)
        if accept_truncation:
            await store.reposition(await log.positions())
        if belief is not None:
            bases.belief = attrs.evolve(belief, required=belief.required.within(await log.ends()))
        await take(log, bases, clock, stop.is_set)
    finally:
        await log.close()
    if bases.taken:
        _log.info("recovered agreements from the outcome log", documents=bases.taken)
    lost = [head for head in bases.announced if not await _has(store, head)]
    if lost and gone is not None:
        await gone(lost)
    return bases.taken


async def _has(store: Store, head: Head) -> bool:
    entry = await store.audit_entry(head.number)
    if entry is None:  # then it may be in an archive
        return any(cut.has(head.number) for cut in await store.cuts())
    return entry.link == head.link


async def recall(log: EventLog, store: Store, clock: Clock, stop: asyncio.Event) -> int:
    """
    Take from the dead-letter log which records were refused by our clock; return how many.

    Without that, an empty or older store would accept them now that time has passed; other refusals are found again.
    `log` is opened and closed. Raises LogError when the log can't be read.
    """
    count = 0
    try:
        await log.open(await store.positions(), accept_truncation=True)
        ends, reached = dict(await log.ends()), dict(await log.positions())
        while not stop.is_set() and any(reached.get(place, 0) < end for place, end in ends.items()):
            found = map(outcomes.letter_in, await log.fetch(_LETTERS, _FETCH_TIMEOUT_S))
            refused = [(letter, None) for letter in found if letter is not None and letter.stage == decode.CLOCK]
            reached = dict(await log.positions())
            await store.fold(FoldBatch({}, reached, refused, Lane.REPLAY, clock.now_us()))
            count += len(refused)
    finally:
        await log.close()
    return count


async def take(
    log: EventLog, bases: Bases, clock: Clock, stopped: Callable[[], bool], *, keep_positions: bool = True
) -> int:
    """Store every base from the log's position to its end; return how many records there were."""
    ends = dict(await log.ends())
    reached = dict(await log.positions())
    count, last = 0, dict[Partition, Anchor]()
    while not stopped() and any(reached.get(place, 0) < end for place, end in ends.items()):
        records = await log.fetch(_BATCH, _FETCH_TIMEOUT_S)
        for number, record in enumerate(records, start=1):
            bases.see(record)
            if number % _SLICE == 0:
                await clock.sleep(0)
        count += len(records)
        for record in {(record.topic, record.partition): record for record in records}.values():
            last[Partition(record.topic, record.partition)] = anchoring.of(record)
        reached = dict(await log.positions())  # past gaps that hold no record
        if bases.full:
            await bases.store(reached if keep_positions else {}, last)
    await bases.store(reached if keep_positions else {}, last)
    return count
