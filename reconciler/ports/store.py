"""The state store, from the sides of those who use it."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Protocol

import attrs

from reconciler.model.action import Change, OperatorAction
from reconciler.model.audit import AuditRecord, Settlement
from reconciler.model.chain import Entry, Head
from reconciler.model.desired import Desired
from reconciler.model.document import Agreement, ConflictRow, Document, Due, Lane, Status, Superseded
from reconciler.model.event import DeadLetter, Outgoing
from reconciler.model.policy import Policy
from reconciler.model.signing import Noted
from reconciler.model.stamp import NO_ANCHORS, Anchor, Partition, Place
from reconciler.model.standing import HotSpot


@attrs.frozen
class FoldBatch:
    """One transaction of ingest: folded rows, what could not be used, and how far the log was read."""

    rows: Mapping[str, Desired]
    positions: Mapping[Partition, int]
    dead_letters: Sequence[tuple[DeadLetter, Outgoing | None]]  # each with what announces it, unless that was done
    lane: Lane
    at_us: int
    urgent: frozenset[str] = frozenset()  # keys that an operator's event touched: lane OPERATOR
    replayed: frozenset[str] = frozenset()  # ids of dead letters that were appended again and have now come round
    anchors: Mapping[Partition, Anchor] = NO_ANCHORS  # the last records that were read, of partitions in `positions`
    superseded: Mapping[str, Superseded] = attrs.field(factory=dict)  # by document; added to what is counted of it
    refolds: int | None = None  # what `refolds` said before the rows were read; None: no one else changes rows


@attrs.frozen
class Refolded:
    """A document's row as the log gives it today, read up to `positions`, and what of it can't be used today."""

    key: str
    desired: Desired
    positions: Mapping[Partition, int]
    dead_letters: Sequence[tuple[DeadLetter, Outgoing | None]]


@attrs.frozen
class OutboxMessage:
    """A record that waits to be published; numbered in the order it must go out."""

    number: int
    record: Outgoing


class Folded(Protocol):
    """What a fold asks for, and gives."""

    async def positions(self) -> Mapping[Partition, int]:
        """
        Return the next offset per partition, of every topic: to fold, or (of outcomes) to take bases from.

        Stored in the same transactions as what was folded or taken.
        """
        ...

    async def refused(self) -> frozenset[Place]:
        """Return the places of records that were refused by our clock when they were first read."""
        ...

    async def refolds(self) -> int:
        """Return a number that grows whenever a document is folded again, by anyone (`Store.refold`)."""
        ...

    async def desired(self, keys: Iterable[str]) -> dict[str, Desired]:
        """Return the folded rows of those keys that have one."""
        ...

    async def fold(self, batch: FoldBatch) -> None:
        """
        Store a batch and mark its documents due, in one durable transaction; nothing if `refolds` has grown meanwhile.

        Rows change as `core/folding/rows.py` says (`folded`), in the batch's lane or that of `urgent`; rows equal to
        what is stored are not touched. Dead letters are stored once each, by id; the record that announces one is
        queued in the outbox the first time only. `replayed` letters get the status "replayed".
        """
        ...


class Ledger(Protocol):
    """The reconciler's side of the store."""

    async def due(self, now_us: int, limit: int) -> list[Due]:
        """Return documents whose time has come, most urgent lane first, longest due first within a lane."""
        ...

    async def next_due_us(self) -> int | None:
        """Return the earliest due time of any document."""
        ...

    async def documents(self, keys: Iterable[str]) -> dict[str, Document]:
        """Return whole rows of those keys that exist."""
        ...

    async def intend(self, key: str, agreement: Agreement) -> bool:
        """
        Store an agreement that carries an intent (and what was adopted), durably, before the write is sent.

        Return whether it may be sent: not if the document has been paused by then.
        """
        ...

    async def settle(self, settlement: Settlement) -> None:
        """Store the end of an attempt. Calls made at the same time share one transaction (group commit)."""
        ...

    async def requeue(self, keys: Iterable[str], lane: Lane, at_us: int) -> int:
        """
        Make documents due at `at_us` in a lane; return how many there were. Paused ones are left.

        It counts as a revision: an attempt that is under way meanwhile leaves the document due.
        """
        ...

    async def bring_forward(self, now_us: int, longest_us: Mapping[Status, int]) -> int:
        """
        Bring documents forward that wait longer from now than any of their status does; return how many there were.

        A clock was ahead when they were told to wait. They come due at different times, within the longest wait of
        their status. A document that stands where it stands since a time to come stands there since now.
        """
        ...

    async def keep_policy(self, digest: str, policy: Policy) -> None:
        """Keep a policy under its digest, once."""
        ...

    async def signing(self) -> Noted | None:
        """Return from where on decisions and outcomes are signed, `None` while that was never switched on."""
        ...

    async def note_signing(self, noted: Noted, announcement: Outgoing) -> None:
        """Store from where on everything is signed, and queue the record that announces it, in one transaction."""
        ...

    async def rebase(
        self,
        agreements: Mapping[str, Agreement],
        positions: Mapping[Partition, int],
        at_us: int,
        anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
    ) -> None:
        """
        Store agreements recovered from an outcome log, and how far it was read, in one durable transaction.

        One replaces what is stored if that is nothing, or if more was told by then (`Agreement.told`), and the row
        changes as `core/folding/rows.py` says (`rebased`). One that was never folded gets a row that is not due.
        """
        ...


class Outbox(Protocol):
    """Records that wait to be published, written in the transactions that cause them."""

    async def waiting(self, limit: int) -> list[OutboxMessage]:
        """Return the oldest messages."""
        ...

    async def published(self, numbers: Sequence[int], positions: Mapping[Partition, int]) -> None:
        """Forget messages that the log has acknowledged, and store the positions after them."""
        ...


class Views(Protocol):
    """What commands and pages read."""

    async def counts(self) -> Mapping[Status, int]:
        """Return how many documents stand where."""
        ...

    async def list_documents(self, status: Status | None, after: str, limit: int) -> list[Document]:
        """Return documents in key order, from the key after `after`."""
        ...

    async def list_waiting(self, status: Status, after: tuple[int, str], limit: int) -> list[Document]:
        """Return pending documents that stand there, longest pending first: those after a time and a key."""
        ...

    async def list_aside(self, status: Status, after: tuple[int, str], limit: int) -> list[Document]:
        """Return documents that were put aside there (parked, contended), oldest first, after a time and a key."""
        ...

    async def count_ahead(self, now_us: int, longest_us: Mapping[Status, int]) -> int:
        """Return how many documents `bring_forward` would bring forward."""
        ...

    async def last_audited_us(self) -> int | None:
        """Return of when the newest record of the trail is, whatever times there are; None without any."""
        ...

    async def oldest_pending_us(self) -> int | None:
        """Return since when the longest pending document has been pending."""
        ...

    async def conflicts(
        self, *, closed: bool = False, limit: int = 1000, after: tuple[int, str] = (-1, "")
    ) -> list[ConflictRow]:
        """Return open conflicts, oldest first, after that opened then of that id; with `closed`, closed ones too."""
        ...

    async def count_conflicts(self) -> int:
        """Return how many conflicts are open, without reading them."""
        ...

    async def conflict(self, conflict_id: str) -> ConflictRow | None:
        """Return a conflict, open or closed."""
        ...

    async def dead_letters(self, status: str | None = "open", limit: int = 1000, after: str = "") -> list[DeadLetter]:
        """Return dead letters, oldest first, after that of the id `after`, if any; without key, value and headers."""
        ...

    async def letters_after(self, number: int, limit: int) -> list[tuple[int, DeadLetter]]:
        """
        Return dead letters of every status with their numbers, in the order in which they were stored, after a number.

        Without key, value and headers. None comes to stand before one that was returned; the first has the number 1.
        """
        ...

    async def last_letter(self) -> int:
        """Return the number of the dead letter that was stored last, 0 without any."""
        ...

    async def dead_letter(self, letter_id: str) -> DeadLetter | None:
        """Return a dead letter, whole."""
        ...

    async def count_dead_letters(self) -> int:
        """Return how many dead letters are open, without reading them: each may be a megabyte."""
        ...

    async def audit(
        self,
        document: str | None = None,
        since_us: int = 0,
        until_us: int | None = None,
        limit: int = 1000,
        before: tuple[int, int] | None = None,
    ) -> list[AuditRecord]:
        """
        Return decisions, newest first; with `before`, a record's time and id, those that follow on it.

        `since_us` is included, `until_us` is not.
        """
        ...

    async def actions(
        self,
        *,
        document: str | None = None,
        who: str | None = None,
        target: str | None = None,
        kinds: Sequence[str] = (),
        limit: int = 1000,
        before: int | None = None,
    ) -> list[OperatorAction]:
        """Return acts (of `kinds`, if any), newest first; with `before`, a record's number, those before it."""
        ...

    async def audit_head(self) -> Head | None:
        """Return number and link of the newest record of the trail; None when there is none."""
        ...

    async def audit_entry(self, number: int) -> Entry | None:
        """Return a record of the trail as it is stored."""
        ...

    def audit_chain(
        self, document: str | None = None, since_us: int = 0, until_us: int | None = None
    ) -> AsyncIterator[Entry]:
        """
        Yield the records of the trail as they are stored, decisions and acts, in the order of their numbers.

        Of a document: its records of that time. Else the piece of the chain from the first record of that time to the
        last, with whatever stands between them; without a time, all there is, whatever its numbers.
        """
        ...

    async def policy_texts(self) -> Mapping[str, bytes]:
        """Return every policy that was in force as it is stored, by the digest it is kept under."""
        ...

    async def superseded(self, key: str) -> Superseded | None:
        """Return which events of a document changed nothing on arrival, since the store was made."""
        ...

    async def hotspots(self, now_us: int, limit: int = 50) -> list[HotSpot]:
        """
        Return documents and fields with version conflicts: the highest rate of the last day first, a rate of few
        attempts counting for less (`model.hotspot.DOUBT`); then most conflicts of all time.
        """
        ...

    def export_projection(self) -> AsyncIterator[tuple[str, Desired]]:
        """Yield every folded row in key order."""
        ...


class Store(Folded, Ledger, Outbox, Views, Protocol):
    """
    The whole state store. One process owns it; `open` refuses a second owner.

    Whatever is recorded, what was decided and what people did, stands in one audit trail, in the order of the
    transactions: each record is appended after the head that is there at that moment, whichever process appends it.
    """

    async def anchors(self) -> Mapping[Partition, Anchor]:
        """Return the last record that was read of each partition, where one was."""
        ...

    async def reposition(self, positions: Mapping[Partition, int]) -> None:
        """
        Store these positions as the only ones of their topics: a person has decided to go on there.

        A partition that goes on where it stood keeps its anchor; the anchors of all others are forgotten.
        """
        ...

    async def refold(self, refolded: Refolded, action: OperatorAction) -> bool:
        """
        Replace a document's row, and record who did that, in one durable transaction; return whether that was done.

        Beside the owner too. Nothing, if the store has read further than the row, or others act at the same time. The
        document is pending and due in lane OPERATOR, unless it is paused, as a new revision. From then on what is read
        of its agreement lacks stamps that are later than every claim of the row (`core/folding/refolding.py`).
        """
        ...

    async def record_actions(
        self, change: Change, actions: Sequence[OperatorAction], *, at_us: int, reason: str = ""
    ) -> bool:
        """
        Record acts, and change what their targets stand for, in one durable transaction; return whether that was done.

        Beside the owner too. All or nothing. Nothing, if one target is not there (any more) or can't be changed so: a
        document that no event has named; one to be paused, or to be due, that is paused; one to be resumed that is not.
        Nothing too while others act at the same time: look again, and try again.

        What becomes of a document is said in `core/folding/rows.py` (`acted`), and what holds while it is paused.
        """
        ...

    async def settled_keys(self, statuses: Sequence[Status], after: str, limit: int) -> list[str]:
        """Return the keys of folded documents that stand there, in order, from the key after `after`."""
        ...

    async def compare_again(self, keys: Sequence[str], statuses: Sequence[Status], at_us: int) -> int:
        """
        Make those documents due at `at_us` in lane RESYNC that (still) stand there and are not due before; return
        how many these are. As with `requeue`, it counts as a revision.
        """
        ...

    async def count_due(self, lane: Lane, until_us: int) -> int:
        """Return how many documents are due in a lane by then."""
        ...

    async def close(self) -> None:
        """Finish what is under way and close."""
        ...
