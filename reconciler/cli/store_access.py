"""Reading the state store, also while a daemon owns it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from reconciler.cli import runtime
from reconciler.config import Config
from reconciler.errors import ReconcilerError, StoreError
from reconciler.model.chain import Cut, Entry, Head
from reconciler.model.document import Document, Status
from reconciler.ports import Store, StoreAdmin

T = TypeVar("T")

PAGE = 500  # rows read at once


def admin(config: Config) -> StoreAdmin:
    """Return the configured store as a whole."""
    from reconciler import factory

    return factory.store_admin(config)


@asynccontextmanager
async def opened(config: Config) -> AsyncIterator[Store]:
    """Open the configured store for reading, which is possible while a reconciler runs."""
    from reconciler import factory

    try:
        store = await factory.open_store(config, owner=False)
    except StoreError as error:
        if config.origins:
            raise
        raise StoreError(f"{error} (that is the default; is -c FILE missing?)") from error
    try:
        yield store
    finally:
        await store.close()


def ask(config: Config, question: Callable[[Store], Awaitable[T]]) -> T:
    """Ask the configured store one question and return its answer."""

    async def answer() -> T:
        async with opened(config) as store:
            return await question(store)

    return runtime.run(answer())


async def find_document(store: Store, key: str) -> Document:
    """Return a document; raises ReconcilerError when no event has named it."""
    document = (await store.documents([key])).get(key)
    if document is None:
        raise ReconcilerError(f"no event has named document {key!r} so far; see `reconciler docs list`")
    return document


async def keys(store: Store, status: Status | None) -> AsyncIterator[str]:
    """Yield the keys of all documents with a status, in order; `None`: with any."""
    after = ""
    while page := await store.list_documents(status, after, PAGE):
        for document in page:
            yield document.key
        after = page[-1].key


async def chain(
    store: Store,
    heads: Sequence[Head],
    document: str | None = None,
    since_us: int = 0,
    until_us: int | None = None,
    *,
    cuts: Sequence[Cut] = (),
) -> AsyncIterator[Entry]:
    """
    Yield the trail's records as stored, those of a chain oldest first, up to the `heads` of all chains.

    What is in the archives of `cuts`, and was not deleted yet, is left out.
    """
    last = {head.chain: head.number for head in heads}
    archived = {cut.chain: cut.end.number for cut in cuts}
    newer: dict[int, Entry] = {}
    async for entry in store.audit_chain(document, since_us, until_us):
        if entry.chain in archived and entry.number <= archived[entry.chain]:
            continue
        if entry.number <= last.get(entry.chain, entry.number):
            yield entry
        elif len(last) == 1:
            return
        else:
            newer[entry.chain] = entry
    if newer:
        last = {head.chain: head.number for head in await store.audit_heads()}
        for entry in newer.values():
            if entry.number > last[entry.chain]:  # the program did not append it
                yield entry
