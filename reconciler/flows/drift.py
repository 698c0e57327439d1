"""
Drift: asks the server for its list of changes, so that an edit is noticed without reading every document.

It only makes documents due; each is then read and compared like any other. A list may leave a change out (a differing
clock, a late commit, a filter by whole days), so each request reaches back before the last one, tokens tell what is
known already, and every document is still compared at its own interval (`resync`).
"""

import asyncio
from collections.abc import Callable, Sequence
from itertools import islice

import attrs
import structlog

from reconciler.flows import watchdog
from reconciler.flows.gate import Gate, HeldUpError
from reconciler.model.document import Document, Due, Lane, Status
from reconciler.model.snapshot import Sighting, Token
from reconciler.ports import ChangeList, Clock, Ledger

_log = structlog.get_logger(__name__)

_BATCH = 500  # rows loaded at a time to compare tokens
_UNPOLLED_S = 3600.0  # with polling off: the hook may fail, so ask once an hour
_PAUSE_S_MIN = 2.0  # between two requests, however often the hook is called
# Documents of any other status are due soon anyway, or wait after trouble that no edit ends.
_WOKEN = (Status.SYNCED, Status.HELD, Status.OBSERVED, Status.LOCKED, Status.PARKED)


@attrs.define(eq=False, slots=False)
class Drift:
    """
    The loop over a server's list of changes. With `poll_s` 0 it asks when `woken` is set, and once an hour.

    Of several replicas one asks, while it is its duty (`mine`).
    """

    _changes: ChangeList
    _gate: Gate
    _ledger: Ledger
    _clock: Clock
    _offer: Callable[[Due], None]
    _woken: asyncio.Event
    _poll_s: float
    _overlap_s: float
    _mine: Callable[[], bool] = lambda: True
    _looked_us: int = attrs.field(init=False)  # earlier changes are found by comparing every document
    _stopping: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    def __attrs_post_init__(self) -> None:
        self._looked_us = self._clock.now_us()

    def stop(self) -> None:
        """End the loop."""
        self._stopping.set()
        self._woken.set()

    async def run(self) -> None:
        """Ask, wait and ask again, until stopped."""
        while not self._stopping.is_set():
            watchdog.beat()
            with watchdog.waiting():
                await self._clock.wait(self._woken, self._poll_s or _UNPOLLED_S)
            self._woken.clear()
            if self._stopping.is_set():
                return
            if not self._mine():
                continue
            try:
                await self.look()
            except HeldUpError:
                continue  # the gate is closed; ask again next time
            with watchdog.waiting():
                await self._clock.wait(self._stopping, _PAUSE_S_MIN)

    async def look(self) -> int:
        """Ask once; return how many documents became due. Raises HeldUpError when the gate is closed."""
        began_us = self._clock.now_us()
        since_us = min(self._looked_us, began_us) - round(self._overlap_s * 1_000_000)  # the clock may have gone back
        answer = await self._gate.changed(self._changes, since_us)
        if not isinstance(answer, Sequence):
            _log.warning("can't read Windchill's list of changes", reason=answer.message)
            return 0
        woken = 0
        rest = iter(answer)
        while batch := list(islice(rest, _BATCH)):
            woken += await self._requeue_moved(batch)
        self._looked_us = began_us
        _log.debug("list of changes read", listed=len(answer), woken=woken)
        return woken

    async def _requeue_moved(self, batch: Sequence[Sighting]) -> int:
        seen = {sighting.key: sighting.token for sighting in batch}
        documents = await self._ledger.documents(seen)
        now_us = self._clock.now_us()
        moved = [key for key, document in documents.items() if _moved(document, seen[key])]
        await self._ledger.requeue(moved, Lane.RESYNC, now_us)
        for key in moved:
            self._offer(Due(key, Lane.RESYNC, now_us))
        return len(moved)


def _moved(document: Document, token: Token) -> bool:
    snapshot = document.agreement.snapshot
    if snapshot is None:
        return document.status in (Status.ABSENT, Status.PARKED)  # it was not there, and now it is
    return document.status in _WOKEN and snapshot.token != token
