"""Deeds: what operators do to the store, and the record of it there; `flows.acts` says what they can do."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from reconciler.model.act import Act, Change
from reconciler.model.chain import Entry, Head

RESOLVED_MAX = 500  # conflicts decided by one act


class Deeds(Protocol):
    """The operators' side of the store."""

    async def enact(self, change: Change, acts: Sequence[Act], *, at_us: int, reason: str = "") -> bool:
        """
        Record acts, and change what their targets stand for, in one durable transaction; return whether that was done.

        All or nothing. Nothing, if one target is not there (any more) or can't be changed so: a document that no event
        has named; one to be paused, or to be due, that is paused; one to be resumed that is not. Nothing too while
        others act at the same time: look again, and try again.

        What becomes of a document is said in `core/rows.py` (`acted`), and what holds while it is paused.
        """
        ...

    async def acts(
        self,
        *,
        document: str | None = None,
        who: str | None = None,
        target: str | None = None,
        kind: str | None = None,
        limit: int = 1000,
        before: int | None = None,
    ) -> list[Act]:
        """
        Return acts, newest first; with `before`, a record's number, those that stand before it.

        With `kind`, those on `target`, which must be given then.
        """
        ...

    async def acts_head(self) -> Head | None:
        """Return number and link of the newest act's record; None when there is none."""
        ...

    def acts_chain(self) -> AsyncIterator[Entry]:
        """Yield the records of acts as they are stored, in the order of their numbers."""
        ...
