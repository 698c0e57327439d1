# ruff: noqa: S608 - the SQL is put together from our own names and constants; what comes from outside is a parameter
"""
What operators do: the one transaction that changes what an act is on and records it, and how acts are read.

Rules. Commands make acts too, beside the daemon that owns the store; so neither can remember where the records end.
Whoever acts says which record theirs follows, and if by then another one stands there, or if what the act is on does
not allow it, the transaction does nothing: `recorded` tells.
"""

from collections.abc import Iterable, Sequence

from reconciler.adapters.sqlite.packing import Packer, Row, unpack
from reconciler.adapters.sqlite.procedures import Procedure
from reconciler.adapters.sqlite.queries import Query, lines
from reconciler.adapters.sqlite.tables import LETTERS, letters_of, places_of, rows
from reconciler.model import chain, codec
from reconciler.model.act import Act, Change
from reconciler.model.chain import Head
from reconciler.model.document import Lane, Status
from reconciler.ports import Refolded

_ACTS = unpack(
    "NEW.acts",
    *("document text", "target text", "who text", "at_us int", "record blob", "id int", "link blob"),
    packed="NEW.packed",
)
_TARGETS = f"(SELECT target FROM {_ACTS})"
_KNOWN = "EXISTS (SELECT 1 FROM document WHERE key = act.target AND revision > 0 AND status {} 'paused')"

ENACT = Procedure(
    "record what was done",
    "act_batch",
    ("change", "acts", "packed", "head", "head_link", "at_us", "reason"),
    (
        """SELECT RAISE(IGNORE)
            WHERE NEW.head IS NOT (SELECT coalesce(max(id), 0) FROM act)
               OR (NEW.head > 0 AND NEW.head_link IS NOT (SELECT link FROM act WHERE id = NEW.head))""",
        f"""SELECT RAISE(IGNORE) FROM {_ACTS} AS act
            WHERE NOT CASE
                WHEN NEW.change = '{Change.NOTHING}' THEN 1
                WHEN NEW.change IN ('{Change.REPLAY}', '{Change.DISCARD}')
                    THEN EXISTS (SELECT 1 FROM dead_letter WHERE dead_letter.id = act.target)
                WHEN NEW.change = '{Change.RESUME}' THEN {_KNOWN.format("=")}
                ELSE {_KNOWN.format("<>")} END""",
        f"""INSERT INTO act (id, document, target, who, at_us, link, record)
            SELECT id, document, target, who, at_us, link, record FROM {_ACTS}""",
        # A new revision each time, so that an attempt under way does not settle the wish away.
        f"""UPDATE document SET lane = {int(Lane.ASKED)}, due_us = NEW.at_us, revision = revision + 1
            WHERE NEW.change = '{Change.RETRY}' AND key IN {_TARGETS}""",
        # Due once more: what is under way, or was when we died, may leave a lock behind. See `core/pausing.py`.
        f"""UPDATE document SET status = '{Status.PAUSED}', reason = NEW.reason, lane = {int(Lane.RETRY)},
                due_us = NEW.at_us, pending_since_us = NULL, revision = revision + 1
            WHERE NEW.change = '{Change.PAUSE}' AND key IN {_TARGETS}""",
        f"""UPDATE document SET status = '{Status.PENDING}', reason = '', lane = {int(Lane.OPERATOR)},
                due_us = NEW.at_us, pending_since_us = NEW.at_us, revision = revision + 1
            WHERE NEW.change = '{Change.RESUME}' AND key IN {_TARGETS}""",
        f"""UPDATE dead_letter SET status = iif(NEW.change = '{Change.REPLAY}', 'replayed', 'discarded')
            WHERE NEW.change IN ('{Change.REPLAY}', '{Change.DISCARD}') AND id IN {_TARGETS}""",
    ),
)


def enact(
    change: Change, acts: Iterable[Act], head: Head, *, at_us: int, reason: str
) -> tuple[tuple[object, ...], Head]:
    """Return the parameters of `ENACT`, and the head after it. Acts of one call are on different targets."""
    packer = Packer()
    rows: list[Row] = []
    number, previous = head
    for act in acts:
        record = codec.encode(act)
        head = chain.extend(head, record, chain.ACTS_TAG)
        rows.append((act.document, act.target, act.who, act.at_us, record, *head))
    table = packer.table(rows)
    return (change.value, table, packer.packed(), number, previous, at_us, reason), head


# Replaces a document's row by what the log says of it today. Nothing is done where the store has read further than the
# row, since what came after would be lost. `procedures.FOLD` says how a fold under way notices it.
_READ = rows("positions", "topic text", "partition int", "next_offset int", "anchor_offset int", "anchor_digest text")

REFOLD = Procedure(
    "fold a document again",
    "refold_batch",
    (
        "key",
        "desired",
        "positions",
        "letters",
        "record",
        "packed",
        "head",
        "head_link",
        "link",
        "target",
        "who",
        "at_us",
    ),
    (
        """SELECT RAISE(IGNORE)
            WHERE NEW.head IS NOT (SELECT coalesce(max(id), 0) FROM act)
               OR (NEW.head > 0 AND NEW.head_link IS NOT (SELECT link FROM act WHERE id = NEW.head))
               OR NOT EXISTS (SELECT 1 FROM document WHERE key = NEW.key AND revision > 0)""",
        f"""SELECT RAISE(IGNORE) FROM {_READ} AS ours
            CROSS JOIN position ON position.topic = ours.topic AND position.partition = ours.partition
            WHERE position.next_offset > ours.next_offset""",
        """INSERT INTO act (id, document, target, who, at_us, link, record)
            VALUES (NEW.head + 1, NEW.key, NEW.target, NEW.who, NEW.at_us, NEW.link, NEW.record)""",
        *LETTERS,
        "INSERT OR REPLACE INTO refold (document) VALUES (NEW.key)",
        f"""UPDATE document SET desired = NEW.desired, revision = revision + 1,
                status = iif(status = 'paused', status, 'pending'),
                reason = iif(status = 'paused', reason, ''),
                lane = iif(status = 'paused', lane, {int(Lane.OPERATOR)}),
                due_us = iif(status = 'paused', due_us, NEW.at_us),
                pending_since_us = iif(status = 'paused', NULL, coalesce(pending_since_us, NEW.at_us))
            WHERE key = NEW.key""",
    ),
)

PROCEDURES = (ENACT, REFOLD)


def refold(refolded: Refolded, act: Act, head: Head) -> tuple[tuple[object, ...], Head]:
    """Return the parameters of `REFOLD`, and the head after it."""
    record = codec.encode(act)
    end = chain.extend(head, record, chain.ACTS_TAG)
    packer = Packer()
    tables = places_of(packer, refolded.positions), letters_of(packer, refolded.dead_letters)
    about = act.target, act.who, act.at_us
    row = refolded.key, codec.encode(refolded.desired)
    return (*row, *tables, record, packer.packed(), *head, end.link, *about), end


_HEAD = "id || ' ' || hex(link)"
HEAD = lines("read the last act", _HEAD, "SELECT id, link FROM act WHERE id = (SELECT max(id) FROM act)")
LINK = lines("read an act", _HEAD, "SELECT id, link FROM act WHERE id = ?1")

_ACT = "'[' || id || ',' || record || ']'"
_ORDER = "AND id < ?1 ORDER BY id DESC LIMIT ?2"
_BY = {"": "true", "document": "document = ?3", "target": "target = ?3", "who": "who = ?3"}
LISTS = {
    by: lines("list acts", _ACT, f"SELECT id, record FROM act WHERE {chosen} {_ORDER}") for by, chosen in _BY.items()
}
# Of several conditions one is looked up and the others sifted: whoever asks so is in no hurry.
SIFT = lines(
    "list acts",
    _ACT,
    f"""SELECT id, record FROM act WHERE document = coalesce(?3, document) AND target = coalesce(?4, target)
        AND who = coalesce(?5, who) {_ORDER}""",
)
# What was last done so to one thing. Text, since a blob would be taken for SQLite's own form of JSON.
KIND = lines(
    "list acts of a kind",
    _ACT,
    f"""SELECT id, record FROM act WHERE target = ?3
        AND iif(json_valid(CAST(record AS TEXT)), json_extract(CAST(record AS TEXT), '$.kind'), '') = ?4 {_ORDER}""",
)

# In hexadecimal, because what is verified must be seen as it is, whatever was made of it.
ENTRIES = lines(
    "read the record of acts",
    "id || ' ' || document || ' ' || at_us || ' ' || previous || ' ' || link || ' ' || record",
    """SELECT id, hex(record) AS record, hex(link) AS link,
           iif(typeof(document) = 'text', hex(document), '') AS document,
           iif(typeof(at_us) = 'integer', at_us, '') AS at_us,
           coalesce((SELECT hex(link) FROM act AS before WHERE before.id = act.id - 1), '') AS previous
       FROM act WHERE id > ?1 ORDER BY id LIMIT ?2""",
)


def listing(wanted: Sequence[tuple[str, str | None]], kind: str | None) -> tuple[Query, tuple[object, ...]]:
    """Return the query for acts by document, target and who, each None where it does not matter."""
    if kind is not None:
        return KIND, (dict(wanted)["target"], kind)
    given = [(by, value) for by, value in wanted if value is not None]
    if len(given) > 1:
        named = dict(wanted)
        return SIFT, (named["document"], named["target"], named["who"])
    return LISTS[given[0][0] if given else ""], tuple(value for _, value in given)
