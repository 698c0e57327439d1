# ruff: noqa: S608 - the SQL is put together from our own names and constants; what comes from outside is a parameter
"""
Every SELECT of the store, by name.

Rules. No statement of the hot path scans `document`. Statuses stand in the SQL as constants where an index is partial
by status: with a parameter, a prepared plan could not use it.
"""

from collections.abc import Collection

from reconciler.adapters.postgres.change import COLUMNS
from reconciler.model.chain import SPAN
from reconciler.model.document import SET_ASIDE, Lane, Status
from reconciler.model.standing import DAY_H, DOUBT

LANES = [int(lane) for lane in Lane]

POSITIONS = "SELECT topic, partition, next_offset FROM position"
ANCHORS = "SELECT topic, partition, anchor_offset, anchor_digest FROM position WHERE anchor_offset IS NOT NULL"
SUPERSEDED = "SELECT count, last FROM superseded WHERE document = $1"
REFOLDS = "SELECT coalesce(max(number), 0) FROM refold"
REFUSED = "SELECT id FROM dead_letter WHERE clock"
EXPORT = "SELECT key, desired FROM desired WHERE key > $1 ORDER BY key LIMIT $2"

ROWS = f"SELECT {COLUMNS} FROM document WHERE key = ANY ($1::bytea[])"
_DESIRED = "(SELECT desired FROM desired WHERE desired.key = document.key)"
FOLDED = f"SELECT {COLUMNS}, {_DESIRED} FROM document WHERE key = ANY ($1::bytea[])"
FOLD_TURN = "SELECT turn FROM folding WHERE slot = $1"
# How to pass over the turn of a change that was lost, and how to read it.
OF_FOLDS = "UPDATE folding SET turn = $2::bigint + 2 WHERE slot = $1 AND turn = $2", FOLD_TURN
OF_CHAIN = "UPDATE slot SET turn = $2::bigint + 2 WHERE id = $1 AND turn = $2", "SELECT turn FROM slot WHERE id = $1"
PLACE = "SELECT chain_number, chain_link, turn FROM slot WHERE id = $1"
_VERSION = "coalesce((SELECT version FROM agreement WHERE agreement.key = document.key), 0)"
_AGREEMENT = "(SELECT agreement FROM agreement WHERE agreement.key = document.key)"
AGREED = f"SELECT {COLUMNS}, {_VERSION}, {_AGREEMENT} FROM document WHERE key = ANY ($1::bytea[])"
_WHOLE = f"{COLUMNS}, EXISTS (SELECT FROM refold WHERE refold.document = key), {_DESIRED}, {_AGREEMENT}"
_DOCUMENT = f"SELECT {_WHOLE} FROM document"
DOCUMENTS = f"{_DOCUMENT} WHERE key = ANY ($1::bytea[])"

# Not synced to the disk: who loses a document that way is refused its intent.
HOLD = """
    WITH mine AS (
        SELECT id, set_config('synchronous_commit', 'off', true) FROM slot WHERE id = $1 AND epoch = $2 FOR KEY SHARE
    ), free AS (
        SELECT key FROM document WHERE key = ANY ($3::bytea[]) AND holder IS NULL AND EXISTS (SELECT FROM mine)
        ORDER BY key FOR NO KEY UPDATE
    ), held AS (UPDATE document SET holder = $1 FROM free WHERE document.key = free.key)
    SELECT id FROM mine
"""
HELD = f"SELECT {_VERSION} AS agreed, {_WHOLE} FROM document WHERE key = ANY ($1::bytea[]) AND holder = $2"
SETTLING = f"SELECT {COLUMNS}, holder, {_VERSION} FROM document WHERE key = ANY ($1::bytea[])"
GIVE_BACK = """
    WITH mine AS (
        SELECT id, set_config('synchronous_commit', 'off', true) FROM slot WHERE id = $1 AND epoch = $2 FOR KEY SHARE
    ), held AS (
        SELECT key FROM document WHERE key = ANY ($3::bytea[]) AND holder = $1 AND EXISTS (SELECT FROM mine)
        ORDER BY key FOR NO KEY UPDATE
    )
    UPDATE document SET holder = NULL FROM held WHERE document.key = held.key
"""

# One search a lane: a single search over (lane, due_us) would read every document that is due later. What we hold
# ourselves is found too: the answer that it is ours may have been lost.
DUE = """
    SELECT found.key, found.lane, found.due_us FROM unnest($1::smallint[]) AS wanted(lane) CROSS JOIN LATERAL (
        SELECT key, lane, due_us FROM document
        WHERE lane = wanted.lane AND due_us <= $3 AND (holder IS NULL OR holder = $2) ORDER BY due_us, key LIMIT $4
    ) AS found ORDER BY lane, due_us, key LIMIT $4
"""
NEXT_DUE = """
    SELECT min(found.due_us) FROM unnest($1::smallint[]) AS wanted(lane) CROSS JOIN LATERAL (
        SELECT due_us FROM document
        WHERE lane = wanted.lane AND due_us IS NOT NULL AND (holder IS NULL OR holder = $2) ORDER BY due_us LIMIT 1
    ) AS found
"""

# Synced documents, nearly all, are found by due time in each lane, all others by status.
_AHEAD = {
    status: f"due_us > $1::bigint + $2::bigint AND status = '{status}'"
    + (f" AND lane IN ({', '.join(map(str, LANES))})" if status is Status.SYNCED else " AND status <> 'synced'")
    for status in Status
}
AHEAD = {status: f"SELECT {COLUMNS} FROM document WHERE {ahead} LIMIT $3" for status, ahead in _AHEAD.items()}
COUNT_AHEAD = {status: f"SELECT count(*) FROM document WHERE {ahead}" for status, ahead in _AHEAD.items()}
SINCE_AHEAD = f"SELECT {COLUMNS} FROM document WHERE pending_since_us > $1 LIMIT $2"
SETTLED_KEYS = (
    "SELECT key FROM document WHERE key > $1 AND revision > 0 AND status = ANY ($3::text[]) ORDER BY key LIMIT $2"
)
COUNT_DUE = "SELECT count(*) FROM document WHERE lane = $1 AND due_us <= $2"
SIGNING = "SELECT noted FROM signing"
READING = "SELECT said FROM reading"
NOTE_READING = """
    INSERT INTO reading (one, said) SELECT 1, $3 FROM slot WHERE id = $1 AND epoch = $2 FOR KEY SHARE
    ON CONFLICT (one) DO UPDATE SET said = excluded.said
"""

# Within some bytes, but at least one; of buckets that are ours.
WAITING = """
    SELECT number, bucket, message FROM (
        SELECT *, sum(length(message)) OVER (ORDER BY number) - length(message) AS before
        FROM (
            SELECT * FROM outbox WHERE number <> ALL ($2::bigint[]) AND 'outbox ' || bucket = ANY (
                ARRAY(SELECT name FROM duty WHERE slot = $3 AND epoch = $4 AND name = ANY ($5::text[]))
            ) ORDER BY number LIMIT $1
        ) AS oldest
    ) AS summed WHERE before < 16777216 ORDER BY number
"""

COUNTS = """
    SELECT status, count(*) FROM document WHERE status <> 'synced' GROUP BY status
    UNION ALL SELECT '', coalesce(sum(documents), 0)::bigint FROM folding
"""
_LISTED: dict[Status | None, str] = {status: f"status = '{status}' AND status <> 'synced' AND" for status in Status}
_LISTED |= {None: "", Status.SYNCED: "status = 'synced' AND"}
LIST = {status: f"{_DOCUMENT} WHERE {which} key > $1 ORDER BY key LIMIT $2" for status, which in _LISTED.items()}
LIST_WAITING = f"""{_DOCUMENT} WHERE status = $4 AND pending_since_us IS NOT NULL AND (pending_since_us, key) > ($1, $2)
    ORDER BY pending_since_us, key LIMIT $3"""
LIST_ASIDE = f"""{_DOCUMENT} WHERE status IN ('parked', 'contended') AND status = $4 AND (aside_us, key) > ($1, $2)
    ORDER BY aside_us, key LIMIT $3"""
_OLDEST = (
    f"(SELECT min(pending_since_us) FROM document WHERE status = '{status}' AND pending_since_us IS NOT NULL)"
    for status in Status
    if status not in SET_ASIDE
)
OLDEST_PENDING = f"SELECT least({', '.join(_OLDEST)})"

_CONFLICT = "SELECT document, closed_at_us, conflict FROM conflict"
OPEN_CONFLICTS, ALL_CONFLICTS = (
    f"{_CONFLICT} WHERE {which} (opened_at_us, id) > ($2, $3) ORDER BY opened_at_us, id LIMIT $1"
    for which in ("closed_at_us IS NULL AND", "")
)
COUNT_CONFLICTS = "SELECT count(*) FROM conflict WHERE closed_at_us IS NULL"
CONFLICT = f"{_CONFLICT} WHERE id = $1"
# No byte of UTF-8 is as great as the last one.
CONFLICTS_WITH_PREFIX = rf"""{_CONFLICT} WHERE id >= $1 AND id < $1 || '\xff'::bytea AND ($2 OR closed_at_us IS NULL)
    ORDER BY id LIMIT $3"""

LETTER = "SELECT number, status, letter FROM dead_letter WHERE id = $1"
_LETTERS = "SELECT number, status, outline FROM dead_letter WHERE"
_AFTER = "number > coalesce((SELECT number FROM dead_letter WHERE id = $2), -1) ORDER BY number LIMIT $1"
LETTERS = f"{_LETTERS} {_AFTER}"
LETTERS_OF_STATUS = f"{_LETTERS} status = $3 AND {_AFTER}"
LETTERS_AFTER = f"{_LETTERS} number > $2 ORDER BY number LIMIT $1"
LETTERS_WITH_SUFFIX = (
    "SELECT id FROM dead_letter WHERE substring(id FROM greatest(length(id) - length($1::bytea) + 1, 1)) = $1 LIMIT $2"
)
LAST_LETTER = "SELECT coalesce(max(number), 0) FROM dead_letter"
COUNT_LETTERS = "SELECT count(*) FROM dead_letter WHERE status = 'open'"
LETTERS_OF = "SELECT count(*) FROM dead_letter WHERE id = ANY ($1::bytea[])"

_NEWEST = "AND NOT (at_us = $4 AND number >= $5) ORDER BY at_us DESC, number DESC LIMIT $3"
_DECISIONS = "SELECT number, ordinal, record FROM audit WHERE kind IS NULL AND at_us >= $1 AND at_us < $2"
DECISIONS = f"{_DECISIONS} {_NEWEST}"
DECISIONS_OF_DOCUMENT = f"{_DECISIONS} AND document = $6 {_NEWEST}"


def actions(searched: Collection[str]) -> str:
    """Return the query for actions by these columns, before the record with a number."""
    conditions = "".join(f" AND {column} = ANY (${place}::bytea[])" for place, column in enumerate(searched, 3))
    before = f"(coalesce((SELECT at_us FROM audit WHERE number = $1), {2**63 - 1}), $1)"
    return (
        f"SELECT number, ordinal, record FROM audit WHERE kind IS NOT NULL AND (at_us, number) < {before}{conditions}"
        " ORDER BY at_us DESC, number DESC LIMIT $2"
    )


# The owners' slots have the heads: the audit trail's newest records can't be cut off without changing them too.
HEADS = """
    SELECT chain_number, chain_link FROM slot
    UNION ALL (SELECT number, link FROM checkpoint ORDER BY number DESC LIMIT 1) ORDER BY 1
"""
LAST_AUDITED = "SELECT max(at_us) FROM slot JOIN audit ON number = chain_number"
_ENTRIES = """
    SELECT number, coalesce((SELECT link FROM audit AS before WHERE before.number = audit.number - 1),
        (SELECT link FROM cut WHERE last = audit.number - 1)), link, ordinal, record, document, at_us, target, who, kind
    FROM audit
"""
ENTRIES = f"{_ENTRIES} WHERE number > $1 AND number <= $2 ORDER BY number LIMIT $3"
ENTRIES_NUMBERED = f"{_ENTRIES} WHERE number = ANY ($1::bigint[]) ORDER BY ordinal, number"
CHECKPOINTS = """
    SELECT number, coalesce((SELECT link FROM checkpoint AS before WHERE before.number = checkpoint.number - 1),
        (SELECT link FROM cut WHERE last = checkpoint.number - 1)), link, record
    FROM checkpoint WHERE number > $1 AND number <= $2 ORDER BY number LIMIT $3
"""
_OF_BOTH_KINDS = " UNION ALL ".join(
    f"SELECT number, ordinal FROM audit WHERE kind IS {kind} AND at_us >= $1 AND at_us < $2 {{0}}"
    for kind in ("NULL", "NOT NULL")
)
AUDIT_SPANS = f"""
    SELECT min(number), max(number) FROM ({_OF_BOTH_KINDS.format("")}) AS found GROUP BY number / {SPAN} ORDER BY 1
"""
NUMBERS_OF_DOCUMENT = f"""
    SELECT number FROM ({_OF_BOTH_KINDS.format("AND document = $3")}) AS found ORDER BY ordinal, number
"""
LINK = "SELECT link FROM audit WHERE number = $1"

CUTS = "SELECT act, cut FROM cut ORDER BY last"
_CUT_OFF = f"""
    SELECT number FROM (SELECT last / {SPAN} AS chain, max(last) AS last FROM cut GROUP BY 1) AS piece
    CROSS JOIN LATERAL (
        SELECT number FROM {{table}} WHERE number > chain * {SPAN} AND number <= piece.last ORDER BY number LIMIT $1
    ) AS record LIMIT $1
"""
FORGET = tuple(
    f"DELETE FROM {table} WHERE number IN ({_CUT_OFF.format(table=table)}) RETURNING number"
    for table in ("audit", "checkpoint")
)

POLICIES = "SELECT digest, policy FROM policy"
KEEP_POLICY = """
    INSERT INTO policy (digest, policy) SELECT $3, $4 FROM slot WHERE id = $1 AND epoch = $2 FOR KEY SHARE
    ON CONFLICT DO NOTHING
"""

# The hours of two days, added up by name; then the totals of these names and of those with most conflicts ever.
_RATE = f"(day_conflicts::float8 / (greatest(day_attempts, day_conflicts) + {DOUBT}))"


def _sum(of: str, when: str) -> str:
    return f"coalesce(sum({of}) FILTER (WHERE hour {when} $2 - {DAY_H}), 0)::bigint"


_LATELY = f"""SELECT kind, name,
        {_sum("conflicts", ">")} AS day_conflicts, {_sum("attempts", ">")} AS day_attempts,
        {_sum("conflicts", "<=")} AS before_conflicts, {_sum("attempts", "<=")} AS before_attempts,
        array_agg(ARRAY[$2 - hour, conflicts]) FILTER (WHERE conflicts > 0) AS hours
    FROM contention_hour WHERE hour > $2::bigint - {2 * DAY_H} AND hour <= $2 GROUP BY kind, name"""
_COUNTED = ", ".join(
    f"coalesce({name}, 0) AS {name}"
    for name in ("day_conflicts", "day_attempts", "before_conflicts", "before_attempts")
)
HOTSPOTS = f"""
    WITH lately AS ({_LATELY}),
    found AS (
        (SELECT name FROM lately JOIN document ON document.key = lately.name
            WHERE kind = 'document' AND day_conflicts > 0 ORDER BY {_RATE} DESC, document.conflicts DESC, name LIMIT $1)
        UNION (SELECT key FROM document WHERE conflicts > 0 ORDER BY conflicts DESC, key LIMIT $1)
    ),
    spot AS (
        SELECT 'document' AS kind, key AS name, conflicts, attempts FROM found JOIN document ON key = found.name
        UNION ALL SELECT 'field', field, conflicts, attempts FROM contention WHERE conflicts > 0
    ),
    counted AS (
        SELECT kind, name, conflicts, attempts, {_COUNTED}, hours FROM spot LEFT JOIN lately USING (kind, name)
    )
    SELECT * FROM counted ORDER BY {_RATE} DESC, conflicts DESC, kind, name LIMIT $1
"""
