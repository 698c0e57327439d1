"""
Watch: finds what a person should hear of, in the store and in what else there is to see, and has it told.

Theory of operation
-------------------
What happened stands in the store: conflicts with the time at which they opened, documents with the time since which
they are put aside, dead letters in the order in which they came. Each look reads on from where everything was told
before, and all that it finds is one lot. The store keeps that place: the number of the last letter, and a time, the
*floor*: everything of before it was told.

- At least once: the place moves only when the webhook has accepted the lot. What a commit is about may be older than a
  look that did not see it yet, so the floor follows at a distance, and the watch remembers what it told beyond the
  floor. After a crash these minutes are told once more, under the same ids; after a stop in order nothing is.
- What has closed before it was told is told once, as closed; a document that is not put aside any more is not told.
- Floods: after a lot the window has to pass before the next is made, and a large lot is told as one digest.
- Nothing waits for the webhook, and memory does not grow while it is away: the backlog is the store.

What stands nowhere (Windchill down) is remembered in memory only; a lock that lasts and a broken trail are found again
after a restart, and told once more as the same notification.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import attrs
import structlog

from reconciler.core.explain import notices
from reconciler.core.explain.notices import LOT_MAX, Lot, Notice
from reconciler.core.scheduling.breaker import Breaker
from reconciler.flows import watchdog
from reconciler.flows.notify import NotifyOptions, Post
from reconciler.model.chain import BEGIN, Head
from reconciler.model.document import Status
from reconciler.model.stamp import Partition
from reconciler.ports import Clock, Store

_log = structlog.get_logger(__name__)

FLOOR, LETTER = Partition("(notified)", 0), Partition("(notified)", 1)
"""The names of the two places among the store's positions: no topic of Kafka's can be called so."""

_LOOK_S = 1.0
_SHARE = 20.0  # a look that takes long is made less often, so that looking takes a twentieth of the time at most
_LATE_S = 120.0  # from the time of what happened to its commit, at most: a request and its answer lie between
_LOCKS_S = 60.0  # between two looks at what is locked
_LOCKED_MAX = 1_000  # documents of such a look, those that wait longest; a flood needs no more to be one
_PAGE = 100
_DOWN_S = 30.0  # a restart of a web server need wake nobody
_STRIDE = 200  # audit records between two rests, so that a walk over all of them costs nobody anything
_REST_S = 0.2


def of_logs(stored: Mapping[Partition, int]) -> dict[Partition, int]:
    """Return the store's positions but for these two."""
    return {place: offset for place, offset in stored.items() if place not in (FLOOR, LETTER)}


@attrs.frozen
class Thresholds:
    """How long to wait before a notification. 0: forever."""

    locked_s: float  # before a lock is reported
    audit_s: float  # between two checks of the audit trail


class Watch:
    """Looks, and has it told, until `stop`."""

    def __init__(
        self,
        store: Store,
        breaker: Breaker,
        post: Post,
        clock: Clock,
        *,
        stopping: asyncio.Event,
        options: NotifyOptions,
        thresholds: Thresholds,
    ) -> None:
        self.backlog = post.backlog
        self.stop = stopping.set
        self._store = store
        self._breaker = breaker
        self._post = post
        self._clock = clock
        self._stopping = stopping
        self._options = options
        self._thresholds = thresholds
        self._floor_us = self._mark_us = 0  # all of before was told; what the floor moves to next
        self._letter = 0
        self._begun_s = 0.0  # when the last look began
        self._told: dict[str, int] = {}  # what was told beyond the floor: ids of notices, and of when they are
        self._open_us: int | None = None  # since when the breaker is seen open
        self._told_open = False
        self._told_locked: frozenset[str] = frozenset()  # by what names the notice; of what is locked now only
        self._looked_s: float | None = None
        self._broken: Notice | None = None  # found by the walk, not told yet

    async def begin(self, stored: Mapping[Partition, int]) -> None:
        """
        Take up what the store knows, before anything is folded.

        The first time that is all there is: what is older was told to nobody, and nobody asked.
        """
        if FLOOR not in stored:
            self._letter = await self._store.last_letter()
            self._mark_us, self._begun_s = self._clock.now_us(), self._clock.monotonic_s()
            await self._keep(self._mark_us)
            return
        self._begun_s = self._clock.monotonic_s()
        self._floor_us = self._mark_us = stored[FLOOR]
        self._letter = stored[LETTER]

    def loops(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Return what is to be run, by name. After `stop` each ends when what it has was tried once more."""
        return {"notify": self.run, "notify audit": self.walk}

    async def run(self) -> None:
        """Look and tell until stopped, and then once more."""
        while True:
            watchdog.beat()
            stopping, at_us, begun_s = self._stopping.is_set(), self._clock.now_us(), self._clock.monotonic_s()
            # A clock that was set back: what came after the last look may seem to be of before it.
            earliest_us = at_us + 1 - round((begun_s - self._begun_s) * 1_000_000)
            self._floor_us, self._mark_us = min(self._floor_us, earliest_us), min(self._mark_us, earliest_us)
            self._begun_s = begun_s
            lot = Lot(self._options.source, self._options.most)
            for notice in [*self._windchill(), *await self._locked(), *self._trail()]:
                lot.add(notice)
            letter = await self._letters(lot)
            found = await self._happened(lot)
            if lot and not await self._post.deliver(lot):
                return
            if lot:
                _log.info("told", notices=len(lot))
            await self._move(at_us, letter, found, whole=stopping or len(lot) > LOT_MAX)
            if stopping:
                return
            took_s = self._clock.monotonic_s() - begun_s
            await self._clock.wait(self._stopping, self._options.window_s if lot else max(_LOOK_S, _SHARE * took_s))

    async def _letters(self, lot: Lot) -> int:
        """Add the dead letters that have come; return the number of the last."""
        number = self._letter
        while page := await self._store.letters_after(number, _PAGE):
            watchdog.beat()
            for _, letter in page:
                lot.add(notices.of_letter(letter))
            number = page[-1][0]
        return number

    async def _happened(self, lot: Lot) -> dict[str, int]:
        """Add what has opened or was put aside and is not told; return its ids, and of when it is."""
        found: dict[str, int] = {}
        async for notice in self._since(self._floor_us):
            name = notices.name(notice, self._options.source)
            if name not in self._told:
                lot.add(notice)
                if len(found) < LOT_MAX:  # else the floor moves beyond all of it
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
        """All that a look at `at_us` has found is told; `whole`: and nothing of before it can come any more."""
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
        """Follow the audit trail from its first record to its last, again and again, at a stroll."""
        while self._thresholds.audit_s and not self._stopping.is_set():
            await self._walk()
            await self._clock.wait(self._stopping, self._thresholds.audit_s)

    async def _walk(self) -> None:
        before: Head = BEGIN
        async for entry in self._store.audit_chain():
            broken = notices.chain_broken(before, entry, self._clock.now_us())
            if broken is not None:
                _log.error("the audit trail is broken; see `reconciler audit verify`", record=entry.number)
                self._broken = broken
                return
            before = Head(entry.number, entry.link)
            if entry.number % _STRIDE == 0:
                watchdog.beat()
                await self._clock.wait(self._stopping, _REST_S)
            if self._stopping.is_set():
                return

    def _windchill(self) -> list[Notice]:
        """Return that Windchill is down, or that it is back."""
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
        """Return the documents that have waited for a lock too long, each once."""
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
