"""
Lists, page by page; each page is bounded by its number of rows and by its bytes.

Values can be as large as events, so a page also ends once `BYTES` of rows are in it. It has at least one row and says
where the next page begins. For the same reason only a few rows are read at once.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar, get_args

import msgspec

from reconciler import views
from reconciler.model.audit import AuditRecord
from reconciler.model.document import ConflictRow, Document, Status
from reconciler.model.event import DeadLetter
from reconciler.ports import Store
from reconciler.web import inputs

BYTES: Final = 4 * 1024 * 1024
TRAIL_BYTES: Final = 4 * BYTES  # of the audit records that a story is told from
SIFTED_BYTES: Final = 64 * 1024 * 1024  # of rows that a filter skips before the page ends all the same
SIFTED_ROWS: Final = 5_000
STEP: Final = 10  # rows read at once

_Row = TypeVar("_Row")
_Shown = TypeVar("_Shown")


async def read_page(
    read: Callable[[Any, int], Awaitable[Sequence[_Row]]],
    start: Any,
    limit: int,
    *,
    place: Callable[[_Row], tuple[object, ...]],
    shown: Callable[[_Row], _Shown],
    wanted: Callable[[_Row], bool] = lambda _: True,
    bytes_max: int = BYTES,
) -> tuple[list[_Shown], str | None]:
    """
    Return up to `limit` wanted rows after a place, and the cursor of the next page; None: this is the last page.

    `read` returns rows after a place, fewer than asked for only at the end of the list. If a filter skips many rows, a
    page can be empty although others follow.
    """
    items: list[_Shown] = []
    size = sifted_bytes = sifted_rows = 0
    step = min(STEP, limit + 1)
    after = start
    while True:
        rows = await read(after, step)
        for row in rows:
            if len(items) == limit or size >= bytes_max or sifted_bytes >= SIFTED_BYTES or sifted_rows >= SIFTED_ROWS:
                return items, inputs.after(*after)
            after, item = place(row), shown(row)
            row_bytes = len(msgspec.json.encode(item))
            if wanted(row):
                items.append(item)
                size += row_bytes
            else:
                sifted_bytes, sifted_rows = sifted_bytes + row_bytes, sifted_rows + 1
        if len(rows) < step:
            return items, None


async def documents(
    store: Store, status: Status | None, cursor: str, limit: int, prefix: str = ""
) -> views.documents.DocumentPage:
    """Return documents in the order of their keys, only those whose key begins with `prefix`."""

    async def read(after: tuple[str], limit: int) -> list[Document]:
        found = await store.list_documents(status, *after, limit)
        return [one for one in found if one.key.startswith(prefix)]

    start = inputs.place(cursor, tuple[str]) if cursor else (_just_before(prefix),)
    items, following = await read_page(read, start, limit, place=lambda one: (one.key,), shown=views.documents.row)
    return views.documents.DocumentPage(items=items, next=following)


def _just_before(prefix: str) -> str:
    """Return a text that sorts before all that begin with `prefix`, and after (nearly) everything else that does."""
    if not prefix:
        return ""
    last = ord(prefix[-1])
    if not last:
        return prefix[:-1]
    return prefix[:-1] + chr(0xD7FF if last == 0xE000 else last - 1) + "\U0010ffff"


async def longest_pending(store: Store, status: Status, limit: int) -> list[views.documents.DocumentRow]:
    """Return pending documents with this status, longest pending first."""

    def place(one: Document) -> tuple[int, str]:
        return one.pending_since_us or 0, one.key

    async def read(after: tuple[int, str], limit: int) -> list[Document]:
        return await store.list_waiting(status, after, limit)

    return (await read_page(read, (-1, ""), limit, place=place, shown=views.documents.row))[0]


async def conflicts(
    store: Store,
    cursor: str,
    limit: int,
    *,
    closed: bool = False,
    wanted: Callable[[ConflictRow], bool] = lambda _: True,
    bytes_max: int = BYTES,
) -> views.open_items.ConflictPage:
    """Return conflicts, oldest first."""

    async def read(after: tuple[int, str], limit: int) -> list[ConflictRow]:
        return await store.conflicts(closed=closed, limit=limit, after=after)

    items, following = await read_page(
        read,
        inputs.place(cursor, tuple[inputs.Number, str]) if cursor else (-1, ""),
        limit,
        place=lambda row: (row.conflict.opened_at_us, row.conflict.id),
        shown=views.open_items.conflict,
        wanted=wanted,
        bytes_max=bytes_max,
    )
    return views.open_items.ConflictPage(items=items, next=following)


Order = Literal["oldest", "newest", "document", "field"]
ORDERS: Final = get_args(Order)
SORTED_MAX: Final = 2_000  # conflicts that are sorted, the oldest
_SORTED_BYTES: Final = 4 * BYTES
_KEYS: Final[Mapping[str, Callable[[views.open_items.Conflict], tuple[str, str]]]] = {
    "document": lambda one: (one.document, one.field),
    "field": lambda one: (one.field, one.document),
}


async def sorted_conflicts(
    store: Store, cursor: str, limit: int, order: Order, *, closed: bool, wanted: Callable[[ConflictRow], bool]
) -> tuple[views.open_items.ConflictPage, bool]:
    """
    Return conflicts in another order than the store's, and whether all were sorted: the oldest 2,000 are.

    Here a cursor counts, so a conflict that opens or closes meanwhile moves the others on.
    """
    every = await conflicts(store, "", SORTED_MAX, closed=closed, wanted=wanted, bytes_max=_SORTED_BYTES)
    items = sorted(every.items, key=_KEYS[order]) if order in _KEYS else every.items[::-1]
    skipped = inputs.place(cursor, tuple[inputs.Number])[0] if cursor else 0
    following = inputs.after(skipped + limit) if skipped + limit < len(items) else None
    page = views.open_items.ConflictPage(items=items[skipped : skipped + limit], next=following)
    return page, every.next is None


async def dead_letters(store: Store, status: str | None, cursor: str, limit: int) -> views.open_items.DeadLetterPage:
    """Return dead letters, oldest first."""

    async def read(after: tuple[str], limit: int) -> list[DeadLetter]:
        return await store.dead_letters(status, limit, *after)

    start = inputs.place(cursor, tuple[str]) if cursor else ("",)
    shown = views.open_items.dead_letter_row
    items, following = await read_page(read, start, limit, place=lambda one: (one.id,), shown=shown)
    return views.open_items.DeadLetterPage(items=items, next=following)


async def attempts(
    store: Store,
    cursor: str,
    limit: int,
    document: str | None = None,
    *,
    since_us: int = 0,
    until_us: int | None = None,
) -> views.history.AuditPage:
    """Return attempts, newest first."""

    async def read(before: tuple[int, int] | None, limit: int) -> list[AuditRecord]:
        return await store.audit(document, since_us, until_us, limit, before)

    start = inputs.place(cursor, tuple[inputs.Number, inputs.Number]) if cursor else None
    items, following = await read_page(read, start, limit, place=_place, shown=views.history.attempt)
    return views.history.AuditPage(items=items, next=following)


async def trail(store: Store, document: str, limit: int) -> tuple[list[AuditRecord], bool]:
    """Return the newest audit records of a document, newest first, and whether there are older ones."""

    async def read(before: tuple[int, int] | None, limit: int) -> list[AuditRecord]:
        return await store.audit(document, limit=limit, before=before)

    items, following = await read_page(
        read, None, limit, place=_place, shown=lambda record: record, bytes_max=TRAIL_BYTES
    )
    return items, following is not None


def _place(record: AuditRecord) -> tuple[int, int]:
    return record.at_us, record.id


async def actions(
    store: Store, cursor: str, limit: int, *, document: str | None = None, who: str | None = None
) -> views.actions.OperatorActionPage:
    """Return operator actions, newest first."""

    async def read(before: tuple[int] | None, limit: int) -> Any:
        return await store.actions(document=document, who=who, limit=limit, before=before[0] if before else None)

    start = inputs.place(cursor, tuple[inputs.Number]) if cursor else None
    items, following = await read_page(read, start, limit, place=lambda one: (one.id,), shown=views.actions.action)
    return views.actions.OperatorActionPage(items=items, next=following)
