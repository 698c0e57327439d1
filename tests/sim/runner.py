"""
One world from its seed to its verdict.

First `steps` things happen while faults strike and the process dies and starts again. Then the faults stop, rivals
rest, and whatever was wrong with the clock is over: everything must settle within `SETTLE_S`. One more comparison of
every document, a last SIGTERM, and the checks.
"""

import asyncio
import contextlib
import functools
import logging
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
import structlog

from reconciler import app, factory
from reconciler.adapters.sqlite import database
from reconciler.config import Config, Log, Resync, Retry, Windchill
from reconciler.errors import EvictedError, LogTruncatedError, ReconcilerError, StoreError
from reconciler.flows.attempt import Attempt
from reconciler.flows.reload import InForce, PolicySource
from reconciler.model.event import ChangeTopic
from reconciler.model.policy import Policy
from tests.fakes.memory_log import MemoryBroker
from tests.sim import mutants, operators, options
from tests.sim.checks import Checks
from tests.sim.client import SimWindchill, WiredWindchill
from tests.sim.failover import Failovers
from tests.sim.logs import LETTERS, OUTCOMES, TOPIC, SimLog, places
from tests.sim.losses import Losses
from tests.sim.options import Options
from tests.sim.server import Server
from tests.sim.sharing import WINDOW_S, Coordinator, Group, Ledger
from tests.sim.stores import Durable, Watched
from tests.sim.witness import Witness
from tests.sim.workload import Workload
from tests.sim.world import Life, TrueClock, World

STEPS = 40
SETTLE_S = 900.0  # a late request, the longest cool-downs of breaker and documents, and the attempts after them
_INTERVAL_S = 60.0
_COMPARED_S = 3 * _INTERVAL_S
_TOLD_S = 30.0
_DAYS_US = 3 * 86_400_000_000
_LIVES_MAX = 400
_LEAVING_S = 30.0  # from an error to the end of a process that shares a store
_NO_SLOT_S = 5.0  # until a process that got no slot tries again


@attrs.frozen
class WorldResult:
    """What became of one world."""

    options: Options
    given: dict[str, float]  # the rates that were given by hand
    mutant: str | None
    violation: str | None
    trace: tuple[str, ...]
    digest: str
    lives: int
    effects: int
    io: int  # reads, writes, syncs and cuts of SQLite
    faults: dict[str, int]
    counts: dict[str, int]  # accepted writes, by how the audit knows of them
    virtual_s: float


def run(
    seed: int, steps: int = STEPS, mutant: str | None = None, rates: Mapping[str, float] | None = None, **given: Any
) -> WorldResult:
    """Run one world; `rates` (of faults) and `given` override what the seed stands for."""
    chosen = options.drawn(seed, steps, rates or {}, **given)
    folder = tempfile.TemporaryDirectory(dir=_fast_folder())  # of the files that are locked only; the disk is simulated
    with _quiet(), _checkpoints(chosen), mutants.applied(mutant), folder as path:
        simulation = Simulation(chosen, Path(path), mutant, rates or {})
        return simulation.run()


def _fast_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No log output, and no tuning of the garbage collector by each of thousands of daemons."""
    settle_memory, before = factory.settle_memory, structlog.get_config()
    factory.settle_memory = lambda: None
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=silent, cache_logger_on_first_use=False)
    try:
        yield
    finally:
        factory.settle_memory = settle_memory
        structlog.configure(**before)


@contextlib.contextmanager
def _checkpoints(chosen: Options) -> Iterator[None]:
    """A small world changes few rows; its write-ahead log is moved into the file all the same."""
    with (
        mock.patch.object(database, "CHECKPOINT_CHANGES", chosen.checkpoint),
        mock.patch.object(app, "QUEUE_CAPACITY", chosen.window),
    ):
        yield


class Simulation:
    """One world and the lives of the daemon in it."""

    def __init__(self, chosen: Options, folder: Path, mutant: str | None, given: Mapping[str, float]) -> None:
        self.world = World(chosen)
        self.broker = MemoryBroker(TrueClock(self.world), **{TOPIC: chosen.partitions})
        self.broker.stamps, self.broker.read = chosen.broker_stamps, options.topics(chosen)
        self.server = Server(self.world)
        self.durable = Durable(self.world, folder)
        self.durable.shared = (ledger := Ledger(self.world)).watched
        self.witness = Witness(self.world, self.server, {})
        self.workload = Workload(self.world, self.broker, self.server, self.durable, self.witness)
        self.operators = operators.Operators(self.world, self.broker, self.workload)
        self.workload.operate, self.workload.reconfigure = self.operators.step, self._reconfigure
        self.losses = Losses(self.world, self.broker, self.durable, self.witness, self.operators)
        self._failovers = Failovers(self.broker, self.durable, self.witness, self.operators, ledger)
        self.workload.fail_over = self._failovers.strike
        self._policy = options.policy(chosen, 0)  # as the configuration says
        self._mutant = mutant
        self._given = dict(given)
        self._counts: dict[str, int] = {}
        self._lives = 0
        self._policy_version = 0
        self._resting = asyncio.Event()
        self._rested_s = 0.0  # when the faults have stopped
        self._truncated = False  # a life has ended because the log had lost records
        self._over = asyncio.Event()  # everything is settled
        self._group = Coordinator(self.world, self.broker) if chosen.replicas > 1 else None
        if self._group is not None:
            self.workload.divide = self._group.divide

    def run(self) -> WorldResult:
        world = self.world
        asyncio.set_event_loop(world.loop)
        world.loop.set_exception_handler(lambda _, context: world.note(f"loop: {context['message']}"))
        try:
            with mock.patch.object(Attempt, "run", _told(self.witness, self.operators)):
                world.loop.run_until_complete(self._live_through())
        except Exception as error:  # noqa: BLE001  whatever ends a simulation is its verdict
            world.fail(error)
        finally:
            asyncio.set_event_loop(None)
            world.loop.close()
            self.durable.released()
            self.durable.disk.unregister()
        broken = world.violation
        return WorldResult(
            options=world.options,
            given=self._given,
            mutant=self._mutant,
            violation=None if broken is None else f"{type(broken).__name__}: {broken}",
            trace=tuple(world.trace),
            digest=world.digest(),
            lives=self._lives,
            effects=world.effects,
            io=self.durable.disk.operations,
            faults=dict(sorted(world.faults.items())),
            counts=self._counts,
            virtual_s=world.loop.time(),
        )

    async def _live_through(self) -> None:
        world = self.world
        world.later(self.workload.plan(), self._rest)
        if world.options.replicas == 1:
            await self._machine(0)
        else:
            await asyncio.gather(*map(self._machine, range(world.options.replicas)))
        if world.violation is None:
            store = self.durable.direct()
            checks = Checks(
                world,
                store,
                self.broker,
                self.server,
                self.workload,
                witness=self.witness,
                may_stay_open=self.losses.may_stay_open | self._failovers.may_stay_open,
            )
            await checks.all()
            await self.durable.promises.check(store)
            await operators.check(self.operators, world, store)
            self.durable.promises.told(record.value or b"" for record in self.broker.records(OUTCOMES))
            self._counts = checks.counts
            await store.close()

    async def _machine(self, machine: int) -> None:
        """One machine: a process, and the next when that has ended."""
        world = self.world
        try:
            while world.violation is None and not await self._one_life(self._policy, machine):
                world.expect(self._lives < _LIVES_MAX, "the daemon never stays up")
                self.losses.strike()
                if world.faulty:
                    slow = world.options.replicas > 1 and world.rng("slow restarts").random() < 0.3
                    await asyncio.sleep(world.rng("restarts").uniform(0.1, 60.0 if slow else 5.0))
                    if world.rng("restarts").random() < 0.2:
                        self._reconfigure()
        except Exception as error:  # noqa: BLE001  whatever ends a machine ends the world, in order
            world.fail(error)

    def _reconfigure(self) -> None:
        """Someone writes another policy into the configuration; who runs has not read it yet."""
        self._policy_version += 1
        self._policy = options.policy(self.world.options, self._policy_version)

    def _rest(self) -> None:
        """Faults stop. Waiting out a clock that was days ahead is cut short: the clock goes on by as much."""
        world = self.world
        world.faulty = False
        self._rested_s = world.loop.time()
        world.jump_us = _DAYS_US
        for key in world.options.keys:
            self.witness.bystander.asks(key)
        self.broker.down = False
        self.broker.appended.set()
        for life in world.lives:
            life.go_on()
        if self._group is not None:
            self._group.divide()
        world.note("faults stop, rivals rest")
        self._resting.set()

    # ---------------------------------------------------------------------------------------------------------- lives

    async def _one_life(self, policy: Policy, machine: int) -> bool:
        """Run the daemon until it stops, fails or dies; return whether the world is at its end."""
        world = self.world
        self._lives += 1
        life = Life(world, self._lives, policy, machine)
        world.lives = sorted(
            [*(one for one in world.lives if one.machine != machine), life], key=lambda one: one.machine
        )
        world.note(f"life {life.number} begins, policy {self._policy_version}")
        try:
            store = self.durable.open(life, self.witness)
        except StoreError as error:
            if world.options.replicas == 1:
                self._judge_error(error)
            life.die("it has no store")
            self.durable.released()
            await asyncio.sleep(_NO_SLOT_S * (world.options.replicas > 1))
            return False
        with self.durable.disk.calm():
            if self._mutant == "drop-outbox" and life.number > 1:
                self.durable.empty_outbox()
            looked_at = self.durable.looked_at()
            if world.options.replicas == 1:  # of several, others are in the middle of something
                await self.durable.promises.check(looked_at)
            await self.witness.begins(looked_at)
            self.losses.begins()
            self.workload.between_lives()
        accepts = self._truncated and (not world.faulty or world.rng("truncations").random() < 0.5)
        if accepts:
            self._accept_truncation()
        log = SimLog(self.broker, life)
        windchill = (WiredWindchill if self.world.options.wired else SimWindchill)(self.server, life, self.witness)
        told = SimLog(self.broker, life, OUTCOMES)
        config = _config(policy, self.broker.read, world.options)
        config = attrs.evolve(config, windchill=attrs.evolve(config.windchill, maintenance=life.maintenance))
        policy_source = PolicySource(lambda: factory.in_force(attrs.evolve(config, policy=self._policy)))
        daemon = app.Daemon(
            config,
            store,
            log,
            windchill,
            life.clock,
            outcomes=told,
            policy_source=policy_source,
            group=None if self._group is None else Group(self._group, life),
            slots=store.slots,
            shared=store.shared,
        )
        life.may_send = daemon.may_send
        self._wire(daemon, store, life, policy_source)
        context = life.process.context
        running = asyncio.create_task(self._daemon(daemon, store, life, accepts=accepts), context=context)
        ending = asyncio.create_task(self._ending(life), context=context)
        over = asyncio.create_task(life.over.wait())
        await asyncio.wait({running, over}, return_when=asyncio.FIRST_COMPLETED)
        life.die("the process ends")
        finished = ending.done() and not ending.cancelled() and _ended_well(ending)
        over.cancel()
        while tasks := [*life.process.tasks]:  # again and again: cleaning up, the dead wait once more
            for task in tasks:
                task.cancel()
            await asyncio.sleep(0)
        self._judge_end(running)
        self.durable.released()
        return bool(finished)

    def _wire(self, daemon: app.Daemon, store: Watched, life: Life, policy_source: PolicySource) -> None:
        """Let operators act in this process, and the world know which policy decides."""
        take_up = daemon._reload._take_up

        def taken_up(in_force: InForce) -> None:
            take_up(in_force)
            life.policy = in_force.policy
            self.world.note("another policy is in force")

        daemon._reload._take_up = taken_up
        life.paused = lambda: self.operators.paused
        self.operators.arrive(daemon, store, life, policy_source)
        mutants.wired(self._mutant, daemon)

    def _accept_truncation(self) -> None:
        """An operator decides to go on without what the log has lost and no one has folded."""
        self._truncated = False
        for place in places(self.broker):
            folding, begin = self.witness.folding, self.broker.at(place).begin
            reached = 0 if place in folding.made_again else folding.reached(place)  # else it is a place of the old log
            self.workload.forget(place, reached, begin)
            self.world.note(f"an operator goes on at {place} {begin}, after {reached}")

    async def _daemon(self, daemon: app.Daemon, store: Any, life: Life, *, accepts: bool) -> None:
        await daemon.run(life.stop, once=life.once, accept_truncation=accepts)
        await store.close()

    async def _ending(self, life: Life) -> bool:
        """After the faults have stopped: wait until all is settled and compared, then stop the daemon."""
        await self._resting.wait()
        world = self.world
        if life.once or life.maintenance:  # such a life can't be the last one
            life.stop.set()
            return False
        if life.machine:  # the first one sees to it
            await self._over.wait()
            life.stop.set()
            return True
        began_s = world.loop.time()
        await self.operators.resume_all()
        while not self._is_settled() or await self.durable.refused():
            await self.operators.resume_all()
            world.expect(world.loop.time() - began_s < SETTLE_S, f"not settled after {SETTLE_S} s without faults")
            await asyncio.sleep(5.0)
        world.note("settled")
        await asyncio.sleep(_COMPARED_S)
        while world.on_their_way:  # noqa: ASYNC110  a look at the world costs nothing, and time is not real
            await asyncio.sleep(1.0)
        began_s, chosen = world.loop.time(), world.options
        # What was refused is tried again, and told of; what another program has changed waits for the write budget.
        most_s = _TOLD_S + WINDOW_S * len(chosen.keys) / (chosen.writes_max or 1e9)
        while not self._is_settled():
            world.expect(world.loop.time() - began_s < most_s, "unsettled again, and no one did anything")
            await asyncio.sleep(1.0)
        await self._replay()
        self._over.set()
        life.stop.set()
        return True

    async def _replay(self) -> None:
        """Folding the whole log again changes nothing."""
        before = await self.durable.rows()
        await self.operators.fold_again()
        self.world.expect(await self.durable.rows() == before, "a replay has changed rows")

    def _is_settled(self) -> bool:
        return not self.operators.busy and not self.world.on_their_way and self.durable.looks_settled(self.broker)

    def _judge_end(self, running: asyncio.Task[None]) -> None:
        """The daemon may end by itself only for what it can't mend: a store or a log that fails."""
        if running.cancelled() or running.exception() is None:
            return
        error = running.exception()
        assert error is not None
        self._judge_error(error)

    def _judge_error(self, error: BaseException) -> None:
        self.world.note(f"the daemon ended: {type(_first(error)).__name__}")  # a message names the file
        if isinstance(_first(error), LogTruncatedError):
            stored, log = self.witness.folding.stored, places(self.broker)
            gone = any(stored(place) < self.broker.at(place).begin for place in log) or self.witness.folding.made_again
            self.world.expect(gone, "it stopped because of a truncation that costs nothing")
            self._truncated = True
            return
        if isinstance(_first(error), EvictedError):
            return
        chosen = self.world.options
        of_several = chosen.replicas > 1  # which leave before they end
        troubled = self.world.faulty or (of_several and self.world.loop.time() < self._rested_s + _LEAVING_S)
        troubled = troubled or chosen.fail_at is not None or chosen.cut_at is not None
        if not isinstance(_first(error), ReconcilerError) or not troubled:
            self.world.fail(_first(error))


def _ended_well(ending: asyncio.Task[bool]) -> bool:
    """Whether all was settled; not if the process was taken for dead meanwhile."""
    return not isinstance(ending.exception(), EvictedError) and ending.result()


def _told(witness: Witness, people: operators.Operators) -> Any:
    """Attempts that tell when they begin, and by which policy they decide."""
    run = Attempt.run

    async def begun(self: Attempt, document: Any, lane: Any) -> Any:
        witness.begun(document.key, self.options.policy)
        people.see(document.key)
        return await run(self, document, lane)

    return begun


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _config(policy: Policy, topics: tuple[ChangeTopic, ...], chosen: Options) -> Config:
    return Config(
        log=Log(topics=topics, outcomes_topic=OUTCOMES, dead_letter_topic=LETTERS, group="sim"),
        windchill=Windchill(in_flight_max=chosen.in_flight_max, quiet_s=3.0, checkin_interval_s=20.0),
        retry=Retry(
            conflict_attempts_max=3, backoff_base_s=0.5, backoff_max_s=10.0, cooldown_base_s=10.0, cooldown_max_s=40.0
        ),
        resync=Resync(
            interval_s=_INTERVAL_S,
            interval_factor_max=2.0,
            writes_max_per_window=chosen.writes_max,
            window_s=WINDOW_S,
        ),
        policy=policy,
    )


def command(world_result: WorldResult) -> str:
    """What to type to see the same again, to the same step; everything that was given by hand is in it."""
    chosen = world_result.options
    more = f" --mutant {world_result.mutant}" if world_result.mutant else ""
    more += " --several" if chosen.replicas > 1 else ""
    more += f" --guard {chosen.guard}" if chosen.guard != "token" else ""
    more += f" --crash-at {chosen.crash_at}" if chosen.crash_at is not None else ""
    more += f" --cut-at {chosen.cut_at}" if chosen.cut_at is not None else ""
    more += f" --fail-at {chosen.fail_at}" if chosen.fail_at is not None else ""
    more += "".join(f" --rate {name}={rate!r}" for name, rate in sorted(world_result.given.items()))
    return f"python -m tests.sim --seed {chosen.seed} --steps {chosen.steps} --store {chosen.store}{more} --trace"


@functools.cache
def commit() -> str:
    """The commit that runs, and whether files differ from it."""
    folder = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + (" + changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown: this is no repository"


def described(chosen: Options) -> str:
    """What a seed stood for, in one line."""
    rates = ", ".join(f"{name} {rate:.3f}" for name, rate in chosen.rates.items() if rate)
    shape = attrs.asdict(chosen, filter=lambda attribute, _: attribute.name != "rates")
    return f"{shape}; rates: {rates}"


def without_trace(world_result: WorldResult) -> WorldResult:
    """A verdict that is cheap to keep."""
    return attrs.evolve(world_result, trace=())


def summary(world_results: list[WorldResult]) -> dict[str, Any]:
    """What many worlds came to."""
    faults: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for world_result in world_results:
        faults.update(world_result.faults)
        counts.update(world_result.counts)
    return {
        "seeds": len(world_results),
        "on SQLite": sum(world_result.options.store == "sqlite" for world_result in world_results),
        "broken": {one.options.seed: one.violation for one in world_results if one.violation},
        "with several lives at once": sum(world_result.options.replicas > 1 for world_result in world_results),
        "lives": sum(world_result.lives for world_result in world_results),
        "effects": sum(world_result.effects for world_result in world_results),
        "I/O of SQLite": sum(world_result.io for world_result in world_results),
        "virtual hours": round(sum(world_result.virtual_s for world_result in world_results) / 3600, 1),
        "accepted writes": dict(sorted(counts.items())),
        "faults": dict(sorted(faults.items())),
    }
