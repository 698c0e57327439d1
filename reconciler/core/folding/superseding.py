"""
Superseding: events that changed nothing on arrival, because every claim of theirs lost to a later one.

Such an event is no error, but where a clock ran ahead, good events lose one after the other. What a batch says of a
document is compared with the row that was stored, so an event that wins costs one look at each of its fields. Events of
one batch that lose to each other are not told.
"""

from reconciler.core.folding import fold
from reconciler.model.desired import Desired, Field
from reconciler.model.document import Superseded
from reconciler.model.stamp import Stamp


def superseded(old: Desired, said: Desired, new: Desired) -> Superseded | None:
    """Return the events of `said` that left no trace in `new`, its join with `old`; copies are none of them."""
    known, joined = old.fields, new.fields
    lost_fields = [name for name in said.fields if joined.get(name) is known.get(name)]
    if not lost_fields and said.released is None:
        return None
    won = {fold.newest_stamp(field).event for name, field in said.fields.items() if name not in lost_fields}
    lost: dict[tuple[str, ...], tuple[Stamp, Stamp]] = {}
    for name in lost_fields:
        winner = _winner(known.get(name), new)
        if winner is not None:
            stamp = fold.newest_stamp(said.fields[name])
            lost[stamp.event] = stamp, winner
    if said.released is not None and new.released is not None and said.released.event != new.released.event:
        lost[said.released.event] = said.released, new.released
    pairs = [pair for event, pair in lost.items() if event not in won and event != pair[1].event]
    if not pairs:
        return None
    last, by = max(pairs, key=lambda pair: pair[0].place)
    return Superseded(len(pairs), last, by)


def _winner(field: Field | None, row: Desired) -> Stamp | None:
    return row.released if field is None else fold.newest_stamp(field)
