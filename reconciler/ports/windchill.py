"""Windchill in any dialect, and the journal of a write."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from reconciler.model.answer import ReadAnswer, Refused, ReleaseAnswer, Trouble, WriteAnswer
from reconciler.model.snapshot import Sighting, Snapshot, Token
from reconciler.model.value import Json


class Journal(Protocol):
    """
    What a write reports while a lock on the document guards it, so that a crash leaves no doubt whose lock it is.

    `note` says in a line what caused the write, for the document's history in Windchill. `mark` is stored before the
    write begins; where locks have notes, the mark in the note proves that the lock is ours.
    """

    @property
    def mark(self) -> str:
        """Return a text that is in no other lock's note: `PREFIX-SUFFIX`, with one prefix for each document."""

    @property
    def note(self) -> str:
        """Return the claiming systems with their reasons, at most 250 characters."""

    async def locked(self, lock: str) -> None:
        """Store durably that we hold a lock on the document; awaited before anything else is sent."""

    async def redraft(self, shown: Snapshot) -> Mapping[str, Json]:
        """
        Decide again on the present document, under the lock or right before a write that nothing guards.

        The intent is stored again before this returns. Returns the fields to write, empty if none are left.
        """

    async def refused(self, refusals: Sequence[Refused]) -> None:
        """Store durably that the server refuses these fields; the write goes on without them."""


class Windchill(Protocol):
    """A Windchill of any dialect. Status codes and URLs stay inside."""

    @property
    def locks(self) -> bool:
        """Whether a write that is cut short may leave a lock of ours behind."""

    async def read(self, key: str, known: Snapshot | None = None) -> ReadAnswer:
        """Read one document; with `known`, only if its token or modification date has changed."""

    async def write(
        self, snapshot: Snapshot, fields: Mapping[str, Json], *, token: Token, journal: Journal
    ) -> WriteAnswer:
        """
        Write `fields` and only those, provided that the document is still at `token`.

        `snapshot` is what was decided on; a PUT sends the rest of the document from it. Every write is guarded: where
        the server knows no conditions, the document is locked, and what `journal` then decides is written.
        """

    async def release(self, key: str, lock: str | None, mark: str) -> ReleaseAnswer:
        """
        Give up a lock that a write may have left behind. No other lock is touched, even of our own account.

        `lock` is what the journal was told, None if it is not known whether there is a lock. `mark` is the journal's:
        its prefix proves that a lock is ours.
        """

    async def close(self) -> None: ...


@runtime_checkable
class ChangeList(Protocol):
    """A further ability of some dialects: listing the documents that were modified lately."""

    async def changed(self, since_us: int) -> Sequence[Sighting] | Trouble:
        """Return every document modified since then, and perhaps others, with the tokens that reads would give."""
