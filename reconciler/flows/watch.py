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

Each receiver has a watch of its own with a place of its own, so a broken one keeps no other waiting. What its route
does not take is passed over, and in its quiet hours it is not looked for: the store still has it when they are over.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import attrs
import structlog

from reconciler.core.explain import notices
from reconciler.core.explain.notices import BATCH_MAX, Batch, Notice
from reconciler.core.explain.routing import Route
from reconciler.core.scheduling.breaker import Breaker
from reconciler.flows import watchdog
from reconciler.flows.notify import NotifyOptions, Post
from reconciler.flows.trail import TrailWalk
from reconciler.model import notified
from reconciler.model.document import Status
from reconciler.model.stamp import Partition
from reconciler.ports import Clock, Store

_log = structlog.get_logger(__name__)

_SHARE = 20.0  # looks take at most one part in so many of the time
_LATE_S = 120.0  # at most, from an event to its commit: a request and its answer lie between
_LOCKS_S = 60.0  # between two looks at locked documents
_LOCKED_MAX = 1_000  # documents of such a look, those that wait longest
_PAGE = 100
_DOWN_S = 30.0  # a restart of a web server is not worth a notification


@attrs.define(eq=False, slots=False)
class Watch:
    """
    Looks for what a receiver is to be told and has it posted, until `stop`.

    Of several replicas one does, while it is its duty (`mine`). The next one goes on from the place in the store.
    """

    _store: Store
    _breaker: Breaker
    _post: Post
    _clock: Clock
    _stopping: asyncio.Event
    _options: NotifyOptions
    _locked_s: float  # before a lock is reported; 0: never
    _mine: Callable[[], bool] = lambda: True
    _trail: TrailWalk | None = None
    _route: Route | None = None  # None: everything, at any time
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
    _told_broken: Notice | None = attrs.field(init=False, default=None)  # of the audit trail

    @property
    def post(self) -> Post:
        """What posts to the receiver."""
        return self._post

    @property
    def _floor(self) -> Partition:
        return notified.floor(self._post.name)

    @property
    def _last(self) -> Partition:
        return notified.letter(self._post.name)

    def stop(self) -> None:
        """End the loops after one more try."""
        self._stopping.set()

    async def begin(self, stored: Mapping[Partition, int]) -> None:
        """Begin at the place that the store keeps, before anything is folded; the first time, at the present."""
        self._begun, self._told = True, {}
        if self._floor not in stored:
            self._letter = await self._store.last_letter()
            self._mark_us, self._begun_s = self._clock.now_us(), self._clock.monotonic_s()
            await self._keep(self._mark_us)
            return
        self._begun_s = self._clock.monotonic_s()
        self._floor_us = self._mark_us = stored[self._floor]
        self._letter = stored[self._last]

    async def run(self) -> None:
        """Look and tell until stopped, and then once more."""
        while True:
            watchdog.beat()
            if not self._mine():
                self._begun = False
                if self._stopping.is_set():
                    return
                await self._clock.wait(self._stopping, self._options.look_s)
                continue
            if not self._begun:
                await self.begin(await self._store.positions())
            if self._route is not None and self._route.quiet.covers(self._clock.now_us()):
                if self._stopping.is_set():
                    return
                await self._clock.wait(self._stopping, self._options.look_s)
                continue
            stopping, at_us, begun_s = self._stopping.is_set(), self._clock.now_us(), self._clock.monotonic_s()
            # If the clock was set back, what came after the last look may seem to be older than it.
            earliest_us = at_us + 1 - round((begun_s - self._begun_s) * 1_000_000)
            self._floor_us, self._mark_us = min(self._floor_us, earliest_us), min(self._mark_us, earliest_us)
            self._begun_s = begun_s
            batch = Batch(self._options.source, self._options.most, self._options.first)
            for notice in [*self._windchill(), *await self._locked(), *self._broken()]:
                await self._add(batch, notice)
            letter = await self._letters(batch)
            found = await self._happened(batch)
            if batch and not await self._post.deliver(batch):
                return
            if batch:
                _log.info("told", to=self._post.name, notices=len(batch))
            await self._move(at_us, letter, found, whole=stopping or len(batch) > BATCH_MAX)
            if stopping:
                return
            took_s = self._clock.monotonic_s() - begun_s
            await self._clock.wait(self._stopping, self._options.window_s if batch else self._rest_s(took_s))

    def _rest_s(self, took_s: float) -> float:
        return max(self._options.look_s, _SHARE * took_s)

    async def _add(self, batch: Batch, notice: Notice) -> None:
        """Add a notice to a batch, if it is for our receiver."""
        if self._route is not None:
            if not self._route.may_take(notice):
                return
            if self._route.asks_document:
                documents = await self._store.documents([notice.document])
                if not self._route.takes(notice, documents.get(notice.document)):
                    return
        batch.add(notice)

    async def _letters(self, batch: Batch) -> int:
        """Add the dead letters that have come; return the number of the last."""
        number = self._letter
        while page := await self._store.letters_after(number, _PAGE):
            watchdog.beat()
            for _, letter in page:
                await self._add(batch, notices.of_letter(letter))
            number = page[-1][0]
        return number

    async def _happened(self, batch: Batch) -> dict[str, int]:
        """Add conflicts and documents put aside that are not told yet; return their ids and times."""
        found: dict[str, int] = {}
        async for notice in self._since(self._floor_us):
            name = notices.name(notice, self._options.source)
            if name not in self._told:
                await self._add(batch, notice)
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
        await self._store.published((), {self._floor: floor_us, self._last: self._letter})
        self._floor_us = floor_us

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
        if not self._locked_s or (self._looked_s is not None and now_s - self._looked_s < _LOCKS_S):
            return []
        self._looked_s = now_s
        latest_us = self._clock.now_us() - round(self._locked_s * 1_000_000)
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

    def _broken(self) -> list[Notice]:
        """Return the notice of what a walk found in the audit trail, once for each walk."""
        found = None if self._trail is None else self._trail.broken
        if found is None or found is self._told_broken:
            return []
        self._told_broken = found
        return [found]
