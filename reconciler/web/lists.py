"""
Lists: what is stored, page by page, each page bounded by its rows and by its bytes.

Values are as large as events may be, so a number of rows bounds nothing: a page ends, too, once `BYTES` of rows are in
it. It has one row at least and says where the next one begins, so that nothing is left out. For the same reason few
rows are read at once.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import attrs
import msgspec

from reconciler import views
from reconciler.model.action import OperatorAction
from reconciler.model.audit import AuditRecord
from reconciler.model.document import ConflictRow, Document, Status
from reconciler.model.event import DeadLetter
from reconciler.ports import Store
from reconciler.web import bodies

BYTES: Final = 4 * 1024 * 1024
TRAIL_BYTES: Final = 4 * BYTES  # of what a story is told from
SIFTED_BYTES: Final = 64 * 1024 * 1024  # of rows that are passed over, before whoever asks has to go on
SIFTED_ROWS: Final = 5_000
STEP: Final = 10  # rows read at once

_Row = TypeVar("_Row")
_Shown = TypeVar("_Shown")


@attrs.frozen
class Page(Generic[_Shown]):
    """Some rows of a list, and the cursor of those that follow; None: there are none."""

    items: list[_Shown]
    next: str | None


async def taken(
    read: Callable[[Any, int], Awaitable[Sequence[_Row]]],
    after: Any,
    limit: int,
    *,
    place: Callable[[_Row], tuple[object, ...]],
    shown: Callable[[_Row], _Shown],
    wanted: Callable[[_Row], bool] = lambda _: True,
    bytes_max: int = BYTES,
) -> Page[_Shown]:
    """
    Return rows after a place as they are shown: those that are wanted, and `limit` at most.

    `read` gives so many rows after a place, fewer only where the list ends. So many may be passed over that a page has
    no row and others follow all the same.
    """
    items: list[_Shown] = []
    size = sifted_bytes = sifted_rows = 0
    step = min(STEP, limit + 1)
    while True:
        rows = await read(after, step)
        for row in rows:
            if len(items) == limit or size >= bytes_max or sifted_bytes >= SIFTED_BYTES or sifted_rows >= SIFTED_ROWS:
                return Page(items, bodies.after(*after))
            after, item = place(row), shown(row)
            row_bytes = len(msgspec.json.encode(item))
            if wanted(row):
                items.append(item)
                size += row_bytes
            else:
                sifted_bytes, sifted_rows = sifted_bytes + row_bytes, sifted_rows + 1
        if len(rows) < step:
            return Page(items, None)


async def documents(
    store: Store, status: Status | None, after: tuple[str], limit: int, prefix: str = ""
) -> Page[views.documents.DocumentRow]:
    """Return documents in the order of their keys; with `prefix`, they end where keys don't begin so any more."""

    async def read(after: tuple[str], limit: int) -> list[Document]:
        found = await store.list_documents(status, *after, limit)
        return [one for one in found if one.key.startswith(prefix)]

    return await taken(read, after, limit, place=lambda one: (one.key,), shown=views.documents.row)


async def waiting(store: Store, status: Status, limit: int) -> Page[views.documents.DocumentRow]:
    """Return pending documents that stand there, longest pending first."""

    async def read(after: tuple[int, str], limit: int) -> list[Document]:
        return await store.list_waiting(status, after, limit)

    def place(one: Document) -> tuple[int, str]:
        return one.pending_since_us or 0, one.key

    return await taken(read, (-1, ""), limit, place=place, shown=views.documents.row)


async def conflicts(
    store: Store, after: tuple[int, str], limit: int, *, closed: bool = False, field: str = ""
) -> Page[views.waiting.Conflict]:
    """Return conflicts, oldest first."""

    async def read(after: tuple[int, str], limit: int) -> list[ConflictRow]:
        return await store.conflicts(closed=closed, limit=limit, after=after)

    def place(row: ConflictRow) -> tuple[int, str]:
        return row.conflict.opened_at_us, row.conflict.id

    def wanted(row: ConflictRow) -> bool:
        return field in ("", row.conflict.field)

    return await taken(read, after, limit, place=place, shown=views.waiting.conflict, wanted=wanted)


async def letters(store: Store, status: str | None, after: tuple[str], limit: int) -> Page[views.waiting.DeadLetterRow]:
    """Return dead letters, oldest first."""

    async def read(after: tuple[str], limit: int) -> list[DeadLetter]:
        return await store.dead_letters(status, limit, *after)

    return await taken(read, after, limit, place=lambda one: (one.id,), shown=views.waiting.dead_letter_row)


async def attempts(
    store: Store,
    before: tuple[int, int] | None,
    limit: int,
    *,
    document: str | None = None,
    since_us: int = 0,
    until_us: int | None = None,
) -> Page[views.history.AuditRow]:
    """Return attempts, newest first."""

    async def read(before: tuple[int, int] | None, limit: int) -> list[AuditRecord]:
        return await store.audit(document, since_us, until_us, limit, before)

    return await taken(read, before, limit, place=lambda one: (one.at_us, one.id), shown=views.history.attempt)


async def trail(store: Store, document: str, limit: int) -> Page[AuditRecord]:
    """Return the newest attempts on a document with all that they were decided on, newest first."""

    async def read(before: tuple[int, int] | None, limit: int) -> list[AuditRecord]:
        return await store.audit(document, limit=limit, before=before)

    return await taken(
        read, None, limit, place=lambda one: (one.at_us, one.id), shown=lambda one: one, bytes_max=TRAIL_BYTES
    )


async def actions(
    store: Store,
    before: tuple[int] | None,
    limit: int,
    *,
    document: str | None = None,
    who: str | None = None,
) -> Page[OperatorAction]:
    """Return what people have done, newest first."""

    async def read(before: tuple[int] | None, limit: int) -> list[OperatorAction]:
        return await store.actions(document=document, who=who, limit=limit, before=before[0] if before else None)

    return await taken(read, before, limit, place=lambda one: (one.id,), shown=lambda one: one)
