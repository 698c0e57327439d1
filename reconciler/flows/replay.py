"""
Replay: folds logs into a store from their beginning, and finds the differences between two stores.

The fold is a join, so folding again what a store already holds changes nothing, and logs may overlap and come in any
order. Outcome logs give back what was last agreed with Windchill, for documents whose agreement the store lacks.
"""

from collections.abc import AsyncIterator, Callable

import attrs
import msgspec

from reconciler.core import outcomes
from reconciler.flows.ingest import Ingest
from reconciler.model import codec
from reconciler.model.base import Base
from reconciler.model.desired import Desired
from reconciler.model.document import Agreement
from reconciler.model.event import Record
from reconciler.model.outcome import OutcomeType
from reconciler.ports import EventLog, Store

BATCH = 200_000  # records a fetch, which are folded newest first: the more at a time, the less is built in vain
_FETCH_TIMEOUT_S = 1.0
_RECONCILED = OutcomeType.RECONCILED.value.encode()


@attrs.frozen
class Replayed:
    """What a replay came to."""

    records: int
    changed: int  # rows changed, counted once per batch
    rebased: int  # documents whose agreement was recovered


@attrs.frozen
class Difference:
    """A document whose folded row is not the same in two stores; `None` where a store has none."""

    key: str
    here: Desired | None
    there: Desired | None


async def replay(log: EventLog, ingest: Ingest, store: Store, progress: Callable[[int], None]) -> Replayed:
    """Fold a log from its beginning to the end it has now; `progress` is told the records read so far."""
    await log.open({})
    ends = dict(await log.ends())
    bases: dict[str, tuple[str, Base]] = {}
    ingest.no_event = lambda record: _recover(record, bases)
    records = changed = 0
    while True:
        batch = await log.fetch(BATCH, _FETCH_TIMEOUT_S)
        room = await ingest.gather(batch)
        records += len(batch)
        progress(records)
        if batch and room:
            continue
        changed += await ingest.commit()
        reached = await log.positions()  # past gaps that hold no record
        if not batch and all(reached.get(place, 0) >= end for place, end in ends.items()):
            break
    await store.rebase({key: Agreement(base=base) for key, (_, base) in bases.items()})
    return Replayed(records, changed, len(bases))


async def differences(here: Store, there: Store) -> AsyncIterator[Difference]:
    """Yield, in key order, the documents whose rows differ; both stores are read side by side in constant memory."""
    left, right = here.export_projection(), there.export_projection()
    one, other = await anext(left, None), await anext(right, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one[0] < other[0]):
            assert one is not None
            yield Difference(one[0], one[1], None)
            one = await anext(left, None)
        elif one is None or other[0] < one[0]:
            yield Difference(other[0], None, other[1])
            other = await anext(right, None)
        else:
            if codec.encode(one[1]) != codec.encode(other[1]):
                yield Difference(one[0], one[1], other[1])
            one, other = await anext(left, None), await anext(right, None)


def _recover(record: Record, bases: dict[str, tuple[str, Base]]) -> None:
    """Keep the base that a record tells of, if it is an outcome and the latest of its document."""
    if record.value is None or _RECONCILED not in record.value:
        return
    try:
        found = outcomes.base_of(record.value)
    except msgspec.DecodeError:
        return  # not an outcome, it only mentions one
    if found is not None:
        key, time, base = found
        if key not in bases or bases[key][0] <= time:
            bases[key] = (time, base)


__all__ = ["BATCH", "Difference", "Replayed", "differences", "replay"]
