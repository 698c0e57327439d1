"""
Sealing: from which positions on decisions and outcomes have to be signed (`core/events/signing.py`).

Rules:
1. When a key is used for the first time, the store notes the present end of every log, for good. Records before these
   ends may be unsigned, later ones not.
2. The note is announced in the outcome log, signed. A new store finds it there before it accepts anything, so a lost or
   replaced store makes no record valid. Of several announcements the earliest counts.
3. With another key the note is announced again, so that older keys are not needed to find it.
"""

from collections.abc import Callable, Mapping

import structlog

from reconciler.core.events import outcomes, signing
from reconciler.core.events.outcomes import OutcomeType
from reconciler.core.events.signing import Required
from reconciler.model import signing as model
from reconciler.model.signing import Keys
from reconciler.model.stamp import Partition
from reconciler.ports import Clock, EventLog, Store

_log = structlog.get_logger(__name__)

_BATCH = 5_000
_FETCH_TIMEOUT_S = 1.0
_BEGAN = OutcomeType.SIGNING_BEGAN.value.encode()


async def required(
    store: Store, log: EventLog, keys: Keys | None, clock: Clock, stopped: Callable[[], bool]
) -> Required | None:
    """
    Return what has to be signed, by the store or else by the outcome log; `None`: nothing.

    `log` is the outcome log; if it is read, it is opened and closed.
    """
    if keys is None:
        return None
    noted = await store.signing()
    since = noted.places if noted is not None else await _announced(log, keys, clock, stopped)
    return None if since is None else Required(keys, since)


async def begin(store: Store, now: Required, at_us: int, topic: str, source: str) -> None:
    """Note and announce what has to be signed, unless that was done with this key already."""
    noted, fresh = await store.signing(), model.noted(now.since, now.keys.id)
    if noted == fresh:
        return
    await store.note_signing(fresh, outcomes.signing_began(fresh, at_us, topic, source))
    _log.info("decisions and outcomes are signed", key=now.keys.id, since=[list(one) for one in fresh.since])


async def _announced(
    log: EventLog, keys: Keys, clock: Clock, stopped: Callable[[], bool]
) -> Mapping[Partition, int] | None:
    found: dict[Partition, int] | None = None
    await log.open({}, accept_truncation=True)
    try:
        ends, reached = dict(await log.ends()), dict(await log.positions())
        while not stopped() and any(reached.get(place, 0) < end for place, end in ends.items()):
            for record in await log.fetch(_BATCH, _FETCH_TIMEOUT_S):
                if record.value is None or _BEGAN not in record.value or signing.fault(record.value, keys) is not None:
                    continue
                for place, offset in (outcomes.signing_since(record.value) or {}).items():
                    found = {} if found is None else found
                    found[place] = min(offset, found.get(place, offset))
            await clock.sleep(0)
            reached = dict(await log.positions())
    finally:
        await log.close()
    return found
