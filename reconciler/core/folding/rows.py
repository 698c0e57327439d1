"""
What becomes of a document's row: for each thing that can happen to it, the row after it.

Rules. Pure, and the same for every store. A store reads rows, asks here, and writes what it is told in the transaction
that stores the rest, provided that nothing else has changed those rows meanwhile. `None` leaves a row as it is.

Theory. Four parties change a row, each without waiting for the others: the fold, the end of an attempt, recovery, and
people. `revision` counts what the fold and people do, so that an attempt which was decided on less leaves the document
due. A wait that was set after trouble (`COOLING`) holds against events, and against the end of an older attempt. A
pause holds against all but the person who ends it.
"""

import zlib
from collections.abc import Mapping, Sequence
from typing import Final

from reconciler.model.action import Change
from reconciler.model.audit import Settlement
from reconciler.model.document import Lane, Row, Status

COOLING: Final = (Status.PENDING, Status.CONTENDED, Status.LOCKED)  # with a due time to come: a wait after trouble
DONE: Final = (Status.SYNCED, Status.HELD)  # nothing is pending there
MARKS: Final[Mapping[Change, str]] = {Change.REPLAY: "replayed", Change.DISCARD: "discarded"}  # of dead letters


def unknown(key: str) -> Row:
    """Return the row of a document that nothing is known of: what the first event or recovered agreement changes."""
    return Row(key, 0, Status.SYNCED, "", Lane.RESYNC, None, None, 0, 0)


# ------------------------------------------------------------------------------------------------------------ the fold


def folded(row: Row, lane: Lane, at_us: int) -> Row:
    """Events have changed what is desired: pending and due at once, unless it waits after trouble or is paused."""
    key, revision, status, _, before, due_us, since_us, conflicts, attempts = row
    if status is Status.PAUSED:
        return row._replace(revision=revision + 1, lane=min(before, lane))
    since_us = at_us if since_us is None else since_us
    if status in COOLING and due_us is not None and due_us > at_us:
        return row._replace(revision=revision + 1, lane=min(before, lane), pending_since_us=since_us)
    if status is Status.PENDING:
        # It keeps its earlier due time, else one with an event every second would always be the youngest of its lane.
        lane, at_us = min(before, lane), at_us if due_us is None else due_us
    return Row(key, revision + 1, Status.PENDING, "", lane, at_us, since_us, conflicts, attempts)


def refolded(row: Row, at_us: int) -> Row | None:
    """A person has replaced what is desired by what the log says today; None of a document that no event has named."""
    if not row.revision:
        return None
    if row.status is Status.PAUSED:
        return row._replace(revision=row.revision + 1)
    return _pending(row, Lane.OPERATOR, at_us, at_us)


# ------------------------------------------------------------------------------------------------------------ attempts


def settled(row: Row, end: Settlement) -> Row:
    """
    An attempt has ended.

    Only one that was decided on the present revision says where the document stands; else whoever made the later one
    has said so, and only a wait after trouble is added to it. One that was paused meanwhile stays paused, and due as
    the pause has left it, unless this was the last look that a pause asks for.
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
    """Whether an agreement that was told `by` times is later than the one that is stored, if any (`Agreement.told`)."""
    return told is None or told < by


def rebased(row: Row, at_us: int) -> Row:
    """A later agreement was recovered: due again, unless it is paused, or was never folded and so asks for nothing."""
    if not row.revision:
        return row
    if row.status is Status.PAUSED:
        return row._replace(revision=row.revision + 1)
    lane = row.lane if row.status is Status.PENDING else Lane.RESYNC
    return _pending(row, lane, at_us if row.due_us is None else min(row.due_us, at_us), at_us)


# -------------------------------------------------------------------------------------------------------------- people


def after_action(change: Change, row: Row | None, at_us: int, reason: str) -> Row | None:
    """A person retries, pauses or resumes a document; None if that can't be done to it (any more)."""
    if row is None or not row.revision or (row.status is Status.PAUSED) is not (change is Change.RESUME):
        return None
    match change:
        case Change.RESUME:
            return _pending(row, Lane.OPERATOR, at_us, at_us)._replace(pending_since_us=at_us)
        case Change.PAUSE:
            # Due once more: what is under way, or was when we died, may leave a lock (`core/settling/pausing.py`).
            due = row._replace(status=Status.PAUSED, reason=reason, lane=Lane.RETRY, due_us=at_us)
            return due._replace(pending_since_us=None, revision=row.revision + 1)
        case _:
            return requeued(row, Lane.ASKED, at_us)


def requeued(row: Row, lane: Lane, at_us: int) -> Row | None:
    """It is due then; None if it is paused. A new revision, so that an attempt under way does not settle it away."""
    if row.status is Status.PAUSED:
        return None
    return row._replace(lane=lane, due_us=at_us, revision=row.revision + 1)


def compared(row: Row, statuses: Sequence[Status], at_us: int) -> Row | None:
    """It is to be compared; None where it does not stand there (any more), or is due by then, maybe more urgently."""
    if row.status not in statuses or (row.due_us is not None and row.due_us <= at_us):
        return None
    return requeued(row, Lane.RESYNC, at_us)


def brought_forward(row: Row, now_us: int, longest_us: int) -> Row:
    """A clock was ahead: no wait is longer than `longest_us` from now on, and nothing stands since later than now."""
    due_us, since_us = row.due_us, row.pending_since_us
    if due_us is not None and due_us > now_us + longest_us:  # they come due at different times within the wait
        due_us = now_us + longest_us * zlib.crc32(row.key.encode()) // 2**32
    return row._replace(due_us=due_us, pending_since_us=None if since_us is None else min(since_us, now_us))


def _pending(row: Row, lane: Lane, due_us: int, at_us: int) -> Row:
    """Pending and due, as a new revision; pending since `at_us`, unless it is already."""
    since_us = at_us if row.pending_since_us is None else row.pending_since_us
    return Row(
        *(row.key, row.revision + 1, Status.PENDING, "", lane, due_us, since_us),
        *(row.conflicts, row.attempts),
    )
