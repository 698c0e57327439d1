"""Windchill, whatever its dialect, and what a write tells on its way."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from reconciler.model.answer import ReadAnswer, Refused, ReleaseAnswer, Trouble, WriteAnswer
from reconciler.model.snapshot import Sighting, Snapshot, Token
from reconciler.model.value import Json


class Journal(Protocol):
    """
    What a write tells on its way, where what guards it is a lock on the document: no death may leave that a riddle.

    `note` says in a line what caused the write, for whoever reads the document's history in Windchill. `mark` is stored
    before the write begins; where a lock carries a note, that note holds the mark and proves the lock ours.
    """

    @property
    def mark(self) -> str:
        """Return the text that no other lock's note holds: `PREFIX-SUFFIX`, the prefix the same for this document."""
        ...

    @property
    def note(self) -> str:
        """Return systems and their reasons, at most 250 characters."""
        ...

    async def locked(self, lock: str) -> None:
        """Store durably that we hold a lock on the document; awaited before anything else is sent."""
        ...

    async def redraft(self, shown: Snapshot) -> Mapping[str, Json]:
        """
        Decide again: on what is there now that nobody else can change it, or a moment before a write without a guard.

        The intent is stored anew before this returns. Empty: nothing of this write is left to be written.
        """
        ...

    async def refused(self, refusals: Sequence[Refused]) -> None:
        """Store durably that the server takes these fields out of a write, which goes on without them."""
        ...


class Windchill(Protocol):
    """A Windchill, whatever its dialect. The core never learns a status code's or a URL's meaning from it."""

    @property
    def locks(self) -> bool:
        """Whether a write may leave a lock of ours behind when it is cut short."""
        ...

    async def read(self, key: str, known: Snapshot | None = None) -> ReadAnswer:
        """Read one document; with `known`, conditionally on that snapshot's token or modification date."""
        ...

    async def write(
        self, snapshot: Snapshot, fields: Mapping[str, Json], *, token: Token, journal: Journal
    ) -> WriteAnswer:
        """
        Write `fields` and only those, on condition that the document is still at `token`.

        `snapshot` is the read that was decided on (a PUT sends the whole document from it). There is no unguarded form:
        where the server knows no condition, the document is locked, and what `journal` decides again is written.
        """
        ...

    async def release(self, key: str, lock: str | None, mark: str) -> ReleaseAnswer:
        """
        Give up a lock of ours that a write has perhaps left behind. No other is touched, our own account's included.

        `lock` is what the journal was told; None: it is not known whether there is one. `mark` is the journal's; its
        prefix proves a lock ours.
        """
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


@runtime_checkable
class ChangeList(Protocol):
    """What some dialects can tell besides: which documents have been modified of late."""

    async def changed(self, since_us: int) -> Sequence[Sighting] | Trouble:
        """Return every document modified since then, perhaps more, with the tokens that reading them would give."""
        ...
