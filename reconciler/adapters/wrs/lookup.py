"""
Lookup: from document keys to the rows that the service has for them, many with one request.

Theory of operation. One request is under way at a time. The caller at the front of the queue also asks for everyone who
waits behind it (`$filter=Number eq 'a' or Number eq 'b'`), and meanwhile the next batch gathers. If the caller at the
front is cancelled, the next one asks for the rest.

A refused batch says nothing about any single document: one of them or the size may be to blame. Each is then asked for
alone, outside the queue. The next batches are half as large, and grow by one with each success. A single key that is
refused is asked for again without `Latest eq true`, which some servers do not accept; if that helps, it is left out
from then on.
"""

import asyncio
from collections.abc import Iterable, Sequence

import attrs

from reconciler.adapters.wrs.metadata import Schema
from reconciler.adapters.wrs.service import Row, Service, encoded, literal
from reconciler.model.answer import Failed, NotAvailable, NotSent, Throttled, Trouble, Unauthorised
from reconciler.ports import Clock

KEYS_MAX = 50  # of one batch
QUERY_CHARACTERS_MAX = 4000  # well below the 8 KiB that Apache and Tomcat give to a request line
_PAGES_MAX = 50  # of one batch: a server that shows all versions of everything may have many


@attrs.define(eq=False)
class _Waiter:
    """A caller who waits for the rows of a key; `refused` once a batch with it was refused."""

    key: str
    answer: Sequence[Row] | Trouble | None = None
    refused: bool = False


class Lookup:
    """Finds the rows of document keys."""

    def __init__(self, service: Service, clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._front = asyncio.Lock()
        self._waiting: list[_Waiter] = []
        self._keys_max = KEYS_MAX
        self.narrow = True  # until a server turns out to refuse `Latest eq true`

    async def rows(self, key: str, schema: Schema) -> Sequence[Row] | Trouble:
        """Return all rows with this key; many servers leave out older iterations."""
        waiter = _Waiter(key)
        self._waiting.append(waiter)
        try:
            async with self._front:
                if waiter.answer is None and not waiter.refused:
                    await self._clock.sleep(0)  # so that callers who start at the same moment join the batch
                    await self._ask(self._batch(waiter, schema), schema)
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
        if waiter.answer is not None:
            return waiter.answer
        return await self._alone(key, schema)

    def _batch(self, first: _Waiter, schema: Schema) -> list[_Waiter]:
        """Return the callers whose keys fit into one request with `first`."""
        chosen = [first]
        keys = {first.key: None}
        for waiter in self._waiting:
            if waiter is first:
                continue
            wider = {**keys, waiter.key: None}
            if len(wider) > self._keys_max or len(self._query(wider, schema)) > QUERY_CHARACTERS_MAX:
                break
            keys = wider
            chosen.append(waiter)
        return chosen

    async def _ask(self, batch: Sequence[_Waiter], schema: Schema) -> None:
        keys = dict.fromkeys(waiter.key for waiter in batch)
        if len(keys) == 1:
            answer = await self._alone(batch[0].key, schema)
            for waiter in batch:
                waiter.answer = answer
            return
        rows = await self._read(self._query(keys, schema))
        if isinstance(rows, list):
            self._keys_max = min(self._keys_max + 1, KEYS_MAX)
            by_key = self._by_key(rows)
            for waiter in batch:
                waiter.answer = by_key.get(waiter.key, ())
        elif _is_about_all(rows):
            for waiter in batch:
                waiter.answer = rows
        else:
            self._keys_max = max(len(keys) // 2, 2)
            for waiter in batch:
                waiter.refused = True

    async def _alone(self, key: str, schema: Schema) -> Sequence[Row] | Trouble:
        rows = await self._read(self._query((key,), schema))
        if isinstance(rows, NotAvailable) and self._narrows(schema):
            # Perhaps this server can't filter by `Latest`. Older iterations are recognised by their rows, too.
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
        """Return the query for the latest iterations that meet a condition, with the navigations to expand."""
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
    """Whether single requests would fail the same way: no credentials, too many requests, no answer."""
    match trouble:
        case Unauthorised() | Throttled() | NotSent():
            return True
        case Failed(status=status):
            return status is None
    return False
