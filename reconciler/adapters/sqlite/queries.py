# ruff: noqa: S608 - the SQL is put together from our own names and constants; what comes from outside is a parameter
"""
Every SELECT of the store, by name; and how statements reach SQLite.

Rules. No statement of the hot path scans `document` (`tests/adapters/test_sqlite.py` asks SQLite for its plans).

Theory. Every call into SQLite releases the interpreter lock and has to win it back from a busy event loop, which can
take milliseconds; `executemany`, and fetching row by row, do that for every row. So many rows are written by one
statement with many VALUES (`Many`), and read as one value: lines of JSON, which the codec decodes into our types.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from reconciler.model import codec
from reconciler.model.chain import BEGIN, Head
from reconciler.model.desired import NOTHING_DESIRED
from reconciler.model.document import SET_ASIDE, Lane, Row, Status
from reconciler.model.standing import DAY_H, DOUBT

Values = Sequence[tuple[object, ...]]

_PART = 500  # rows a statement: SQLite takes 32,766 parameters
_STEPS = (64, 8)  # the number of rows of one is a multiple of these
_OUTBOX_BYTES = 2**24  # of the messages read at once
_PART_BYTES = 2**20  # of their blobs, unless one row has more: a prepared statement keeps what was bound to it last


class Query(NamedTuple):
    """A query for lines. `operation` is for error messages: "can't <operation> …"."""

    operation: str
    sql: str

    def lines(self, connection: sqlite3.Connection, *parameters: object) -> list[bytes]:
        return _lines(connection, self.sql, parameters)


class Many(NamedTuple):
    """A statement about many rows of values, which replace `:many` in it, each in the form of `row`."""

    operation: str
    sql: str
    row: str

    def put(self, connection: sqlite3.Connection, values: Values) -> None:
        """Run it for these values, if there are any."""
        for sql, parameters in self._parts(values):
            connection.execute(sql, parameters)

    def lines(self, connection: sqlite3.Connection, values: Values) -> list[bytes]:
        return [line for part in self._parts(values) for line in _lines(connection, *part)]

    def _parts(self, values: Values) -> Iterator[tuple[str, list[object]]]:
        start, count = 0, _round(len(values))
        while part := values[start : start + count]:
            cells = [cell for row in part for cell in row]
            if len(part) > 1 and sum(len(cell) for cell in cells if isinstance(cell, bytes)) > _PART_BYTES:
                count = _round(len(part) // 2)
                continue
            yield self.sql.replace(":many", ", ".join([self.row] * len(part))), cells
            start += len(part)
            count = _round(len(values) - start)


def _round(count: int) -> int:
    """Return how many of so many rows the next statement takes: few different numbers, so that it is still prepared."""
    if count >= _PART:
        return _PART
    return next((count - count % step for step in _STEPS if count >= step), count)


def _lines(connection: sqlite3.Connection, sql: str, parameters: Sequence[object]) -> list[bytes]:
    ((lines,),) = connection.execute(sql, parameters).fetchall()
    return [] if lines is None else bytes(lines).split(b"\n")


def lines(operation: str, line: str, source: str) -> Query:
    """Return a query for lines in the order of `source`, a SELECT: SQLite keeps the order of a subquery."""
    return Query(operation, f"SELECT CAST(group_concat({line}, char(10)) AS BLOB) FROM ({source})")


def many(operation: str, line: str, source: str, row: str = "(?)") -> Many:
    """Return a query for lines about many values."""
    return Many(*lines(operation, line, source), row)


# CROSS JOIN fixes the order of the loops: from the wanted keys to their rows, never over the table.
_WANTED = "(VALUES :many) AS wanted CROSS JOIN document ON document.key = wanted.column1"

_ROW = f"json_array({', '.join(Row._fields)})"
_NUMBERED = f"json_array(number, {_ROW})"
_NOTHING = codec.encode_desired(NOTHING_DESIRED).decode()

# A whole document: its agreement in hexadecimal, then an array of its scalars and its desired state, which is JSON.
_AGREEMENT = "coalesce((SELECT hex(agreement) FROM agreement WHERE agreement.document = number), '')"
_DOCUMENT = f"""
    {_AGREEMENT} || ' [' || {_ROW}
    || ',' || EXISTS (SELECT 1 FROM refold WHERE refold.document = key)
    || ',' || coalesce((SELECT desired FROM desired WHERE desired.document = number), '{_NOTHING}') || ']'
"""

# ---------------------------------------------------------------------------------------------------------- projection

POSITIONS = lines("read positions", "json_array(topic, partition, next_offset)", "SELECT * FROM position")

SUPERSEDED = lines(
    "read superseded events",
    "json_set(CAST(last AS TEXT), '$.count', count)",
    "SELECT * FROM superseded WHERE document = ?1",
)

ANCHORS = lines(
    "read positions",
    "json_array(topic, partition, anchor_offset, anchor_digest)",
    "SELECT * FROM position WHERE anchor_offset IS NOT NULL",
)

REFOLDS = lines("count documents folded again", "number", "SELECT coalesce(max(number), 0) AS number FROM refold")

CLOCK = "json_extract(CAST(letter AS TEXT), '$.stage') = 'clock'"  # as in the index on it
REFUSED = lines("list records refused by our clock", "json_quote(id)", f"SELECT id FROM dead_letter WHERE {CLOCK}")

# Rows to be folded, with what is desired, null where nothing is yet.
FOLDED = many(
    "read documents",
    f"'[' || number || ',' || {_ROW} || ','"
    " || coalesce((SELECT desired FROM desired WHERE desired.document = number), 'null') || ']'",
    f"SELECT document.* FROM {_WANTED}",
)
LAST_NUMBER = lines("count documents", "number", "SELECT coalesce(max(number), 0) AS number FROM document")

EXPORT = lines(
    "export the projection",
    "'[' || json_quote(key) || ',' || desired || ']'",
    "SELECT key, desired FROM document CROSS JOIN desired ON desired.document = number WHERE key > ?1"
    " ORDER BY key LIMIT ?2",
)

# -------------------------------------------------------------------------------------------------------------- ledger

# One search a lane: a single search over (lane, due_us) would read every document that is due later.
DUE = lines(
    "list due documents",
    "json_object('key', key, 'lane', lane, 'due_us', due_us)",
    " UNION ALL ".join(
        f"SELECT * FROM (SELECT key, lane, due_us FROM document WHERE lane = {int(lane)} AND due_us <= ?1"
        " ORDER BY due_us, key LIMIT ?2)"
        for lane in Lane
    )
    + " LIMIT ?2",
)

NEXT_DUE = lines(
    "find the next due time",
    "due_us",
    "SELECT min(due_us) AS due_us FROM ("
    + " UNION ALL ".join(
        f"SELECT min(due_us) AS due_us FROM document WHERE lane = {int(lane)} AND due_us IS NOT NULL" for lane in Lane
    )
    + ")",
)

ROWS = many("read documents", _NUMBERED, f"SELECT document.* FROM {_WANTED}")
DOCUMENTS = many("read documents", _DOCUMENT, f"SELECT document.* FROM {_WANTED}")

AGREED = many("read documents", f"{_AGREEMENT} || ' ' || {_NUMBERED}", f"SELECT document.* FROM {_WANTED}")

# The index by status leaves synced documents out, which are nearly all: they are found by due time in each lane.
_AHEAD = {
    status: (
        f"lane IN ({', '.join(str(int(lane)) for lane in Lane)}) AND due_us > ?1 + ?2 AND status = '{status}'"
        if status is Status.SYNCED
        else f"status <> 'synced' AND status = '{status}' AND due_us > ?1 + ?2"
    )
    for status in Status
}
AHEAD = {
    status: lines(
        f"read {status} documents that wait too long", _NUMBERED, f"SELECT * FROM document WHERE {ahead} LIMIT ?3"
    )
    for status, ahead in _AHEAD.items()
}
COUNT_AHEAD = {
    status: lines(
        f"count {status} documents that wait too long",
        "documents",
        f"SELECT count(*) AS documents FROM document WHERE {ahead}",
    )
    for status, ahead in _AHEAD.items()
}
SINCE_AHEAD = lines(
    "read documents pending since a time to come",
    _NUMBERED,
    "SELECT * FROM document WHERE pending_since_us > ?1 LIMIT ?2",
)

SETTLED_KEYS = lines(
    "list documents to be compared",
    "json_quote(key)",
    "SELECT key FROM document WHERE key > ?1 AND revision > 0 AND status IN (SELECT value FROM json_each(?3))"
    " ORDER BY key LIMIT ?2",
)

COUNT_DUE = lines(
    "count documents to be compared",
    "documents",
    "SELECT count(*) AS documents FROM document WHERE lane = ?1 AND due_us <= ?2",
)

SIGNING = lines("read since when everything is signed", "noted", "SELECT noted FROM signing")
READING = lines("read by what the log was read", "said", "SELECT said FROM reading")

WRITE_STOP = lines(
    "read whether writes are stopped",
    "'[' || number || ',' || obeyed || ',' || coalesce(stop, 'null') || ']'",
    "SELECT number, obeyed, stop FROM write_stop",
)

# -------------------------------------------------------------------------------------------------------------- outbox

WAITING = lines(
    "list outcomes to publish",
    "number || ' ' || hex(message)",
    # Within some bytes, but at least one: the lines together are one value, which SQLite limits to a gigabyte.
    "SELECT number, message FROM ("
    " SELECT number, message, sum(length(message)) OVER (ORDER BY number) - length(message) AS before"
    " FROM outbox WHERE number NOT IN (SELECT value FROM json_each(?2)) ORDER BY number LIMIT ?1"
    f") WHERE before < {_OUTBOX_BYTES}",
)

# --------------------------------------------------------------------------------------------------------------- views

# The last line, under "", is the number of all documents: the rest of them are synced.
COUNTS = lines(
    "count documents",
    "json_array(status, documents)",
    "SELECT status, count(*) AS documents FROM document WHERE status <> 'synced' GROUP BY status"
    " UNION ALL SELECT '', coalesce(max(number), 0) FROM document",
)

# `<> 'synced'` lets SQLite use the partial index.
_LISTED: dict[Status | None, str] = {status: f"status = '{status}' AND status <> 'synced' AND" for status in Status}
_LISTED |= {None: "", Status.SYNCED: "status = 'synced' AND"}
LIST = {
    status: lines("list documents", _DOCUMENT, f"SELECT * FROM document WHERE {which} key > ?1 ORDER BY key LIMIT ?2")
    for status, which in _LISTED.items()
}

LIST_WAITING = lines(
    "list documents",
    _DOCUMENT,
    "SELECT * FROM document WHERE status = ?4 AND pending_since_us IS NOT NULL AND (pending_since_us, key) > (?1, ?2)"
    " ORDER BY pending_since_us, key LIMIT ?3",
)

LIST_ASIDE = lines(
    "list documents",
    _DOCUMENT,
    "SELECT * FROM document WHERE status IN ('parked', 'contended') AND status = ?4 AND (aside_us, key) > (?1, ?2)"
    " ORDER BY aside_us, key LIMIT ?3",
)

OLDEST_PENDING = lines(
    "find the longest pending document",
    "since_us",
    "SELECT min(since_us) AS since_us FROM ("
    + " UNION ALL ".join(
        "SELECT min(pending_since_us) AS since_us FROM document"
        f" WHERE status = '{status}' AND pending_since_us IS NOT NULL"
        for status in Status
        if status not in SET_ASIDE
    )
    + ")",
)

_CONFLICT = "'[' || json_array(document, closed_at_us) || ',' || conflict || ']'"
OPEN_CONFLICTS, ALL_CONFLICTS = (
    lines(
        "list conflicts",
        _CONFLICT,
        f"SELECT * FROM conflict WHERE {which} (opened_at_us, id) > (?2, ?3) ORDER BY opened_at_us, id LIMIT ?1",
    )
    for which in ("closed_at_us IS NULL AND", "")
)
COUNT_CONFLICTS = lines(
    "count conflicts", "conflicts", "SELECT count(*) AS conflicts FROM conflict WHERE closed_at_us IS NULL"
)
CONFLICT = lines("read a conflict", _CONFLICT, "SELECT * FROM conflict WHERE id = ?1")
CONFLICTS_WITH_PREFIX = lines(
    "find conflicts",
    _CONFLICT,
    "SELECT * FROM conflict WHERE id >= ?1 AND id < ?1 || char(0x10FFFF) AND (?2 OR closed_at_us IS NULL)"
    " ORDER BY id LIMIT ?3",
)

_LETTER = "'[' || number || ',' || json_quote(status) || ',' || "
LETTER = lines("read a dead letter", _LETTER + "letter || ']'", "SELECT * FROM dead_letter WHERE id = ?1")
# Lists leave the bytes out, which would be most of each letter.
_LETTER_CUT = _LETTER + "json_set(CAST(letter AS TEXT), '$.key', NULL, '$.value', NULL, '$.headers', json('[]')) || ']'"
_AFTER = "number > coalesce((SELECT number FROM dead_letter WHERE id = ?2), -1) ORDER BY number LIMIT ?1"
LETTERS = lines("list dead letters", _LETTER_CUT, f"SELECT * FROM dead_letter WHERE {_AFTER}")
LETTERS_OF_STATUS = lines("list dead letters", _LETTER_CUT, f"SELECT * FROM dead_letter WHERE status = ?3 AND {_AFTER}")
LETTERS_AFTER = lines(
    "list dead letters", _LETTER_CUT, "SELECT * FROM dead_letter WHERE number > ?2 ORDER BY number LIMIT ?1"
)
LETTERS_WITH_SUFFIX = lines(
    "find dead letters", "json_quote(id)", "SELECT id FROM dead_letter WHERE substr(id, -length(?1)) = ?1 LIMIT ?2"
)
LAST_LETTER = lines("find the last dead letter", "number", "SELECT coalesce(max(number), 0) AS number FROM dead_letter")

COUNT_LETTERS = lines(
    "count dead letters", "letters", "SELECT count(*) AS letters FROM dead_letter WHERE status = 'open'"
)

LETTERS_OF = many(
    "find dead letters",
    "json_quote(id)",
    "SELECT id FROM (VALUES :many) AS wanted CROSS JOIN dead_letter ON dead_letter.id = wanted.column1",
)

_RECORD = "id || ' ' || hex(record)"
_NEWEST = "AND NOT (at_us = ?4 AND id >= ?5) ORDER BY at_us DESC, id DESC LIMIT ?3"
_DECISIONS = "SELECT id, record FROM audit WHERE kind IS NULL AND at_us >= ?1 AND at_us < ?2"
DECISIONS = lines("list decisions", _RECORD, f"{_DECISIONS} {_NEWEST}")
DECISIONS_OF_DOCUMENT = lines("list decisions", _RECORD, f"{_DECISIONS} AND document = ?6 {_NEWEST}")

# The columns to search actions by. Of several conditions, SQLite looks up one and filters by the others.
SEARCHED = ("document", "target", "who", "kind")
ACTIONS = {
    asked: lines(
        "list acts",
        _RECORD,
        "SELECT id, record FROM audit WHERE kind IS NOT NULL AND id < ?1"
        + "".join(
            f" AND {column} " + (f"IN (SELECT value FROM json_each(?{n}))" if column == "kind" else f"= ?{n}")
            for n, column in enumerate(asked, 3)
        )
        + " ORDER BY id DESC LIMIT ?2",
    )
    for count in range(len(SEARCHED) + 1)
    for asked in combinations(SEARCHED, count)
}

LAST_AUDITED = lines(
    "read when the last record was made", "at_us", "SELECT at_us FROM audit WHERE id = (SELECT max(id) FROM audit)"
)
HEAD = lines(
    "read the head of the audit trail",
    "id || ' ' || hex(link)",
    "SELECT id, link FROM audit WHERE id = (SELECT max(id) FROM audit)",
)


def head(found: Sequence[bytes]) -> Head:
    """Return the head that was found."""
    if not found:
        return BEGIN
    number, link = found[0].decode().split(" ")
    return Head(int(number), bytes.fromhex(link))


# In hexadecimal, because verifying must see the bytes even of a record that someone has changed. `-` is NULL, `!` a
# type that no record of ours has.
def _hexed(column: str) -> str:
    return f"CASE typeof({column}) WHEN 'text' THEN hex({column}) WHEN 'null' THEN '-' ELSE '!' END"


_TEXTS = ("document", "target", "who", "kind")
_ENTRY = " || ' ' || ".join(("id", "previous", "link", "record", "at_us", *_TEXTS))
_ENTRIES = f"""
    SELECT id, hex(record) AS record, hex(link) AS link, iif(typeof(at_us) = 'integer', at_us, '!') AS at_us,
        {", ".join(f"{_hexed(column)} AS {column}" for column in _TEXTS)},
        coalesce((SELECT hex(link) FROM audit AS before WHERE before.id = audit.id - 1),
            (SELECT hex(link) FROM cut WHERE last = audit.id - 1), '') AS previous
    FROM audit
"""
ENTRIES = lines("read the audit trail", _ENTRY, f"{_ENTRIES} WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3")
ENTRIES_NUMBERED = lines(
    "read the audit trail", _ENTRY, f"{_ENTRIES} WHERE id IN (SELECT value FROM json_each(?1)) ORDER BY id"
)
_OF_BOTH_KINDS = " UNION ALL ".join(
    f"SELECT id FROM audit WHERE kind IS {kind} AND at_us >= ?1 AND at_us < ?2 {{0}}" for kind in ("NULL", "NOT NULL")
)
AUDIT_SPAN = lines(
    "find a span of the audit trail",
    "json_array(first, last)",
    f"SELECT coalesce(min(id), 1) AS first, coalesce(max(id), 0) AS last FROM ({_OF_BOTH_KINDS.format('')})",
)
NUMBERS_OF_DOCUMENT = lines("find a document in the audit trail", "id", _OF_BOTH_KINDS.format("AND document = ?3"))

CUTS = lines("read what was archived", "json_array(act, json(CAST(cut AS TEXT)))", "SELECT * FROM cut ORDER BY last")
# The number of the last record that was archived, and whether another one follows the one that is to be the last.
CUT = lines(
    "read what was archived",
    "json_array(last, follows)",
    """SELECT coalesce(max(last), 0) AS last, EXISTS (SELECT 1 FROM audit WHERE id = ?1 + 1) AS follows FROM cut""",
)

POLICIES = lines("read policies", "hex(digest) || ' ' || hex(policy)", "SELECT digest, policy FROM policy")

# The hours of two days, added up by name; then the totals of these names and of those with most conflicts ever.
_RATE = f"(1.0 * day_conflicts / (max(day_attempts, day_conflicts) + {DOUBT}))"
_LATELY = f"""SELECT kind, name,
        sum(iif(hour > ?2 - {DAY_H}, conflicts, 0)) AS day_conflicts,
        sum(iif(hour > ?2 - {DAY_H}, attempts, 0)) AS day_attempts,
        sum(iif(hour > ?2 - {DAY_H}, 0, conflicts)) AS before_conflicts,
        sum(iif(hour > ?2 - {DAY_H}, 0, attempts)) AS before_attempts,
        json_group_array(json_array(?2 - hour, conflicts)) FILTER (WHERE conflicts > 0) AS hours
    FROM contention_hour WHERE hour > ?2 - {2 * DAY_H} AND hour <= ?2 GROUP BY kind, name"""
_OF_DAYS = ("day_conflicts", "day_attempts", "before_conflicts", "before_attempts")
_COUNTED = ", ".join(f"coalesce({name}, 0) AS {name}" for name in _OF_DAYS) + ", coalesce(hours, '[]') AS hours"
_HOTTEST = f"ORDER BY {_RATE} DESC, conflicts DESC, kind, name LIMIT ?1"
HOTSPOTS = lines(
    "list hot spots",
    "json_object('kind', kind, 'name', name, 'conflicts', conflicts, 'attempts', attempts, "
    + ", ".join(f"'{name}', {name}" for name in _OF_DAYS)
    + ", 'hours', json(hours))",
    f"""WITH lately AS ({_LATELY}),
    found AS (
        SELECT name FROM (SELECT name, document.conflicts FROM lately CROSS JOIN document ON document.key = lately.name
            WHERE kind = 'document' AND day_conflicts > 0 ORDER BY {_RATE} DESC, document.conflicts DESC, name LIMIT ?1)
        UNION SELECT name FROM (SELECT key AS name FROM document WHERE conflicts > 0
            ORDER BY conflicts DESC, key LIMIT ?1)
    ),
    spot AS (
        SELECT 'document' AS kind, key AS name, conflicts, attempts
        FROM found CROSS JOIN document ON document.key = found.name
        UNION ALL SELECT 'field', field, conflicts, attempts FROM contention WHERE conflicts > 0
    )
    SELECT * FROM (
        SELECT kind, name, conflicts, attempts, {_COUNTED} FROM spot LEFT JOIN lately USING (kind, name)
    ) {_HOTTEST}""",
)

# PASSIVE does not wait: frames that readers still need stay in the write-ahead log until the next checkpoint.
CHECKPOINT = "PRAGMA wal_checkpoint(PASSIVE)"
