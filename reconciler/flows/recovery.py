"""
Recovery: the outcome log gives back what was last agreed with Windchill (DESIGN section 2, law 8).

Rules:
1. It is read at every start, from where the store has taken note of it, and nothing is written to Windchill before its
   end. So a store that is new, or an older copy put back by whatever means, never decides on less than was told.
2. Of two agreements the one that more was told of is the later one (`Agreement.told`). What the store knows better
   stays; reading the log twice, or archives of it in any order, changes nothing.

What it can't give back: an agreement that nobody was told of yet when the store was lost (its outcome waited in the
outbox), and a write in doubt.
"""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from reconciler.core import outcomes
from reconciler.core.coverage import Span
from reconciler.core.outcomes import Told
from reconciler.model.document import NO_AGREEMENT, Agreement
from reconciler.model.event import Record
from reconciler.model.outcome import OutcomeType
from reconciler.model.stamp import Partition
from reconciler.ports import Clock, EventLog, Ledger, Store

_log = structlog.get_logger(__name__)

_BATCH = 5_000
_SLICE = 100  # outcomes decoded between two turns of the other tasks: some milliseconds
_DOCUMENTS_MAX = 5_000  # a transaction's agreements in memory: some kilobytes each
_FETCH_TIMEOUT_S = 1.0
_RECONCILED = OutcomeType.RECONCILED.value.encode()


class Bases:
    """The last base of each document that outcomes told of, until `store` hands them over."""

    def __init__(self, ledger: Ledger, clock: Clock, *, until: str | None = None) -> None:
        self._ledger = ledger
        self._clock = clock
        self._until = until  # canonical instant; what was told later is left out
        self._last: dict[str, Told] = {}
        self.spans: dict[Partition, Span] = {}  # of Kafka's offsets, which lines of an exported log name
        self.taken = 0  # agreements that the store did not know, or not so late

    @property
    def full(self) -> bool:
        """Whether they should be stored before more are looked at."""
        return len(self._last) >= _DOCUMENTS_MAX

    def see(self, record: Record) -> None:
        """Keep what a record tells, if it is an outcome and the last of its document."""
        if record.value is None or _RECONCILED not in record.value:
            return
        try:
            told = outcomes.told(record.value)
        except ValueError:
            return  # not an outcome, it only mentions one
        if told is None or (self._until is not None and told.time > self._until):
            return
        if told.place is not None:
            place, offset = told.place
            first, after = self.spans.get(place, (offset, offset))
            self.spans[place] = min(first, offset), max(after, offset + 1)
        known = self._last.get(told.key)
        if known is None or (known.number, known.time) <= (told.number, told.time):
            self._last[told.key] = told

    async def store(self, positions: Mapping[Partition, int]) -> None:
        """Give the ledger what it does not know, together with how far the outcome log was read."""
        last, self._last = self._last, {}
        rows = await self._ledger.documents(last)
        agreements: dict[str, Agreement] = {}
        for key, told in last.items():
            old = rows[key].agreement if key in rows else NO_AGREEMENT
            if old == NO_AGREEMENT or old.told < told.number:
                # Its conflicts stay listed, so that the next attempt can close what is no more.
                agreements[key] = Agreement(base=told.base, told=told.number, held=old.held)
        if agreements or positions:
            await self._ledger.rebase(agreements, positions, self._clock.now_us())
        self.taken += len(agreements)


async def recover(
    log: EventLog, store: Store, clock: Clock, stop: asyncio.Event, *, accept_truncation: bool = False
) -> int:
    """
    Take what the outcome log tells beyond what the store knows of it, up to its end; return of how many documents.

    `log` is opened and closed. Ends early when `stop` is set. Raises LogTruncatedError when outcomes are gone that the
    store has not taken note of, LogError when the log can't be read.
    """
    bases = Bases(store, clock)
    try:
        await log.open(await store.positions(), accept_truncation=accept_truncation)
        if accept_truncation:
            await store.reposition(await log.positions())
        await take(log, bases, clock, stop.is_set)
    finally:
        await log.close()
    if bases.taken:
        _log.info("took over what the outcome log says was agreed", documents=bases.taken)
    return bases.taken


async def take(
    log: EventLog, bases: Bases, clock: Clock, stopped: Callable[[], bool], *, keep_positions: bool = True
) -> int:
    """Give the store every base from where the log stands up to its end; return how many records there were."""
    ends = dict(await log.ends())
    reached = dict(await log.positions())
    count = 0
    while not stopped() and any(reached.get(place, 0) < end for place, end in ends.items()):
        records = await log.fetch(_BATCH, _FETCH_TIMEOUT_S)
        for number, record in enumerate(records, start=1):
            bases.see(record)
            if number % _SLICE == 0:
                await clock.sleep(0)
        count += len(records)
        reached = dict(await log.positions())  # past gaps that hold no record
        await bases.store(reached if keep_positions else {})
    return count


__all__ = ["Bases", "recover", "take"]
