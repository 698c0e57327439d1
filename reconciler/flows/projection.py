"""
Projection archives: the folded state with its positions, to begin with instead of all records before them.

Rules:
1. Positions are read before the rows, so an archive that is made beside a daemon never lacks what is before them.
2. They are stored after the rows, and only if the file is whole: a start that is interrupted is done again.
3. It is a store's reading of the log (`flows/reading.py`), and is joined with no other one.

What was agreed with Windchill is not in it. That comes from the outcome log, as for every new store.
"""

from collections.abc import AsyncIterator, Iterable

import msgspec

from reconciler.core.folding import projection_file
from reconciler.core.folding.projection_file import Header, Lines, Piece, Reached
from reconciler.errors import ArchiveError
from reconciler.model import instant
from reconciler.model.document import Lane
from reconciler.ports import Clock, FoldBatch, Folded, Store

_LETTERS = 500  # outlines read at once


async def archived(store: Store, clock: Clock, order: str) -> AsyncIterator[bytes]:
    """Yield the lines of an archive of a store, which was folded under this `[log] order`. Raises ArchiveError."""
    made = Lines(await _header(store, clock, order))
    yield made.first
    async for key, desired in store.export_projection():
        yield made.said(projection_file.row(key, desired))
    after = 0
    while outlines := await store.letters_after(after, _LETTERS):
        after, _ = outlines[-1]
        for _, outline in outlines:
            letter = await store.dead_letter(outline.id)
            if letter is not None:  # else it was pruned meanwhile
                yield made.said(projection_file.letter(letter))
    yield made.last()


async def _header(store: Store, clock: Clock, order: str) -> Header:
    reading = await store.reading()
    if not reading:
        raise ArchiveError("this store has not noted by what it has read its log: start the reconciler on it once")
    anchors, positions = await store.anchors(), await store.positions()
    topics = msgspec.json.decode(reading)["topics"]  # the others are those of outcomes and dead letters
    reached = [
        Reached(*place, offset, anchors.get(place))
        for place, offset in sorted(positions.items())
        if place.topic in topics
    ]
    now = instant.from_us(clock.now_us())
    return Header(projection_file.VERSION, now, order, tuple(reached), msgspec.Raw(reading))


async def begin_with(header: Header, pieces: Iterable[Piece], store: Folded, clock: Clock) -> int:
    """
    Join an archive with a store, and go on from its positions; return how many rows changed.

    A store that has read further stays there. Raises ArchiveError if the file was changed, before a position is stored.
    """
    changed = 0
    for rows, letters in pieces:
        dead = [(letter, None) for letter in letters]
        done = await store.fold(FoldBatch(rows, {}, dead, Lane.REPLAY, clock.now_us()))
        changed += len(done.keys)
    known = await store.positions()
    further = {place: offset for place, offset in header.places.items() if offset > known.get(place, 0)}
    anchors = {place: anchor for place, anchor in header.anchors.items() if place in further}
    await store.fold(FoldBatch({}, further, [], Lane.REPLAY, clock.now_us(), anchors=anchors))
    return changed
