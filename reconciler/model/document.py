"""The document as the reconciler keeps it: desired state beside everything agreed with Windchill."""

import enum
from typing import Final, NamedTuple

import attrs

from reconciler.model.base import NO_BASE, Agreed, Base
from reconciler.model.desired import NOTHING_DESIRED, Desired
from reconciler.model.plan import Hold, Reason
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.stamp import Stamp
from reconciler.model.value import Json


class Status(enum.StrEnum):
    """Where a document stands. Everything except `SYNCED` is unsettled work or waits for somebody."""

    PENDING = "pending"  # changed by the log or due again, not yet settled
    COLLECTING = "collecting"  # its changes wait a little, so that they make one iteration together
    SYNCED = "synced"  # every managed field is agreed
    HELD = "held"  # some field waits for a person; everything else is agreed
    CONTENDED = "contended"  # too many version conflicts in a row: cooling down
    LOCKED = "locked"  # checked out by somebody: tried again slowly
    PARKED = "parked"  # can't be read or written (403, 404, 410, no token): tried again slowly
    PAUSED = "paused"  # an operator wants it neither read nor written until they resume it; known to the store only


SETTLED: Final = (Status.SYNCED, Status.HELD, Status.PARKED)  # no other attempt is on its way to them


class Lane(enum.IntEnum):
    """Why a document is queued, most urgent first. The numbers are stored."""

    ASKED = -1  # a person wants it tried now, whatever has been put off
    OPERATOR = 0  # a person's event, or the end of a pause
    EVENT = 1
    RETRY = 2
    RESYNC = 3
    REPLAY = 4


@attrs.frozen
class Intent:
    """
    A write that was about to be sent: stored before sending, so that a lost reply is never answered blindly.

    `settled` is what each written field agrees on if the write was applied: by the time this is known the log may want
    something newer, and our own value must not be taken for somebody's edit. `earlier` are writes under the same token
    that nobody knows the end of either: a request may be applied long after we gave it up. `lock` names the lock that
    was taken on the document for it, in the dialect's own words; `mark` stands in the note of that lock, and proves it
    ours when the answer to taking it was lost.
    """

    fields: dict[str, Json]
    token: Token
    sent_at_us: int
    settled: dict[str, Agreed] = attrs.field(factory=dict)
    earlier: tuple["Intent", ...] = ()
    lock: str | None = None
    mark: str = ""


@attrs.frozen
class Conflict:
    """An open field conflict: a person decides. The same clash found again has the same id."""

    id: str
    field: str
    reasons: tuple[Reason, ...]
    base: Json
    has_base: bool
    desired: Json
    live: Json
    stamp: Stamp
    opened_at_us: int
    hold: Hold = Hold.DECIDE


@attrs.frozen
class ConflictRow:
    """A conflict as it is listed."""

    document: str
    conflict: Conflict
    closed_at_us: int | None


@attrs.frozen
class Repeating:
    """The result that was audited last, by its digest, and how often it has come again without a record of its own."""

    digest: str
    times: int = 0


@attrs.frozen
class Superseded:
    """Events of a document that changed nothing on arrival: how many, the last, and the claim that it lost to."""

    count: int
    last: Stamp
    by: Stamp


@attrs.frozen
class Setback:
    """
    Writes in a row that failed under a lock of ours, and until when the document is not locked again for the same.

    `asked` and `seen` are digests of what was to be written and of what people can change in the document.
    """

    reason: str
    tries: int
    at_us: int
    due_us: int
    asked: str
    seen: str
    locked: str = ""  # by what it turned out to be locked, empty if it was not
    status: int | None = None


@attrs.frozen
class Agreement:
    """What the reconciler knows of one document: the base, the last snapshot, an intent in doubt, its troubles."""

    base: Base = NO_BASE
    snapshot: Snapshot | None = None
    untold: bool = False  # the base has changed since an outcome last told of it
    intent: Intent | None = None
    held: tuple[Conflict, ...] = ()
    failures: int = 0  # attempts in a row that failed; sets the backoff
    clashes: int = 0  # version conflicts in a row; sets the wait, and when to give up for a while
    cooldowns: int = 0  # times in a row that it was contended; doubles the cool-down
    aside: Status | None = None  # contended, locked or parked: what it was last, in a row
    aside_us: int | None = None  # since when
    stable: int = 0  # re-comparisons in a row that found no drift; lengthens the interval
    checked_in_us: int | None = None  # when a write of ours last made an iteration
    setback: Setback | None = None  # None after a write that went through
    told: int = 0  # outcomes that have told of the base, ever: which of two agreements is the later one
    repeating: Repeating | None = None  # None after a result that is audited every time


NO_AGREEMENT = Agreement()


class Row(NamedTuple):
    """A document's row without what was folded and agreed; what happens to it is said in `core/folding/rows.py`."""

    key: str
    revision: int
    status: Status
    reason: str
    lane: Lane
    due_us: int | None
    pending_since_us: int | None
    conflicts: int
    attempts: int


@attrs.frozen
class Document:
    """One row of the store: each member of `Row`, and what was folded and agreed."""

    key: str
    desired: Desired = NOTHING_DESIRED
    revision: int = 0  # counts folds that changed the row and operators' wishes; settling an older one leaves it due
    agreement: Agreement = NO_AGREEMENT
    status: Status = Status.PENDING
    reason: str = ""
    lane: Lane = Lane.EVENT
    due_us: int | None = None  # when it is looked at again; None: not until something changes
    pending_since_us: int | None = None
    conflicts: int = 0  # version conflicts, ever
    attempts: int = 0  # attempts, ever


@attrs.frozen
class Due:
    """A document that is to be looked at."""

    key: str
    lane: Lane
    due_us: int
