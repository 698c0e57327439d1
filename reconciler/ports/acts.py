"""Acts: all that an operator can do, for commands, API and page alike, and the record of it in the store."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from reconciler.model.act import (
    Act,
    Appended,
    Change,
    Done,
    Gone,
    Preview,
    Previews,
    Resolved,
    Settled,
    Side,
    Stale,
    Take,
    Unusable,
)
from reconciler.model.chain import Entry, Head
from reconciler.model.value import Json

RESOLVED_MAX = 500  # conflicts decided by one act


class Deeds(Protocol):
    """The operators' side of the store."""

    async def enact(self, change: Change, acts: Sequence[Act], *, at_us: int, reason: str = "") -> bool:
        """
        Record acts, and change what their targets stand for, in one durable transaction; return whether that was done.

        All or nothing. Nothing, if one target is not there (any more) or can't be changed so: a document that no event
        has named; one to be paused, or to be due, that is paused; one to be resumed that is not. Nothing too while
        others act at the same time: look again, and try again.

        A paused document has the status "paused" with `reason`, and is not pending; an event, a settlement or a
        recovered agreement stores what it brings and leaves it so. It is due at `at_us` in lane RETRY, for a last look
        at what an attempt may have left behind, and then when a settlement of the status "paused" and of its revision
        says so. A resumed one is pending and due at `at_us` in lane OPERATOR, one to be retried is due then in lane
        ASKED. All count as a revision.
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


class Acts(Protocol):
    """
    What can be done; `who` is whoever does it, by name. Each act is recorded with its actor.

    What changes the store is recorded in the same transaction; what appends events is recorded after the log has
    acknowledged them, with their ids.
    """

    def acting(self, role: str, issuer: str = "") -> "Acts":
        """Return the same, recording that whoever acts has this role, and who vouched for their name if anybody did."""
        ...

    async def retry(self, who: str, keys: Sequence[str]) -> Done:
        """Make documents due now, before all others. Paused ones are left."""
        ...

    async def compare(self, who: str, keys: Sequence[str] | None) -> int:
        """
        Have documents compared with Windchill now, after everything more urgent; None: every document.

        Those that are synced, held or parked: documents that wait after trouble go on waiting, paused ones stay paused.
        Returns how many were made due.
        """
        ...

    async def pause(self, who: str, keys: Sequence[str], reason: str) -> Done:
        """Neither read nor write documents until they are resumed; what the log says of them is folded all the same."""
        ...

    async def resume(self, who: str, keys: Sequence[str]) -> Done:
        """End the pause of documents: each is due at once."""
        ...

    async def release(self, who: str, key: str, reason: str, fields: Sequence[str] = ()) -> Appended | Gone | Unusable:
        """Stop managing a document, or only these fields of it, by an event that says so."""
        ...

    async def preview(self, conflict_id: str, take: Take) -> Preview | Gone | Unusable:
        """Say what deciding a conflict would do; nothing is done."""
        ...

    async def resolve(
        self, who: str, conflict_id: str, take: Take, reason: str, seen: str | None = None
    ) -> Resolved | Stale | Gone | Unusable:
        """Decide a conflict, by events. With `seen`, of a preview, only if what it rests on has not moved since."""
        ...

    async def preview_many(
        self, take: Side, *, field: str | None = None, rule: str | None = None, limit: int = 100
    ) -> Previews:
        """Say what `resolve_many` would do; nothing is done."""
        ...

    async def resolve_many(
        self,
        who: str,
        take: Side,
        reason: str,
        *,
        field: str | None = None,
        rule: str | None = None,
        limit: int = 100,
        seen: Mapping[str, str] | None = None,
    ) -> Settled:
        """
        Decide open conflicts, oldest first, of one field or one rule; fewer than `limit` if they are large.

        With `seen`, of the previews by their conflicts, only these, and of them only what has not moved since.
        """
        ...

    async def replay_letters(self, who: str, ids: Sequence[str], reason: str = "") -> Done:
        """Append dead letters to the change log again, as they were. Raises LogError."""
        ...

    async def discard_letters(self, who: str, ids: Sequence[str], reason: str) -> Done:
        """Let dead letters go: they stay listed as discarded."""
        ...

    async def resend(self, who: str, letter_id: str, value: bytes, reason: str) -> Appended | Gone | Unusable:
        """Append a corrected event in the place of a dead letter; it becomes "replayed" when the event is read."""
        ...

    async def emitted(self, who: str, events: Mapping[str, Sequence[str]]) -> None:
        """Record who appended which events, by document."""
        ...

    async def note(
        self, who: str, kind: str, target: str, *, document: str = "", details: Mapping[str, Json], result: str = "done"
    ) -> None:
        """Record an act that was done elsewhere."""
        ...
