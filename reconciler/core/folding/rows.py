"""
Rows: each change of a document's row, as a function from the row before it to the row after it.

Rules of this file: it is the same for every store. A store reads rows, calls a function here, and writes the result in
the transaction that stores the rest, provided that those rows have not changed meanwhile. `None` leaves a row as it is.

Theory of operation: the fold, the end of an attempt, recovery and people change a row, each without waiting for the
others. `revision` counts the changes of the fold and of people, so that an attempt that was decided on an older one
leaves the document due. A wait after trouble (`COOLING`) holds against events, and against the end of an older attempt.
A pause holds against all but the person who ends it.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import structs

from reconciler.core.folding import fold, gathering
from reconciler.model.action import Change, OperatorAction
from reconciler.model.audit import Settlement
from reconciler.model.base import Agreed
from reconciler.model.desired import Claims, Desired
from reconciler.model.document import Agreement, Lane, Row, Status, Superseded
from reconciler.model.stamp import LEAST, Stamp
from reconciler.model.standing import WriteStop

COOLING: Final = (Status.PENDING, Status.CONTENDED, Status.LOCKED)  # with a due time in the future: after trouble
DONE: Final = (Status.SYNCED, Status.HELD, Status.OBSERVED)  # nothing is pending there
MARKS: Final[Mapping[Change, str]] = {Change.REPLAY: "replayed", Change.DISCARD: "discarded"}  # of dead letters
WRITES: Final = (Change.STOP_WRITES, Change.RESUME_WRITES)  # of none in particular

Stops = tuple[int, WriteStop | None]  # how often writes were stopped or resumed, and the stop in force


def unknown(key: str) -> Row:
    """Return the row of an unknown document, which its first event or recovered agreement changes."""
    return Row(key, 0, Status.SYNCED, "", Lane.RESYNC, None, None, 0, 0)


# ------------------------------------------------------------------------------------------------------------ the fold


def joined(before: Claims | None, said: Claims) -> tuple[Claims, Superseded | None]:
    """Return what is desired now that events have said more, `before` itself if it stays; and those that lost."""
    if before is None:
        return said, None
    after = gathering.join(before, said)
    return after, gathering.superseded(before, said, after)


def folded(row: Row, lane: Lane, at_us: int) -> Row:
    """Events have changed the desired state: pending and due at once, unless it waits after trouble or is paused."""
    key, revision, status, _, before, due_us, since_us, conflicts, attempts = row
    if status is Status.PAUSED:
        return row._replace(revision=revision + 1, lane=min(before, lane))
    since_us = at_us if since_us is None else since_us
    if status in COOLING and due_us is not None and due_us > at_us:
        return row._replace(revision=revision + 1, lane=min(before, lane), pending_since_us=since_us)
    if status is Status.PENDING:
        # It keeps its earlier due time, or a document with an event every second would always be last in its lane.
        lane, at_us = min(before, lane), at_us if due_us is None else due_us
    return Row(key, revision + 1, Status.PENDING, "", lane, at_us, since_us, conflicts, attempts)


def refolded(row: Row, at_us: int) -> Row | None:
    """A person had the document folded again from the log; None if no event has named it."""
    if not row.revision:
        return None
    if row.status is Status.PAUSED:
        return row._replace(revision=row.revision + 1)
    return _pending(row, Lane.OPERATOR, at_us, at_us)


# ------------------------------------------------------------------------------------------------------------ attempts


def settled(row: Row, end: Settlement) -> Row:
    """
    An attempt has ended.

    If it was decided on the present revision, it sets the status. If not, the later revision has set it, and the
    attempt only adds a wait after trouble. A document that was paused meanwhile stays paused, and due as the pause has
    left it, unless this was the attempt that follows a pause.
    """
    row = row._replace(conflicts=row.conflicts + end.conflicts, attempts=row.attempts + end.attempts)
    present = row.revision == end.revision
    if row.status is Status.PAUSED:
        return row._replace(due_us=end.due_us) if present and end.status is Status.PAUSED else row
    since_us = end.at_us if row.pending_since_us is None else row.pending_since_us
    waits = end.status in COOLING and end.due_us is not None and end.due_us > end.at_us
    if not present and not waits:
        return row._replace(pending_since_us=since_us)
    return row._replace(
        status=end.status,
        reason=end.reason,
        lane=end.lane if present else min(row.lane, end.lane),
        due_us=end.due_us,
        pending_since_us=None if end.status in DONE else since_us,
    )


# ------------------------------------------------------------------------------------------------------------ recovery


def outdated(told: int | None, by: int) -> bool:
    """Whether an agreement with number `by` is later than the stored one, if there is one (`Agreement.told`)."""
    return told is None or told < by


def rebased(row: Row, at_us: int) -> Row:
    """A later agreement was recovered: due again, unless it is paused or no event has named it."""
    if not row.revision:
        return row
    if row.status is Status.PAUSED:
        return row._replace(revision=row.revision + 1)
    lane = row.lane if row.status is Status.PENDING else Lane.RESYNC
    return _pending(row, lane, at_us if row.due_us is None else min(row.due_us, at_us), at_us)


# -------------------------------------------------------------------------------------------------------------- people


def after_action(change: Change, row: Row | None, at_us: int, reason: str) -> Row | None:
    """A person retries, pauses or resumes a document; None if that is not possible (any more)."""
    if row is None or not row.revision or (row.status is Status.PAUSED) is not (change is Change.RESUME):
        return None
    match change:
        case Change.RESUME:
            return _pending(row, Lane.OPERATOR, at_us, at_us)._replace(pending_since_us=at_us)
        case Change.PAUSE:
            # Due once more: an attempt that is under way, or was when we died, may leave a lock (`settle.paused`).
            due = row._replace(status=Status.PAUSED, reason=reason, lane=Lane.RETRY, due_us=at_us)
            return due._replace(pending_since_us=None, revision=row.revision + 1)
        case _:
            return requeued(row, Lane.ASKED, at_us)


def after_writes_action(change: Change, before: Stops, action: OperatorAction) -> Stops | None:
    """A person stops all writes, or resumes them; None if that is done already."""
    number, stop = before
    if (stop is not None) is (change is Change.STOP_WRITES):
        return None
    if change is Change.RESUME_WRITES:
        return number + 1, None
    reason = action.details.get("reason")
    said = reason if isinstance(reason, str) else ""
    return number + 1, WriteStop(number + 1, action.at_us, action.who, said)


def requeued(row: Row, lane: Lane, at_us: int) -> Row | None:
    """Due at a time, as a new revision, so that an attempt under way does not put it off; None if it is paused."""
    if row.status is Status.PAUSED:
        return None
    return row._replace(lane=lane, due_us=at_us, revision=row.revision + 1)


def compared(row: Row, statuses: Sequence[Status], at_us: int) -> Row | None:
    """Due to be compared; None if it has another status (by now), or is due by then, maybe more urgently."""
    if row.status not in statuses or (row.due_us is not None and row.due_us <= at_us):
        return None
    return requeued(row, Lane.RESYNC, at_us)


def brought_forward(row: Row, now_us: int, longest_us: int) -> Row:
    """
    A clock was ahead: cut the wait to `longest_us` from now, and the start of pending to now.

    Who began to wait in the future has got the end of that wait from the same clock, so it moves too: a document folded
    by a clock that is an hour ahead would else wait for that hour, as after an answer of Windchill's that asks for it.
    """
    due_us, since_us = row.due_us, row.pending_since_us
    if due_us is not None and since_us is not None:
        due_us -= max(0, since_us - now_us)
    if due_us is not None and due_us > now_us + longest_us:  # spread over the wait by key
        due_us = now_us + longest_us * zlib.crc32(row.key.encode()) // 2**32
    return row._replace(due_us=due_us, pending_since_us=None if since_us is None else min(since_us, now_us))


def _pending(row: Row, lane: Lane, due_us: int, at_us: int) -> Row:
    """Pending and due, as a new revision; pending since `at_us`, unless it is already."""
    since_us = at_us if row.pending_since_us is None else row.pending_since_us
    return Row(
        *(row.key, row.revision + 1, Status.PENDING, "", lane, due_us, since_us),
        *(row.conflicts, row.attempts),
    )


# ---------------------------------------------------------------------------------------------------------- agreements


def refolded_agreement(agreement: Agreement, desired: Desired) -> Agreement:
    """
    Return the agreement after its row was folded again, without stamps that are later than every claim of the new row.

    Under today's configuration an earlier claim may not count any more. The base keeps its agreed value and loses its
    stamp: otherwise no remaining or future claim would be newer.
    """
    fields = {
        name: _without_stamps(agreed, fold.newest_stamp(desired.fields[name])) if name in desired.fields else agreed
        for name, agreed in agreement.base.fields.items()
    }
    return structs.replace(agreement, base=structs.replace(agreement.base, fields=fields))


def agreement_before(agreement: Agreement, latest: str) -> Agreement:
    """Return an agreement without the stamps of claims from after `latest`, which can't count."""
    fields = {
        name: agreed._replace(stamp=None) if agreed.stamp is not None and agreed.stamp.time > latest else agreed
        for name, agreed in agreement.base.fields.items()
    }
    return structs.replace(agreement, base=structs.replace(agreement.base, fields=fields))


def _without_stamps(agreed: Agreed, newest: Stamp) -> Agreed:
    elements = {text: LEAST if stamp.level > newest.level else stamp for text, stamp in agreed.elements.items()}
    void = agreed.stamp is not None and agreed.stamp.level > newest.level
    return Agreed(agreed.value, None if void else agreed.stamp, elements)
