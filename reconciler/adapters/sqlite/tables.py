# ruff: noqa: S608 - the SQL is put together from our own names and constants; what comes from outside is a parameter
"""What several procedures take: positions and dead letters, as packed tables, and the statements that store them."""

from collections.abc import Mapping, Sequence

from reconciler.adapters.sqlite.packing import Packer, unpack
from reconciler.model import codec
from reconciler.model.event import DeadLetter, Outgoing
from reconciler.model.stamp import NO_ANCHORS, Anchor, Partition


def rows(table: str, *columns: str) -> str:
    """Return the SQL that reads a packed table of the procedure that is run."""
    return unpack(f"NEW.{table}", *columns, packed="NEW.packed")


PLACES = rows("positions", "topic text", "partition int", "next_offset int", "anchor_offset int", "anchor_digest text")
# Offsets that hold no record move a position on, but leave the last record what it was.
POSITIONS = f"""INSERT INTO position (topic, partition, next_offset, anchor_offset, anchor_digest)
    SELECT topic, partition, next_offset, anchor_offset, anchor_digest FROM {PLACES} WHERE true
    ON CONFLICT (topic, partition) DO UPDATE SET
        next_offset = excluded.next_offset,
        anchor_offset = coalesce(excluded.anchor_offset, anchor_offset),
        anchor_digest = iif(excluded.anchor_offset IS NULL, anchor_digest, excluded.anchor_digest)"""


LETTERS = (
    # Before the letters themselves: afterwards none would be new.
    f"""INSERT INTO outbox (message)
        SELECT letters.message
        FROM {rows("letters", "id text", "status text", "letter blob", "message blob")} AS letters
        WHERE letters.message <> x''
            AND NOT EXISTS (SELECT 1 FROM dead_letter WHERE dead_letter.id = letters.id)""",
    f"""INSERT INTO dead_letter (id, status, letter)
        SELECT id, status, letter
        FROM {rows("letters", "id text", "status text", "letter blob", "message blob")} WHERE true
        ON CONFLICT (id) DO NOTHING""",
)


def letters_of(packer: Packer, dead_letters: Sequence[tuple[DeadLetter, Outgoing | None]]) -> str:
    """Pack dead letters, each once, as `LETTERS` reads them."""
    encode = codec.encode
    letters = {letter.id: (letter, message) for letter, message in reversed(dead_letters)}
    return packer.table(
        (letter_id, letter.status, encode(letter), b"" if message is None else encode(message))
        for letter_id, (letter, message) in reversed(letters.items())
    )


def places_of(
    packer: Packer, positions: Mapping[Partition, int], anchors: Mapping[Partition, Anchor] = NO_ANCHORS
) -> str:
    """Pack positions as `POSITIONS` reads them."""
    known = ((place, offset, anchors.get(place)) for place, offset in positions.items())
    return packer.table(
        (*place, offset, None, "") if anchor is None else (*place, offset, *anchor) for place, offset, anchor in known
    )
