"""
Watch: looks at what a person should hear of and what stands in no log: a lock that lasts, Windchill down, a trail that
somebody has changed.

Level-triggered: what is found is what is there now, so a restart finds it again, and under the same id. What was told
is only remembered in memory, so after a restart it is told once more, as the same notification.
"""

import asyncio

import attrs
import structlog

from reconciler.core import notices
from reconciler.core.breaker import Breaker
from reconciler.core.notices import Lot, Notice
from reconciler.flows import beats
from reconciler.flows.notify import Manner, Notifier, Outside, Post, Teller
from reconciler.model.chain import BEGIN, Head
from reconciler.model.document import Status
from reconciler.ports import Clock, Store, Telemetry, Views

_log = structlog.get_logger(__name__)

_LOOK_S = 1.0
_LOCKS_S = 60.0  # between two looks at what is locked
_LOCKED_MAX = 1_000  # documents of such a look; a flood needs no more to be one
_PAGE = 100
_DOWN_S = 30.0  # a restart of a web server need wake nobody
_STRIDE = 200  # audit records between two rests, so that a walk over all of them costs nobody anything
_REST_S = 0.2


@attrs.frozen
class Patience:
    """How long things are let be. 0: for ever."""

    locked_s: float = 3600.0  # a lock, before it is told
    audit_s: float = 86_400.0  # between two walks along the audit trail


class Watch:
    """Looks, and tells. `stopping` ends it."""

    def __init__(
        self,
        views: Views,
        breaker: Breaker,
        post: Post,
        clock: Clock,
        *,
        stopping: asyncio.Event,
        manner: Manner,
        patience: Patience,
    ) -> None:
        self._views = views
        self._breaker = breaker
        self._post = post
        self._clock = clock
        self._stopping = stopping
        self._manner = manner
        self._patience = patience
        self._open_us: int | None = None  # since when the breaker is seen open
        self._told_open = False
        self._told_locked: frozenset[str] = frozenset()  # by what names the notice; of what is locked now only
        self._looked_s: float | None = None
        self._broken: Notice | None = None  # found by the walk, not told yet

    async def run(self) -> None:
        """Look and tell until stopped."""
        while not self._stopping.is_set():
            beats.turn()
            lot = Lot(self._manner.source, self._manner.most)
            for notice in [*self._windchill(), *await self._locked(), *self._trail()]:
                lot.add(notice)
            if lot and not await self._post.deliver(lot):
                return
            await self._clock.wait(self._stopping, self._manner.window_s if lot else _LOOK_S)

    async def walk(self) -> None:
        """Follow the audit trail from its first record to its last, again and again, at a stroll."""
        while self._patience.audit_s and not self._stopping.is_set():
            await self._walk()
            await self._clock.wait(self._stopping, self._patience.audit_s)

    async def _walk(self) -> None:
        before: Head = BEGIN
        async for entry in self._views.audit_chain():
            broken = notices.chain_broken(before, entry, self._clock.now_us())
            if broken is not None:
                _log.error("the audit trail is broken; see `reconciler audit verify`", record=entry.number)
                self._broken = broken
                return
            before = Head(entry.number, entry.link)
            if entry.number % _STRIDE == 0:
                beats.turn()
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
        if not self._patience.locked_s or (self._looked_s is not None and now_s - self._looked_s < _LOCKS_S):
            return []
        self._looked_s = now_s
        latest_us = self._clock.now_us() - round(self._patience.locked_s * 1_000_000)
        found: dict[str, Notice] = {}
        after, looked = "", 0
        while looked < _LOCKED_MAX and (page := await self._views.list_documents(Status.LOCKED, after, _PAGE)):
            for document in page:
                since_us = document.pending_since_us
                if since_us is not None and since_us <= latest_us:
                    notice = notices.locked(document, since_us)
                    found[notice.what] = notice
            after, looked = page[-1].key, looked + len(page)
            beats.turn()
        new = [notice for what, notice in found.items() if what not in self._told_locked]
        self._told_locked = frozenset(found)
        return new

    def _trail(self) -> list[Notice]:
        broken, self._broken = self._broken, None
        return [] if broken is None else [broken]


def notifier(
    outside: Outside,
    store: Store,
    breaker: Breaker,
    clock: Clock,
    *,
    telemetry: Telemetry,
    manner: Manner,
    patience: Patience,
) -> Notifier:
    """Return everything that tells, wired: the tellers of the logs, and the watch."""
    stopping = asyncio.Event()
    post = Post(outside.webhook, clock, telemetry, stopping=stopping)
    tellers = {
        name: Teller(source, store, post, clock, stopping=stopping, manner=manner)
        for name, source in outside.sources.items()
    }
    watch = Watch(store, breaker, post, clock, stopping=stopping, manner=manner, patience=patience)
    return Notifier(tellers, {"notify watch": watch.run, "notify audit": watch.walk}, post, stopping)
