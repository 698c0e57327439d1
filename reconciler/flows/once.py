"""
Once: when a single pass is over.

It is over when no document is pending: each is settled, or waits for a person, for somebody's lock, for access. It is
also over when nothing comes of it any more, because a Windchill that gives no usable answer may go on so for ever: when
for `patience_s` every attempt has failed, and each pending document is among those that have, or Windchill as a whole
is away. What is still pending then counts as unsettled; the store remembers when it is tried next.
"""

from reconciler.core.breaker import Breaker
from reconciler.flows.reconcile import Reconciler
from reconciler.model.document import Status
from reconciler.ports import Clock, Views

_PAGE = 100


class Once:
    """Tells when a pass that begins now is over."""

    def __init__(
        self, views: Views, reconciler: Reconciler, breaker: Breaker, clock: Clock, *, patience_s: float
    ) -> None:
        self._views = views
        self._reconciler = reconciler
        self._breaker = breaker
        self._clock = clock
        self._patience_s = patience_s
        self._gained = -1  # what was gained when something was gained last
        self._gained_s = 0.0
        self._failed_to = (-1, "")  # every pending document up to this one has failed since then

    async def over(self) -> bool:
        """Whether nothing is left to be done, or nothing comes of it."""
        counts = await self._views.counts()
        if not counts.get(Status.PENDING, 0) and not counts.get(Status.COLLECTING, 0):
            return self._reconciler.idle
        now_s = self._clock.monotonic_s()
        if self._gained != self._reconciler.gained:
            self._gained, self._gained_s, self._failed_to = self._reconciler.gained, now_s, (-1, "")
        return now_s - self._gained_s >= self._patience_s and (self._breaker.away or await self._all_have_failed())

    async def _all_have_failed(self) -> bool:
        """Walk over the pending documents as far as they have failed; go on from there at the next look."""
        while page := await self._views.list_waiting(Status.PENDING, self._failed_to, _PAGE):
            for document in page:
                if not document.agreement.failures:
                    return False
                self._failed_to = (document.pending_since_us or 0, document.key)
        return True
