"""The operators' side of the store: acts are recorded with what they change, and read."""

from collections.abc import AsyncIterator, Callable, Sequence

import attrs

from reconciler.adapters.sqlite import acting, queries
from reconciler.adapters.sqlite.damage import Lines
from reconciler.adapters.sqlite.database import Database
from reconciler.adapters.sqlite.queries import Query
from reconciler.model.act import Act, Change
from reconciler.model.chain import BEGIN, Entry, Head
from reconciler.ports import Refolded

_LAST = 2**63 - 1  # SQLite's greatest integer
_ENTRIES = 200  # records a statement

_act_line = Lines(tuple[int, Act])


class Deeds:
    """`ports.Deeds` over one connection."""

    _database: Database

    def __init__(self, entry: Callable[[bytes], Entry]) -> None:
        self._entry = entry

    async def enact(self, change: Change, acts: Sequence[Act], *, at_us: int, reason: str = "") -> bool:
        """See `ports.Deeds`."""
        parameters, end = acting.enact(change, acts, await self.acts_head() or BEGIN, at_us=at_us, reason=reason)
        await self._database.write_by_hand(acting.ENACT.call, *parameters)
        return await self._head_of(acting.LINK, end.number) == end

    async def refolds(self) -> int:
        """See `ports.Projection`."""
        (line,) = await self._database.read(queries.REFOLDS)
        return int(line)

    async def refold(self, refolded: Refolded, act: Act) -> bool:
        """See `ports.Projection`."""
        parameters, end = acting.refold(refolded, act, await self.acts_head() or BEGIN)
        await self._database.write_by_hand(acting.REFOLD.call, *parameters)
        return await self._head_of(acting.LINK, end.number) == end

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
        query, chosen = acting.listing((("document", document), ("target", target), ("who", who)), kind)
        found = await self._database.read(query, _LAST if before is None else before, limit, *chosen)
        return [attrs.evolve(act, id=number) for number, act in map(_act_line.decode, found)]

    async def acts_head(self) -> Head | None:
        """See `ports.Deeds`."""
        return await self._head_of(acting.HEAD)

    async def acts_chain(self) -> AsyncIterator[Entry]:
        """See `ports.Deeds`."""
        after = -_LAST  # none of ours is below 1
        while found := await self._database.read(acting.ENTRIES, after, _ENTRIES):
            for entry in map(self._entry, found):
                yield entry
                after = entry.number

    async def _head_of(self, query: Query, *parameters: object) -> Head | None:
        found = await self._database.read(query, *parameters)
        if not found:
            return None
        number, link = found[0].decode().split(" ")
        return Head(int(number), bytes.fromhex(link))
