"""The write budget of a process that has its store to itself."""

import attrs

from reconciler.core.scheduling.limiter import WriteBudget
from reconciler.ports import Clock


@attrs.frozen
class OwnBudget:
    """`ports.Spending` in memory."""

    _budget: WriteBudget
    _clock: Clock

    async def wait_s(self, key: str) -> float:
        return self._budget.wait_s(key, self._clock.monotonic_s())
