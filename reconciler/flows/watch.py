"""
Watch: finds what an operator should be notified of, mostly in the store, and has it posted.

Theory of operation
-------------------
The store has conflicts with the time at which they opened, documents with the time since which they are put aside, and
dead letters in their order. Each look reads on from the place up to which everything was told, and posts what it finds
as one batch. The store keeps that place: the number of the last dead letter, and a time, the *floor*.

- At least once: the place moves only when the webhook has accepted the batch. A commit may concern a time before the
  last look, so the floor follows two minutes behind, and the watch remembers what it told beyond it. After a crash
  these minutes are told again, under the same ids; after an orderly stop nothing is.
- A conflict that closed before it was told is told once, as closed. A document that is no longer put aside is not told.
- Against floods, a window has to pass between two batches, and a large batch is posted as one digest.
- Nothing waits for the webhook, and memory does not grow while it is down: the backlog is the store.

That Windchill is down is remembered in memory only. A lasting lock and a broken trail are found again after a restart,
and told again under the same id.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import attrs
import structlog

from reconciler.core.explain import notices
from reconciler.core.explain.notices import BATCH_MAX, Batch, Notice
from reconciler.core.scheduling.breaker import Breaker
from reconciler.flows import watchdog
from reconciler.flows.notify import Backlog, NotifyOptions, Post
from reconciler.model import chain
from reconciler.model.chain import Head
from reconciler.model.document import Status
from reconciler.model.stamp import Partition
from reconciler.ports import Clock, Store

_log = structlog.get_logger(__name__)

FLOOR, LETTER = Partition("(notified)", 0), Partition("(notified)", 1)
"""The names of the two places among the store's positions; no Kafka topic can have such a name."""

_LOOK_S = 1.0
_SHARE = 20.0  # looks take at most one part in so many of the time
_LATE_S = 120.0  # at most, from an event to its commit: a request and its answer lie between
_LOCKS_S = 60.0  # between two looks at locked documents
_LOCKED_MAX = 1_000  # documents of such a look, those that wait longest
_PAGE = 100
_DOWN_S = 30.0  # a restart of a web server is not worth a notification
_STRIDE = 200  # audit records between two rests, so that reading all of them slows nothing down
_REST_S = 0.2


def of_logs(stored: Mapping[Partition, int]) -> dict[Partition, int]:
    """Return the store's positions without these two."""
    return {place: offset for place, offset in stored.items() if place not in (FLOOR, LETTER)}


@attrs.frozen
class Thresholds:
    """How long to wait before a notification. 0: forever."""

    locked_s: float  # before a lock is reported
    audit_s: float  # between two checks of the audit trail


@attrs.define(eq=False, slots=False)
class Watch:
    """
    Looks for notices and has them posted, until `stop`.

    Of several replicas one does, while it is its duty (`mine`). The next one goes on from the place in the store.
    """

    _store: Store
    _breaker: Breaker
    _post: Post
    _clock: Clock
    _stopping: asyncio.Event
    _options: NotifyOptions
    _thresholds: Thresholds
    _mine: Callable[[], bool] = lambda: True
    _floor_us: int = attrs.field(init=False, default=0)  # everything before it was told
    _mark_us: int = attrs.field(init=False, default=0)  # what the floor moves to next
    _letter: int = attrs.field(init=False, default=0)
    _begun: bool = attrs.field(init=False, default=False)  # the place is the store's
    _begun_s: float = attrs.field(init=False, default=0.0)  # when the last look began
    _told: dict[str, int] = attrs.field(init=False, factory=dict)  # ids and times of what was told beyond the floor
    _open_us: int | None = attrs.field(init=False, default=None)  # since when the breaker is open
    _told_open: bool = attrs.field(init=False, default=False)
    _told_locked: frozenset[str] = attrs.field(init=False, default=frozenset())  # only what is still locked
    _looked_s: float | None = attrs.field(init=False, default=None)
    _broken: Notice | None = attrs.field(init=False, default=None)  # of the audit trail, not told yet

    @property
    def backlog(self) -> Callable[[], Backlog]:
        """What waits for the webhook."""
        return self._post.backlog

    def stop(self) -> None:
        """End the loops after one more try."""
        self._stopping.set()

    async def begin(self, stored: Mapping[Partition, int]) -> None:
        """Begin at the place that the store keeps, before anything is folded; the first time, at the present."""
        self._begun, self._told = True, {}
        if FLOOR not in stored:
            self._letter = await self._store.last_letter()
            self._mark_us, self._begun_s = self._clock.now_us(), self._clock.monotonic_s()
            await self._keep(self._mark_us)
            return
        self._begun_s = self._clock.monotonic_s()
        self._floor_us = self._mark_us = stored[FLOOR]
        self._letter = stored[LETTER]

    def loops(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Return the loops by name. After `stop` each ends when it has tried once more."""
        return {"notify": self.run, "notify audit": self.walk}

    async def run(self) -> None:
        """Look and tell until stopped, and then once more."""
        while True:
            watchdog.beat()
            if not self._mine():
                self._begun = False
                if self._stopping.is_set():
                    return
                await self._clock.wait(self._stopping, _LOOK_S)
                continue
            if not self._begun:
                await self.begin(await self._store.positions())
            stopping, at_us, begun_s = self._stopping.is_set(), self._clock.now_us(), self._clock.monotonic_s()
            # If the clock was set back, what came after the last look may seem to be older than it.
            earliest_us = at_us + 1 - round((begun_s - self._begun_s) * 1_000_000)
            self._floor_us, self._mark_us = min(self._floor_us, earliest_us), min(self._mark_us, earliest_us)
            self._begun_s = begun_s
            batch = Batch(self._options.source, self._options.most)
            for notice in [*self._windchill(), *await self._locked(), *self._trail()]:
                batch.add(notice)
            letter = await self._letters(batch)
            found = await self._happened(batch)
            if batch and not await self._post.deliver(batch):
                return
            if batch:
                _log.info("told", notices=len(batch))
            await self._move(at_us, letter, found, whole=stopping or len(batch) > BATCH_MAX)
            if stopping:
                return
            took_s = self._clock.monotonic_s() - begun_s
            await self._clock.wait(self._stopping, self._options.window_s if batch else max(_LOOK_S, _SHARE * took_s))

    async def _letters(self, batch: Batch) -> int:
        """Add the dead letters that have come; return the number of the last."""
        number = self._letter
        while page := await self._store.letters_after(number, _PAGE):
            watchdog.beat()
            for _, letter in page:
                batch.add(notices.of_letter(letter))
            number = page[-1][0]
        return number

    async def _happened(self, batch: Batch) -> dict[str, int]:
        """Add conflicts and documents put aside that are not told yet; return their ids and times."""
        found: dict[str, int] = {}
        async for notice in self._since(self._floor_us):
            name = notices.name(notice, self._options.source)
            if name not in self._told:
                batch.add(notice)
                if len(found) < BATCH_MAX:  # else the floor moves past all of them
                    found[name] = notice.at_us
        return found

    async def _since(self, floor_us: int) -> AsyncIterator[Notice]:
        place = (floor_us, "")
        while rows := await self._store.conflicts(closed=True, limit=_PAGE, after=place):
            watchdog.beat()
            for row in rows:
                yield notices.of_conflict(row.document, row.conflict, row.closed_at_us)
            place = rows[-1].conflict.opened_at_us, rows[-1].conflict.id
        for status in (Status.PARKED, Status.CONTENDED):
            place = (floor_us, "")
            while page := await self._store.list_aside(status, place, _PAGE):
                watchdog.beat()
                for document in page:
                    yield notices.put_aside(document)
                place = page[-1].agreement.aside_us or 0, page[-1].key

    async def _move(self, at_us: int, letter: int, found: dict[str, int], *, whole: bool) -> None:
        """Move the place once all that a look found is told; `whole`: nothing older can come any more."""
        floor_us = self._floor_us
        if whole:
            floor_us = self._mark_us = at_us + 1
        elif at_us - self._mark_us >= _LATE_S * 1_000_000:
            floor_us, self._mark_us = self._mark_us, at_us
        self._told = {name: when_us for name, when_us in (self._told | found).items() if when_us >= floor_us}
        if (floor_us, letter) != (self._floor_us, self._letter):
            self._letter = letter
            await self._keep(floor_us)

    async def _keep(self, floor_us: int) -> None:
        await self._store.published((), {FLOOR: floor_us, LETTER: self._letter})
        self._floor_us = floor_us

    async def walk(self) -> None:
        """Verify the audit trail slowly, each chain from its first record to its last, again and again."""
        while self._thresholds.audit_s and not self._stopping.is_set():
            if self._mine():
                await self._walk()
            await self._clock.wait(self._stopping, self._thresholds.audit_s)

    async def _walk(self) -> None:
        cuts = await self._store.cuts()
        heads = {cut.chain: cut.end for cut in cuts}
        archived = {number: head.number for number, head in heads.items()}
        async for entry in self._store.audit_chain():
            if entry.number <= archived.get(entry.chain, entry.number - 1):
                continue  # it is about to be deleted
            before = heads.get(entry.chain) or chain.begin(max(0, entry.chain))
            broken = notices.chain_broken(before, entry, self._clock.now_us())
            if broken is not None:
                if await self._store.cuts() != cuts:
                    return  # records were deleted before we came to them: the next walk begins after these
                _log.error("the audit trail is broken; see `reconciler audit verify`", record=entry.number)
                self._broken = broken
                return
            heads[entry.chain] = Head(entry.number, entry.link)
            if entry.number % _STRIDE == 0:
                watchdog.beat()
                await self._clock.wait(self._stopping, _REST_S)
            if self._stopping.is_set():
                return

    def _windchill(self) -> list[Notice]:
        """Return a notice that Windchill is down, or that it is back."""
        now_us, opened_us = self._clock.now_us(), self._open_us
        if not self._breaker.away:
            told, self._told_open, self._open_us = self._told_open, False, None
            return [notices.breaker_closed(opened_us, now_us)] if told and opened_us is not None else []
        if opened_us is None:
            self._open_us = now_us
        elif not self._told_open and now_us - opened_us >= _DOWN_S * 1_000_000:
            self._told_open = True
            return [notices.breaker_opened(opened_us)]
        return []

    async def _locked(self) -> list[Notice]:
        """Return notices of documents that are locked for too long, each once."""
        now_s = self._clock.monotonic_s()
        if not self._thresholds.locked_s or (self._looked_s is not None and now_s - self._looked_s < _LOCKS_S):
            return []
        self._looked_s = now_s
        latest_us = self._clock.now_us() - round(self._thresholds.locked_s * 1_000_000)
        found: dict[str, Notice] = {}
        place, looked = (-1, ""), 0
        while looked < _LOCKED_MAX and (page := await self._store.list_waiting(Status.LOCKED, place, _PAGE)):
            for document in page:
                since_us = document.pending_since_us
                if since_us is not None and since_us <= latest_us:
                    notice = notices.locked(document, since_us)
                    found[notice.what] = notice
            place, looked = (page[-1].pending_since_us or 0, page[-1].key), looked + len(page)
            watchdog.beat()
        new = [notice for what, notice in found.items() if what not in self._told_locked]
        self._told_locked = frozenset(found)
        return new

    def _trail(self) -> list[Notice]:
        broken, self._broken = self._broken, None
        return [] if broken is None else [broken]
