"""
Numbers: from document keys to the rows that the service has for them, many with one request.

Theory of operation. Whoever comes to the front asks for all who wait behind it meanwhile
(`$filter=Number eq 'a' or Number eq 'b'`); a caller alone asks alone. One such request is under way at a time: while it
is, the next batch gathers. A caller that is cancelled at the front leaves the others unanswered, and the next one in
line asks for them.

A batch that is refused is no news about any of its documents: one may be to blame, or the size. Each is then asked for
alone, outside the line, and the next batches are half as large, growing again by one with each that succeeds. Alone, it
is asked for once more without `Latest eq true`, which not every server may take; from the first success on for good.
"""

import asyncio
from collections.abc import Iterable, Sequence

import attrs

from reconciler.adapters.wrs.metadata import Schema
from reconciler.adapters.wrs.service import Row, Service, encoded, literal
from reconciler.model.answer import Failed, NotAvailable, Throttled, Trouble, Unauthorised
from reconciler.ports import Clock

KEYS_MAX = 50  # of one batch
QUERY_CHARACTERS_MAX = 4000  # well below the 8 KiB that Apache and Tomcat give to a request line
_PAGES_MAX = 50  # of one batch: a server that shows all versions of everything may have many


@attrs.define(eq=False)
class _Wish:
    """Somebody who waits for the rows of a key; `refused` once they were refused together with others'."""

    key: str
    answer: Sequence[Row] | Trouble | None = None
    refused: bool = False


class Numbers:
    """Finds the rows of document keys."""

    def __init__(self, service: Service, clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._front = asyncio.Lock()
        self._waiting: list[_Wish] = []
        self._keys_max = KEYS_MAX
        self.narrow = True  # until a server turns out to refuse `Latest eq true`

    async def rows(self, key: str, schema: Schema) -> Sequence[Row] | Trouble:
        """Return all rows that say this key, as far as the server doesn't leave out older iterations."""
        wish = _Wish(key)
        self._waiting.append(wish)
        try:
            async with self._front:
                if wish.answer is None and not wish.refused:
                    await self._clock.sleep(0)  # whoever starts at the same moment shall come along
                    await self._ask(self._batch(wish, schema), schema)
        finally:
            if wish in self._waiting:
                self._waiting.remove(wish)
        if wish.answer is not None:
            return wish.answer
        return await self._alone(key, schema)

    def _batch(self, first: _Wish, schema: Schema) -> list[_Wish]:
        """Return who is asked for together with `first`."""
        chosen = [first]
        keys = {first.key: None}
        for wish in self._waiting:
            if wish is first:
                continue
            wider = {**keys, wish.key: None}
            if len(wider) > self._keys_max or len(self._query(wider, schema)) > QUERY_CHARACTERS_MAX:
                break
            keys = wider
            chosen.append(wish)
        return chosen

    async def _ask(self, batch: Sequence[_Wish], schema: Schema) -> None:
        keys = dict.fromkeys(wish.key for wish in batch)
        if len(keys) == 1:
            answer = await self._alone(batch[0].key, schema)
            for wish in batch:
                wish.answer = answer
            return
        rows = await self._read(self._query(keys, schema))
        if isinstance(rows, list):
            self._keys_max = min(self._keys_max + 1, KEYS_MAX)
            by_key = self._by_key(rows)
            for wish in batch:
                wish.answer = by_key.get(wish.key, ())
        elif _is_about_all(rows):
            for wish in batch:
                wish.answer = rows
        else:
            self._keys_max = max(len(keys) // 2, 2)
            for wish in batch:
                wish.refused = True

    async def _alone(self, key: str, schema: Schema) -> Sequence[Row] | Trouble:
        rows = await self._read(self._query((key,), schema))
        if isinstance(rows, NotAvailable) and self._narrows(schema):
            # Perhaps it is `Latest` that can't be asked for here. Older iterations are told by what they show, too.
            wider = await self._read(self._query((key,), schema, narrow=False))
            if isinstance(wider, list):
                self.narrow, rows = False, wider
        return self._by_key(rows).get(key, ()) if isinstance(rows, list) else rows

    async def _read(self, query: str) -> list[Row] | Trouble:
        rows: list[Row] = []
        async for page in self._service.pages(query, _PAGES_MAX):
            if not isinstance(page, list):
                return page
            rows += page
        return rows

    def query(self, condition: str, schema: Schema, *further: str, narrow: bool = True) -> str:
        """Return the query for the latest iterations that meet a condition, with what is to be read along."""
        options = self._service.options
        if narrow and self._narrows(schema):
            condition = f"({condition}) and Latest eq true"
        parts = [f"$filter={encoded(condition)}", *further]
        if options.service:
            parts.append("ptc.search.latestversion=true")
        if options.expand:
            parts.append(f"$expand={','.join(options.expand)}")
        return "&".join(parts)

    def _query(self, keys: Iterable[str], schema: Schema, *, narrow: bool = True) -> str:
        name = self._service.options.key_property
        return self.query(" or ".join(f"{name} eq {literal(key)}" for key in keys), schema, narrow=narrow)

    def _narrows(self, schema: Schema) -> bool:
        known = schema.document.properties.get("Latest")
        return self.narrow and known is not None and known.filterable

    def _by_key(self, rows: Iterable[Row]) -> dict[object, list[Row]]:
        found: dict[object, list[Row]] = {}
        for row in rows:
            key = row.get(self._service.options.key_property)
            if isinstance(key, str):
                found.setdefault(key, []).append(row)
        return found


def _is_about_all(trouble: Trouble) -> bool:
    """Whether asking for each alone would only meet the same trouble: no credentials, too many requests, no answer."""
    match trouble:
        case Unauthorised() | Throttled():
            return True
        case Failed(status=status):
            return status is None
    return False
