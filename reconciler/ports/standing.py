"""How things are, as the store and the log say: for status, page, metrics and plots."""

import asyncio
from collections.abc import Mapping

from reconciler.errors import LogError
from reconciler.model import notified
from reconciler.model.document import Lane, Status
from reconciler.model.stamp import Partition
from reconciler.model.standing import Standing
from reconciler.ports.log import EventLog
from reconciler.ports.store import Store

_LOG_S_MAX = 2.0  # no page or command may hang because the broker is down


async def of(store: Store, now_us: int) -> Standing:
    """Return the store's part, all counted by indexes. Raises StoreError."""
    counts = await store.counts()
    return Standing(
        at_us=now_us,
        documents={status: counts.get(status, 0) for status in Status},
        oldest_pending_us=await store.oldest_pending_us(),
        conflicts=await store.count_conflicts(),
        dead_letters=await store.count_dead_letters(),
        comparisons_due=await store.count_due(Lane.RESYNC, now_us),
        write_stop=await store.write_stop(),
        not_notified=notified.failing(await store.positions()),
        replicas=() if store.shared is None else await store.replicas(),
    )


async def ends(log: EventLog, reached: Mapping[Partition, int]) -> Mapping[Partition, int] | None:
    """Return where each partition ends; None if the log is not open yet or does not answer in time."""
    if not reached:
        return None
    try:
        async with asyncio.timeout(_LOG_S_MAX):
            return dict(await log.ends())
    except (LogError, TimeoutError):
        return None
