"""
Slots: who owns the store. All that an owner changes names its slot and epoch, and is refused under another epoch.

Rules. No clock of any machine decides: an owner counts up `beat`, and whoever wants its slot has to see that number
unchanged for `evict_s` of its own monotonic time, and then counts up the epoch, if both are still what it saw. Its
count starts again when it has not looked for more than two beats, because the owner may not have been able to beat then
either. No lock is held in a connection.

For now there is one owner, in slot 0; the store has room for 16.
"""

import asyncio
from typing import NamedTuple

import attrs
import structlog

from reconciler.adapters.postgres.server import Server
from reconciler.errors import StoreError
from reconciler.model.chain import Head
from reconciler.ports import Clock

_log = structlog.get_logger(__name__)

FIRST = 0
BEATS = 5  # in the time after which a silent owner loses its slot

_READ = "SELECT epoch, held, beat, name, turn, chain_number, chain_link FROM slot WHERE id = $1"
_TAKE = (
    "UPDATE slot SET epoch = epoch + 1, beat = beat + 1, held = true, name = $4"
    " WHERE id = $1 AND epoch = $2 AND beat = $3 RETURNING epoch"
)
_BEAT = "UPDATE slot SET beat = beat + 1 WHERE id = $1 AND epoch = $2 RETURNING beat"
_LEAVE = "UPDATE slot SET held = false WHERE id = $1 AND epoch = $2"


class Seen(NamedTuple):
    """A slot as it is stored."""

    epoch: int
    held: bool
    beat: int
    name: str
    turn: int
    head: Head


@attrs.frozen
class Terms:
    """How owners follow each other. `name` is for people: it says who holds the slot."""

    name: str = ""
    evict_s: float = 15.0

    @property
    def beat_s(self) -> float:
        """How long from one sign of life to the next."""
        return self.evict_s / BEATS


class Slot:
    """The slot that this process holds; beats until it is left."""

    def __init__(self, server: Server, clock: Clock, terms: Terms, epoch: int) -> None:
        self.epoch = epoch
        self._server = server
        self._clock = clock
        self._terms = terms
        self._leaving = asyncio.Event()
        # `shield` makes the coroutine a task of its own; `leave` waits for it.
        self._beating: asyncio.Future[None] = asyncio.shield(self._beat())

    @classmethod
    async def enter(cls, server: Server, clock: Clock, terms: Terms) -> "Slot":
        """Take the slot, or raise StoreError if its holder shows signs of life."""
        first = seen = await read(server)
        since_s = looked_s = clock.monotonic_s()
        while True:
            if not seen.held or clock.monotonic_s() - since_s >= terms.evict_s:
                taken = await server.fetch("take the store", _TAKE, FIRST, seen.epoch, seen.beat, terms.name)
                if taken:
                    break
            elif seen is first:
                _log.info("waiting to see whether the store's owner lives", owner=seen.name, evict_s=terms.evict_s)
            await clock.sleep(terms.beat_s)
            seen = await read(server)
            now_s = clock.monotonic_s()
            if now_s - looked_s > 2 * terms.beat_s:
                first, since_s = seen, now_s
            looked_s = now_s
            if seen.held and (seen.epoch, seen.beat) != (first.epoch, first.beat):
                who = f"another process ({seen.name})" if seen.name else "another process"
                raise StoreError(f"{server.address} is in use by {who}; stop it first")
        if seen.held:
            _log.warning("took the store from an owner that showed no sign of life", owner=seen.name)
        return cls(server, clock, terms, taken[0][0])

    async def leave(self) -> None:
        """Give the slot to whoever comes next, at once."""
        self._leaving.set()
        await self._beating
        await self._server.fetch("leave the store", _LEAVE, FIRST, self.epoch)

    async def _beat(self) -> None:
        while not self._leaving.is_set():
            await self._clock.wait(self._leaving, self._terms.beat_s)
            try:
                if not await self._server.fetch("beat", _BEAT, FIRST, self.epoch):
                    return  # the next change says that it is fenced
            except StoreError as error:
                _log.error("no more signs of life", error=str(error))
                return


async def read(server: Server) -> Seen:
    """Return the slot as it is stored."""
    found = (await server.fetch("read the store's owner", _READ, FIRST))[0]
    epoch, held, beat, name, turn, number, link = found
    return Seen(epoch, held, beat, name, turn, Head(number, link))
