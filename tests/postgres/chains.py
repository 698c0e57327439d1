"""Several chains of one store, as replicas in several slots would write them."""

from typing import Any

from reconciler.adapters.changes import appended
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.postgres import Address, PostgresStore, open_store
from reconciler.adapters.postgres.change import DONE, Change
from reconciler.adapters.postgres.server import Server
from reconciler.flows.checkpoint import Checkpoints
from reconciler.model.chain import Head, Recorded


async def append(url: str, slot: int, *records: Recorded) -> None:
    """Record something as the replica in this slot does."""
    server = Server(Address(url), SystemClock())
    await server.open()
    ((number, link),) = await server.fetch("read", "SELECT chain_number, chain_link FROM slot WHERE id = $1", slot)
    change = Change()
    change.say(by_slot=slot)
    change.records(map(appended, records))
    change.follow(Head(number, link), None)
    (answer,) = await server.change("append", *change.call())
    await server.close()
    assert answer == DONE


def checkpoints(store: PostgresStore) -> Checkpoints:
    """What makes checkpoints in the owner of a store."""
    slots = store.slots
    assert slots is not None
    known: dict[str, Any] = {
        "topic": "windchill.document.outcomes",
        "source": "//reconciler/x",
        "mine": lambda: True,
        "wake": lambda: None,
    }
    return Checkpoints(slots=slots, views=store, clock=SystemClock(), **known)


async def checkpoint(url: str) -> str:
    """Make a checkpoint; return its head as text."""
    store = await open_store(Address(url), SystemClock(), owner=True)
    head = await checkpoints(store).make()
    await store.close()
    assert head is not None
    return str(head)
