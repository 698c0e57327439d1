"""
A change: what one transaction is to store, as the arguments of the function `change_1` (`migrations/0001_first.sql`).

It stores all or nothing, and answers why not. What becomes of a row is decided before, by `core/folding/rows.py`: a
change names the version of every row that it was decided on.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import attrs

from reconciler.adapters import packing
from reconciler.adapters.changes import Appended, packed
from reconciler.model import chain, codec
from reconciler.model.chain import Head
from reconciler.model.document import Lane, Row, Status
from reconciler.model.event import DeadLetter, Outgoing
from reconciler.model.stamp import NO_ANCHORS, NO_POSITIONS, Anchor, Partition

# How the function answers.
DONE: Final = "done"
LATE: Final = "late"  # another fold of ours was stored meanwhile
FENCED: Final = "fenced"  # another process has the slot
REPLACED: Final = "replaced"  # another generation has begun, or has to
OUTDATED: Final = "outdated"  # replicas decide by another policy now
REFOLDED: Final = "refolded"  # a document was folded again since
BEHIND: Final = "behind"  # the store has read further
CUT: Final = "cut"  # the piece does not begin where the last one ended, or has the newest record
STOPS: Final = "stops"  # writes were stopped or resumed meanwhile
MOVED: Final = "moved"  # a row has another version
HEAD: Final = "head"  # another record was appended
AGAIN: Final = (MOVED, HEAD, LATE)  # read and decide again

COLUMNS: Final = "version, aside_us, key, revision, status, reason, lane, due_us, pending_since_us, conflicts, attempts"

_SEEN = ("seen_key", "seen_version")
_ROW = tuple(f"row_{name}" for name in COLUMNS.split(", "))
_RECORD = tuple(f"record_{name}" for name in ("text", "document", "at_us", "target", "who", "kind"))
_POSITION = tuple(f"position_{name}" for name in ("topic", "partition", "offset", "anchor", "digest", "since"))
_LETTER = tuple(f"letter_{name}" for name in ("id", "status", "clock", "outline", "text", "message"))


class Stored(NamedTuple):
    """A document's row as it is stored; version 0 stands for no row."""

    version: int
    aside_us: int | None
    row: Row

    @classmethod
    def of(cls, columns: Sequence[Any]) -> "Stored":
        """Return the row with these `COLUMNS`."""
        version, aside_us, key, revision, status, reason, lane, *numbers = columns
        return cls(
            version, aside_us, Row(key.decode(), revision, Status(status), reason.decode(), Lane(lane), *numbers)
        )

    def columns(self) -> tuple[object, ...]:
        """Return the `COLUMNS`."""
        key, revision, status, reason, lane, *numbers = self.row
        return (
            *(self.version, self.aside_us, key.encode(), revision, status.value, reason.encode(), int(lane)),
            *numbers,
        )


def encoded(cell: object) -> object:
    """Return a value as a column has it: texts as bytes, all others as they are."""
    return cell.encode() if isinstance(cell, str) else cell


class Change:
    """Collects arguments. What is not said is not changed."""

    def __init__(self) -> None:
        self._arguments: dict[str, Any] = {}
        self._records: list[bytes] = []  # those to be appended to the audit trail, as they are hashed
        self.counted = False  # whether the owner's turn counts it, because doing it twice would be wrong
        self.folded = False  # whether its turn in folding does

    @property
    def chained(self) -> bool:
        """Whether it follows the head of the audit trail."""
        return self.counted or bool(self._records)

    def call(self) -> tuple[str, list[Any]]:
        """Return the statement and its arguments."""
        named = ", ".join(f"{name} => ${place}" for place, name in enumerate(self._arguments, 1))
        return f"SELECT change_1({named})", list(self._arguments.values())

    def say(self, **arguments: object) -> None:
        """Give arguments that are no columns of rows."""
        self._arguments.update(arguments)

    def put(self, names: Sequence[str], values: Iterable[Sequence[object]]) -> None:
        """Add rows of values to arguments that are their columns."""
        for cells in values:
            for name, cell in zip(names, cells, strict=True):
                self._arguments.setdefault(name, []).append(cell)

    def follow(self, head: Head, turn: int | None) -> Head:
        """Chain the records to a head; return the new one."""
        links = []
        self.say(head_number=head.number, head_link=head.link, head_turn=turn)
        for text in self._records:
            head = chain.extend(head, text)
            links.append(head.link)
        self.say(record_link=links)
        return head

    # ------------------------------------------------------------------------------------------------ what is stored

    def rests_on(self, stored: Iterable[Stored]) -> None:
        """Name rows that must still be as they were read."""
        self.put(_SEEN, [(one.row.key.encode(), one.version) for one in stored])

    def rows(self, before: Iterable[tuple[Stored, Row | None]]) -> int:
        """Store what becomes of rows, `None` for no change; return how many change."""
        return self.settled((one, row, one.aside_us) for one, row in before)

    def settled(self, before: Iterable[tuple[Stored, Row | None, int | None]]) -> int:
        """Store what becomes of rows, and since when their documents are put aside."""
        changed = [(one, row, aside_us) for one, row, aside_us in before if row is not None]
        self.rests_on(one for one, _, _ in changed)
        self.put(_ROW, [Stored(one.version + 1, aside_us, row).columns() for one, row, aside_us in changed])
        return len(changed)

    def desired(self, texts: Iterable[tuple[str, bytes]]) -> None:
        self.put(("desired_key", "desired_text"), [(key.encode(), text) for key, text in texts])

    def agreements(self, texts: Iterable[tuple[str, int, bytes]]) -> None:
        """Store agreements, each in place of one with a version; 0 stands for none."""
        self.put(
            ("agreement_key", "agreement_version", "agreement_text"),
            [(key.encode(), version, packing.pack(text)) for key, version, text in texts],
        )

    def records(self, records: Iterable[Appended]) -> None:
        for text, *columns in records:
            self._records.append(text)
            self.put(_RECORD, [[packing.pack(text), *map(encoded, columns)]])

    def messages(self, messages: Iterable[tuple[int, bytes]]) -> None:
        self.put(("message_bucket", "message_text"), messages)

    def letters(self, letters: Iterable[tuple[DeadLetter, Outgoing | None]]) -> None:
        for letter, message in letters:
            outline = attrs.evolve(letter, key=None, value=None, headers=())
            texts = (codec.encode(outline), codec.encode(letter), message and packed(message))
            self.put(_LETTER, [(letter.id.encode(), letter.status, letter.stage == "clock", *texts)])

    def marks(self, marks: Iterable[tuple[str, str]]) -> None:
        self.put(("mark_id", "mark_status"), [(letter_id.encode(), status) for letter_id, status in marks])

    def positions(
        self,
        positions: Mapping[Partition, int],
        anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
        since: Mapping[Partition, int] = NO_POSITIONS,
    ) -> None:
        given = ((place, offset, anchors.get(place) or (None, "")) for place, offset in positions.items())
        self.put(
            _POSITION,
            [
                (place.topic.encode(), place.partition, offset, *anchor, since.get(place))
                for place, offset, anchor in given
            ],
        )

    def places(self, argument: str, places: Iterable[Partition]) -> None:
        named = (f"{argument}_topic", f"{argument}_partition")
        self.put(named, [(place.topic.encode(), place.partition) for place in places])
