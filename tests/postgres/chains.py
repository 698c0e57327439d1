"""Several chains of one store, as replicas in several slots would write them."""

from reconciler.adapters.changes import appended
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.postgres import Address
from reconciler.adapters.postgres.change import DONE, Change
from reconciler.adapters.postgres.server import Server
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
