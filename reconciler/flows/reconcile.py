"""
Reconcile: takes documents from the queue and makes attempts on them, several at a time, one a document.

One feeder loads documents in batches (a trip to the store costs the same for one as for twenty); workers make the
attempts. Both are loops that the composition root runs; they stop when told, after the attempt under way.
"""

import asyncio

import attrs
import structlog

from reconciler.core.scheduling.queue import Queue, spread
from reconciler.core.settling.cases import Rulebook
from reconciler.flows import watchdog
from reconciler.flows.attempt import Attempt
from reconciler.flows.gate import HeldUpError
from reconciler.model import instant
from reconciler.model.audit import AttemptResult, AuditRecord, Settlement
from reconciler.model.document import Document, Due, Lane, Status
from reconciler.ports import Clock, Ledger, Telemetry
from reconciler.tracing import NO_TRACING, Tracing

_log = structlog.get_logger(__name__)

_IDLE_S_MAX = 30.0  # how long the feeder sleeps at most; everything that matters wakes it earlier
_FRESH_US = 100_000  # a row that was loaded earlier is loaded again: somebody may have paused the document since
_DOUBT_S_MIN = 0.5  # between two looks at whether more probes are wanted
_LOOKED_AT = 4  # documents for each probe that is wanted, to choose from
_RETRY_KEPT_US = 120_000_000  # a later retry is left to the store, which brings it back when its time comes


@attrs.frozen
class _Work:
    due: Due
    document: Document
    loaded_us: int


class Reconciler:
    """The reconcile loop. `feed` and `work` (as often as wanted) run until `stop`."""

    def __init__(
        self,
        attempt: Attempt,
        ledger: Ledger,
        queue: Queue,
        clock: Clock,
        telemetry: Telemetry,
        *,
        workers: int,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self._attempt = attempt
        self._tracing = tracing
        self._ledger = ledger
        self._queue = queue
        self._clock = clock
        self._telemetry = telemetry
        self._ahead = workers  # documents loaded and waiting for a worker, at most
        self._loaded: asyncio.Queue[_Work | None] = asyncio.Queue()
        self._workers = workers
        self._retrying = 0  # attempts under way on documents that failed before
        self._probing: set[str] = set()  # documents taken up as probes, until the attempt on them has ended
        self._wake = asyncio.Event()
        self._stopping = False
        self.gained = 0  # attempts on pending documents that did not fail, ever
        self.outbox_filled = asyncio.Event()  # set when a settlement left something in the outbox
        self.settled = asyncio.Event()  # set after every settlement

    def offer(self, due: Due) -> None:
        """Let a document wait for its turn; what does not fit in the queue stays in the store."""
        self._queue.offer(due)
        self._wake.set()

    def decide_by(self, rules: Rulebook) -> None:
        """Decide by other rules from the next attempt on; those under way end by the rules they began with."""
        self._attempt = attrs.evolve(self._attempt, rules=rules)

    def stop(self) -> None:
        """Take up nothing more; the loops end after the attempts under way."""
        self._stopping = True
        self._wake.set()

    @property
    def idle(self) -> bool:
        """Whether nothing is under way here and nothing in the queue is due."""
        soonest_us = self._queue.next_due_us()
        return not self._queue.running and (soonest_us is None or soonest_us > self._clock.now_us())

    async def feed(self) -> None:
        """Load documents whose turn has come and hand them to the workers."""
        while not self._stopping:
            watchdog.beat()
            room = self._ahead - self._loaded.qsize()
            if self._attempt.gate.in_doubt:
                taken = await self._load_probes()
            # Topping up one by one would make a trip to the store for each document; half a buffer is soon enough.
            elif taken := self._queue.take(self._clock.now_us(), room) if 2 * room >= self._ahead else []:
                for work in await self._load(taken):
                    self._loaded.put_nowait(work)
            if not taken:
                await self._sleep()
        for _ in range(self._workers):
            self._loaded.put_nowait(None)

    async def work(self) -> None:
        """Make attempts, one after the other."""
        while (work := await self._next()) is not None:
            if self._stopping:  # loaded but not begun: the store still has it as due
                self._queue.done(work.due.key)
                continue
            if 2 * self._loaded.qsize() <= self._ahead:
                self._wake.set()
            if self._clock.now_us() - work.loaded_us > _FRESH_US:
                work = await self._again(work)
            await self._one(work)
            self._probing.discard(work.due.key)

    async def _next(self) -> _Work | None:
        with watchdog.waiting():
            return await self._loaded.get()

    async def _again(self, work: _Work) -> _Work:
        found = await self._ledger.documents([work.due.key])
        return attrs.evolve(work, document=found.get(work.due.key, work.document))

    async def _load_probes(self) -> list[Due]:
        """
        Load as many documents as the gate wants for probes, once the probes before have ended.

        They are spread over all that are due, because those in trouble may stand in a row, and are none that is known
        to be in trouble if there are others.
        """
        gate, chance = self._attempt.gate, self._clock.chance()
        wanted = 0 if self._probing else gate.probes_wanted
        if not wanted:
            return []
        taken = self._queue.sample(self._clock.now_us(), wanted * _LOOKED_AT, chance)
        works = await self._load(taken)
        fit = [work for work in works if not work.document.agreement.failures] or works
        self._probing = {work.due.key for work in spread(fit, wanted, chance)}
        gate.let_probe(self._probing)
        for work in works:
            if work.due.key in self._probing:
                self._loaded.put_nowait(work)
            else:
                self._queue.done(work.due.key, work.due)
        return taken

    async def _load(self, taken: list[Due]) -> list[_Work]:
        """Load documents that were taken, and return those that are still to be looked at."""
        works = []
        documents = await self._ledger.documents([due.key for due in taken])
        now_us = self._clock.now_us()
        for due in taken:
            document = documents.get(due.key)
            if document is None or (document.status is Status.PAUSED and document.due_us is None):
                self._queue.done(due.key)
            elif due.lane > Lane.OPERATOR and document.due_us is None:
                self._queue.done(due.key)  # an offer older than the attempt that satisfied it
            elif due.lane > Lane.OPERATOR and document.due_us is not None and document.due_us > now_us:
                # A wait that the store has set, and that a new event must not shorten.
                self._queue.done(due.key, self._soon(Due(due.key, due.lane, document.due_us), now_us))
            else:
                works.append(_Work(due, document, now_us))
        return works

    async def _sleep(self) -> None:
        soonest_us = self._queue.next_due_us()
        delay_s = _IDLE_S_MAX if soonest_us is None else (soonest_us - self._clock.now_us()) / 1_000_000
        if self._loaded.qsize() or self._probing:  # the buffer is full enough; a worker wakes us
            delay_s = _IDLE_S_MAX
        if self._attempt.gate.in_doubt:  # what is due waits for a probe, perhaps one that is none of ours
            delay_s = max(delay_s, self._attempt.gate.held_s, _DOUBT_S_MIN)
        if delay_s > 0:
            await self._clock.wait(self._wake, min(delay_s, _IDLE_S_MAX))
        self._wake.clear()

    async def _one(self, work: _Work) -> None:
        key, document = work.due.key, work.document
        failures = document.agreement.failures
        if failures and work.due.lane > Lane.OPERATOR:
            wait_s = self._attempt.gate.retry_wait_s(failures, self._retrying)
            if wait_s:
                self._queue.done(key, Due(key, work.due.lane, self._clock.now_us() + round(wait_s * 1_000_000)))
                self._wake.set()  # the feeder may sleep until something later
                return
        self._retrying += bool(failures)
        try:
            with self._tracing.attempt(document, work.due.lane) as followed:
                settlement = followed.ended(await self._attempt.run(document, work.due.lane))
                await self._ledger.settle(settlement)
        except HeldUpError:  # nothing was sent: again, from what the store has by now
            self._queue.done(key, work.due)
            self._wake.set()
            return
        except BaseException:
            self._queue.done(key)
            raise
        finally:
            self._retrying -= bool(failures)
        self.gained += (
            document.status in (Status.PENDING, Status.COLLECTING) and settlement.agreement.failures <= failures
        )
        due_us = settlement.due_us
        again = None if due_us is None else Due(key, settlement.lane, due_us)
        self._queue.done(key, self._soon(again, settlement.at_us))
        if settlement.status is not Status.PAUSED:  # that was no attempt, and nobody has asked for one
            self._report(document, settlement)
        if settlement.outcomes:
            self.outbox_filled.set()
        self.settled.set()
        self._wake.set()

    @staticmethod
    def _soon(due: Due | None, now_us: int) -> Due | None:
        """Return what the queue itself should bring back; long waits are the store's to remember."""
        return due if due is not None and due.due_us <= now_us + _RETRY_KEPT_US else None

    def _report(self, document: Document, settlement: Settlement) -> None:
        record = settlement.audit[0] if settlement.audit else None
        result = settlement.result or settlement.status.value
        self._telemetry.add("attempts_total", result=result)
        if settlement.conflicts:
            status = str(record.status) if record is not None else ""
            self._telemetry.add("version_conflicts_total", settlement.conflicts, status=status)
        for count in settlement.contention:
            if count.conflicts:
                self._telemetry.add("field_conflicts_total", count.conflicts, field=count.field)
        if record is not None:
            for verdict in record.decisions:
                self._telemetry.add("decisions_total", decision=verdict.verb, strategy=verdict.strategy)
            if settlement.status is Status.SYNCED:
                self._observe(record)
        self._say(document, settlement, result, record)

    def _observe(self, record: AuditRecord) -> None:
        stamps = [
            field.register.stamp.time
            for name, field in record.desired.fields.items()
            if field.register is not None and record.patch is not None and name in record.patch
        ]
        if stamps:
            took_us = record.at_us - instant.to_us(max(stamps))
            self._telemetry.observe("convergence_seconds", max(0, took_us) / 1_000_000)  # sources' clocks may be ahead

    def _say(self, document: Document, settlement: Settlement, result: str, record: AuditRecord | None) -> None:
        written = record is not None and record.patch is not None
        quiet = settlement.status is Status.COLLECTING
        quiet |= settlement.status is Status.SYNCED and not written and not settlement.opened and not settlement.closed
        well = settlement.status is Status.SYNCED or result == AttemptResult.WRITTEN
        say = _log.debug if quiet else _log.info if well else _log.warning
        say(
            "document settled" if settlement.status in (Status.SYNCED, Status.HELD) else "document not settled",
            document=document.key,
            status=settlement.status.value,
            result=result,
            reason=settlement.reason or None,
            fields=None if record is None or record.patch is None else sorted(record.patch),
            opened=[conflict.id for conflict in settlement.opened] or None,
            closed=list(settlement.closed) or None,
        )
