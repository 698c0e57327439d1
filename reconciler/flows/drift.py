"""
Drift: asks the server now and then what has changed there, so that an edit is noticed without reading every document.

It only wakes documents up: each is then read and compared like any other. A list of changes may leave something out
(a clock that differs, a change committed late, a filter that knows whole days only), so every look reaches back before
the last one, what is known already is told by its token, and the comparison of each document on its own interval
(`resync`) goes on besides.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import structlog

from reconciler.flows import watchdog
from reconciler.flows.gate import Gate, HeldUpError
from reconciler.model.document import Document, Due, Lane, Status
from reconciler.model.snapshot import Sighting, Token
from reconciler.ports import ChangeList, Clock, Ledger

_log = structlog.get_logger(__name__)

_BATCH = 500  # rows loaded at a time to be told from what is known
_UNPOLLED_S = 3600.0  # one look an hour even where nobody asked for any: who was to knock may have forgotten
_PAUSE_S_MIN = 2.0  # between two looks, however often somebody knocks
# Whoever stands otherwise is looked at soon anyway, or waits after trouble that no edit ends.
_WOKEN = (Status.SYNCED, Status.HELD, Status.LOCKED, Status.PARKED)


class Drift:
    """
    The loop over a server's list of changes. `poll_s` 0: it looks when it is woken, and once an hour.

    Whoever knows that there is something to see sets `woken`.
    """

    def __init__(
        self,
        changes: ChangeList,
        gate: Gate,
        ledger: Ledger,
        clock: Clock,
        *,
        offer: Callable[[Due], None],
        woken: asyncio.Event,
        poll_s: float,
        overlap_s: float,
    ) -> None:
        self._changes = changes
        self._gate = gate
        self._ledger = ledger
        self._clock = clock
        self._offer = offer
        self._poll_s = poll_s
        self._overlap_us = round(overlap_s * 1_000_000)
        # What changed while nobody looked is found by the comparison of every document.
        self._looked_us = clock.now_us()
        self._wake = woken
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End the loop."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Look, wait, look again, until stopped."""
        while not self._stopping.is_set():
            watchdog.beat()
            with watchdog.waiting():
                await self._clock.wait(self._wake, self._poll_s or _UNPOLLED_S)
            self._wake.clear()
            if self._stopping.is_set():
                return
            try:
                await self.look()
            except HeldUpError:
                continue  # the server was not to be asked; there will be a next look
            with watchdog.waiting():
                await self._clock.wait(self._stopping, _PAUSE_S_MIN)

    async def look(self) -> int:
        """Ask once; return how many documents were woken. Raises HeldUpError when Windchill is not to be asked now."""
        began_us = self._clock.now_us()
        since_us = min(self._looked_us, began_us) - self._overlap_us  # the clock may have gone back since then
        answer = await self._gate.changed(self._changes, since_us)
        if not isinstance(answer, Sequence):
            _log.warning("the list of changes can't be had", reason=answer.message)
            return 0
        woken = 0
        for batch in _batches(answer):
            woken += await self._woken(batch)
        self._looked_us = began_us
        _log.debug("looked at the list of changes", listed=len(answer), woken=woken)
        return woken

    async def _woken(self, batch: Sequence[Sighting]) -> int:
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
        return document.status is Status.PARKED  # it was not there, and now it is
    return document.status in _WOKEN and snapshot.token != token


def _batches(sightings: Iterable[Sighting]) -> Iterable[Sequence[Sighting]]:
    rest = iter(sightings)
    while batch := list(islice(rest, _BATCH)):
        yield batch
