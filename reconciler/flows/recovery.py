"""
Recovery: the outcome log gives back what was last agreed with Windchill (ARCHITECTURE.md).

Rules:
1. It is read at every start, from where the store has taken note of it, and nothing is written to Windchill before its
   end. So a store that is new, or an older copy put back by whatever means, never decides on less than was told.
2. Of two agreements the one that more was told of is the later one (`Agreement.told`). What the store knows better
   stays; reading the log twice, or archives of it in any order, changes nothing.

3. Where outcomes have to be signed, one that is not is no outcome: it becomes a dead letter, and changes nothing.

What it can't give back: an agreement that nobody was told of yet when the store was lost (its outcome waited in the
outbox), and a write in doubt.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping

import attrs
import structlog

from reconciler.core.events import anchoring, decode, outcomes, signing
from reconciler.core.events.anchoring import Span
from reconciler.core.events.outcomes import Heading, OutcomeType
from reconciler.core.events.signing import Required
from reconciler.core.folding import refolding
from reconciler.model import instant
from reconciler.model.base import Base
from reconciler.model.document import NO_AGREEMENT, Agreement, Lane
from reconciler.model.event import DeadLetter, Record, Refusal
from reconciler.model.stamp import NO_ANCHORS, Anchor, Partition, Place
from reconciler.ports import Clock, EventLog, FoldBatch, Store

_log = structlog.get_logger(__name__)

_BATCH = 5_000
_SLICE = 100  # outcomes decoded between two turns of the other tasks: some milliseconds
_BYTES_MAX = 64 * 1024 * 1024  # of outcomes in memory, the last one of each document as it was read
_CHUNK = 1_000  # documents of a transaction
_LETTERS = 100  # dead letters a fetch: each may be a megabyte
_FETCH_TIMEOUT_S = 1.0
_UNSIGNED = "whoever wrote it has not log.signing_key. See who may write to the outcome log, and discard this"
_DAY_US = 86_400_000_000  # further ahead of its outcome no claim is that counts, whatever skew is configured
_RECONCILED = OutcomeType.RECONCILED.value.encode()


@attrs.frozen
class Belief:
    """
    Which outcomes are believed; the others become letters of `letters_topic`.

    `vouched`: a person has given the log as an archive, so that where its lines say they stood counts.
    """

    required: Required
    letters_topic: str
    vouched: bool = False

    def refusal(self, record: Record, heading: Heading) -> Refusal | None:
        """Return why an outcome is not believed, `None` if it is."""
        assert record.value is not None
        place = Place(record.topic, record.partition, record.offset)
        stood = Place(*heading.place[0], heading.place[1]) if self.vouched and heading.place is not None else place
        fault = self.required.fault(record.value, stood)
        reason = f"this outcome is not believed: {fault}; {_UNSIGNED}"
        return None if fault is None else Refusal(place, signing.STAGE, reason)


class Bases:
    """The last base of each document that outcomes told of, until `store` hands them over."""

    def __init__(self, ledger: Store, clock: Clock, *, until: str | None = None, belief: Belief | None = None) -> None:
        self._ledger = ledger
        self.belief = belief
        self._refused: list[DeadLetter] = []
        self._clock = clock
        self._until = until  # canonical instant; what was told later is left out
        self._last: dict[str, tuple[Heading, bytes]] = {}
        self._bytes = 0
        self.spans: dict[Partition, Span] = {}  # of Kafka's offsets, which lines of an exported log name
        self.refused = 0  # outcomes that were not believed
        self.taken = 0  # agreements that the store did not know, or not so late

    @property
    def full(self) -> bool:
        """Whether they should be stored before more are looked at."""
        return self._bytes >= _BYTES_MAX

    def see(self, record: Record) -> None:
        """Keep what a record tells, if it is an outcome and the last of its document."""
        if record.value is None or _RECONCILED not in record.value:
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
        """Give the ledger what it does not know, and then how far the outcome log was read."""
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
        _log.warning("outcomes are not believed", outcomes=len(letters), letter=first.id, reason=first.reason)
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
                # Its conflicts stay listed, so that the next attempt can close what is no more.
                taken = Agreement(base=base, told=found.number, held=old.held)
                agreements[key] = refolding.before(taken, _latest(found.time))
            if len(agreements) % _SLICE == 0:
                await self._clock.sleep(0)
        if agreements:
            await self._ledger.rebase(agreements, {}, self._clock.now_us())
        self.taken += len(agreements)


def _latest(told: str) -> str:
    """
    Return the latest time of a claim that can have been agreed on when an outcome told of it.

    By our clock of then, not of now: that one may be behind, and nearly every claim would seem to lie in the future.
    """
    try:
        return instant.from_us(instant.to_us(told) + _DAY_US)
    except (OverflowError, ValueError):
        return told


def _base(text: bytes) -> Base | None:
    try:
        told = outcomes.told(text)
    except ValueError as error:
        _log.warning("an outcome can't be read, and its document keeps the base it has", error=str(error))
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
) -> int:
    """
    Take what the outcome log tells beyond what the store knows of it, up to its end; return of how many documents.

    `log` is opened and closed. Ends early when `stop` is set. Raises LogTruncatedError when outcomes are gone that the
    store has not taken note of, LogError when the log can't be read.
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
        _log.info("took over what the outcome log says was agreed", documents=bases.taken)
    return bases.taken


async def recall(log: EventLog, store: Store, clock: Clock, stop: asyncio.Event) -> int:
    """
    Take from the dead-letter log which records our clock has refused, up to its end; return how many there were.

    Time has gone by: without that, an empty or older store would now take them. Other refusals are found again. What
    the log no longer holds can't be helped. `log` is opened and closed. Raises LogError when the log can't be read.
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
    """Give the store every base from where the log stands up to its end; return how many records there were."""
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


__all__ = ["Bases", "Belief", "recall", "recover", "take"]
