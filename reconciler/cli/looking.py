"""Looking: what several commands read from the store, beside whoever owns it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from reconciler.config import Config
from reconciler.errors import ReconcilerError, StoreError
from reconciler.model.audit import AuditRecord
from reconciler.model.chain import Entry, Head
from reconciler.model.document import Document, Status
from reconciler.ports import Store

EVERY = 1_000_000  # rows: as many as there are
PAGE = 500


@asynccontextmanager
async def store_of(config: Config) -> AsyncIterator[Store]:
    """Open the configured store to look into it, which is possible while a reconciler runs."""
    from reconciler import parts

    try:
        store = await parts.open_store(config, owner=False)
    except StoreError as error:
        if config.origins:
            raise
        raise StoreError(f"{error} (that is the default; is -c FILE missing?)") from error
    try:
        yield store
    finally:
        await store.close()


async def document_of(store: Store, key: str) -> Document:
    """Return a document; raises ReconcilerError when no event has named it."""
    document = (await store.documents([key])).get(key)
    if document is None:
        raise ReconcilerError(f"no event has named document {key!r} so far; see `reconciler docs list`")
    return document


async def keys_of(store: Store, status: Status | None) -> AsyncIterator[str]:
    """Yield the keys of all documents of a status, in order; `None`: of any."""
    after = ""
    while page := await store.list_documents(status, after, PAGE):
        for document in page:
            yield document.key
        after = page[-1].key


async def trail(
    store: Store, document: str | None = None, since_us: int = 0, until_us: int | None = None
) -> AsyncIterator[AuditRecord]:
    """Yield the audit records of a document (`None`: of all) and a time, newest first, page by page."""
    limit = 2 * PAGE
    last: tuple[int, int] | None = None  # time and number of the last record yielded
    while True:
        page: Sequence[AuditRecord] = await store.audit(document, since_us, until_us, limit)
        fresh = [record for record in page if last is None or (record.at_us, record.id) < last]
        for record in fresh:
            yield record
        if len(page) < limit:
            return
        if fresh:
            # The next page begins within the moment at which this one ends: several records can share it.
            last = (fresh[-1].at_us, fresh[-1].id)
            until_us = fresh[-1].at_us + 1
        else:
            limit *= 2  # more records share one moment than fit on a page


async def chain(
    store: Store, head: Head | None, document: str | None = None, since_us: int = 0, until_us: int | None = None
) -> AsyncIterator[Entry]:
    """Yield audit records as they are stored, oldest first, and none that came after `head`."""
    async for entry in store.audit_chain(document, since_us, until_us):
        if head is None or entry.number > head.number:
            return
        yield entry
