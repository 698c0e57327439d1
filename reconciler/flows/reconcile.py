"""
Reconcile: takes documents from the queue and makes attempts on them, several at a time, one a document.

`feed` loads documents in batches, because a query costs the same for one as for twenty; several `work` loops make the
attempts. Both stop after the attempts under way.

Of several replicas, the one that loads a document has it until its attempt is settled. The queues of several may hold
one document; whoever comes too late looks again a second later, because what made it due may have come too late for
the attempt of the other.
"""

import asyncio
from collections.abc import Mapping

import attrs
import msgspec
import structlog

from reconciler.core.folding.rows import DONE
from reconciler.core.scheduling.queue import Queue, spread
from reconciler.core.settling.cases import AttemptOptions
from reconciler.errors import LostError
from reconciler.flows import watchdog
from reconciler.flows.attempt import Attempt
from reconciler.flows.gate import HeldUpError
from reconciler.model import instant
from reconciler.model.audit import AttemptResult, AuditRecord, Settlement
from reconciler.model.document import Document, Due, Lane, Status
from reconciler.ports import Clock, Ledger, Telemetry
from reconciler.tracing import NO_TRACING, Tracing

_IDLE_S_MAX = 30.0  # `feed` sleeps at most so long; usually something wakes it earlier
_FRESH_US = 100_000  # an older row is loaded again, as the document may have been paused since
_ELSEWHERE_US = 1_000_000  # so long we leave a document alone that another replica has
_PASSED_ON, _PASSED_ON_US = 256, 10_000_000  # documents at a time, each again 10 s later, without a share of requests
_WORKERS_A_ROW = 4  # for so many workers one loaded row waits: more of them would often have to be loaded again
_DOUBT_S_MIN = 0.5  # between two checks whether more probes are wanted
_LOOKED_AT = 4  # documents to choose each probe from
_WELL = (Status.SYNCED, Status.OBSERVED, Status.COLLECTING)
_RETRY_KEPT_US = 120_000_000  # later retries are left to the store and the due feeder


class _Work(msgspec.Struct, frozen=True):
    due: Due
    document: Document
    loaded_us: int


@attrs.define(eq=False, slots=False)
class Reconciler:
    """The reconcile loop. `feed`, and `work` once for each worker, run until `stop`."""

    _attempt: Attempt
    _ledger: Ledger
    _queue: Queue
    _clock: Clock
    _telemetry: Telemetry
    _workers: int
    _tracing: Tracing = NO_TRACING
    gained: int = attrs.field(init=False, default=0)  # attempts on pending documents that did not fail
    outbox_filled: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)  # a settlement left messages there
    settled: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)  # set after every settlement
    _loaded: asyncio.Queue[_Work | None] = attrs.field(init=False, factory=asyncio.Queue)
    _retrying: int = attrs.field(init=False, default=0)  # attempts under way on documents that failed before
    _probing: set[str] = attrs.field(init=False, factory=set)  # documents whose attempts are probes
    _wake: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)
    _stopping: bool = attrs.field(init=False, default=False)
    _log: structlog.typing.FilteringBoundLogger = attrs.field(init=False, factory=lambda: structlog.get_logger().bind())

    def offer(self, due: Due) -> None:
        """Queue a document; if the queue is full, it stays due in the store."""
        self._queue.offer(due)
        self._wake.set()

    def wake(self) -> None:
        """Look at the queue now: writes were resumed."""
        self._wake.set()

    def decide_by(self, options: AttemptOptions) -> None:
        """Use another policy from the next attempt on."""
        self._attempt = attrs.evolve(self._attempt, options=options)

    def stop(self) -> None:
        """End the loops after the attempts under way."""
        self._stopping = True
        self._wake.set()

    @property
    def _buffer(self) -> int:
        """How many loaded documents may wait for a worker."""
        return max(1, self._workers // _WORKERS_A_ROW)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way here and nothing in the queue is due."""
        soonest_us = self._queue.next_due_us()
        return not self._queue.running and (soonest_us is None or soonest_us > self._clock.now_us())

    async def feed(self) -> None:
        """Load documents that are due and hand them to the workers."""
        while not self._stopping:
            watchdog.beat()
            room = self._buffer - self._loaded.qsize()
            if self._attempt.gate.without_share:
                taken = await self._pass_on()
            elif self._attempt.writes.stopped:
                taken = []
            elif self._attempt.gate.in_doubt:
                taken = await self._load_probes()
            # Refill when half of the buffer is free, not for each document.
            elif taken := self._queue.take(self._clock.now_us(), room) if 2 * room >= self._buffer else []:
                for work in await self._load(taken):
                    self._loaded.put_nowait(work)
            if not taken:
                await self._sleep()
        for _ in range(self._workers):
            self._loaded.put_nowait(None)

    async def work(self) -> None:
        """Make attempts, one after the other."""
        while (work := await self._next()) is not None:
            if self._stopping:  # it is still due in the store
                self._queue.done(work.due.key)
                continue
            if 2 * self._loaded.qsize() <= self._buffer:
                self._wake.set()
            await self._one(work)
            self._probing.discard(work.due.key)

    async def _next(self) -> _Work | None:
        with watchdog.waiting():
            return await self._loaded.get()

    async def _pass_on(self) -> list[Due]:
        """Leave documents to others: one may be ours unknown to us, if the store was late to take it for us."""
        taken = self._queue.take(self._clock.now_us(), _PASSED_ON)
        later_us = self._clock.now_us() + _PASSED_ON_US
        await self._leave({due.key: Due(due.key, due.lane, later_us) for due in taken})
        return taken

    async def _load_probes(self) -> list[Due]:
        """
        Load as many documents as the gate wants for probes, once earlier probes have ended.

        They are spread over all that are due, because those in trouble may be neighbours, and avoid documents that
        have failed before.
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
        await self._leave({work.due.key: work.due for work in works if work.due.key not in self._probing})
        return taken

    async def _load(self, taken: list[Due]) -> list[_Work]:
        """Load documents that were taken, and return those that are still due, and ours."""
        works = []
        left: dict[str, Due | None] = {}
        documents = await self._ledger.hold([due.key for due in taken])
        now_us = self._clock.now_us()
        for due in taken:
            document = documents.get(due.key)
            if document is None:
                self._queue.done(due.key, Due(due.key, due.lane, now_us + _ELSEWHERE_US))
            elif document.status is Status.PAUSED and document.due_us is None:
                left[due.key] = None
            elif due.lane > Lane.OPERATOR and document.due_us is None:
                left[due.key] = None  # an offer older than the attempt that satisfied it
            elif due.lane > Lane.OPERATOR and document.due_us is not None and document.due_us > now_us:
                # A new event must not shorten a wait that the store has set.
                left[due.key] = self._soon(Due(due.key, due.lane, document.due_us), now_us)
            else:
                works.append(_Work(due, document, now_us))
        await self._leave(left)
        return works

    async def _leave(self, left: Mapping[str, Due | None]) -> None:
        """Leave documents that get no attempt now to others; the queue keeps what is still due."""
        if left:
            await self._ledger.give_back(left)
        for key, due in left.items():
            self._queue.done(key, due)

    async def _sleep(self) -> None:
        soonest_us = self._queue.next_due_us()
        delay_s = _IDLE_S_MAX if soonest_us is None else (soonest_us - self._clock.now_us()) / 1_000_000
        if self._loaded.qsize() or self._probing:  # a worker wakes us
            delay_s = _IDLE_S_MAX
        if self._attempt.gate.in_doubt:  # all wait for a probe, perhaps for one of the gate's own
            delay_s = max(delay_s, self._attempt.gate.held_s, _DOUBT_S_MIN)
        if self._attempt.writes.stopped:  # whoever learns that they are resumed wakes us
            delay_s = _IDLE_S_MAX
        if delay_s > 0:
            await self._clock.wait(self._wake, min(delay_s, _IDLE_S_MAX))
        self._wake.clear()

    async def _one(self, work: _Work) -> None:
        key, document = work.due.key, work.document
        if self._clock.now_us() - work.loaded_us > _FRESH_US:
            found = (await self._ledger.hold([key])).get(key)
            if found is None:
                self._queue.done(key)
                return
            document = found
        failures = document.agreement.failures
        if failures and work.due.lane > Lane.OPERATOR:
            wait_s = self._attempt.gate.retry_wait_s(failures, self._retrying)
            if wait_s:
                await self._leave({key: Due(key, work.due.lane, self._clock.now_us() + round(wait_s * 1_000_000))})
                self._wake.set()  # `feed` may sleep until a later time
                return
        self._retrying += bool(failures)
        try:
            with self._tracing.attempt(document, work.due.lane) as followed:
                settlement = followed.ended(await self._attempt.run(document, work.due.lane))
                await self._ledger.settle(settlement)
        except HeldUpError:  # nothing was sent; start again from the stored row
            await self._leave({key: work.due})
            self._wake.set()
            return
        except LostError as error:
            self._queue.done(key)
            self._log.info("an attempt does not count", document=key, reason=str(error))
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
        if settlement.status is not Status.PAUSED:  # that was no attempt
            self._report(document, settlement)
        if settlement.outcomes:
            self.outbox_filled.set()
        self.settled.set()
        if not self._loaded.qsize():  # else the worker that takes the next row wakes `feed`
            self._wake.set()

    @staticmethod
    def _soon(due: Due | None, now_us: int) -> Due | None:
        """Return a retry that the queue keeps itself, None for one that is left to the store."""
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
        """Log what may want a look. The audit trail has what went as it should, so only debugging logs it."""
        well = settlement.status in _WELL or result == AttemptResult.WRITTEN
        quiet = well and not settlement.opened and not settlement.closed
        say = self._log.debug if quiet else self._log.info if well else self._log.warning
        say(
            "document settled" if settlement.status in DONE else "document not settled",
            document=document.key,
            status=settlement.status.value,
            result=result,
            reason=settlement.reason or None,
            fields=None if record is None or record.patch is None else sorted(record.patch),
            opened=[conflict.id for conflict in settlement.opened] or None,
            closed=list(settlement.closed) or None,
        )
