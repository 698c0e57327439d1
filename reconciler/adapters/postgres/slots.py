"""
Slots: who owns the store. All that an owner changes names its slot and epoch, and is refused under another epoch.

Rules. No clock of any machine decides: an owner counts up `beat`, and whoever wants its slot has to see that number
unchanged for `evict_s` of its own monotonic time, and then counts up the epoch, if both are still what it saw. Its
count starts again when it has not looked for more than two beats, because the owner may not have been able to beat then
either. No lock is held in a connection.

For now there is one owner, in slot 0; the store has room for 16.
"""

import asyncio
import uuid
from typing import NamedTuple

import attrs
import structlog

from reconciler.adapters.changes import packed
from reconciler.adapters.postgres.server import Server
from reconciler.core.scheduling.replicas import Member, Membership
from reconciler.errors import EvictedError, StoreError
from reconciler.model.chain import Head
from reconciler.model.event import Outgoing
from reconciler.ports import Clock

_log = structlog.get_logger(__name__)

FIRST = 0
BEATS = 5  # in the time after which a silent owner loses its slot

_READ = "SELECT epoch, held, beat, name, turn, chain_number, chain_link FROM slot WHERE id = $1"
_TAKE = """
    WITH taken AS (
        UPDATE slot
        SET epoch = epoch + 1, beat = beat + 1, seen = now(), obeys = 0, held = true, leaving = false, name = $4
        WHERE id = $1 AND epoch = $2 AND beat = $3 RETURNING epoch
    ), counted AS (UPDATE membership SET number = number + 1 WHERE EXISTS (SELECT FROM taken))
    SELECT epoch FROM taken
"""
_LIVE = "UPDATE slot SET beat = beat + 1, seen = now() WHERE id = $1 AND epoch = $2 RETURNING beat"
_BEAT = """
    WITH beaten AS (
        UPDATE slot SET beat = beat + 1, seen = now(), obeys = $3 WHERE id = $1 AND epoch = $2 AND held
        RETURNING id, epoch, beat, obeys, leaving
    ), alarmed AS (UPDATE control SET alarms = alarms + 1 WHERE $4 AND EXISTS (SELECT FROM beaten))
    SELECT (SELECT number FROM membership), (SELECT policy_number FROM control), (SELECT alarms FROM control), member.*
    FROM (
        SELECT id, epoch, beat, obeys, leaving FROM slot WHERE held AND id <> $1 UNION ALL SELECT * FROM beaten
    ) AS member WHERE EXISTS (SELECT FROM beaten) ORDER BY id
"""
# A duty whose holder has gone, or has another epoch by now, is anyone's.
_TAKE_DUTIES = """
    WITH mine AS (SELECT id, epoch FROM slot WHERE id = $1 AND epoch = $2 AND held FOR KEY SHARE),
    given AS (DELETE FROM duty WHERE slot = $1 AND name <> ALL ($3::text[]) AND EXISTS (SELECT FROM mine)),
    taken AS (
        INSERT INTO duty (name, slot, epoch)
        SELECT wanted.name, mine.id, mine.epoch FROM mine, unnest($3::text[]) AS wanted(name) ORDER BY wanted.name
        ON CONFLICT (name) DO UPDATE SET slot = excluded.slot, epoch = excluded.epoch WHERE NOT EXISTS (
            SELECT FROM slot WHERE slot.id = duty.slot AND slot.epoch = duty.epoch AND held AND slot.id <> excluded.slot
        ) RETURNING name
    )
    SELECT (SELECT array_agg(name) FROM taken) FROM mine
"""
_EVICT = """
    UPDATE slot SET epoch = epoch + 1, leaving = true
    WHERE id = $1 AND epoch = $2 AND beat = $3 AND held AND NOT leaving RETURNING id
"""
_REMOVE = """
    WITH gone AS (
        UPDATE slot SET held = false, leaving = false
        WHERE id = $1 AND epoch = $2 AND beat = $3 AND held AND leaving RETURNING id
    ), counted AS (UPDATE membership SET number = number + 1 WHERE EXISTS (SELECT FROM gone))
    SELECT id FROM gone
"""
_ADD_CHECKPOINT = """
    WITH mine AS (SELECT FROM slot WHERE id = $1 AND epoch = $2 FOR KEY SHARE),
    added AS (
        INSERT INTO checkpoint (number, link, record) SELECT $3, $4, $5 FROM mine
        ON CONFLICT DO NOTHING RETURNING number
    ), announced AS (INSERT INTO outbox (bucket, message) SELECT 0, $6 FROM added)
    SELECT (SELECT count(*) FROM added) FROM mine
"""
_LEAVE = """
    WITH gone AS (UPDATE slot SET held = false WHERE id = $1 AND epoch = $2 AND held RETURNING id),
    given AS (DELETE FROM duty WHERE slot = $1 AND epoch = $2),
    counted AS (UPDATE membership SET number = number + 1 WHERE EXISTS (SELECT FROM gone))
    SELECT id FROM gone
"""


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
    """
    The slot that this process holds: `ports.Slots`; the port says what each method does.

    It shows signs of life by itself until it is left. The beats of a lease are apart from these, since only their
    caller knows when one began.
    """

    def __init__(self, server: Server, clock: Clock, terms: Terms, epoch: int) -> None:
        self.epoch = epoch
        self.slot = FIRST
        self._server = server
        self._clock = clock
        self._terms = terms
        self._leaving = asyncio.Event()
        # `shield` makes the coroutine a task of its own; `leave` waits for it.
        self._living: asyncio.Future[None] = asyncio.shield(self._live())

    @classmethod
    async def enter(cls, server: Server, clock: Clock, terms: Terms) -> "Slot":
        """Take the slot, or raise StoreError if its holder shows signs of life."""
        mark = f"{terms.name} {uuid.uuid4().hex[:8]}"  # by which we know our own name, if the answer is lost
        first = seen = await read(server)
        since_s = looked_s = clock.monotonic_s()
        while True:
            if not seen.held or clock.monotonic_s() - since_s >= terms.evict_s:
                taken = await server.fetch("take the store", _TAKE, FIRST, seen.epoch, seen.beat, mark)
                if taken:
                    epoch = taken[0][0]
                    break
            elif seen is first:
                _log.info("waiting to see whether the store's owner lives", owner=seen.name, evict_s=terms.evict_s)
            await clock.sleep(terms.beat_s)
            before, seen = seen, await read(server)
            if seen.name == mark:
                epoch, seen = seen.epoch, before
                break
            now_s = clock.monotonic_s()
            if now_s - looked_s > 2 * terms.beat_s:
                first, since_s = seen, now_s
            looked_s = now_s
            if seen.held and (seen.epoch, seen.beat) != (first.epoch, first.beat):
                name = seen.name.rpartition(" ")[0]
                who = f"another process ({name})" if name else "another process"
                raise StoreError(f"{server.address} is in use by {who}; stop it first")
        if seen.held:
            _log.warning("took the store from an owner that showed no sign of life", owner=seen.name)
        return cls(server, clock, terms, epoch)

    async def beat(self, obeys: int, *, alarm: bool = False) -> Membership:
        found = await self._server.once("beat", self._terms.beat_s, _BEAT, self.slot, self.epoch, obeys, alarm)
        if not found:
            raise evicted("beat", self._server)
        number, policy, alarms, *_ = found[0]
        return Membership(number, tuple(Member(*member) for _, _, _, *member in found), policy, alarms)

    async def take_duties(self, wanted: frozenset[str]) -> frozenset[str]:
        asked = self.slot, self.epoch, sorted(wanted)
        found = await self._server.once("take duties", self._terms.beat_s, _TAKE_DUTIES, *asked)
        if not found:
            raise evicted("take duties", self._server)
        return frozenset(found[0][0] or ())

    async def evict(self, member: Member) -> bool:
        sql = _REMOVE if member.leaving else _EVICT
        seen = member.slot, member.epoch, member.beat
        return bool(await self._server.once("take over from a silent replica", self._terms.beat_s, sql, *seen))

    async def add_checkpoint(self, head: Head, record: bytes, announcement: Outgoing) -> bool:
        given = *head, record, packed(announcement)
        found = await self._server.fetch("add a checkpoint", _ADD_CHECKPOINT, self.slot, self.epoch, *given)
        if not found:
            raise evicted("add a checkpoint", self._server)
        return bool(found[0][0])

    async def leave(self) -> None:
        """Give the slot to whoever comes next, at once. A server that is gone finds out by itself, in `evict_s`."""
        self._leaving.set()
        await self._living
        try:
            await self._server.once("leave the store", self._terms.beat_s, _LEAVE, self.slot, self.epoch)
        except StoreError as error:
            _log.warning("the store does not know that we have left it", error=str(error))

    async def _live(self) -> None:
        while not self._leaving.is_set():
            await self._clock.wait(self._leaving, self._terms.beat_s)
            try:
                if not await self._server.fetch("show a sign of life", _LIVE, self.slot, self.epoch):
                    return  # the next change says that we were evicted
            except StoreError as error:
                _log.error("no more signs of life", error=str(error))
                return


def evicted(operation: str, server: Server) -> EvictedError:
    """Return the error of an owner that lost its slot."""
    return EvictedError(
        f"can't {operation} in {server.address}: another process has taken the store over, because this one showed no"
        " sign of life; end it, and start it again"
    )


async def read(server: Server) -> Seen:
    """Return the slot as it is stored."""
    found = (await server.fetch("read the store's owner", _READ, FIRST))[0]
    epoch, held, beat, name, turn, number, link = found
    return Seen(epoch, held, beat, name, turn, Head(number, link))
