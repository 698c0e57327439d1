"""Trail: verifies the audit trail slowly, each chain from its first record to its last, again and again."""

import asyncio
from collections.abc import Callable

import attrs
import structlog

from reconciler.core.explain import notices
from reconciler.core.explain.notices import Notice
from reconciler.flows import watchdog
from reconciler.model import chain
from reconciler.model.chain import Head
from reconciler.ports import Clock, Store

_log = structlog.get_logger(__name__)

_STRIDE = 200  # audit records between two rests, so that reading all of them slows nothing down
_REST_S = 0.2


@attrs.define(eq=False, slots=False)
class TrailWalk:
    """Walks until stopped, while it is our duty; `broken` is what the last walk found, until the next one begins."""

    _store: Store
    _clock: Clock
    _stopping: asyncio.Event
    _every_s: float  # 0: never
    _mine: Callable[[], bool] = lambda: True
    broken: Notice | None = attrs.field(init=False, default=None)

    async def run(self) -> None:
        """Walk again and again."""
        while self._every_s and not self._stopping.is_set():
            if self._mine():
                await self._walk()
            await self._clock.wait(self._stopping, self._every_s)

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
                self.broken = broken
                return
            heads[entry.chain] = Head(entry.number, entry.link)
            if entry.number % _STRIDE == 0:
                watchdog.beat()
                await self._clock.wait(self._stopping, _REST_S)
            if self._stopping.is_set():
                return
