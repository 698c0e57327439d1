"""
Maintenance: when no request to Windchill may begin, by the calendar and by operators.

The calendar is asked with the present time right before each request, so a window begins on time. What operators say is
an action in the audit trail, which every process looks at each five seconds, so it outlasts a restart and reaches all
replicas. Requests that have begun before a window end as they would have; our own locks are given back in it, too.
"""

import asyncio
from collections.abc import Callable, Sequence

import attrs
import structlog

from reconciler.core.scheduling import windows
from reconciler.core.scheduling.windows import NO_OVERRIDE, Override, Period
from reconciler.flows import watchdog
from reconciler.model import instant
from reconciler.model.action import ActionKind, OperatorAction
from reconciler.ports import Clock, Store

_log = structlog.get_logger(__name__)

TARGET = "Windchill's maintenance"
LONGEST_S = 86_400.0
"""The longest that an operator's word lasts: the audit trail keeps what it rests on for a day at least."""
_KINDS = (ActionKind.OPEN_WINDOW, ActionKind.CLOSE_WINDOW)
_LOOK_S = 5.0
_MINUTE_US = 60_000_000

Around = Callable[[int], Sequence[Period]]


async def said(store: Store) -> Override:
    """Return what operators said last."""
    found = await store.actions(target=TARGET, kinds=_KINDS, limit=1)
    return _override(found[0]) if found else NO_OVERRIDE


def _override(action: OperatorAction) -> Override:
    until, reason = action.details.get("until"), action.details.get("reason")
    until_us = instant.to_us(until) if isinstance(until, str) else 0
    closed = action.kind == ActionKind.OPEN_WINDOW
    return Override(closed, until_us, action.who, reason if isinstance(reason, str) else "")


@attrs.define(eq=False, slots=False)
class Maintenance:
    """The loop that looks at the store until `stop`; `changed` is told when a window begins or ends."""

    _store: Store
    _clock: Clock
    _around: Around
    _around_source: Callable[[str, int], Sequence[Period]]
    _always: bool  # windchill.maintenance
    _changed: Callable[[], None]
    _said: Override = NO_OVERRIDE
    _looked: tuple[int, Sequence[Period]] = (-1, ())
    _sources: tuple[int, dict[str, Sequence[Period]]] = (-1, {})
    _before_us: int | None = None
    _stopping: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    def until_us(self) -> int | None:
        """Return until when no request may begin, None if they may."""
        now_us = self._clock.now_us()
        minute = now_us // _MINUTE_US
        if self._looked[0] != minute:  # windows begin with a minute
            self._looked = minute, self._around(now_us)
        return windows.until_us(now_us, self._looked[1], self._said)

    def closed(self) -> bool:
        """Whether no request may begin now."""
        return self._always or self.until_us() is not None

    def source_until_us(self, source: str) -> int | None:
        """Return until when nothing of a source is written, None if it may be."""
        now_us = self._clock.now_us()
        minute, known = self._sources
        if minute != now_us // _MINUTE_US:
            self._sources = minute, known = now_us // _MINUTE_US, {}
        if source not in known:
            known[source] = self._around_source(source, now_us)
        return windows.until_us(now_us, known[source])

    def stop(self) -> None:
        """End the loop."""
        self._stopping.set()

    async def run(self) -> None:
        """Look until stopped."""
        while not self._stopping.is_set():
            watchdog.beat()
            await self.look()
            await self._clock.wait(self._stopping, _LOOK_S)

    async def look(self) -> None:
        """Learn what operators said; tell whether a window has begun or ended."""
        self._said = await said(self._store)
        until_us = self.until_us()
        if until_us != self._before_us:
            if until_us is None:
                _log.warning("the maintenance window is over")
            else:
                _log.warning("a maintenance window: no request to Windchill begins", until=instant.from_us(until_us))
            self._before_us = until_us
            self._changed()
