"""Notifier: all who are told, each with a watch of its own, and the walk along the audit trail that they share."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs

from reconciler.core.scheduling.breaker import Breaker
from reconciler.flows.notify import Backlog, Post, Receiver
from reconciler.flows.trail import TrailWalk
from reconciler.flows.watch import Watch
from reconciler.model import notified
from reconciler.model.stamp import Partition
from reconciler.ports import Clock, Store, Telemetry


@attrs.frozen
class Thresholds:
    """How long to wait before a notification. 0: forever."""

    locked_s: float  # before a lock is reported
    audit_s: float  # between two checks of the audit trail


class Notifier:
    """
    Tells each receiver what it is to know, until `stop`.

    Of several replicas one does, while it is its duty (`mine`).
    """

    def __init__(
        self,
        receivers: Sequence[Receiver],
        *,
        store: Store,
        breaker: Breaker,
        clock: Clock,
        telemetry: Telemetry,
        thresholds: Thresholds,
        mine: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._stopping = asyncio.Event()
        self._trail = TrailWalk(store, clock, self._stopping, thresholds.audit_s, mine)
        self._watches = {
            one.name: Watch(
                store=store,
                breaker=breaker,
                post=Post(one.webhook, clock, telemetry, self._stopping, one.name, self._noting(one.name)),
                clock=clock,
                stopping=self._stopping,
                options=one.options,
                locked_s=thresholds.locked_s,
                mine=mine,
                trail=self._trail,
                route=one.route,
            )
            for one in receivers
        }

    def backlogs(self) -> dict[str, Backlog]:
        """Return what waits for each receiver."""
        return {name: watch.post.backlog() for name, watch in self._watches.items()}

    async def begin(self, stored: Mapping[Partition, int]) -> None:
        """Begin at the places that the store keeps, before anything is folded; a new receiver at the present."""
        for watch in self._watches.values():
            await watch.begin(stored)
        for name in notified.failing(stored).keys() - self._watches.keys():  # it is not told any more
            await self._store.published((), {notified.broken(name): 0})

    def loops(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Return the loops by name. After `stop` each ends when it has tried once more."""
        if not self._watches:
            return {}
        return {
            **{f"notify {name}": watch.run for name, watch in self._watches.items()},
            "notify audit": self._trail.run,
        }

    def stop(self) -> None:
        """End the loops after one more try."""
        self._stopping.set()

    def _noting(self, name: str) -> Callable[[int], Awaitable[None]]:
        return lambda since_us: self._store.published((), {notified.broken(name): since_us})
