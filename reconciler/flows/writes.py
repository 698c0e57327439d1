"""
Writes: whether they may begin, and how many are under way.

Operators stop all writes in the store, which from then on refuses each intent that would begin one. Here this process
learns of it within two seconds, so that it makes no attempts in vain, and tells the store when the writes that began
before have ended: only then nothing of ours changes Windchill any more, and whoever has stopped them may rely on it.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs
import structlog

from reconciler.flows import watchdog
from reconciler.flows.maintenance import Maintenance
from reconciler.model.standing import WriteStop
from reconciler.ports import Clock
from reconciler.ports.write_stops import WriteStops

_log = structlog.get_logger(__name__)

_LOOK_S = 2.0  # between two looks at the store: so long whoever stops all writes waits at most for our answer


@attrs.define(eq=False, slots=False)
class Writes:
    """What this process knows of the stop, and its own writes."""

    maintenance: Maintenance | None = None
    stop: WriteStop | None = None
    look: asyncio.Event = attrs.field(factory=asyncio.Event)  # look at the store at once
    _under_way: int = 0

    @property
    def stopped(self) -> bool:
        """Whether none may begin, as far as we know."""
        return self.stop is not None or (self.maintenance is not None and self.maintenance.closed())

    def held_until_us(self, source: str) -> int | None:
        """Return until when nothing of a source is written, None if it may be."""
        return None if self.maintenance is None else self.maintenance.source_until_us(source)

    @property
    def under_way(self) -> bool:
        """Whether one may change Windchill at this moment."""
        return self._under_way > 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count a write, from before its intent is stored until nothing more is sent for it."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1


@attrs.define(eq=False, slots=False)
class Obedience:
    """The loop that looks at the store until `finish`; `changed` is told when writes are stopped or resumed."""

    _store: WriteStops
    _writes: Writes
    _clock: Clock
    _changed: Callable[[], None]
    _obeyed: int | None = attrs.field(init=False, default=None)
    _finished: bool = attrs.field(init=False, default=False)

    def finish(self) -> None:
        """End the loop."""
        self._finished = True
        self._writes.look.set()

    async def run(self) -> None:
        """Look until finished."""
        while not self._finished:
            watchdog.beat()
            self._writes.look.clear()
            await self.look()
            await self._clock.wait(self._writes.look, _LOOK_S)

    async def look(self) -> None:
        """Learn whether writes are stopped; if so, obey as soon as none is under way that had begun before."""
        before, now = self._writes.stop, await self._store.write_stop()
        self._writes.stop = now
        if before != now:
            if now is None:
                _log.warning("writes are resumed")
            else:
                _log.warning("writes are stopped", by=now.who, reason=now.reason or None)
            self._changed()
        # None under way at this moment: one that comes later is refused, since its intent comes after the stop.
        if now is not None and now.number != self._obeyed and not self._writes.under_way:
            await self._store.obey_stop(now.number)
            self._obeyed = now.number
