"""
Operators: they pause, resume and compare documents, look at conflicts and decide them later, change the policy.

They act through the program's own `Acts`, in the process, and may die with it. What was acknowledged to them is kept
here and must hold: each act is in the audit trail, once; what is paused stays so.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs

from reconciler.adapters.counters import Counters
from reconciler.errors import ReconcilerError
from reconciler.flows.ingest import Ingest
from reconciler.flows.reload import PolicySource
from reconciler.model.action import Appended, Done, Other, Preview, Resolved, Side
from reconciler.model.document import Status
from tests.sim.logs import EVENTS, LETTERS, SimLog

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from reconciler import app
    from reconciler.model.event import Outgoing
    from reconciler.model.stamp import Partition
    from tests.fakes.memory_log import MemoryBroker
    from tests.sim.stores import Watched
    from tests.sim.workload import Workload
    from tests.sim.world import Life, World

STEPS = ("paused", "resumed", "retried", "released", "decided", "reloaded", "compared")
_EVERYTHING = 1_000_000
_BATCH = 100  # records of one fold
_FOR_EVER = "9999-12-31T23:59:59.999999Z"  # every event counts, and no position is stored


class _Heard:
    """The broker, for what operators append: the world has to know what was said."""

    def __init__(self, broker: MemoryBroker, workload: Workload) -> None:
        self._broker = broker
        self._workload = workload

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def put(self, record: Outgoing) -> Partition:
        place = self._broker.put(record)
        if record.topic in EVENTS:
            self._workload.heard(record, place, self._broker.at(place).records[-1])
        return place


@attrs.define
class _Here:
    """The process that they act in."""

    daemon: app.Daemon
    store: Watched
    log: SimLog
    life: Life
    policy_source: PolicySource


class Operators:
    """Everyone who may act in one world."""

    def __init__(self, world: World, broker: MemoryBroker, workload: Workload) -> None:
        self._world = world
        self._broker = broker
        self._workload = workload
        self._heres: dict[int, _Here] = {}  # by machine
        self._tasks: set[asyncio.Task[None]] = set()
        self._awaited: set[str] = set()  # documents that someone will pause when an attempt on them begins
        self._number = 0
        self._resumes: Counter[str] = Counter()  # ever begun
        self._resuming: Counter[str] = Counter()  # under way
        self.kept: set[tuple[str, str]] = set()  # who and target of acts that were acknowledged
        self.paused: set[str] = (
            set()
        )  # documents of which it was acknowledged that they are paused, and that no one resumes

    def arrive(self, daemon: app.Daemon, store: Watched, life: Life, policy_source: PolicySource) -> None:
        """A process begins."""
        log = SimLog(_Heard(self._broker, self._workload), life)
        self._heres[life.machine] = _Here(daemon, store, log, life, policy_source)
        self._tasks = {task for task in self._tasks if not task.done()}
        self._awaited.clear()

    def _one(self) -> _Here | None:
        """A process to act in, if one runs."""
        living = [here for _, here in sorted(self._heres.items()) if not here.life.dead]
        return self._world.rng("which operator").choice(living) if len(living) > 1 else next(iter(living), None)

    @property
    def busy(self) -> bool:
        """Whether someone still waits for something to be done."""
        return any(not task.done() for task in self._tasks)

    def step(self, kind: str, key: str) -> None:
        """Someone does something."""
        here, rng = self._one(), self._world.rng("operators")
        delay_s, choice = rng.uniform(0, 20), rng.randrange(1000)
        if here is None:
            return
        match kind:
            case "paused" if choice % 2:
                self._awaited.add(key)  # they pause it the moment that they see it worked on
            case "paused":
                self._begin(here, self._pause(here, key))
            case "resumed":
                self._begin(here, self._resume(here, key))
            case "retried":
                self._begin(here, self._retry(here, key))
            case "released":
                self._begin(here, self._release(here, key))
            case "decided":
                self._begin(here, self._decide(here, delay_s, choice))
            case "reloaded":
                here.policy_source.asked.set()
            case "compared":
                self._begin(here, self._compare(here))

    def see(self, key: str) -> None:
        """An attempt on a document begins."""
        here = self._one() if key in self._awaited else None
        if here is not None:
            self._awaited.discard(key)
            self._begin(here, self._pause(here, key))

    async def resume_all(self) -> None:
        """At the end nothing stays paused."""
        self._awaited.clear()
        here = self._heres[self._world.here().machine]
        rows = await here.store.list_documents(Status.PAUSED, "", _EVERYTHING)
        for row in rows:
            await self._resume(here, row.key)

    async def fold_again(self) -> None:
        """Fold the whole log again into the store of the process that runs, as a replay does."""
        here = self._heres[self._world.here().machine]
        here.life.again = log = SimLog(self._broker, here.life)
        ingest = Ingest(
            log,
            here.daemon.store,
            here.life.clock,
            Counters(),
            options=here.daemon._in_force.decoding,
            dead_letter_topic=LETTERS,
            batch_max=_BATCH,
            offer=lambda _: None,
            wake=asyncio.Event(),
            until=_FOR_EVER,
        )
        await log.open({}, accept_truncation=True)
        ends, reached = await log.ends(), await log.positions()
        while any(reached.get(place, 0) < end for place, end in ends.items()):
            await ingest.take(await log.fetch(_BATCH, 1.0))
            reached = await log.positions()  # past gaps that hold no record

    def copy(self) -> tuple[set[tuple[str, str]], set[str]]:
        """What a copy of the store knows that is made now."""
        return set(self.kept), set(self.paused)

    def starts_over(self, kept: set[tuple[str, str]], paused: set[str]) -> None:
        """Another store takes the place of the one that was; who was resumed since is paused again."""
        self.kept, self.paused = set(kept), set(paused)

    # ------------------------------------------------------------------------------------------------------------ acts

    def _begin(self, here: _Here, action: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.create_task(self._tried(action), context=here.life.process.context))

    async def _tried(self, action: Coroutine[Any, Any, None]) -> None:
        try:
            await action
        except ReconcilerError as error:
            self._world.note(f"an operator is told {type(error).__name__}")
        except Exception as error:  # noqa: BLE001  whatever else an operator meets is a fault
            self._world.fail(error)

    def _actions(self, here: _Here) -> tuple[Any, str, Callable[[Iterable[str]], set[str]]]:
        """How to act, as whom, and to keep in mind on what it was, if no failover can have undone it."""
        self._number += 1
        who, failovers = f"operator {self._number}", self._world.failovers

        def keep(targets: Iterable[str]) -> set[str]:
            done = {*targets} if self._world.failovers == failovers else set[str]()
            self.kept.update((who, target) for target in done)
            return done

        return attrs.evolve(here.daemon._make_actions(), store=here.store, log=here.log), who, keep

    async def _pause(self, here: _Here, key: str) -> None:
        actions, who, keep = self._actions(here)
        resumes = self._resumes[key]
        done: Done = await actions.pause(who, [key], "")
        kept = keep(done.done)
        if self._resumes[key] == resumes and not self._resuming[key]:  # else no one knows which of the two came last
            self.paused.update(kept)
        self._world.note(f"paused {done.done}")

    async def _resume(self, here: _Here, key: str) -> None:
        actions, who, keep = self._actions(here)
        self._workload.asks(key)
        self.paused.discard(key)
        self._resumes[key] += 1
        self._resuming[key] += 1
        try:
            done: Done = await actions.resume(who, [key])
        finally:
            self._resuming[key] -= 1
        keep(done.done)

    async def _retry(self, here: _Here, key: str) -> None:
        actions, who, keep = self._actions(here)
        self._workload.asks(key)
        done: Done = await actions.retry(who, [key])
        keep(done.done)

    async def _compare(self, here: _Here) -> None:
        actions, who, keep = self._actions(here)
        await actions.compare(who, None)
        keep([""])

    async def _release(self, here: _Here, key: str) -> None:
        actions, who, keep = self._actions(here)
        found = await actions.release(who, key, "")
        if isinstance(found, Appended):
            keep([key])

    async def _decide(self, here: _Here, delay_s: float, choice: int) -> None:
        """Look at a conflict, think, and decide it if it still is what was looked at."""
        actions, who, keep = self._actions(here)
        conflicts = await here.store.conflicts()
        if not conflicts:
            return
        conflict = conflicts[choice % len(conflicts)].conflict
        takes = Side.DESIRED, Side.LIVE, *(Other(value) for value in self._world.options.values)
        take = takes[choice % len(takes)]
        preview = await actions.preview(conflict.id, take)
        await asyncio.sleep(delay_s)
        seen = preview.seen if isinstance(preview, Preview) else None
        found = await actions.resolve(who, conflict.id, take, "", seen)
        self._world.note(f"an operator decides {conflict.id}: {type(found).__name__}")
        if isinstance(found, Resolved):
            keep([conflict.id])


async def check(operators: Operators, world: World, store: Any) -> None:
    """Every act that was acknowledged is recorded, once; `check_audit` verifies the chain that it stands in."""
    actions = await store.actions(limit=_EVERYTHING)
    recorded = [(action.who, action.target) for action in actions]
    missing = operators.kept - set(recorded)
    world.expect(not missing, f"acts that are not recorded: {sorted(missing)}")
    world.expect(len(recorded) == len(set(recorded)), f"an act is recorded twice: {sorted(recorded)}")
