"""What a store carries when it moves into another kind of store: its tables, in a form that both understand."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

Line = Sequence[Any]  # texts as str, blobs as bytes, all that is packed as it is packed (`adapters/packing.py`)

# The columns of each table, in the order of their lines. What `document` has of the desired state and of the agreement
# is None where there is none.
TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "document": (
        *("key", "revision", "status", "reason", "lane", "due_us", "pending_since_us", "conflicts", "attempts"),
        *("aside_us", "desired", "agreement"),
    ),
    "refold": ("document", "number"),
    "superseded": ("document", "count", "last"),
    "position": ("topic", "partition", "next_offset", "anchor_offset", "anchor_digest"),
    "cut": ("last", "link", "act", "cut"),
    "audit": ("number", "document", "at_us", "target", "who", "kind", "link", "record"),
    "outbox": ("message",),
    "dead_letter": ("number", "id", "status", "letter"),
    "conflict": ("id", "document", "opened_at_us", "closed_at_us", "conflict"),
    "contention": ("field", "conflicts", "attempts"),
    "contention_hour": ("hour", "kind", "name", "conflicts", "attempts"),
    "policy": ("digest", "policy"),
    "signing": ("one", "noted"),
    "reading": ("one", "said"),
    "write_stop": ("number", "stop"),
}


class Cargo(Protocol):
    """A store that nobody else uses, to be carried away."""

    @property
    def leaving(self) -> tuple[str, str] | None:
        """Return to which place it was about to be moved by an earlier try, and the name of that try."""

    def count(self) -> int:
        """Return how many lines its tables have."""

    def pages(self, table: str) -> Iterator[list[Line]]:
        """Yield the lines of one of the `TABLES`, some at a time, those with numbers in their order."""

    def leave(self, place: str, move: str) -> None:
        """Note durably that it moves, by a try of this name: from now on nobody else uses it, until that is known."""

    def left(self, place: str, move: str) -> None:
        """Note durably that it has moved: nobody uses it any more."""
