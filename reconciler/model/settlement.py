"""Settlements: the end of an attempt as one transaction."""

import attrs

from reconciler.model.audit import AuditRecord
from reconciler.model.document import Agreement, Conflict, Lane, Status
from reconciler.model.event import Outgoing


@attrs.frozen
class Contention:
    """How often a field was written, and how often somebody else moved it under a write of ours."""

    field: str
    conflicts: int
    attempts: int


@attrs.frozen
class Settlement:
    """One transaction at the end of an attempt: the document's new agreement with its trail, all or nothing."""

    key: str
    revision: int  # that was decided on; if the row has moved on since, it stays due at once, or until a wait is over
    agreement: Agreement
    status: Status
    reason: str
    lane: Lane
    due_us: int | None
    at_us: int
    audit: tuple[AuditRecord, ...] = ()
    result: str = ""  # in the words of the audit, recorded or not; empty if the attempt came to no decision
    outcomes: tuple[Outgoing, ...] = ()  # queued in the outbox
    opened: tuple[Conflict, ...] = ()
    closed: tuple[str, ...] = ()  # ids of conflicts that are no more
    conflicts: int = 0  # version conflicts of this attempt, added to the row's count
    attempts: int = 0  # added likewise
    contention: tuple[Contention, ...] = ()
