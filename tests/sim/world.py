"""
The world: time, effects, crashes, and the trace of everything that happened.

Every call of the program to the outside is an *effect* with a number. Before and after each of them the process may
die: then nothing of it does anything any more, its tasks are cleared away, and the next life starts from what was
durable. What is already on its way (a request, an edit) belongs to the world and goes on.

Where several processes share a store, each is a life, and each may die, or be stopped and go on, by itself.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import hashlib
from typing import TYPE_CHECKING, Any, TypeVar

from reconciler.adapters.clock import SystemClock
from reconciler.errors import StoreError
from tests.sim.loop import PROCESS, Process, SimLoop

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from reconciler.model.policy import Policy
    from reconciler.ports import EventLog
    from tests.sim.options import Options

T = TypeVar("T")

START_US = 1_795_341_600_000_000  # 2026-11-22T10:00:00Z
_PAUSE_S_MAX = 0.02
_STOPPED_S_MAX = 60.0


class Violation(Exception):
    """A promise is broken."""


class World:
    """What all parts of one simulation share."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.loop = SimLoop(options.rng("threads"), stops=options.replicas > 1)
        self._context = contextvars.copy_context()  # of no process
        self.faulty = True  # until the faults stop and rivals rest
        self.jump_us = 0  # by how much the program's wall clock is wrong
        self.effects = 0
        self.on_their_way = 0  # requests sent and not yet evaluated
        self.faults: collections.Counter[str] = collections.Counter()
        self.trace: list[str] = []
        self.violation: BaseException | None = None
        self.moves = False  # the next process begins with a store of its own
        self.failovers = 0
        self.in_flight: list[tuple[Life, float]] = []  # requests to Windchill, with their deadlines
        self.lives: list[Life] = []  # of each machine the process that runs there, or ran there last
        self._streams: dict[str, random.Random] = {}

    def now_us(self) -> int:
        """The true time."""
        return START_US + round(self.loop.time() * 1_000_000)

    def rng(self, stream: str) -> random.Random:
        if stream not in self._streams:
            self._streams[stream] = self.options.rng(stream)
        return self._streams[stream]

    def strikes(self, fault: str) -> bool:
        """Whether a fault strikes now; each kind has its own stream."""
        rate = self.options.rates.get(fault, 0.0)
        if not self.faulty or not rate or self.rng(fault).random() >= rate:
            return False
        self.faults[fault] += 1
        return True

    def note(self, what: str) -> None:
        self.trace.append(f"{self.loop.time():.6f} {what}")

    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()[:16]

    def expect(self, holds: object, message: str) -> None:
        """A promise: if it is broken the world ends here."""
        if not holds:
            self.fail(Violation(message))

    def fail(self, error: BaseException) -> None:
        if self.violation is None:
            self.violation = error
            self.note(f"VIOLATION {error}")
        for life in self.lives:
            life.die("violation")

    @property
    def life(self) -> Life | None:
        """One of the processes: the only one, if there is one."""
        living = [life for life in self.lives if not life.dead]
        return self.rng("which life").choice(living) if len(living) > 1 else next(iter(living or self.lives), None)

    def here(self) -> Life:
        """The process that runs at this moment."""
        return next(life for life in self.lives if life.process is PROCESS.get())

    def later(self, delay_s: float, act: Callable[..., None], *args: Any) -> None:
        """Let something happen, whatever becomes of the process; what goes wrong in it ends the world."""

        def run() -> None:
            try:
                act(*args)
            except Exception as error:  # noqa: BLE001  a fault of the simulation itself must not vanish in the loop
                self.fail(error)

        self.loop.call_later(delay_s, run, context=self._context)


class Life:
    """One process from its start to its end."""

    def __init__(self, world: World, number: int, policy: Policy, machine: int = 0) -> None:
        self.world = world
        self.machine = machine
        self.process = Process(world.loop)
        self.skew_us = round(world.options.skews_s[machine] * 1_000_000)  # of its machine's clock
        self.is_current: Callable[[], bool] = lambda: True  # whether no one has taken it for dead
        self.may_end: Callable[[], bool] = lambda: False  # whether it may go on after a failover, for a moment
        self.away_s = 0.0  # until when the store does not answer it
        self.slot = 0
        self.may_send: Callable[[], bool] = lambda: True  # whether it may send requests to Windchill now
        self.number = number
        self.policy = policy
        self.once = world.strikes("once")
        self.maintenance = world.strikes("maintenance")  # it folds, and leaves Windchill alone
        self.again: EventLog | None = None  # the log as a replay reads it
        self.paused: Callable[[], set[str]] = set  # documents that must be paused
        self.dead = False
        self.over = asyncio.Event()  # set when it died
        self.stop = asyncio.Event()  # SIGTERM
        self.clock = LifeClock(self)
        self._rng = world.options.rng(f"life {number}")

    def die(self, why: str) -> None:
        """From here on the process does nothing."""
        if not self.dead:
            self.dead = True
            self.world.note(f"life {self.number} dies: {why}")
            self.over.set()
            self.process.go_on()

    def stop_for(self, span_s: float) -> None:
        """SIGSTOP, and SIGCONT after a time. Or the whole machine is suspended: then its clock has stood still."""
        if not self.dead and not self.process.stopped and self.world.options.replicas > 1:
            self.process.stopped = True
            suspended_s = span_s if self.world.rng("suspended").random() < 0.3 else 0.0
            self.world.note(f"life {self.number} is stopped for {span_s:.3f} s, its clock for {suspended_s:.3f} s")
            self.world.later(span_s, self.go_on, suspended_s)

    def go_on(self, suspended_s: float = 0.0) -> None:
        """SIGCONT; a clock that has stood still is set some time later."""
        if self.process.stopped:
            self.world.note(f"life {self.number} goes on")
            self._set_clock(-suspended_s)
            self.world.later(self.world.rng("suspended").uniform(1.0, 30.0), self._set_clock, suspended_s)
            self.process.go_on()

    def _set_clock(self, by_s: float) -> None:
        self.skew_us += round(by_s * 1_000_000)

    async def alive(self) -> None:
        """Go on only if the process still lives."""
        if self.dead:
            await self.world.loop.create_future()

    async def effect(self, name: str, act: Callable[[], Awaitable[T]], *, fails: bool = False) -> T:
        """Do something to the outside, unless the process dies before; it may die right after. `fails`: StoreError."""
        world = self.world
        await self.alive()
        world.effects += 1
        number = world.effects
        world.note(f"#{number} {name}")
        await self.moment(f"before {name}", number)
        if fails and world.strikes("store_error"):
            raise StoreError(f"simulated I/O error: {name}")
        await self._pause()
        try:
            result = await act()
        except Exception:
            await self.alive()  # the dead see no error
            raise
        await self.moment(f"after {name}", -number)
        await self._pause()
        return result

    async def moment(self, name: str, number: int = 0) -> None:
        """A moment at which the process may die; `number` is the effect's, negative after it."""
        await self.alive()
        options = self.world.options
        if (number and options.crash_at == number) or (options.by_chance and self.world.strikes("crash")):
            self.die(name)
            await self.alive()
        if number and options.replicas > 1 and any(self.world.strikes("stopped_there") for _ in range(_hurts(name))):
            self.stop_for(self.world.rng("stops").uniform(1.0, _STOPPED_S_MAX))
            await asyncio.sleep(0)
            await self.alive()

    async def _pause(self) -> None:
        if self._rng.random() < 0.5:
            await asyncio.sleep(self._rng.uniform(0, _PAUSE_S_MAX))
        await self.alive()


def _hurts(name: str) -> int:
    """How much more it hurts to sleep around this effect: who has not lost its document yet believes to have it."""
    what = name.partition(" ")[2]
    return 40 if what.startswith(("write", "lock", "store.intend", "store.settle")) else 1


class LifeClock(SystemClock):
    """The program's own clock, over the loop's time; its wall time may be wrong."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._rng = life.world.options.rng(f"chance of life {life.number}")

    def now_us(self) -> int:
        return self._life.world.now_us() + self._life.world.jump_us + self._life.skew_us * self._life.world.faulty

    def monotonic_s(self) -> float:
        return self._life.world.loop.time()

    def chance(self) -> float:
        return self._rng.random()


class TrueClock(SystemClock):
    """The broker's clock, which is right."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now_us(self) -> int:
        return self._world.now_us()

    def monotonic_s(self) -> float:
        return self._world.loop.time()
