"""
The audit record: one attempt with every input of its decision, so that the decision can be recomputed.

Settlements: the end of an attempt as one transaction.
"""

import enum

import msgspec

from reconciler.model.base import Base
from reconciler.model.desired import Desired
from reconciler.model.document import Agreement, Conflict, Lane, Status
from reconciler.model.event import Outgoing
from reconciler.model.plan import Reason
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import Json


class AttemptResult(enum.StrEnum):
    """The result of an attempt: the stable codes of the trail, the log lines and the metrics."""

    IN_SYNC = "in_sync"  # there was nothing to write
    HELD = "held"  # nothing to write, and at least one field waits for a person
    WOULD_WRITE = "would_write"  # a difference was found on a document that is only observed
    WRITTEN = "written"
    CONFIRMED = "confirmed"  # an earlier write, whose answer was lost, turned out to be applied
    VERSION_CONFLICT = "version_conflict"
    REFUSED = "refused"
    LOCKED = "locked"
    UNKNOWN = "unknown"  # no answer to a write: it may have been applied
    THROTTLED = "throttled"
    NOT_AVAILABLE = "not_available"
    FAILED = "failed"
    NO_TOKEN = "no_token"  # noqa: S105  no password: a document without one can't be written
    UNGUARDED = "unguarded"  # 428: the server saw no guard, which is a fault of ours
    TOO_WIDE = "too_wide"  # more managed fields than a document may have
    THRESHOLD = "threshold"  # comparisons have written to as many documents as the threshold allows
    COLLECTING = "collecting"  # waits for further changes; never recorded


class Verdict(msgspec.Struct, frozen=True):
    """One decision, as the trail keeps it."""

    field: str
    verb: str
    reasons: tuple[Reason, ...]
    rule: str
    strategy: str
    desired: Json
    base: Json
    has_base: bool
    live: Json
    event: str  # id of the event that made the claim
    source: str
    later: bool = False  # goes out in a separate write after this one


class AuditRecord(msgspec.Struct, frozen=True):
    """
    One attempt on one document. `plan.draft(desired, base, snapshot, policy)` over its inputs gives `patch` again.

    `snapshot` is cut down to the managed fields. `policy` is the digest under which the store keeps the rules.
    """

    document: str
    at_us: int
    cause: str  # the lane that brought the document up
    attempt: int  # counted from 1 within one round of conflict attempts
    desired: Desired
    base: Base
    snapshot: Snapshot
    policy: str
    decisions: tuple[Verdict, ...]
    patch: dict[str, Json] | None
    result: AttemptResult
    message: str
    status: int | None
    token_after: Token | None
    repeats: int = 0  # attempts since the document's previous record with the same result as that one
    id: int = 0  # given by the store
    # Ditto, if the trail has several chains: counts the document's records, which elsewhere are in the order of ids.
    ordinal: int | msgspec.UnsetType = msgspec.UNSET


# ---------------------------------------------------------------------------------------------------------- settlements


class Contention(msgspec.Struct, frozen=True):
    """How often a field was written, and how often someone else changed it before a write of ours."""

    field: str
    conflicts: int
    attempts: int


class Settlement(msgspec.Struct, frozen=True):
    """One transaction at the end of an attempt: the document's new agreement with its trail, all or nothing."""

    key: str
    revision: int  # that was decided on; if the row has a later one, it stays due at once, or when a wait is over
    agreement: Agreement
    status: Status
    reason: str
    lane: Lane
    due_us: int | None
    at_us: int
    audit: tuple[AuditRecord, ...] = ()
    result: AttemptResult | None = None  # recorded or not; None: the attempt came to no decision
    outcomes: tuple[Outgoing, ...] = ()  # queued in the outbox
    opened: tuple[Conflict, ...] = ()
    closed: tuple[str, ...] = ()  # ids of conflicts that have ended
    conflicts: int = 0  # version conflicts of this attempt, added to the row's count
    attempts: int = 0  # added likewise
    contention: tuple[Contention, ...] = ()
