"""
The lease: this replica's place among the replicas of a store.

Theory of operation: each replica holds a slot of the store, and beats every two seconds, or sooner if `evict_s` is
short. A beat shows who else is there, which policy is in force and whether others find Windchill in trouble; from that
follow our share of the requests in flight and of the retries, our duties, and who is dead. Everything that a replica
changes in the store names its slot and the slot's epoch, so once others have taken it for dead, nothing of it counts
any more. Windchill knows nothing of that, so a replica sends nothing unless its last beat began less than two thirds
of `evict_s` ago: until then nobody can have evicted it.

A beat that fails only pauses. An eviction ends the replica, with all that it knows, and so does a new generation of the
store: the database has failed over, or was restored, and has forgotten what it had stored.
"""

import asyncio
from collections.abc import Callable

import attrs
import structlog
from msgspec import structs

from reconciler.core.scheduling import replicas
from reconciler.core.scheduling.breaker import Breaker, State
from reconciler.core.scheduling.limiter import Limiter, RetryQuota
from reconciler.core.settling import doubts
from reconciler.errors import EvictedError, StoreError
from reconciler.flows import watchdog
from reconciler.model import instant
from reconciler.ports import Clock, Slots

_log = structlog.get_logger(__name__)

RECOVERY = "recovery"  # the duty of the first who takes part in a generation
BEAT_S = 2.0
_LOOK_S = 0.05  # between two looks whether a generation is recovered
_BEATS = 6  # at least so many in `evict_s`, or a lease would not hold from one beat to the next
_NOBODY = replicas.Membership(0, (), stage=replicas.Stage.RECOVERING)  # before the first beat
_HOLDS = 2 / 3  # of `evict_s`; with the fifth that a beat may take, it is over before an eviction


@attrs.define(eq=False, slots=False, kw_only=True)
class Lease:
    """Beats until `stop`; `holds` and `has` say what we may do at this moment. Times in seconds."""

    slots: Slots
    clock: Clock
    limiter: Limiter
    quota: RetryQuota
    breaker: Breaker
    in_flight_max: int
    evict_s: float
    requests_s: float  # the longest that a request is in flight
    duties: tuple[str, ...]  # what one replica at a time does
    moved: Callable[[], None]  # is told when a replica has come, gone or died: documents of it may be free
    notice: Callable[[int], None]  # is told the number of the policy in force
    _began_s: float = attrs.field(init=False, default=float("-inf"))  # of the last beat that succeeded
    _share: replicas.Share = attrs.field(init=False, default=replicas.NOTHING_YET)
    _others: frozenset[tuple[int, int, bool]] = attrs.field(init=False, default=frozenset())
    _alarmed: bool = attrs.field(init=False, default=False)  # the others know that our breaker is open
    _alarms: int | None = attrs.field(init=False, default=None)  # of all, as the last beat showed
    _held: frozenset[str] = attrs.field(init=False, default=frozenset())
    _seen: replicas.Membership = attrs.field(init=False, default=_NOBODY)
    _beat_s: float = attrs.field(init=False)
    _watch: replicas.Deathwatch = attrs.field(init=False)
    _stopping: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    def __attrs_post_init__(self) -> None:
        self._beat_s = min(BEAT_S, self.evict_s / _BEATS)
        self._watch = replicas.Deathwatch(self.evict_s, self.requests_s, self._beat_s)
        self.limiter.allow(0)  # until a beat has shown our share

    def holds(self) -> bool:
        """Whether nobody can have evicted us."""
        return self.clock.monotonic_s() - self._began_s < _HOLDS * self.evict_s

    def has(self, duty: str) -> bool:
        """Whether a duty is ours at this moment."""
        return duty in self._held and self.holds()

    async def turn(self, stop: asyncio.Event) -> replicas.Stage:
        """
        Return when the generation is recovered, or when it is our duty to do that; and how far it is.

        Replicas of the last generation may hold their leases for a while, and publish. Later recoveries read that.
        """
        while not stop.is_set() and self._seen.stage is replicas.Stage.RECOVERING and not self.has(RECOVERY):
            await self.clock.wait(stop, _LOOK_S)
        if self._seen.stage is replicas.Stage.RECOVERING and self._seen.generation > 1:
            _log.info("recovering a generation of the store", generation=self._seen.generation)
            await self.clock.wait(stop, _HOLDS * self.evict_s)
        return self._seen.stage

    @property
    def began_us(self) -> int | None:
        """When the generation began, None: it is the first."""
        return self._seen.began_us

    def stop(self) -> None:
        """Beat no more, and leave."""
        self._stopping.set()

    async def run(self) -> None:
        """Beat until stopped. Raises EvictedError when others have taken us for dead."""
        _log.info("one of the store's replicas", slot=self.slots.slot)
        try:
            while not self._stopping.is_set():
                watchdog.beat()
                await self.beat()
                await self.clock.wait(self._stopping, self._beat_s)
        finally:
            self._began_s = float("-inf")
        await self.slots.leave(in_flight=self.limiter.in_flight + self.limiter.given_up > 0)

    async def beat(self) -> None:
        """Beat once, and do what follows from it; a store that does not answer is waited for."""
        began_s = self.clock.monotonic_s()
        try:
            opened = self.breaker.state is State.OPEN
            alarm = opened and not self._alarmed
            seen = await self.slots.beat(self._share.obeys, alarm=alarm, cuts=self.limiter.cuts)
            self._began_s, self._alarmed, self._seen = began_s, opened, seen
            self._take_share(seen)
            self._take_alarms(seen)
            self.notice(seen.policy)
            await self._take_duties(seen)
            died = await self._bury(seen, began_s)
            others = frozenset((one.slot, one.epoch, one.leaving) for one in seen.members)
            if died or others != self._others:
                self._others = others
                self.moved()
        except EvictedError:
            raise
        except StoreError as error:
            _log.warning("could not tell the store that we are alive", error=str(error), writing=self.holds())

    def _take_share(self, seen: replicas.Membership) -> None:
        slot, flying = self.slots.slot, self.limiter.in_flight
        self._share = replicas.after_beat(self._share, seen, slot, flying, self.in_flight_max)
        self.limiter.allow(self._share.limit, len(seen.members))
        self.quota.divide(len(seen.members))

    def _take_alarms(self, seen: replicas.Membership) -> None:
        before, self._alarms = self._alarms, seen.alarms
        if before is None:  # what was before us is over
            self.limiter.cuts = max(self.limiter.cuts, seen.cuts)
            return
        if seen.alarms > before:
            self.breaker.doubt()
        if self.limiter.cut_to(seen.cuts):
            _log.info("slowing down, as another replica finds Windchill overloaded", limit=int(self.limiter.limit))

    async def _take_duties(self, seen: replicas.Membership) -> None:
        wanted = frozenset(duty for duty in self.duties if seen.chosen(duty) == self.slots.slot)
        self._held &= wanted  # we stop before the next one is told that it may begin
        self._held = await self.slots.take_duties(wanted)

    async def _bury(self, seen: replicas.Membership, now_s: float) -> bool:
        """
        Take the silent ones for dead; return whether any was.

        Those of the last generation may hold their leases until this one is recovered: their requests end after that.
        """
        if seen.stage is replicas.Stage.RECOVERING:
            seen = structs.replace(seen, members=tuple(one for one in seen.members if not one.leaving))
        died = False
        for member in self._watch.dead(seen, self.slots.slot, now_s):
            if await self.slots.evict(member) and not member.leaving:
                died = True
                _log.warning(
                    "a replica is silent, and its work goes on elsewhere", slot=member.slot, epoch=member.epoch
                )
        return died


async def turn(lease: Lease | None, stop: asyncio.Event) -> replicas.Stage:
    """Wait until it is our turn to take part in the generation of a store; return how far that is."""
    return replicas.Stage.OPEN if lease is None else await lease.turn(stop)


def lost_until_us(lease: Lease | None) -> int | None:
    """Return until when Windchill may show writes of ours that the store has lost; None if it has lost none."""
    began_us = None if lease is None else lease.began_us
    return None if began_us is None else instant.after_us(began_us, doubts.LATE_S)


async def reach(lease: Lease | None, stage: replicas.Stage, before: replicas.Stage, stop: asyncio.Event) -> None:
    """Let other replicas know that we have brought the generation so far, unless we were stopped at it."""
    if lease is not None and before < stage and not stop.is_set():
        await lease.slots.reach(stage)
