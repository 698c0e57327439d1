# ruff: noqa: S608 - the SQL is put together from our own names and constants; what comes from outside is a parameter
"""
The transactions that fold and settle, each as one SQL statement.

Rules. A transaction of this store is exactly one statement, so it is atomic without BEGIN and COMMIT: there is no
moment at which a cancelled task or a dead process could leave half of one.

Theory. SQLite has no stored procedures, but an INSTEAD OF trigger on a temporary view is one: inserting a row into the
view runs the trigger's statements with that row's columns as parameters, and the whole, commit included, is a single
call, for which the interpreter lock is given away once. The parameters are packed tables (see `packing`). The triggers
are temporary, made anew on each connection, so that they always belong to the program that uses them.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import attrs

from reconciler.adapters.sqlite.packing import Packer, Row
from reconciler.adapters.sqlite.queries import LAST_REFOLD, Query
from reconciler.adapters.sqlite.tables import LETTERS, PLACES, POSITIONS, letters_of, places_of, rows
from reconciler.model import chain, codec
from reconciler.model.base import NO_BASE
from reconciler.model.chain import Head
from reconciler.model.desired import NOTHING_DESIRED
from reconciler.model.document import NO_AGREEMENT, Agreement, Lane, Status
from reconciler.model.hotspot import HOUR_US, KEPT_H, hour_of
from reconciler.model.settlement import Settlement
from reconciler.model.stamp import Anchor, Partition
from reconciler.ports import FoldBatch


class Procedure(NamedTuple):
    """A transaction: its name as an operation, the view that starts it, its parameters and its statements."""

    operation: str
    view: str
    parameters: tuple[str, ...]
    statements: tuple[str, ...]

    @property
    def definition(self) -> str:
        """The view and its trigger."""
        columns = ", ".join(f"NULL AS {name}" for name in self.parameters)
        body = "".join(f"{statement};\n" for statement in self.statements)
        return (
            f"CREATE TEMP VIEW {self.view} AS SELECT {columns};\n"
            f"CREATE TEMP TRIGGER run_{self.view} INSTEAD OF INSERT ON {self.view} BEGIN\n{body}END;\n"
        )

    @property
    def call(self) -> Query:
        """The statement that runs it."""
        places = ", ".join("?" * len(self.parameters))
        return Query(self.operation, f"INSERT INTO {self.view} VALUES ({places})")


# ---------------------------------------------------------------------------------------------------------------- fold

# A document in a wait that was set after trouble (a retry, a cool-down, a lock): events must not shorten that.
_COOLING = "status IN ('pending', 'contended', 'locked') AND due_us > excluded.due_us"
# One that an operator has paused is left where it is too, and is not pending either.
_LEFT = f"(status = 'paused' OR ({_COOLING}))"

FOLD = Procedure(
    "fold",
    "fold_batch",
    ("documents", "positions", "letters", "replayed", "superseded", "packed", "at_us", "refolds"),
    (
        # A document was folded again after its row was read for this: the fold is to be made once more.
        f"SELECT RAISE(IGNORE) WHERE NEW.refolds IS NOT NULL AND NEW.refolds IS NOT ({LAST_REFOLD})",
        # `WHERE true` parts the SELECT from ON CONFLICT for the parser. A row that is still pending keeps its
        # earlier due time, else a document with an event every second would always be the youngest of its lane.
        f"""INSERT INTO document (key, revision, status, reason, lane, due_us, pending_since_us, conflicts, attempts,
                                  desired)
            SELECT key, 1, 'pending', '', lane, NEW.at_us, NEW.at_us, 0, 0, desired
            FROM {rows("documents", "key text", "desired blob", "lane int")} WHERE true
            ON CONFLICT (key) DO UPDATE SET
                desired = excluded.desired,
                revision = revision + 1,
                status = CASE WHEN {_LEFT} THEN status ELSE 'pending' END,
                reason = CASE WHEN {_LEFT} THEN reason ELSE '' END,
                lane = CASE WHEN status = 'pending' OR {_LEFT} THEN min(lane, excluded.lane)
                            ELSE excluded.lane END,
                due_us = CASE WHEN {_LEFT} THEN due_us
                              WHEN status = 'pending' AND due_us < excluded.due_us THEN due_us
                              ELSE excluded.due_us END,
                pending_since_us = iif(status = 'paused', NULL, coalesce(pending_since_us, excluded.pending_since_us))
            WHERE excluded.desired IS NOT document.desired""",
        POSITIONS,
        *LETTERS,
        f"""UPDATE dead_letter SET status = 'replayed'
            WHERE id IN {rows("replayed", "id text")}""",
        f"""INSERT INTO superseded (document, count, last)
            SELECT document, count, last FROM {rows("superseded", "document text", "count int", "last blob")} WHERE true
            ON CONFLICT (document) DO UPDATE SET count = count + excluded.count, last = excluded.last""",
    ),
)


def fold(batch: FoldBatch) -> tuple[object, ...]:
    """Return the parameters of `FOLD`. Pure, and most of a fold's time: it may run on any thread."""
    packer = Packer()
    encode, lane, urgent = codec.encode, int(batch.lane), batch.urgent
    # In key order, neighbours in the batch are neighbours in the trees: a third less work on a large table.
    documents: Iterable[Row] = (
        (key, encode(desired), int(Lane.OPERATOR) if key in urgent else lane)
        for key, desired in sorted(batch.rows.items(), key=_key)
    )
    return (
        packer.table(documents),
        places_of(packer, batch.positions, batch.anchors),
        letters_of(packer, batch.dead_letters),
        packer.table((letter_id,) for letter_id in batch.replayed),
        packer.table((key, one.count, encode(one)) for key, one in batch.superseded.items()),
        packer.packed(),
        batch.at_us,
        batch.refolds,
    )


def _key(item: tuple[str, object]) -> str:
    return item[0]


# -------------------------------------------------------------------------------------------------------------- ledger

_STANDS = """(document.status <> 'paused' AND (document.revision = change.revision
                 OR (change.status IN ('pending', 'contended', 'locked') AND change.due_us > change.at_us)))"""

_SETTLEMENTS = rows(
    "settlements",
    "key text",
    "agreement blob",
    "revision int",
    "status text",
    "reason text",
    "lane int",
    "due_us int",
    "at_us int",
    "conflicts int",
    "attempts int",
)
_CONTENTION = rows("contention", "field text", "conflicts int", "attempts int", "hour int")
_ADDED_UP = """ON CONFLICT (hour, kind, name) DO UPDATE SET conflicts = conflicts + excluded.conflicts,
                attempts = attempts + excluded.attempts"""

COMMIT = Procedure(
    "settle",
    "ledger_group",
    ("intents", "settlements", "audits", "outcomes", "closed", "opened", "contention", "packed", "head", "head_link"),
    (
        # The links were computed on a head that the owner remembers. Whatever made it wrong, no second branch grows.
        """SELECT RAISE(ABORT, 'the audit trail does not end where its owner left it')
            WHERE NEW.head IS NOT (SELECT coalesce(max(id), 0) FROM audit)
               OR (NEW.head > 0 AND NEW.head_link IS NOT (SELECT link FROM audit WHERE id = NEW.head))""",
        # A settlement that found no row would vanish, and with it what we know of the document.
        f"""SELECT RAISE(ABORT, 'the store has no such document')
            FROM (SELECT key FROM {rows("intents", "key text", "agreement blob")}
                  UNION ALL SELECT key FROM {rows("settlements", "key text")}) AS change
            WHERE NOT EXISTS (SELECT 1 FROM document WHERE document.key = change.key)""",
        # Apart from the settlements, because an indexed column named in SET rewrites its index even if nothing changes.
        f"""UPDATE document SET agreement = change.agreement
            FROM {rows("intents", "key text", "agreement blob")} AS change
            WHERE document.key = change.key""",
        # Only a settlement of the present revision says where the document stands; else the fold has already said so.
        # But a wait that trouble has set stands in either case, as it does against a fold that comes after it. One that
        # was paused meanwhile stays paused, and due as the pause has left it.
        f"""UPDATE document SET
                agreement = change.agreement,
                conflicts = document.conflicts + change.conflicts,
                attempts = document.attempts + change.attempts,
                status = iif({_STANDS}, change.status, document.status),
                reason = iif({_STANDS}, change.reason, document.reason),
                lane = CASE WHEN {_STANDS} AND document.revision = change.revision THEN change.lane
                            WHEN {_STANDS} THEN min(document.lane, change.lane) ELSE document.lane END,
                due_us = iif({_STANDS} OR (document.revision = change.revision AND change.status = 'paused'),
                             change.due_us, document.due_us),
                pending_since_us = iif(document.status = 'paused'
                                       OR (document.revision = change.revision AND change.status IN ('synced', 'held')),
                                       NULL, coalesce(document.pending_since_us, change.at_us))
            FROM {_SETTLEMENTS} AS change
            WHERE document.key = change.key""",
        f"""INSERT INTO audit (id, document, at_us, link, record)
            SELECT id, document, at_us, link, record
            FROM {rows("audits", "document text", "at_us int", "record blob", "id int", "link blob")}""",
        f"""INSERT INTO outbox (message)
            SELECT message FROM {rows("outcomes", "message blob")}""",
        f"""UPDATE conflict SET closed_at_us = change.at_us
            FROM {rows("closed", "id text", "at_us int")} AS change
            WHERE conflict.id = change.id AND conflict.closed_at_us IS NULL""",
        # A clash that is still open was opened when it was first found; one that comes back opens anew.
        f"""INSERT INTO conflict (id, document, opened_at_us, closed_at_us, conflict)
            SELECT id, document, opened_at_us, NULL, conflict
            FROM {rows("opened", "id text", "document text", "opened_at_us int", "conflict blob")} WHERE true
            ON CONFLICT (id) DO UPDATE SET document = excluded.document, opened_at_us = excluded.opened_at_us,
                closed_at_us = NULL, conflict = excluded.conflict
            WHERE conflict.closed_at_us IS NOT NULL""",
        f"""INSERT INTO contention (field, conflicts, attempts)
            SELECT field, conflicts, attempts
            FROM {_CONTENTION} WHERE true
            ON CONFLICT (field) DO UPDATE SET conflicts = conflicts + excluded.conflicts,
                attempts = attempts + excluded.attempts""",
        f"""INSERT INTO contention_hour (hour, kind, name, conflicts, attempts)
            SELECT hour, 'field', field, conflicts, attempts FROM {_CONTENTION} WHERE true
            {_ADDED_UP}""",
        # After the update above: a document's first version conflict counts. Most documents never meet one.
        f"""INSERT INTO contention_hour (hour, kind, name, conflicts, attempts)
            SELECT change.at_us / {HOUR_US}, 'document', change.key, change.conflicts, change.attempts
            FROM {_SETTLEMENTS} AS change
            CROSS JOIN document ON document.key = change.key WHERE document.conflicts > 0
            {_ADDED_UP}""",
        # What this group is a week ahead of.
        f"""DELETE FROM contention_hour WHERE hour <= (
                SELECT max(at_us) / {HOUR_US} - {KEPT_H} FROM {_SETTLEMENTS})""",
    ),
)


@attrs.frozen
class Change:
    """One intent or one settlement, as rows of the tables of `COMMIT`."""

    key: str
    intents: tuple[Row, ...] = ()
    settlements: tuple[Row, ...] = ()
    audits: tuple[tuple[str, int, bytes], ...] = ()  # not chained yet: only the commit knows what they follow
    outcomes: tuple[Row, ...] = ()
    closed: tuple[Row, ...] = ()
    opened: tuple[Row, ...] = ()
    contention: tuple[Row, ...] = ()


def intent(key: str, agreement: Agreement) -> Change:
    """Return an intent as rows."""
    return Change(key, intents=((key, codec.encode(agreement)),))


def settlement(end: Settlement) -> Change:
    """Return a settlement as rows. What can't be encoded fails here, before it could fail its neighbours."""
    encode = codec.encode
    row: Row = (
        *(end.key, encode(end.agreement), end.revision, end.status.value, end.reason, int(end.lane), end.due_us),
        *(end.at_us, end.conflicts, end.attempts),
    )
    return Change(
        end.key,
        settlements=(row,),
        audits=tuple((record.document, record.at_us, encode(record)) for record in end.audit),
        outcomes=tuple((encode(message),) for message in end.outcomes),
        closed=tuple((conflict_id, end.at_us) for conflict_id in end.closed),
        opened=tuple((one.id, end.key, one.opened_at_us, encode(one)) for one in end.opened),
        contention=tuple((spot.field, spot.conflicts, spot.attempts, hour_of(end.at_us)) for spot in end.contention),
    )


def commit(changes: Iterable[Change], head: Head) -> tuple[tuple[object, ...], Head]:
    """
    Return the parameters of `COMMIT` for a group of changes with different keys, and the audit's head after it.

    `head` is where the audit trail ends, and the group's records are chained to it.
    """
    group = tuple(changes)
    packer = Packer()
    audits, end = _chained((row for change in group for row in change.audits), head)
    parameters = (
        packer.table(row for change in group for row in change.intents),
        packer.table(row for change in group for row in change.settlements),
        packer.table(audits),
        packer.table(row for change in group for row in change.outcomes),
        packer.table(row for change in group for row in change.closed),
        packer.table(row for change in group for row in change.opened),
        packer.table(row for change in group for row in change.contention),
        packer.packed(),
        *head,
    )
    return parameters, end


def _chained(rows: Iterable[tuple[str, int, bytes]], head: Head) -> tuple[list[Row], Head]:
    """Return audit rows with their numbers and links, and the head after them."""
    chained: list[Row] = []
    for document, at_us, record in rows:
        head = chain.extend(head, record)
        chained.append((document, at_us, record, *head))
    return chained, head


# -------------------------------------------------------------------------------------------------------------- rebase

_TOLD = "coalesce(json_extract(CAST({}.agreement AS TEXT), '$.told'), 0)"

_MOVES = "revision > 0 AND status <> 'paused'"

REBASE = Procedure(
    "rebase",
    "rebase_batch",
    ("agreements", "positions", "packed", "at_us"),
    (
        # A document known only from the outcome log gets a row of revision 0, which counts as never folded.
        f"""INSERT INTO document (key, revision, status, reason, lane, conflicts, attempts, desired, agreement)
            SELECT key, 0, '{Status.SYNCED}', '', {int(Lane.RESYNC)}, 0, 0,
                   CAST('{codec.encode(NOTHING_DESIRED).decode()}' AS BLOB), agreement
            FROM {rows("agreements", "key text", "agreement blob")} WHERE true
            ON CONFLICT (key) DO UPDATE SET
                agreement = excluded.agreement,
                status = iif({_MOVES}, 'pending', status),
                reason = iif({_MOVES}, '', reason),
                lane = CASE WHEN status IN ('pending', 'paused') THEN lane ELSE excluded.lane END,
                due_us = iif({_MOVES}, min(coalesce(due_us, NEW.at_us), NEW.at_us), due_us),
                pending_since_us = iif({_MOVES}, coalesce(pending_since_us, NEW.at_us), NULL),
                revision = iif(revision > 0, revision + 1, 0)
            WHERE document.agreement IS NULL OR {_TOLD.format("document")} < {_TOLD.format("excluded")}""",
        POSITIONS,
    ),
)


def rebase(
    agreements: Iterable[tuple[str, Agreement]],
    positions: Mapping[Partition, int],
    at_us: int,
    anchors: Mapping[Partition, Anchor],
) -> tuple[object, ...]:
    """Return the parameters of `REBASE`."""
    packer = Packer()
    table = packer.table((key, codec.encode(agreement)) for key, agreement in agreements)
    return table, places_of(packer, positions, anchors), packer.packed(), at_us


# ----------------------------------------------------------------------------------------------------------- positions

PUBLISHED = Procedure(
    "forget published messages",
    "published_batch",
    ("numbers", "positions", "packed"),
    ("DELETE FROM outbox WHERE number IN (SELECT value FROM json_each(NEW.numbers))", POSITIONS),
)

REPOSITION = Procedure(
    "store positions",
    "positions_batch",
    ("positions", "packed"),
    (
        f"DELETE FROM position WHERE topic IN (SELECT topic FROM {PLACES})",
        POSITIONS,
    ),
)


def published(numbers: Iterable[int], positions: Mapping[Partition, int]) -> tuple[object, ...]:
    """Return the parameters of `PUBLISHED`."""
    packer = Packer()
    return codec.encode(list(numbers)).decode(), places_of(packer, positions), packer.packed()


def reposition(positions: Mapping[Partition, int]) -> tuple[object, ...]:
    """Return the parameters of `REPOSITION`."""
    packer = Packer()
    return places_of(packer, positions), packer.packed()


PROCEDURES = (FOLD, COMMIT, REBASE, PUBLISHED, REPOSITION)

# `{}` in place of a NULL agreement is read as this; the reading side relies on it.
assert codec.decode_agreement(b"{}") == NO_AGREEMENT
assert NO_AGREEMENT.base == NO_BASE
