"""The state store: a Protocol for each kind of user, and one for the whole."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Final, Protocol

import attrs

from reconciler.model.action import Change, OperatorAction
from reconciler.model.audit import AuditRecord, Settlement
from reconciler.model.chain import Cut, Entry, Head
from reconciler.model.desired import Claims, Desired
from reconciler.model.document import Agreement, ConflictRow, Document, Due, Lane, Status, Superseded
from reconciler.model.event import DeadLetter, Outgoing
from reconciler.model.policy import Policy
from reconciler.model.signing import Noted
from reconciler.model.stamp import NO_ANCHORS, NO_POSITIONS, Anchor, Partition, Place
from reconciler.model.standing import HotSpot
from reconciler.ports.shared import Shared
from reconciler.ports.slots import Slots
from reconciler.ports.write_stops import WriteStops


@attrs.frozen
class FoldBatch:
    """
    One transaction of ingest: what events say, refused records, and how far the log was read.

    `rows` may build each row when it is asked for, so that only a few of them are in memory at a time.
    """

    rows: Mapping[str, Claims]  # what the events say about each document
    positions: Mapping[Partition, int]
    dead_letters: Sequence[tuple[DeadLetter, Outgoing | None]]  # with the record that announces each, unless sent
    lane: Lane
    at_us: int
    urgent: frozenset[str] = frozenset()  # keys that an operator's event touched: lane OPERATOR
    replayed: frozenset[str] = frozenset()  # ids of dead letters that were appended again and now folded
    anchors: Mapping[Partition, Anchor] = NO_ANCHORS  # the last record read of partitions in `positions`
    since: Mapping[Partition, int] = NO_POSITIONS  # where reading began, where others may read too


@attrs.frozen
class Changed:
    """What a batch has changed."""

    keys: Sequence[str] = ()  # of the documents whose rows have changed
    superseded: int = 0  # events that changed nothing
    refolds: int = 0  # grows whenever any process folds a document again (`Store.refold`)


@attrs.frozen
class Refolded:
    """A document's row folded again from the log up to `positions`, with the records that were refused this time."""

    key: str
    desired: Desired
    positions: Mapping[Partition, int]
    dead_letters: Sequence[tuple[DeadLetter, Outgoing | None]]


@attrs.frozen
class OutboxMessage:
    """A record to publish; numbers give the order."""

    number: int
    record: Outgoing


class Folded(Protocol):
    """What a fold reads and writes."""

    async def positions(self) -> Mapping[Partition, int]:
        """
        Return the next offset of every partition of all topics: to fold, or (of outcomes) to take bases from.

        Each is stored in the transaction that folds or takes.
        """

    async def refused(self) -> frozenset[Place]:
        """Return the places of records that our clock refused when they were first read."""

    async def fold(self, batch: FoldBatch) -> Changed:
        """
        Join what a batch says with the stored rows, and make the documents due that change by that, in one durable
        transaction.

        Rows change as `core/folding/rows.py` says (`joined`, `folded`), in the batch's lane or, for `urgent` keys,
        OPERATOR; those that stay the same are not touched. Events that changed nothing are added to the counts of
        `superseded`. Each dead letter is stored once, by id, and only then the record that announces it goes to the
        outbox. `replayed` letters get the status "replayed".

        Raises MovedError, and moves no position, if one is not (any more) as `since` says. Rows may be joined even so.
        """


class Ledger(Protocol):
    """What the reconciler reads and writes."""

    async def due(self, now_us: int, limit: int) -> list[Due]:
        """
        Return due documents, most urgent lane first, longest due first within a lane.

        Those that another replica has are left out, here and in `next_due_us`.
        """

    async def next_due_us(self) -> int | None: ...

    async def documents(self, keys: Iterable[str]) -> dict[str, Document]:
        """Return the documents of those keys that exist."""

    async def hold(self, keys: Iterable[str]) -> dict[str, Document]:
        """
        Take documents for attempts of ours, and return them, without those that another replica has.

        We have a document until `settle` or `give_back`, or until we are taken for dead. Unlike everything else here
        this need not be durable: who has lost a document is refused its intent.
        """

    async def give_back(self, keys: Iterable[str]) -> None:
        """Leave documents to others that have got no attempt now."""

    async def intend(self, key: str, agreement: Agreement, policy: str = "") -> bool:
        """
        Store an agreement with an intent (and what was adopted) durably, before the write is sent.

        Return whether it may be sent: not if the document has been paused. Only what begins a write names the `policy`
        (its digest) that it was decided by: it may not be sent either while writes are stopped. Raises LostError if we
        do not have the document (any more), or replicas do not decide by that policy any more.
        """

    async def settle(self, settlement: Settlement) -> None:
        """
        Store the end of an attempt, and leave the document to others. Simultaneous calls share one transaction.

        Raises LostError, and stores nothing, if we do not have the document (any more).
        """

    async def requeue(self, keys: Iterable[str], lane: Lane, at_us: int) -> int:
        """
        Make documents due at `at_us` in a lane, except paused ones; return how many.

        It counts as a revision, so an attempt under way leaves the document due.
        """

    async def bring_forward(self, now_us: int, longest_us: Mapping[Status, int]) -> int:
        """
        Bring forward some documents that wait longer from now than the longest wait of their status.

        Returns how many; call again until it is 0. A clock was ahead when their wait was set. They come due at
        different times within that longest wait. A document that is pending since a time to come becomes pending since
        now.
        """

    async def keep_policy(self, digest: str, policy: Policy) -> None:
        """Keep a policy under its digest, once."""

    async def signing(self) -> Noted | None:
        """Return since when decisions and outcomes are signed, `None` if they never were."""

    async def note_signing(self, noted: Noted, announcement: Outgoing) -> None:
        """Store since when everything is signed, and queue the record that announces it, in one transaction."""

    async def reading(self) -> bytes:
        """Return by what the log was read so far, as `note_reading` stored it; empty if nothing was."""

    async def note_reading(self, said: bytes) -> None:
        """Store by what the log is read from now on (`flows/reading.py`), in the place of what was noted before."""

    async def rebase(
        self,
        agreements: Mapping[str, Agreement],
        positions: Mapping[Partition, int],
        at_us: int,
        anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
    ) -> None:
        """
        Store agreements recovered from an outcome log, and how far it was read, in one durable transaction.

        An agreement replaces none or an older one (`Agreement.told` is less), and the row changes as
        `core/folding/rows.py` says (`rebased`). A document that was never folded gets a row that is not due.
        """


BUCKETS: Final = 16  # of messages that replicas divide: one replica at a time publishes those of a bucket
OUTBOX_DUTIES: Final = tuple(f"outbox {bucket}" for bucket in range(BUCKETS))


class Outbox(Protocol):
    """
    Records to publish, written in the transactions that cause them.

    Those of one document are in one bucket, so they stay in order whoever publishes them. Several replicas divide the
    buckets by their duties.
    """

    async def waiting(self, limit: int) -> list[OutboxMessage]:
        """Return the oldest messages, of several replicas' those whose duty is ours."""

    async def published(self, numbers: Sequence[int], positions: Mapping[Partition, int]) -> None:
        """
        Forget messages that the log has acknowledged, and store the positions after them.

        `waiting` returns them no more. That is durable with the next transaction: a crash before may bring them back.
        """


class Views(Protocol):
    """What commands and pages read."""

    async def counts(self) -> Mapping[Status, int]:
        """Return how many documents have each status."""

    async def list_documents(self, status: Status | None, after: str, limit: int) -> list[Document]:
        """Return documents with keys after `after`, in order."""

    async def list_waiting(self, status: Status, after: tuple[int, str], limit: int) -> list[Document]:
        """Return pending documents of a status, longest pending first, after a time and a key."""

    async def list_aside(self, status: Status, after: tuple[int, str], limit: int) -> list[Document]:
        """Return documents of a status that were put aside (parked, contended), oldest first, after a time and key."""

    async def count_ahead(self, now_us: int, longest_us: Mapping[Status, int]) -> int:
        """Return how many documents `bring_forward` would bring forward."""

    async def last_audited_us(self) -> int | None:
        """Return the time of the trail's newest record; None without any."""

    async def oldest_pending_us(self) -> int | None:
        """Return since when the longest pending document is pending, without those that are absent or parked."""

    async def conflicts(
        self, *, closed: bool = False, limit: int = 1000, after: tuple[int, str] = (-1, "")
    ) -> list[ConflictRow]:
        """Return open conflicts, with `closed` closed ones too, oldest first, after an opening time and id."""

    async def count_conflicts(self) -> int: ...

    async def conflict(self, conflict_id: str) -> ConflictRow | None:
        """Return a conflict, open or closed."""

    async def conflicts_with_prefix(self, prefix: str, *, closed: bool, limit: int) -> list[ConflictRow]:
        """Return open conflicts whose id begins with a text, in the order of their ids; with `closed`, closed too."""
        ...

    async def dead_letters(self, status: str | None = "open", limit: int = 1000, after: str = "") -> list[DeadLetter]:
        """Return dead letters without key, value and headers, oldest first, after the one with id `after`."""

    async def letters_after(self, number: int, limit: int) -> list[tuple[int, DeadLetter]]:
        """
        Return dead letters of every status after a number, with their numbers, in the order in which they were stored.

        They come without key, value and headers. New ones always come last; the first has the number 1.
        """

    async def last_letter(self) -> int:
        """Return the number of the newest dead letter, 0 without any."""

    async def dead_letter(self, letter_id: str) -> DeadLetter | None:
        """Return a whole dead letter."""

    async def letter_ids_with_suffix(self, suffix: str, limit: int) -> list[str]:
        """Return ids of dead letters that end with a text, without reading the letters."""
        ...

    async def count_dead_letters(self) -> int:
        """Return how many dead letters are open, without reading them: each may have a megabyte."""

    async def audit(
        self,
        document: str | None = None,
        since_us: int = 0,
        until_us: int | None = None,
        limit: int = 1000,
        before: tuple[int, int] | None = None,
    ) -> list[AuditRecord]:
        """
        Return decisions, newest first; with `before`, a record's time and id, those after it in this order.

        `since_us` is included, `until_us` is not.
        """

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
        """Return operators' actions, of `kinds` if any, newest first, those before the record with number `before`."""

    async def audit_heads(self) -> list[Head]:
        """
        Return number and link of the newest record of each chain of the trail, or its beginning if it has none.

        The last one is that of the checkpoints, if there are any.
        """

    async def audit_entry(self, number: int) -> Entry | None:
        """Return a record of the trail, or a checkpoint, as it is stored."""

    def audit_chain(
        self, document: str | None = None, since_us: int = 0, until_us: int | None = None
    ) -> AsyncIterator[Entry]:
        """
        Yield the records of the trail as they are stored, decisions and actions, in the order of their numbers.

        With a document: its records of that time, in the order of their ordinals if they have any. Else each chain's
        records from the first to the last of that time; without a time, all there are, whatever their numbers, and
        first of all the checkpoints.
        """

    async def policy_texts(self) -> Mapping[str, bytes]:
        """Return every policy that was in force, as it is stored, by its digest."""

    async def superseded(self, key: str) -> Superseded | None:
        """Return which events of a document changed nothing on arrival, since the store was created."""

    async def hotspots(self, now_us: int, limit: int = 50) -> list[HotSpot]:
        """
        Return documents and fields with version conflicts: those with the highest rate of the last day first (a rate of
        few attempts counts for less, see `DOUBT`), then those with most conflicts of all time.
        """

    def export_projection(self) -> AsyncIterator[tuple[str, Desired]]:
        """Yield every folded row in key order."""


class Retained(Protocol):
    """
    What a store has given away to archives, and gives away.

    Of the audit trail that is whole pieces of a chain, from its beginning on, and never its newest record. The store
    refuses to delete any other record.
    """

    async def cuts(self) -> list[Cut]:
        """Return the pieces of the trail that were archived, those of a chain in their order."""

    async def audit_after(self, number: int, limit: int) -> list[Entry]:
        """Return the oldest records of the chain that has this number, or checkpoints, after it, as they are stored."""

    async def prune(
        self,
        action: OperatorAction,
        *,
        cut: Cut | None = None,
        conflicts: Sequence[ConflictRow] = (),
        letters: Sequence[DeadLetter] = (),
    ) -> bool:
        """
        Record an action, with the piece that it has archived; return whether that was done.

        Guests may do this too, in one durable transaction. It deletes these conflicts and dead letters, except those
        that have another state now; the records of the piece go with `forget`. Nothing happens if the piece does not
        begin where the last one of its chain ended, or has its chain's newest record, or others act meanwhile.
        """

    async def forget(self, limit: int) -> int:
        """Delete some records, at most `limit`, that are in pieces which were archived; return how many."""


class Store(Folded, Ledger, Outbox, Views, Retained, WriteStops, Protocol):
    """
    The whole state store. One process owns it; `open` refuses a second owner.

    Decisions and people's actions are in one audit trail, in the order of the transactions: every process appends its
    records after the head of that moment. Where several processes own a store, each has a chain of its own.
    """

    @property
    def slots(self) -> Slots | None:
        """The slot that its owner holds among those of other processes; None: no other process can be an owner."""

    @property
    def shared(self) -> Shared | None:
        """What all replicas agree on; None: no other process can be an owner."""

    async def anchors(self) -> Mapping[Partition, Anchor]:
        """Return the last record that was read of each partition that has one."""

    async def reposition(self, positions: Mapping[Partition, int]) -> None:
        """
        Store these positions as the only ones of their topics, because a person has decided to go on there.

        A partition whose position does not change keeps its anchor; all other anchors of these topics go.
        """

    async def refold(self, refolded: Refolded, action: OperatorAction) -> bool:
        """
        Replace a document's row, and record who did that, in one durable transaction; return whether that was done.

        Guests may do this too. Nothing happens if the store has read further than the row, or others act meanwhile. The
        document is pending and due in lane OPERATOR, unless it is paused, as a new revision. From then on what is read
        of its agreement lacks stamps that are later than every claim of the row (`core/folding/rows.py`).
        """

    async def record_actions(
        self, change: Change, actions: Sequence[OperatorAction], *, at_us: int, reason: str = ""
    ) -> bool:
        """
        Record operators' actions and change their targets, in one durable transaction; return whether that was done.

        Guests may do this too. It is all or nothing, and nothing if a target does not exist or can't be changed so: a
        document that no event has named; one to be paused, or made due, that is paused; one to be resumed that is not.
        One action stops all writes, or resumes them: nothing happens if that is done already.
        Nothing also while others act at the same time: read again, and try again.

        `core/folding/rows.py` (`after_action`) says how a document changes, and what holds while it is paused.
        """

    async def settled_keys(self, statuses: Sequence[Status], after: str, limit: int) -> list[str]:
        """Return the keys after `after` of folded documents of these statuses, in order."""

    async def compare_again(self, keys: Sequence[str], statuses: Sequence[Status], at_us: int) -> int:
        """
        Make those of the documents due at `at_us` in lane RESYNC that still have one of these statuses and are not due
        earlier; return how many. As with `requeue`, it counts as a revision.
        """

    async def count_due(self, lane: Lane, until_us: int) -> int:
        """Return how many documents are due in a lane by then."""

    async def close(self) -> None: ...
