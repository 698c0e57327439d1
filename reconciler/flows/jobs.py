"""
Jobs: compare every document again, or fold the whole log again, while the daemon does its work.

Rules
-----
1. One job of a kind at a time. Each is watched: how much of how much, how long it will take yet, who asked for it.
2. A job gives way. Documents are made due a few hundred at a time, in the lane of comparisons, and the next only when
   most of these were looked at; a replay rests between two batches. What is written comes under the write budget.
3. Cancelled, a job does no more, and undoes nothing: documents that were due already are looked at.
4. Nothing is kept of a job beyond this process. A stop ends it, and says so; doing it again costs time only.

What a job may not touch: a wait that trouble has set, a lane that is more urgent than its own, documents that somebody
has paused, the positions up to which the log itself was folded.
"""

import asyncio
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from reconciler.core import progress
from reconciler.errors import LogError
from reconciler.flows import beats
from reconciler.flows.ingest import Ingest
from reconciler.model.document import Lane, Status
from reconciler.model.job import Job, JobKind, JobState, NotNow
from reconciler.ports import Clock, ComparingStore, EventLog

_log = structlog.get_logger(__name__)

SETTLED = (Status.SYNCED, Status.HELD, Status.PARKED)  # what no other attempt is on its way to
_CHUNK = 500  # documents made due at a time
_LOOK_S = 0.25  # between two looks at how many of these are left
_RECORDS = 5_000  # of one batch of a replay
_FETCH_TIMEOUT_S = 1.0
_REST_S = 0.02  # between two batches, so that fresh events have their turn
_IDLE_S = 3600.0
_KEPT = 50  # jobs that have ended


class Running:
    """A job under way. Whoever does the work says how far it is, and looks at `ending`."""

    def __init__(self, kind: JobKind, by: str, clock: Clock) -> None:
        self.kind = kind
        self.done = 0
        self.total: int | None = None
        self.ending = asyncio.Event()  # set when it is to do no more
        self.why = ""
        self._id = str(uuid.uuid4())
        self._by = by
        self._clock = clock
        self._started_us = clock.now_us()
        self._started_s = clock.monotonic_s()

    def end(self, why: str) -> None:
        """Let it do no more; the first reason stands."""
        self.why = self.why or why
        self.ending.set()

    def shown(self, state: JobState = JobState.RUNNING, message: str = "") -> Job:
        """Return the job as it stands."""
        running = state is JobState.RUNNING
        elapsed_s = self._clock.monotonic_s() - self._started_s
        return Job(
            id=self._id,
            kind=self.kind,
            state=state,
            by=self._by,
            started_us=self._started_us,
            ended_us=None if running else self._clock.now_us(),
            done=self.done,
            total=self.total,
            estimate_s=progress.estimate_s(self.done, self.total, elapsed_s) if running else None,
            message=message or self.why,
        )


class Jobs:
    """The jobs of one daemon. `loops` are to be run; they end after `stop`."""

    def __init__(
        self,
        store: ComparingStore,
        ingest: Ingest,
        clock: Clock,
        *,
        make_log: Callable[[], EventLog],
        compare: Callable[[], None],
        maintenance: bool,
    ) -> None:
        self._store = store
        self._ingest = ingest
        self._clock = clock
        self._make_log = make_log
        self._compare = compare  # lets what is due be noticed now
        self._maintenance = maintenance
        self._running: dict[JobKind, Running] = {}
        self._ended: deque[Job] = deque(maxlen=_KEPT)
        self._asked = {JobKind.RESYNC: asyncio.Event(), JobKind.REPLAY: asyncio.Event()}
        self._stopping = False

    def list(self) -> Sequence[Job]:
        """Return every job, newest first: those under way, and the last that have ended."""
        found = [*(running.shown() for running in self._running.values()), *self._ended]
        return sorted(found, key=lambda job: (job.ended_us is None, job.started_us), reverse=True)

    def find(self, job_id: str) -> Job | None:
        """Return the job of that id."""
        return next((job for job in self.list() if job.id == job_id), None)

    def start(self, kind: JobKind, by: str) -> Job | NotNow:
        """Let a job begin."""
        if self._stopping:
            return NotNow("the reconciler is stopping")
        if kind in self._running:
            return NotNow(f"a {kind} is under way; wait for its end, or cancel it")
        if kind is JobKind.RESYNC and self._maintenance:
            return NotNow("windchill.maintenance is on, so nothing is compared; start without it first")
        running = self._begin(kind, by)
        self._asked[kind].set()
        return running.shown()

    def cancel(self, job_id: str, by: str) -> Job | NotNow | None:
        """Let a job do no more; None: there is none of that id."""
        running = next((one for one in self._running.values() if one.shown().id == job_id), None)
        if running is None:
            return None if self.find(job_id) is None else NotNow("this job has ended")
        if running.kind is JobKind.CATCH_UP:
            return NotNow("nothing is written before the log is folded to its end, so this can't be cancelled")
        running.end(f"cancelled by {by}")
        _log.info("a job is cancelled", kind=running.kind.value, by=by)
        return running.shown()

    def catching_up(self, total: int) -> Running:
        """Note that the log is being caught up with; whoever does it says how far it is, and calls `caught_up`."""
        running = self._begin(JobKind.CATCH_UP, "reconciler")
        running.total = total
        return running

    def caught_up(self, running: Running) -> None:
        """Note that this is over."""
        complete = running.total is not None and running.done >= running.total
        self._end(running, JobState.DONE if complete else JobState.CANCELLED, "" if complete else "the daemon stopped")

    def stop(self) -> None:
        """End the loops, and the jobs under way with them."""
        self._stopping = True
        for running in self._running.values():
            running.end("the daemon stopped before this was done; start it again")
        for asked in self._asked.values():
            asked.set()

    def loops(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """Return what is to be run, by name."""
        return {
            "resync of all": lambda: self._serve(JobKind.RESYNC, self._resync),
            "replay of all": lambda: self._serve(JobKind.REPLAY, self._replay),
        }

    async def _serve(self, kind: JobKind, work: Callable[[Running], Awaitable[None]]) -> None:
        asked = self._asked[kind]
        while not self._stopping:
            beats.turn()
            if (running := self._running.get(kind)) is not None:
                await self._do(running, work)
            await self._clock.wait(asked, _IDLE_S)
            asked.clear()

    async def _do(self, running: Running, work: Callable[[Running], Awaitable[None]]) -> None:
        try:
            await work(running)
        except LogError as error:
            self._end(running, JobState.FAILED, str(error))
        except BaseException as error:
            self._end(running, JobState.FAILED, str(error) or "the daemon ended in the middle of it")
            raise
        else:
            self._end(running, JobState.CANCELLED if running.why else JobState.DONE)

    def _begin(self, kind: JobKind, by: str) -> Running:
        running = self._running[kind] = Running(kind, by, self._clock)
        _log.info("a job begins", kind=kind.value, by=by)
        return running

    def _end(self, running: Running, state: JobState, message: str = "") -> None:
        job = running.shown(state, message)
        del self._running[running.kind]
        self._ended.appendleft(job)
        say = _log.warning if state is JobState.FAILED else _log.info
        say("a job has ended", kind=job.kind.value, state=state.value, done=job.done, total=job.total, why=job.message)

    # ---------------------------------------------------------------------------------------------------------- resync

    async def _resync(self, running: Running) -> None:
        counts = await self._store.counts()
        running.total = sum(counts.get(status, 0) for status in SETTLED)
        passed, after, due_us = 0, "", 0
        left: dict[int, int] = {}  # when documents were made due → how many of them are
        while keys := await self._store.settled_keys(SETTLED, after, _CHUNK):
            if running.ending.is_set():  # before the first of them already
                return
            due_us = max(due_us + 1, self._clock.now_us())
            left[due_us] = await self._store.compare_again(keys, SETTLED, due_us)
            self._compare()
            passed, after = passed + len(keys), keys[-1]
            if not await self._looked_at(running, left, passed, _CHUNK // 2):
                return
        if await self._looked_at(running, left, passed, 0):
            running.total = running.done = passed  # documents came and went meanwhile

    async def _looked_at(self, running: Running, left: dict[int, int], passed: int, few: int) -> bool:
        """Return once only so few documents have not been looked at; False when the job is to end before that."""
        while True:
            beats.turn()
            for due_us in list(left):
                left[due_us] = await self._store.count_due(Lane.RESYNC, due_us)
                if not left[due_us]:
                    del left[due_us]
            waiting = sum(left.values())
            running.done = passed - waiting
            running.total = max(running.total or 0, passed)
            if waiting <= few or running.ending.is_set():
                return not running.ending.is_set()
            await self._clock.wait(running.ending, _LOOK_S)

    # ---------------------------------------------------------------------------------------------------------- replay

    async def _replay(self, running: Running) -> None:
        log = self._make_log()
        try:
            await log.open({})
            begins, ends = dict(await log.positions()), dict(await log.ends())
            running.total = sum(max(0, end - begins.get(place, 0)) for place, end in ends.items())
            ingest, reached = self._ingest.aside(log), begins
            while any(reached.get(place, 0) < end for place, end in ends.items()) and not running.ending.is_set():
                beats.turn()
                await ingest.take(await log.fetch(_RECORDS, _FETCH_TIMEOUT_S))
                reached = dict(await log.positions())  # past gaps that hold no record
                folded = {place: min(reached.get(place, 0), end) for place, end in ends.items()}
                running.done = sum(max(0, to - begins.get(place, 0)) for place, to in folded.items())
                await self._clock.wait(running.ending, _REST_S)
            if running.done >= running.total:
                running.why = ""  # it was done before anybody could stop it
        finally:
            await log.close()
