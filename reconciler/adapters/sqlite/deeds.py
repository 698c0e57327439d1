# ruff: noqa: S608 - the SQL is put together from our own names and constants; what comes from outside is a parameter
"""The operators' side of the store: acts are recorded with what they change, and read. Commands make acts too."""

from collections.abc import AsyncIterator, Callable, Sequence

import attrs

from reconciler.adapters.sqlite import queries, transactions
from reconciler.adapters.sqlite.damage import Lines
from reconciler.adapters.sqlite.database import Database
from reconciler.adapters.sqlite.queries import Query, lines
from reconciler.model.act import Act, Change
from reconciler.model.chain import Entry, Head
from reconciler.ports import Refolded

_LAST = 2**63 - 1  # SQLite's greatest integer
_ENTRIES = 200  # records a statement

_act_line = Lines(tuple[int, Act])

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


class Deeds:
    """`ports.Deeds` over one connection."""

    _database: Database

    def __init__(self, entry: Callable[[bytes], Entry]) -> None:
        self._entry = entry

    async def enact(self, change: Change, acts: Sequence[Act], *, at_us: int, reason: str = "") -> bool:
        """See `ports.Deeds`."""
        return await self._database.write_by_hand(
            "record what was done", lambda db: transactions.enact(db, change, acts, at_us, reason)
        )

    async def refolds(self) -> int:
        """See `ports.Projection`."""
        (number,) = await self._database.read(queries.REFOLDS)
        return int(number)

    async def refold(self, refolded: Refolded, act: Act) -> bool:
        """See `ports.Projection`."""
        return await self._database.write_by_hand(
            "fold a document again", lambda db: transactions.refold(db, refolded, act)
        )

    async def acts(
        self,
        *,
        document: str | None = None,
        who: str | None = None,
        target: str | None = None,
        kind: str | None = None,
        limit: int = 1000,
        before: int | None = None,
    ) -> list[Act]:
        """See `ports.Deeds`."""
        query, chosen = _listing((("document", document), ("target", target), ("who", who)), kind)
        found = await self._database.read(query, _LAST if before is None else before, limit, *chosen)
        return [attrs.evolve(act, id=number) for number, act in map(_act_line.decode, found)]

    async def acts_head(self) -> Head | None:
        """See `ports.Deeds`."""
        return queries.head(await self._database.read(queries.ACTS_HEAD))

    async def acts_chain(self) -> AsyncIterator[Entry]:
        """See `ports.Deeds`."""
        after = -_LAST  # none of ours is below 1
        while found := await self._database.read(ENTRIES, after, _ENTRIES):
            for entry in map(self._entry, found):
                yield entry
                after = entry.number


def _listing(wanted: Sequence[tuple[str, str | None]], kind: str | None) -> tuple[Query, tuple[object, ...]]:
    """Return the query for acts by document, target and who, each None where it does not matter."""
    if kind is not None:
        return KIND, (dict(wanted)["target"], kind)
    given = [(by, value) for by, value in wanted if value is not None]
    if len(given) > 1:
        named = dict(wanted)
        return SIFT, (named["document"], named["target"], named["who"])
    return LISTS[given[0][0] if given else ""], tuple(value for _, value in given)
