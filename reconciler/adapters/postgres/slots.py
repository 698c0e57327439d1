"""
Slots: who owns the store. All that an owner changes names its slot and epoch, and is refused under another epoch.

Rules. A newcomer takes a slot that nobody holds, beside the others, dead or alive: the lease of a living one
(`flows/lease.py`) evicts the dead. Only if all slots are taken, and none of their holders is alive, a newcomer takes
over one of them. No clock of any machine decides who is dead: an owner counts up `beat`, and is dead to whoever has
seen that number unchanged for `evict_s` of its own monotonic time. No lock is held in a connection.

Whoever takes, leaves or empties a slot counts up its epoch, and a trigger frees the documents and duties of the holder
before, in the same statement (`migrations/0001_first.sql`). Who takes one counts by a number of its own: in a database
that has lost commits, another one could get the same epoch.

An owner knows how often it has beaten, and looks there on each new connection: a store that has forgotten a beat is in
an earlier state, and all owners begin anew (`generations.py`).
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

import attrs
import structlog

from reconciler.adapters.changes import packed
from reconciler.adapters.postgres import generations
from reconciler.adapters.postgres.generations import Ask, Generation
from reconciler.adapters.postgres.server import OldPrimaryError, Server
from reconciler.core.scheduling.replicas import Deathwatch, Member, Membership, Stage
from reconciler.errors import EvictedError, ReplacedError, StoreError
from reconciler.model.chain import Head
from reconciler.model.event import Outgoing
from reconciler.model.standing import Replica
from reconciler.ports import Clock

_log = structlog.get_logger(__name__)

HURRY_S = 10.0  # so long a store is waited for while we stop
BEATS = 5  # in the time after which a silent owner loses its slot
_NOBODY = -1  # no slot has this number

_READ = "SELECT id, epoch, beat, obeys, leaving, held, name FROM slot ORDER BY id"
_TAKE = """
    WITH taken AS (
        UPDATE slot
        SET epoch = epoch + 1 + (random() * 1000000)::bigint, beat = beat + 1, seen = now(), obeys = 0, obeys_stop = 0,
            held = true, leaving = false, name = $4
        WHERE id = $1 AND epoch = $2 AND beat = $3 RETURNING epoch
    ), counted AS (UPDATE membership SET number = number + 1 WHERE EXISTS (SELECT FROM taken))
    SELECT epoch FROM taken
"""
_LIVE = "UPDATE slot SET beat = beat + 1, seen = now() WHERE id = $1 AND epoch = $2 RETURNING beat"
_BEAT = """
    WITH beaten AS (
        UPDATE slot SET beat = beat + 1, seen = now(), obeys = $3 WHERE id = $1 AND epoch = $2 AND held
        RETURNING id, epoch, beat, obeys, leaving
    ), told AS (
        UPDATE control SET alarms = alarms + $4::boolean::int, cuts = greatest(cuts, $5)
        WHERE ($4 OR cuts < $5) AND EXISTS (SELECT FROM beaten)
    )
    SELECT (SELECT identity_1()), (SELECT number FROM membership), control.policy_number, control.alarms, control.cuts,
        control.generation, control.stage, control.began_us, member.*
    FROM control, (
        SELECT id, epoch, beat, obeys, leaving FROM slot WHERE held AND id <> $1 UNION ALL SELECT * FROM beaten
    ) AS member WHERE EXISTS (SELECT FROM beaten) ORDER BY id
"""
_LOOK = "SELECT epoch, beat, generation, identity_1() FROM slot, control WHERE id = $1"
_REACH = """
    WITH mine AS (SELECT id FROM slot WHERE id = $1 AND epoch = $2 FOR KEY SHARE), so_far AS (
        UPDATE control SET stage = $3
        WHERE stage < $3 AND generation = $4 AND identity_1() = $5 AND EXISTS (SELECT FROM mine)
    )
    SELECT FROM mine, control WHERE generation = $4 AND identity_1() = $5
"""
_TAKE_DUTIES = """
    WITH mine AS (SELECT id, epoch FROM slot WHERE id = $1 AND epoch = $2 AND held FOR KEY SHARE),
    given AS (DELETE FROM duty WHERE slot = $1 AND name <> ALL ($3::text[]) AND EXISTS (SELECT FROM mine)),
    taken AS (
        INSERT INTO duty (name, slot, epoch)
        SELECT wanted.name, mine.id, mine.epoch FROM mine, unnest($3::text[]) AS wanted(name) ORDER BY wanted.name
        ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch WHERE duty.slot = excluded.slot RETURNING name
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
    WITH gone AS (
        UPDATE slot SET epoch = epoch + 1, held = false WHERE id = $1 AND epoch = $2 AND held RETURNING id
    ), counted AS (UPDATE membership SET number = number + 1 WHERE EXISTS (SELECT FROM gone))
    SELECT id FROM gone
"""
_LEAVE_IN_FLIGHT = "UPDATE slot SET epoch = epoch + 1, leaving = true WHERE id = $1 AND epoch = $2 AND held"


_OBEY_STOP = "UPDATE slot SET obeys_stop = $3 WHERE id = $1 AND epoch = $2 RETURNING id"
_REPLICAS = """
    SELECT id, name, extract(epoch FROM greatest(clock_timestamp() - seen, '0'))::double precision, leaving, obeys_stop
    FROM slot WHERE held ORDER BY id
"""


class _Seen(NamedTuple):
    """A slot as it is stored."""

    member: Member
    held: bool
    name: str


class _Taken(NamedTuple):
    """A slot that was taken."""

    slot: int
    epoch: int
    beat: int


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

    def __init__(self, server: Server, clock: Clock, terms: Terms, generation: Generation, taken: "_Taken") -> None:
        self.slot, self.epoch, self._beaten = taken  # with the last beat that the store has told us of
        self.generation = generation
        self.wanted: frozenset[str] = frozenset()  # the duties that may be ours
        self.busy: Callable[[], frozenset[str]] = frozenset  # those that we are in the middle of, and keep until then
        self.before_leaving: Callable[[], Awaitable[None]] | None = None  # what is to be stored last
        self._server = server
        self._clock = clock
        self._terms = terms
        self._leaving = asyncio.Event()
        server.greeting = self._greet
        # `shield` makes the coroutine a task of its own; `leave` waits for it.
        self._living: asyncio.Future[None] = asyncio.shield(self._live())

    @classmethod
    async def enter(cls, server: Server, clock: Clock, terms: Terms) -> "Slot":
        """Take a slot. Raises StoreError if living processes have all of them."""
        mark = f"{terms.name} {uuid.uuid4().hex[:8]}"  # by which we know our own name, if the answer is lost
        deathwatch = Deathwatch(terms.evict_s, terms.evict_s, terms.beat_s)
        full_s: float | None = None  # since when we have seen no free slot
        while True:
            generation = await generations.current(server)
            seen = await _read(server)
            for one in seen:
                if one.name == mark:
                    member = one.member
                    return cls(server, clock, terms, generation, _Taken(member.slot, member.epoch, member.beat))
            now_s = clock.monotonic_s()
            dead = deathwatch.dead(Membership(0, tuple(one.member for one in seen)), _NOBODY, now_s)
            free = [one.member for one in seen if not one.held] or (dead if len(dead) == len(seen) else [])
            if free:
                wanted = free[0].slot, free[0].epoch, free[0].beat
                if taken := await server.fetch("take a slot", _TAKE, *wanted, mark):
                    place = _Taken(free[0].slot, taken[0][0], free[0].beat + 1)
                    return cls(server, clock, terms, generation, place)
                continue  # another one was faster, or the answer was lost
            if full_s is None:
                full_s = now_s
                _log.warning("all slots are taken; waiting for one whose owner is dead", evict_s=terms.evict_s)
            if not dead and now_s - full_s > terms.evict_s:
                names = ", ".join(sorted({one.name.rpartition(" ")[0] for one in seen}))
                raise StoreError(f"{server.address} is in use by {len(seen)} processes ({names}); end one first")
            await clock.sleep(terms.beat_s)

    async def beat(self, obeys: int, *, alarm: bool = False, cuts: int = 0) -> Membership:
        known, told = self._beaten, (self.slot, self.epoch, obeys, alarm, cuts)
        found = await self._server.once("beat", self._terms.beat_s, _BEAT, *told)
        if not found:
            raise await self.lost("beat")
        identity, number, policy, alarms, cuts, generation, stage, began_us, *_ = found[0]
        members = tuple(Member(*row[-5:]) for row in map(tuple, found))
        if (generation, identity) != self.generation:
            raise await self.lost("beat")
        ((beat),) = [one.beat for one in members if one.slot == self.slot]
        if beat <= known:
            raise await self.went_back("beat")
        self._beaten = max(self._beaten, beat)
        return Membership(number, members, policy, alarms, cuts, generation, Stage(stage), began_us)

    async def reach(self, stage: Stage) -> None:
        asked = self.slot, self.epoch, int(stage), *self.generation
        if not await self._server.fetch("say how far the generation is", _REACH, *asked):
            raise await self.lost("say how far the generation is")

    async def lost(self, operation: str) -> StoreError:
        """Return the error of an owner that was refused: it was evicted, or its generation has ended."""
        return await self._judged(operation, partial(self._server.fetch, operation)) or evicted(operation, self._server)

    async def went_back(self, operation: str) -> StoreError:
        """End the generation, as the store does not have what it had; return the error of its owners."""
        return await self._renewed(operation, partial(self._server.fetch, operation))

    async def take_duties(self, wanted: frozenset[str]) -> frozenset[str]:
        self.wanted = wanted  # before we ask: nothing is begun from here on that is to be another's
        asked = self.slot, self.epoch, sorted(wanted | self.busy())
        found = await self._server.once("take duties", self._terms.beat_s, _TAKE_DUTIES, *asked)
        if not found:
            raise await self.lost("take duties")
        return wanted.intersection(found[0][0] or ())

    async def evict(self, member: Member) -> bool:
        sql = _REMOVE if member.leaving else _EVICT
        seen = member.slot, member.epoch, member.beat
        return bool(await self._server.once("take over from a silent replica", self._terms.beat_s, sql, *seen))

    async def add_checkpoint(self, head: Head, record: bytes, announcement: Outgoing) -> bool:
        given = *head, record, packed(announcement)
        found = await self._server.fetch("add a checkpoint", _ADD_CHECKPOINT, self.slot, self.epoch, *given)
        if not found:
            raise await self.lost("add a checkpoint")
        return bool(found[0][0])

    async def obey_stop(self, number: int) -> None:
        """Say that no write of ours is under way that began before a stop."""
        operation = "obey the stop of all writes"
        if not await self._server.fetch(operation, _OBEY_STOP, self.slot, self.epoch, number):
            raise await self.lost(operation)

    def hurry(self) -> None:
        self._server.patience_s = HURRY_S

    async def leave(self, *, in_flight: bool = False) -> None:
        """Give the slot to whoever comes next. A server that is gone finds out by itself, in `evict_s`."""
        sql = _LEAVE_IN_FLIGHT if in_flight else _LEAVE
        self._leaving.set()
        self.hurry()
        await asyncio.wait([self._living])  # a caller that is cancelled here would cancel it for the next one
        try:
            if self.before_leaving is not None:
                await self.before_leaving()
            await self._server.once("leave the store", self._terms.beat_s, sql, self.slot, self.epoch)
        except StoreError as error:
            _log.warning("the store does not know that we have left it", error=str(error))

    async def _live(self) -> None:
        while not self._leaving.is_set():
            await self._clock.wait(self._leaving, self._terms.beat_s)
            try:
                found = await self._server.fetch("show a sign of life", _LIVE, self.slot, self.epoch)
                if not found:
                    return  # the next change says that we were evicted
                self._beaten = max(self._beaten, found[0][0])
            except StoreError as error:
                _log.error("no more signs of life", error=str(error))
                return

    async def _greet(self, connection: Any) -> None:
        """Refuse a new connection to another database, or to one in an earlier state."""
        if self._leaving.is_set():
            return
        error = await self._judged("connect", connection.fetch)
        if isinstance(error, ReplacedError):
            raise error
        if error is not None and not isinstance(error, EvictedError):
            raise OldPrimaryError(generations.OLD_PRIMARY)

    async def _judged(self, operation: str, ask: Ask) -> StoreError | None:
        """Return what has become of our place; None if nothing has."""
        known = self._beaten
        ((epoch, beat, number, identity),) = await ask(_LOOK, self.slot)
        if (number, identity) == self.generation:
            if epoch > self.epoch:
                return evicted(operation, self._server)
            if epoch == self.epoch and beat >= known:
                return None
            return await self._renewed(operation, ask)
        if self.generation.is_after(identity):
            return StoreError(f"can't {operation} in {self._server.address}: {generations.OLD_PRIMARY}")
        return generations.replaced(operation, self._server)

    async def _renewed(self, operation: str, ask: Ask) -> StoreError:
        number = self.generation.number
        ((renewed,),) = await ask(generations.RENEW, number)
        if renewed:
            _log.warning("the store is in an earlier state than before; beginning anew", generation=number + 1)
        return generations.replaced(operation, self._server)


def evicted(operation: str, server: Server) -> EvictedError:
    """Return the error of an owner that lost its slot."""
    return EvictedError(
        f"can't {operation} in {server.address}: another process has taken over, because this one showed no sign of"
        " life; end it, and start it again"
    )


async def replicas(server: Server) -> list[Replica]:
    """Return who holds a slot, without the mark in its name."""
    found = await server.fetch("read who uses the store", _REPLICAS)
    return [Replica(slot, name.rpartition(" ")[0] or name, *said) for slot, name, *said in found]


async def _read(server: Server) -> list[_Seen]:
    found = await server.fetch("read who uses the store", _READ)
    return [_Seen(Member(*member), held, name) for *member, held, name in found]
