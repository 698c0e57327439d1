"""
The transactions: each reads rows, asks the rules (`core/folding/rows.py`), and writes their answer, in plain SQL.

Rules. A transaction is a function of the connection, which `Database.write` runs from BEGIN IMMEDIATE to COMMIT in one
go on the connection's thread, so no cancelled task can leave half of one. SQLite lets in one writer at a time, so what
a transaction has read still holds when it writes. Rules about documents never go here.
"""

import itertools
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from reconciler.adapters import packing
from reconciler.adapters.changes import Appended, Decided, appended, packed
from reconciler.adapters.sqlite import queries, writes
from reconciler.adapters.sqlite.damage import Lines, unpacked
from reconciler.core.folding import rows
from reconciler.errors import MovedError, StoreError
from reconciler.model import action as actions
from reconciler.model import chain, codec
from reconciler.model.action import OperatorAction
from reconciler.model.audit import Settlement
from reconciler.model.chain import Cut
from reconciler.model.codec import StoredDesired
from reconciler.model.document import Agreement, ConflictRow, Lane, Row, Status
from reconciler.model.event import DeadLetter, Outgoing
from reconciler.model.policy import Policy
from reconciler.model.signing import Noted
from reconciler.model.stamp import NO_ANCHORS, Anchor, Partition
from reconciler.model.standing import KEPT_H, WriteStop, hour_of
from reconciler.ports import Changed, FoldBatch, Refolded


class Obedience(NamedTuple):
    """Whether writes are stopped, and whether the owner obeys that."""

    number: int
    obeyed: int
    stop: WriteStop | None


_row_line = Lines(tuple[int, Row])
_folded_line = Lines(tuple[int, Row, StoredDesired | None])
_text_line = Lines(str)
_position_line = Lines(tuple[str, int, int])
_cut_line = Lines(tuple[int, int])

_obedience_line = Lines(Obedience)

_PAGE = 2_000  # rows brought forward in a transaction
_CHUNK = 2_000  # rows folded at a time

# ----------------------------------------------------------------------------------------------------------------- fold


def fold(connection: sqlite3.Connection, batch: FoldBatch) -> Changed:
    """
    Join a batch with the stored rows.

    In key order, because neighbours share pages, and some rows at a time: only what was said is held in memory whole.
    """
    if batch.since:
        stored = _positions(connection)
        if any(stored.get(place, 0) != offset for place, offset in batch.since.items()):
            raise MovedError("can't fold: the positions are not those at which reading began")
    keys = sorted(batch.rows)
    free = _free_numbers(connection)
    changed: list[str] = []
    superseded = 0
    for start in range(0, len(keys), _CHUNK):
        some, lost = _fold_some(connection, batch, keys[start : start + _CHUNK], free)
        changed += some
        superseded += lost
    _put_positions(connection, batch.positions, batch.anchors)
    _bury(connection, batch.dead_letters)
    writes.MARKS.put(connection, [(letter, rows.MARKS[actions.Change.REPLAY]) for letter in batch.replayed])
    (refolds,) = queries.REFOLDS.lines(connection)
    return Changed(changed, superseded, int(refolds))


def _fold_some(
    connection: sqlite3.Connection, batch: FoldBatch, keys: Sequence[str], free: Iterator[int]
) -> tuple[list[str], int]:
    """Join what a batch says about these documents; return which have changed, and how many events changed nothing."""
    lines = map(_folded_line.decode, queries.FOLDED.lines(connection, [(key,) for key in keys]))
    stored = {row.key: (number, row, text) for number, row, text in lines}
    folded, again, desired, outdone = [], [], [], []
    changed = []
    for key in keys:
        number, row, text = stored.get(key) or (next(free), rows.unknown(key), None)
        before = None if text is None else text.claims()
        now, lost = rows.joined(before, batch.rows[key])
        if lost is not None:
            outdone.append((key, lost.count, codec.encode(lost)))
        if now is before:
            continue
        after = rows.folded(row, Lane.OPERATOR if key in batch.urgent else batch.lane, batch.at_us)
        if after[2:] == row[2:]:  # all but the revision: it was pending already
            again.append((number, after.revision))
        else:
            folded.append((number, after))
        desired.append((number, codec.encode_claims(now)))
        changed.append(key)
    _put_rows(connection, folded)
    writes.REVISIONS.put(connection, again)
    writes.DESIRED.put(connection, desired)
    writes.SUPERSEDED.put(connection, outdone)
    return changed, sum(count for _, count, _ in outdone)


def refold(connection: sqlite3.Connection, refolded: Refolded, action: OperatorAction) -> bool:
    """Replace a document's desired state, unless the store has read further than the new one."""
    read = _positions(connection)
    number, before = _stored(connection, [refolded.key]).get(refolded.key) or (0, None)
    after = before and rows.refolded(before, action.at_us)
    if after is None or any(read.get(place, 0) > offset for place, offset in refolded.positions.items()):
        return False
    _put_rows(connection, [(number, after)])
    writes.DESIRED.put(connection, [(number, codec.encode_desired(refolded.desired))])
    writes.REFOLDS.put(connection, [(refolded.key,)])
    _bury(connection, refolded.dead_letters)
    _record(connection, [action])
    return True


def _bury(connection: sqlite3.Connection, dead_letters: Iterable[tuple[DeadLetter, Outgoing | None]]) -> None:
    """Store dead letters, each once, and queue the records that announce the new ones."""
    letters = {letter.id: (letter, message) for letter, message in reversed([*dead_letters])}
    known = set(map(_text_line.decode, queries.LETTERS_OF.lines(connection, [(one,) for one in letters])))
    new = [both for letter_id, both in reversed(letters.items()) if letter_id not in known]
    writes.LETTERS.put(connection, [(letter.id, letter.status, codec.encode(letter)) for letter, _ in new])
    writes.OUTBOX.put(connection, [(packed(message),) for _, message in new if message is not None])


# --------------------------------------------------------------------------------------------------------------- ledger


def commit(connection: sqlite3.Connection, changes: Sequence[Decided]) -> Collection[str]:
    """Store a group of changes of different documents; return which of these are paused."""
    stored = _stored(connection, [change.key for change in changes])
    for change in changes:  # else what we know of the document would be lost without a trace
        if change.key not in stored:
            raise StoreError(f"can't settle {change.key!r}: the store has no such document")
    _put_agreements(connection, [(stored[change.key][0], change.agreement) for change in changes])
    ends = [(change, change.end) for change in changes if change.end is not None]
    after = {end.key: rows.settled(stored[end.key][1], end) for _, end in ends}
    writes.AGREED.put(
        connection,
        [(stored[end.key][0], *_columns(after[end.key]), end.agreement.aside_us) for _, end in ends],
    )
    _append(connection, [record for change, _ in ends for record in change.audit])
    writes.OUTBOX.put(connection, [(packing.pack(one),) for change, _ in ends for one in change.outcomes])
    writes.CLOSE.put(connection, [(conflict_id, end.at_us) for _, end in ends for conflict_id in end.closed])
    writes.OPEN.put(connection, [one for change, _ in ends for one in change.opened])
    _count(connection, [(end, after[end.key]) for _, end in ends])
    begun = {change.key for change in changes if change.policy}
    stopped = begun if begun and write_stop(connection).stop is not None else ()
    return {key for key, (_, row) in stored.items() if row.status is Status.PAUSED}.union(stopped)


def _count(connection: sqlite3.Connection, ends: Sequence[tuple[Settlement, Row]]) -> None:
    """Count version conflicts, also by the hour, and forget the hours of last week."""
    # Added up first: most settlements of a group write the same few fields, in the same hour.
    counts: dict[tuple[int, str, str], tuple[int, int]] = {}

    def add(end: Settlement, kind: str, name: str, conflicts: int, attempts: int) -> None:
        one = hour_of(end.at_us), kind, name
        before = counts.get(one, (0, 0))
        counts[one] = before[0] + conflicts, before[1] + attempts

    for end, row in ends:
        for spot in end.contention:
            add(end, "field", spot.field, spot.conflicts, spot.attempts)
        if row.conflicts:  # a document's first version conflict counts too. Most documents never meet one
            add(end, "document", end.key, end.conflicts, end.attempts)
    fields = [(name, *count) for (_, kind, name), count in counts.items() if kind == "field"]
    writes.CONTENTION.put(connection, fields)
    writes.HOURS.put(connection, [(*one, *count) for one, count in counts.items()])
    if ends:
        writes.FORGET_HOURS.put(connection, [(max(hour_of(end.at_us) for end, _ in ends) - KEPT_H,)])


def rebase(
    connection: sqlite3.Connection,
    agreements: Mapping[str, Agreement],
    positions: Mapping[Partition, int],
    at_us: int,
    anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
) -> None:
    """Store recovered agreements that are later than the stored ones."""
    wanted = [(key,) for key in sorted(agreements)]
    stored = {
        row.key: (number, row, told) for number, row, told in map(_told, queries.AGREED.lines(connection, wanted))
    }
    free = _free_numbers(connection)
    known = ((one, *(stored.get(key) or (next(free), rows.unknown(key), None))) for key, one in agreements.items())
    later = [(number, row, one) for one, number, row, told in known if rows.outdated(told, one.told)]
    writes.AGREED.put(
        connection,
        [(number, *_columns(rows.rebased(row, at_us)), one.aside_us) for number, row, one in later],
    )
    _put_agreements(connection, [(number, codec.encode(one)) for number, _, one in later])
    _put_positions(connection, positions, anchors)


def _told(line: bytes) -> tuple[int, Row, int | None]:
    """Return a row with the number of outcomes that told of its agreement; None: nothing was agreed."""
    agreement, _, row = line.partition(b" ")
    return (*_row_line.decode(row), unpacked(codec.decode_agreement, agreement).told if agreement else None)


def _put_agreements(connection: sqlite3.Connection, agreements: Iterable[tuple[int, bytes]]) -> None:
    writes.AGREEMENTS.put(connection, [(number, packing.pack(agreement)) for number, agreement in agreements])


def requeue(connection: sqlite3.Connection, keys: Iterable[str], lane: Lane, at_us: int) -> int:
    """Make documents due; return how many."""
    return _put_rows(
        connection, ((number, rows.requeued(row, lane, at_us)) for number, row in _stored(connection, keys).values())
    )


def compare(connection: sqlite3.Connection, keys: Iterable[str], statuses: Sequence[Status], at_us: int) -> int:
    """Make documents due for a comparison; return how many."""
    return _put_rows(
        connection,
        ((number, rows.compared(row, statuses, at_us)) for number, row in _stored(connection, keys).values()),
    )


def bring_forward(connection: sqlite3.Connection, now_us: int, longest_us: Mapping[Status, int]) -> int:
    """Correct some documents that wait too long, or are pending since a time to come; return how many."""
    lines = queries.SINCE_AHEAD.lines(connection, now_us, _PAGE)
    for status, most_us in longest_us.items():
        lines += queries.AHEAD[status].lines(connection, now_us, most_us, _PAGE)
    found = dict(map(_row_line.decode, lines))
    ahead = ((number, rows.brought_forward(row, now_us, longest_us[row.status])) for number, row in found.items())
    return _put_rows(connection, ahead)


def keep_policy(connection: sqlite3.Connection, digest: str, policy: Policy) -> None:
    """Keep a policy under its digest, once."""
    writes.POLICY.put(connection, [(digest, codec.encode(policy))])


def note_signing(connection: sqlite3.Connection, noted: Noted, announcement: Outgoing) -> None:
    """Store since when everything is signed, and queue the record that announces it."""
    writes.SIGNING.put(connection, [(codec.encode(noted),)])
    writes.OUTBOX.put(connection, [(packed(announcement),)])


def note_reading(connection: sqlite3.Connection, said: bytes) -> None:
    """Store by what the log is read from now on."""
    writes.READING.put(connection, [(said,)])


# ------------------------------------------------------------------------------------------------------------ positions


def published(connection: sqlite3.Connection, numbers: Sequence[int], positions: Mapping[Partition, int]) -> None:
    """Forget messages that the log has."""
    writes.PUBLISHED.put(connection, [(number,) for number in numbers])
    _put_positions(connection, positions)


def reposition(connection: sqlite3.Connection, positions: Mapping[Partition, int]) -> None:
    """Store these positions as the only ones of their topics; partitions that do not move keep their anchors."""
    topics = {place.topic for place in positions}
    stored = _positions(connection)
    moved = [place for place, offset in stored.items() if place.topic in topics and positions.get(place) != offset]
    writes.FORGET_POSITIONS.put(connection, moved)
    _put_positions(connection, positions)


def record_actions(
    connection: sqlite3.Connection, change: actions.Change, done: Sequence[OperatorAction], at_us: int, reason: str
) -> bool:
    """Record actions with what they change; return whether their targets allowed it."""
    targets = [action.target for action in done]
    if change in rows.MARKS:
        if len(queries.LETTERS_OF.lines(connection, [(target,) for target in targets])) < len(targets):
            return False
        writes.MARKS.put(connection, [(target, rows.MARKS[change]) for target in targets])
    elif change in rows.WRITES:
        before = write_stop(connection)
        writes_after = rows.after_writes_action(change, (before.number, before.stop), done[0])
        if writes_after is None:
            return False
        number, stop = writes_after
        writes.WRITE_STOP.put(connection, [(number, None if stop is None else codec.encode(stop))])
    elif change is not actions.Change.NOTHING:
        stored = _stored(connection, targets)
        found = [stored.get(target, (0, None)) for target in targets]
        after = [(number, rows.after_action(change, row, at_us, reason)) for number, row in found]
        if any(row is None for _, row in after):
            return False
        _put_rows(connection, after)
    _record(connection, done)
    return True


def prune(
    connection: sqlite3.Connection,
    action: OperatorAction,
    cut: Cut | None,
    conflicts: Iterable[ConflictRow],
    letters: Iterable[DeadLetter],
) -> bool:
    """Record an action with what it has archived; return whether a piece of the trail could be cut."""
    if cut is not None:
        (line,) = queries.CUT.lines(connection, cut.end.number)
        last, follows = _cut_line.decode(line)
        if last != cut.begin.number or not follows:
            return False
    _record(connection, [action])
    if cut is not None:
        act = queries.head(queries.HEAD.lines(connection)).number
        writes.CUT.put(connection, [(*cut.end, act, codec.encode(cut))])
    writes.FORGET_CONFLICTS.put(connection, [(one.conflict.id, one.closed_at_us) for one in conflicts])
    writes.FORGET_LETTERS.put(connection, [(one.id, one.status) for one in letters])
    return True


def forget(connection: sqlite3.Connection, limit: int) -> int:
    """Delete some records that were archived; return how many."""
    return connection.execute(writes.FORGET, (limit,)).rowcount


def obey_stop(connection: sqlite3.Connection, number: int) -> None:
    """Note that the owner obeys a stop, if that is still in force."""
    writes.OBEY_STOP.put(connection, [(number, number)])


def write_stop(connection: sqlite3.Connection) -> Obedience:
    """Return whether writes are stopped."""
    found = queries.WRITE_STOP.lines(connection)
    return _obedience_line.decode(found[0]) if found else Obedience(0, 0, None)


# --------------------------------------------------------------------------------------------------------------- shared


def _record(connection: sqlite3.Connection, done: Iterable[OperatorAction]) -> None:
    _append(connection, list(map(appended, done)))


def _append(connection: sqlite3.Connection, records: Sequence[Appended]) -> None:
    """Append records to the audit trail, chained to its present head."""
    if not records:
        return
    head = queries.head(queries.HEAD.lines(connection))
    chained = []
    for text, *columns in records:
        head = chain.extend(head, text)
        chained.append((*head, packing.pack(text), *columns))
    writes.APPEND.put(connection, chained)


def _stored(connection: sqlite3.Connection, keys: Iterable[str]) -> dict[str, tuple[int, Row]]:
    """Return numbers and rows of those documents that have one, in key order."""
    lines = queries.ROWS.lines(connection, [(key,) for key in sorted(set(keys))])
    return {row.key: (number, row) for number, row in map(_row_line.decode, lines)}


def _free_numbers(connection: sqlite3.Connection) -> Iterator[int]:
    """Yield numbers for new documents."""
    (last,) = queries.LAST_NUMBER.lines(connection)
    return itertools.count(int(last) + 1)


def _put_rows(connection: sqlite3.Connection, after: Iterable[tuple[int, Row | None]]) -> int:
    """Store the rows that have changed, under their numbers; return how many."""
    changed = [(number, *_columns(row)) for number, row in after if row is not None]
    writes.ROWS.put(connection, changed)
    return len(changed)


def _columns(row: Row) -> tuple[object, ...]:
    """Return a row's columns in types that SQLite knows."""
    key, revision, status, reason, lane, *numbers = row
    return (key, revision, status.value, reason, int(lane), *numbers)


def _positions(connection: sqlite3.Connection) -> dict[Partition, int]:
    lines = map(_position_line.decode, queries.POSITIONS.lines(connection))
    return {Partition(topic, partition): offset for topic, partition, offset in lines}


def _put_positions(
    connection: sqlite3.Connection, positions: Mapping[Partition, int], anchors: Mapping[Partition, Anchor] = NO_ANCHORS
) -> None:
    values = [(*place, offset, *(anchors.get(place) or (None, ""))) for place, offset in positions.items()]
    writes.POSITIONS.put(connection, values)
