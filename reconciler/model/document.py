"""The document as the reconciler keeps it: the desired state, and the agreement with Windchill."""

import enum
from typing import Final, NamedTuple

import msgspec

from reconciler.model.base import NO_BASE, Agreed, Base
from reconciler.model.desired import NOTHING_DESIRED, Desired
from reconciler.model.plan import Hold, Reason
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.stamp import Stamp
from reconciler.model.value import Json


class Status(enum.StrEnum):
    """The status of a document."""

    PENDING = "pending"  # changed by the log, or due again
    COLLECTING = "collecting"  # its changes wait a little, so that they make one iteration together
    SYNCED = "synced"  # every managed field is agreed
    HELD = "held"  # a field waits for a decision; all others are agreed
    OBSERVED = "observed"  # decided, but not written, because the policy covers other documents only
    CONTENDED = "contended"  # too many version conflicts in a row: cooling down
    LOCKED = "locked"  # locked or checked out: tried again slowly
    ABSENT = "absent"  # not in Windchill yet, as events often come first: looked for, more and more rarely
    PARKED = "parked"  # can't be read or written (403, 404, 410, no token): tried again slowly
    PAUSED = "paused"  # by an operator: neither read nor written until they resume it; known to the store only


SETTLED: Final = (Status.SYNCED, Status.HELD, Status.OBSERVED, Status.ABSENT, Status.PARKED)
"""The last attempt has ended without a prompt retry."""

SET_ASIDE: Final = (Status.ABSENT, Status.PARKED)
"""They may wait for weeks for something that we can't hasten, so they don't count as pending."""


class Lane(enum.IntEnum):
    """Why a document is queued, most urgent first. The numbers are stored."""

    ASKED = -1  # a person asked for a retry now, whatever has been put off
    OPERATOR = 0  # a person's event, or the end of a pause
    EVENT = 1
    RETRY = 2
    RESYNC = 3
    REPLAY = 4


class Intent(msgspec.Struct, frozen=True):
    """
    A write that was about to be sent: stored before sending, so that we never write again blindly after a lost reply.

    `agreed` is the agreement on each written field if the write was applied: when we know that, the log may request
    something newer, and our own value must not look like a user's edit. `earlier` are writes whose results are unknown
    too: a request may be applied long after we gave it up (`core/settling/doubts.py`). `action`: it was no ordinary
    write, so perhaps nothing guards it. `lock` names the lock that was taken on the document for it, in the dialect's
    own form; `mark` is in the note of that lock, and proves it ours if the answer to taking it was lost.
    """

    fields: dict[str, Json]
    token: Token
    sent_at_us: int
    agreed: dict[str, Agreed] = {}
    earlier: tuple["Intent", ...] = ()
    lock: str | None = None
    mark: str = ""
    action: bool = False


class Conflict(msgspec.Struct, frozen=True):
    """An open conflict of a field, for a person to decide. The same conflict found again has the same id."""

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


class ConflictRow(msgspec.Struct, frozen=True):
    """A conflict as it is listed."""

    document: str
    conflict: Conflict
    closed_at_us: int | None


class Repeating(msgspec.Struct, frozen=True):
    """The last recorded result, by its digest, and how often it came again without a record."""

    digest: str
    times: int = 0


class Superseded(msgspec.Struct, frozen=True):
    """Events of a document that changed nothing on arrival: how many, the last, and the claim that it lost to."""

    count: int
    last: Stamp
    by: Stamp


class Setback(msgspec.Struct, frozen=True):
    """
    Writes in a row that failed under a lock of ours, and when the document may be locked again for the same.

    `asked` and `seen` are digests of the patch and of the fields that people can change.
    """

    reason: str
    tries: int
    at_us: int
    due_us: int
    asked: str
    seen: str
    locked: str = ""  # the other lock that was found, empty if none was
    status: int | None = None


class Agreement(msgspec.Struct, frozen=True):
    """The reconciler's knowledge of one document: the base, the last snapshot, an intent in doubt, failures."""

    base: Base = NO_BASE
    snapshot: Snapshot | None = None
    untold: bool = False  # the base has changed since the last outcome
    intent: Intent | None = None
    held: tuple[Conflict, ...] = ()
    failures: int = 0  # attempts in a row that failed; sets the backoff
    clashes: int = 0  # version conflicts in a row; sets the wait, and when to give up for a while
    cooldowns: int = 0  # times in a row that it was contended; doubles the cool-down
    aside: Status | None = None  # contended, locked, absent or parked: the last of these, until an attempt succeeds
    aside_us: int | None = None  # since then
    stable: int = 0  # re-comparisons in a row that found no drift; lengthens the interval
    checked_in_us: int | None = None  # when a write of ours last made an iteration
    setback: Setback | None = None  # None after a write that went through
    told: int = 0  # outcomes with the base, ever: the greater number is the later agreement
    repeating: Repeating | None = None  # None after a result that is recorded every time


NO_AGREEMENT = Agreement()


class Row(NamedTuple):
    """A document's row without desired state and agreement; `core/folding/rows.py` has its changes."""

    key: str
    revision: int
    status: Status
    reason: str
    lane: Lane
    due_us: int | None
    pending_since_us: int | None
    conflicts: int
    attempts: int


class Document(msgspec.Struct, frozen=True):
    """One row of the store: the members of `Row`, desired state and agreement."""

    key: str
    desired: Desired = NOTHING_DESIRED
    revision: int = 0  # counts folds that changed the row and operators' actions; the end of an older one leaves it due
    agreement: Agreement = NO_AGREEMENT
    status: Status = Status.PENDING
    reason: str = ""
    lane: Lane = Lane.EVENT
    due_us: int | None = None  # the time of the next attempt; None: not until something changes
    pending_since_us: int | None = None
    conflicts: int = 0  # version conflicts, ever
    attempts: int = 0  # attempts, ever


class Due(msgspec.Struct, frozen=True):
    """A document that is due for an attempt."""

    key: str
    lane: Lane
    due_us: int
