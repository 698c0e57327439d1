# ruff: noqa: S608 - the SQL is put together from our own names and constants; what comes from outside is a parameter
"""
Every INSERT, UPDATE and DELETE of the store, by name, each for many rows at once (`queries.Many`).

Plain SQL: `core/folding/rows.py` decides how a row changes. Only counts are added up here, and a dead letter or policy
that exists stays as it is.
"""

from reconciler.adapters.sqlite.queries import Many
from reconciler.model.document import Row


def _storing(operation: str, *columns: str) -> Many:
    """Return the statement that stores rows with these columns, each after its number."""
    columns = ("number", *columns)
    return Many(
        operation,
        f"INSERT INTO document ({', '.join(columns)}) VALUES :many"
        f" ON CONFLICT (number) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in columns[2:])}",
        f"({', '.join(['?'] * len(columns))})",
    )


ROWS, AGREED = _storing("store rows", *Row._fields), _storing("settle", *Row._fields, "aside_us")
# Apart from the other columns: one that is named in SET and has an index rewrites that index even if nothing changes.
REVISIONS = Many(
    "store rows",
    "UPDATE document SET revision = change.column2 FROM (VALUES :many) AS change WHERE number = change.column1",
    "(?, ?)",
)
DESIRED = Many(
    "fold",
    "INSERT INTO desired VALUES :many ON CONFLICT (document) DO UPDATE SET desired = excluded.desired",
    "(?, ?)",
)
AGREEMENTS = Many(
    "settle",
    "INSERT INTO agreement VALUES :many ON CONFLICT (document) DO UPDATE SET agreement = excluded.agreement",
    "(?, ?)",
)
# A position may move past offsets without a record; the last record stays the same.
POSITIONS = Many(
    "store positions",
    """INSERT INTO position (topic, partition, next_offset, anchor_offset, anchor_digest) VALUES :many
        ON CONFLICT (topic, partition) DO UPDATE SET
            next_offset = excluded.next_offset,
            anchor_offset = coalesce(excluded.anchor_offset, anchor_offset),
            anchor_digest = iif(excluded.anchor_offset IS NULL, anchor_digest, excluded.anchor_digest)""",
    "(?, ?, ?, ?, ?)",
)
FORGET_POSITIONS = Many("store positions", "DELETE FROM position WHERE (topic, partition) IN (VALUES :many)", "(?, ?)")
LETTERS = Many(
    "keep dead letters",
    "INSERT INTO dead_letter (id, status, letter) VALUES :many ON CONFLICT (id) DO NOTHING",
    "(?, ?, ?)",
)
MARKS = Many(
    "mark dead letters",
    "UPDATE dead_letter SET status = change.column2 FROM (VALUES :many) AS change WHERE id = change.column1",
    "(?, ?)",
)
SUPERSEDED = Many(
    "count superseded events",
    """INSERT INTO superseded (document, count, last) VALUES :many
        ON CONFLICT (document) DO UPDATE SET count = count + excluded.count, last = excluded.last""",
    "(?, ?, ?)",
)
REFOLDS = Many("fold a document again", "INSERT OR REPLACE INTO refold (document) VALUES :many", "(?)")
APPEND = Many(
    "append to the audit trail",
    "INSERT INTO audit (id, link, record, document, at_us, target, who, kind) VALUES :many",
    "(?, ?, ?, ?, ?, ?, ?, ?)",
)
OUTBOX = Many("queue outcomes", "INSERT INTO outbox (message) VALUES :many", "(?)")
PUBLISHED = Many("forget published messages", "DELETE FROM outbox WHERE number IN (VALUES :many)", "(?)")
CLOSE = Many(
    "close conflicts",
    """UPDATE conflict SET closed_at_us = change.column2 FROM (VALUES :many) AS change
        WHERE id = change.column1 AND closed_at_us IS NULL""",
    "(?, ?)",
)
# A conflict that is still open keeps the time when it opened; one that was closed opens again.
OPEN = Many(
    "open conflicts",
    """INSERT INTO conflict (id, document, opened_at_us, conflict, closed_at_us) VALUES :many
        ON CONFLICT (id) DO UPDATE SET document = excluded.document, opened_at_us = excluded.opened_at_us,
            closed_at_us = NULL, conflict = excluded.conflict
        WHERE closed_at_us IS NOT NULL""",
    "(?, ?, ?, ?, NULL)",
)
_ADDED_UP = "conflicts = conflicts + excluded.conflicts, attempts = attempts + excluded.attempts"
CONTENTION = Many(
    "count version conflicts",
    f"""INSERT INTO contention (field, conflicts, attempts) VALUES :many
        ON CONFLICT (field) DO UPDATE SET {_ADDED_UP}""",
    "(?, ?, ?)",
)
HOURS = Many(
    "count version conflicts",
    f"""INSERT INTO contention_hour (hour, kind, name, conflicts, attempts) VALUES :many
        ON CONFLICT (hour, kind, name) DO UPDATE SET {_ADDED_UP}""",
    "(?, ?, ?, ?, ?)",
)
FORGET_HOURS = Many("forget old hours", "DELETE FROM contention_hour WHERE hour <= (VALUES :many)", "(?)")
CUT = Many("note what was archived", "INSERT INTO cut (last, link, act, cut) VALUES :many", "(?, ?, ?, ?)")
FORGET = """DELETE FROM audit WHERE id IN (
    SELECT id FROM audit WHERE id <= (SELECT max(last) FROM cut) ORDER BY id LIMIT ?
)"""
FORGET_CONFLICTS = Many(
    "delete closed conflicts", "DELETE FROM conflict WHERE (id, closed_at_us) IN (VALUES :many)", "(?, ?)"
)
FORGET_LETTERS = Many("delete dead letters", "DELETE FROM dead_letter WHERE (id, status) IN (VALUES :many)", "(?, ?)")
POLICY = Many("keep a policy", "INSERT INTO policy (digest, policy) VALUES :many ON CONFLICT DO NOTHING", "(?, ?)")
WRITE_STOP = Many(
    "stop or resume all writes",
    "INSERT INTO write_stop (one, number, stop, obeyed) VALUES :many"
    " ON CONFLICT (one) DO UPDATE SET number = excluded.number, stop = excluded.stop",
    "(1, ?, ?, 0)",
)
OBEY_STOP = Many(
    "obey the stop of all writes",
    "UPDATE write_stop SET obeyed = change.column1 FROM (VALUES :many) AS change WHERE number = change.column2",
    "(?, ?)",
)
SIGNING = Many(
    "note since when everything is signed",
    "INSERT INTO signing (one, noted) VALUES :many ON CONFLICT (one) DO UPDATE SET noted = excluded.noted",
    "(1, ?)",
)
READING = Many(
    "note by what the log is read",
    "INSERT INTO reading (one, said) VALUES :many ON CONFLICT (one) DO UPDATE SET said = excluded.said",
    "(1, ?)",
)
