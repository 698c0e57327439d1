"""
The composition root: opens the store, the logs and Windchill, connects the flows, and starts and stops them.

Every task of the daemon runs in one TaskGroup here. If one fails, the others are stopped and the failure is raised: a
reconciler that has lost a loop must not look alive. It stops in order: it takes up no new work, finishes what is under
way, empties the outbox, then closes connections.

`_change_policy` changes the policy in force everywhere in one step; nothing else keeps a copy of it.

No domain decisions here.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import attrs
import structlog

from reconciler import factory
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.counters import Counters
from reconciler.adapters.metrics import Exposition
from reconciler.adapters.tracing import configured as configured_tracing
from reconciler.config import Config
from reconciler.core.events import outcomes
from reconciler.core.events.signing import Required
from reconciler.core.scheduling.breaker import Breaker
from reconciler.core.scheduling.limiter import Limiter, RetryQuota, WriteBudget
from reconciler.core.scheduling.queue import Queue
from reconciler.core.scheduling.replicas import Stage
from reconciler.errors import LogTruncatedError
from reconciler.flows import budget, ending, notify, reading, recovery, reload, sealing
from reconciler.flows import lease as leases
from reconciler.flows.actions import OperatorActions
from reconciler.flows.attempt import Attempt
from reconciler.flows.catching_up import CatchingUp, Once
from reconciler.flows.checkpoint import Checkpoints
from reconciler.flows.drift import Drift
from reconciler.flows.due_feeder import DueFeeder
from reconciler.flows.ending import Summary
from reconciler.flows.gate import Gate
from reconciler.flows.gauges import Gauges, Series
from reconciler.flows.ingest import Ingest, Sharing
from reconciler.flows.maintenance import Maintenance
from reconciler.flows.notifier import Notifier
from reconciler.flows.outbox import Publisher
from reconciler.flows.reconcile import Reconciler
from reconciler.flows.retention import Retention
from reconciler.flows.watchdog import IdleClock, Watchdog
from reconciler.flows.writes import Obedience, Writes
from reconciler.model import notified
from reconciler.model.document import Lane
from reconciler.model.stamp import Partition
from reconciler.ports import (
    OUTBOX_DUTIES,
    ChangeList,
    Clock,
    EventLog,
    ReaderGroup,
    Shared,
    SharedLog,
    Slots,
    Spending,
    Store,
    Windchill,
)
from reconciler.tracing import NO_TRACING, Tracing
from reconciler.web import application, server
from reconciler.web.access import AccessControl
from reconciler.web.probes import Phase, Progress

_log = structlog.get_logger(__name__)

T = TypeVar("T")

# What one replica at a time does.
DUTIES = (leases.RECOVERY, "notify", "drift", "checkpoint", "policy", "retention", *OUTBOX_DUTIES)
QUEUE_CAPACITY = 10_000  # documents waiting in memory; the store holds the rest
_WORKERS_A_REQUEST = 2  # while one worker's request is in flight, another stores its settlement
_SILENT_S_MIN, _SILENT_REQUESTS = 300.0, 10  # seconds, or requests' timeouts, until a silent loop counts as dead
_POLL_S = 0.2  # between checks whether `--once` is done
_TIMEOUTS_ONCE = 2  # requests that may time out before `--once` gives up
_DRAIN_S = 20.0  # for attempts under way at a stop
_REST_S = 5.0  # then for each of: the outbox, notifications, leaving the group, the last counts
STOP_S_MAX = _DRAIN_S + 4 * _REST_S  # then connections are closed; whoever stops us must wait longer than that
_STALLED_S = 30.0  # an unreadable partition must not delay all writes for longer


class Daemon:
    """The whole reconciler: one store, one log, one Windchill, and the flows between them."""

    def __init__(
        self,
        config: Config,
        store: Store,
        log: EventLog,
        windchill: Windchill,
        clock: Clock,
        *,
        outcomes: EventLog,
        letters: EventLog | None = None,
        telemetry: Counters | None = None,
        admin: server.AdminServer | None = None,
        access: AccessControl | None = None,
        receivers: Sequence[notify.Receiver] = (),
        group: ReaderGroup | None = None,
        slots: Slots | None = None,
        shared: Shared | None = None,
        policy_source: reload.PolicySource | None = None,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self.config = config
        self.store = store
        self.log = log
        self._outcomes = outcomes  # read at start only; outcomes are published through `log`
        self._letters = letters  # likewise
        self._group = group
        self.clock = clock
        self.telemetry = telemetry or Counters()
        self._admin = admin
        self._access = access or AccessControl(clock)
        self._watchdog = Watchdog(clock, max(_SILENT_S_MIN, _SILENT_REQUESTS * config.windchill.timeout_s))
        self.hooked = asyncio.Event()  # set when Windchill's webhook reports a change
        self._workers = _WORKERS_A_REQUEST * (in_flight_max := config.windchill.in_flight_max)
        limiter = Limiter(in_flight_max)
        breaker = Breaker(cooldown_max_s=config.windchill.retry_after_max_s)
        self._progress = Progress(breaker, maintenance=lambda: self.maintenance.closed())  # noqa: PLW0108  it is made later
        quota = RetryQuota()
        self._lease = None if slots is None else self._make_lease(slots, limiter, quota, breaker)
        self.maintenance = factory.make_maintenance(config, store, IdleClock(clock), self._writes_changed)
        self.writes = Writes(self.maintenance)
        held_back_by = limiter, breaker, quota, self.may_send, lambda: not self.writes.stopped
        gate = Gate(windchill, IdleClock(clock), *held_back_by, self.maintenance.closed)
        self._in_force = factory.in_force(config)
        attempt = self._make_attempt(gate, shared)
        known = attempt, store, (queue := Queue(QUEUE_CAPACITY)), clock, self.telemetry
        self.reconciler = Reconciler(*known, workers=self._workers, tracing=tracing)
        self.due_feeder = DueFeeder(store, queue, self.reconciler, clock, self._in_force.options.pace)
        self._obedience = Obedience(store, self.writes, IdleClock(clock), self._writes_changed)
        self._drift = self._make_drift(windchill, gate) if isinstance(windchill, ChangeList) else None
        self.ingest = self._make_ingest(tracing)
        self._engine = self._make_engine(breaker, limiter, queue)
        self.publisher = self._make_publisher()
        self._reload = self._make_reload(policy_source or reload.PolicySource(lambda: self._in_force), shared)
        self._writable = asyncio.Event()
        self._catching_up = CatchingUp(self.ingest, clock, writable=self._writable)
        self._housekeeping = self._make_housekeeping(slots)
        self._notifier = self._make_notifier(receivers, breaker)
        seen = store, log, self.ingest, clock, self.telemetry, queue, limiter, breaker, self._notifier.backlogs
        self._gauges = Gauges(*seen, writes=self.writes, spaces=lambda: factory.spaces(config))
        self._series = Series(self.telemetry, store, log, self.ingest, IdleClock(clock))

    def may_send(self) -> bool:
        """Whether we may send requests to Windchill, and publish: no other replica can have taken our place."""
        return self._lease is None or self._lease.holds()

    async def run(
        self,
        stop: asyncio.Event,
        *,
        once: bool = False,
        accept_truncation: bool = False,
        accept_sources: bool = False,
    ) -> Summary:
        """
        Run until `stop` is set; with `once`, until the present log is folded and every document is settled.

        `accept_truncation` is a person's decision to go on although a log has lost records, `accept_sources` to read it
        by other sources from here on. Raises an error of `reconciler.errors` when only a person can help.

        The admin server, if there is one, answers from before recovery until everything else has ended; so long does a
        replica tell the others that it is alive.
        """
        decided = {"accept_truncation": accept_truncation, "accept_sources": accept_sources}
        failure: Exception | None = None
        async with asyncio.TaskGroup() as tasks:
            if self._admin is not None:
                tasks.create_task(self._admin.serve(application.application(self._make_services(stop))), name="admin")
            if self._lease is not None:
                self._start(tasks, "lease", self._lease.run)
            self._start(tasks, "write stop", self._obedience.run)
            for name, loop in self._housekeeping.items():
                self._start(tasks, name, loop.run)
            try:
                summary = await self._work(stop, once=once, **decided)
            except Exception as error:  # noqa: BLE001  raised below: a group of one would only wrap it
                failure = error
            stop.set()  # also after a failure, so that running exports end
            self._obedience.finish()
            if self._admin is not None:
                self._admin.stop()
            for loop in self._housekeeping.values():
                loop.stop()
            if self._lease is not None:
                self._lease.stop()
        if failure is not None:
            raise failure
        return summary

    async def _work(self, stop: asyncio.Event, *, once: bool, accept_truncation: bool, accept_sources: bool) -> Summary:
        self._progress.phase = Phase.RECOVERING
        stage = await leases.turn(self._lease, stop)
        await self._begin(accept_sources)
        signed, taken = await self._recover(stop, accept_truncation=accept_truncation)
        if stop.is_set():  # recovery is incomplete, so nothing may be written
            return await self._stopped(stop)
        await leases.reach(self._lease, Stage.FOLDING, stage, stop)
        self._progress.phase = Phase.CONNECTING
        stored = await self._open_log(stop, accept_truncation=accept_truncation)
        if stop.is_set():
            return await self._stopped(stop)
        positions = await self.log.positions()
        if accept_truncation:
            await self.store.reposition(positions)
        if not stored.keys() & positions.keys():  # a whole history must not delay new events
            self.ingest.lane = Lane.REPLAY
        # A store that is behind what was agreed must see the whole log before it may ask for anything.
        ends = await _unless(stop, self.log.ends(), 0.0)
        if ends is None:
            return await self._stopped(stop)
        await self._sign(signed, {**notified.of_logs(stored), **ends})
        behind = any(end and place not in stored for place, end in ends.items())
        timeout_s = None if behind or taken or stage is not Stage.OPEN else _STALLED_S
        log = self.config.log.path if self.config.log.kind == "file" else ", ".join(self.config.log.read_topics)
        _log.info("started", log=log, store=self.config.store.url, records_known=sum(ends.values()))
        await self._notifier.begin(stored)
        factory.settle_memory()
        self._progress.phase = Phase.READY
        async with asyncio.TaskGroup() as tasks:
            folding = self._start(tasks, "ingest", self.ingest.run)
            publishing = self._start(tasks, "outbox", self.publisher.run)
            telling = [self._start(tasks, name, loop) for name, loop in self._notifier.loops().items()]
            showing = self._start_group(tasks, folding)
            self._start(tasks, "series", self._series.run)
            reloading = self._start(tasks, "policy", self._reload.run)
            caught_up = tasks.create_task(self._catching_up.run(ends, stop, timeout_s), name="catch up")
            # Only the end of a backlog tells what it asks for: writing earlier would bring back values long replaced,
            # and write a document once for each batch.
            await self._writable.wait()
            await leases.reach(self._lease, Stage.OPEN, stage, stop)
            writing = [] if self.config.windchill.maintenance else self._start_writing(tasks)
            await (self._until_settled(caught_up, stop) if once else stop.wait())
            self._take_up_no_more()
            # A request still under way then is given up, as in a crash: its intent is stored, and will be read back.
            await ending.ended([folding, reloading, *writing], _DRAIN_S)
            self.publisher.stop()
            # The rest is published after the next start.
            await ending.ended([publishing], _REST_S if stop.is_set() else None)
            self._notifier.stop()
            if telling:
                await ending.ended(telling, _REST_S)
            if showing:
                await ending.ended(showing, _REST_S)
        return await self._stopped(stop)

    async def _open_log(self, stop: asyncio.Event, *, accept_truncation: bool) -> Mapping[Partition, int]:
        """Go to where the store is in the log; return that."""
        stored, anchors = await self.store.positions(), await self.store.anchors()
        try:
            await _unless(stop, self.log.open(stored, accept_truncation=accept_truncation, anchors=anchors), 0.0)
        except LogTruncatedError:
            if stored == (now := await self.store.positions()):
                raise
            # Other replicas have read on while we were asleep, and what the log has lost since is folded.
            stored, anchors = now, await self.store.anchors()
            await _unless(stop, self.log.open(stored, anchors=anchors), 0.0)
        return stored

    async def _begin(self, accept_sources: bool) -> None:
        """Store by what the log is read, and by which policy it is decided, before anything else happens."""
        decoding, stored = self._in_force.decoding, await self.store.positions()
        await self.maintenance.look()
        await reading.begin(self.store, decoding, stored, accept=accept_sources)
        await self._reload.begin()

    def _take_up_no_more(self) -> None:
        """End the loops that give us work."""
        if self._lease is not None:
            self._lease.slots.hurry()
        self._reload.stop()
        self.ingest.stop()
        self._series.stop()
        self.due_feeder.stop()
        self.reconciler.stop()
        if self._drift is not None:
            self._drift.stop()

    async def _recover(self, stop: asyncio.Event, *, accept_truncation: bool) -> tuple[Required | None, int | None]:
        """Recover from the outcome log; return what has to be signed, and how many documents changed."""
        keys, known = self._in_force.decoding.keys, (self._outcomes, self.store, self.clock)
        looking = sealing.required(self.store, self._outcomes, keys, self.clock, stop.is_set)
        signed = await _unless(stop, looking, _REST_S)
        belief = None if signed is None else recovery.Belief(signed, self.config.log.dead_letter_topic)
        checkpoints = self._housekeeping.get("checkpoints")
        gone = checkpoints.note_lost if isinstance(checkpoints, Checkpoints) else None
        recovering = recovery.recover(*known, stop, accept_truncation=accept_truncation, belief=belief, gone=gone)
        taken = await _unless(stop, recovering, _REST_S)
        if self._letters is not None and not stop.is_set():
            await _unless(stop, recovery.recall(self._letters, self.store, self.clock, stop), _REST_S)
        return signed, taken

    async def _sign(self, signed: Required | None, ends: Mapping[Partition, int]) -> None:
        """If there is a key, accept only signed records from here on, and store that."""
        options, keys = self._in_force.options, self._in_force.decoding.keys
        if keys is None:
            return
        signed = Required(keys, ends) if signed is None else signed.within(ends)
        await sealing.begin(self.store, signed, self.clock.now_us(), options.outcomes_topic, options.source)
        self._require_signatures(signed)

    async def _stopped(self, stop: asyncio.Event) -> Summary:
        """Tell how it ended; after a stop, a store that does not answer is not waited for."""
        found = await _unless(stop, self._last_look(), _REST_S)
        if found is None:
            _log.warning("stopped; the store does not say how many documents there are")
            return Summary({}, 0, self.maintenance.closed())
        summary, heads = found
        counts = {status.value: count for status, count in summary.counts.items()}
        # The heads are to be kept elsewhere, for `audit verify --head`.
        _log.info("stopped", audit_head=heads or None, **counts)
        return summary

    async def _last_look(self) -> tuple[Summary, str]:
        summary, heads = await self.summary(), await self.store.audit_heads()
        return summary, " ".join(str(head) for head in heads if head.records)

    async def summary(self) -> Summary:
        """Return how many documents and dead letters there are, by status."""
        counts = dict(await self.store.counts())
        return Summary(counts, await self.store.count_dead_letters(), self.maintenance.closed(), self.writes.stop)

    def _start_writing(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        loops = [
            self._start(tasks, "resync", self.due_feeder.run),
            self._start(tasks, "feed", self.reconciler.feed),
        ]
        if self._drift is not None:
            loops.append(self._start(tasks, "drift", self._drift.run))
        return loops + [self._start(tasks, f"worker {number}", self.reconciler.work) for number in range(self._workers)]

    def _start_group(self, tasks: asyncio.TaskGroup, folding: asyncio.Task[None]) -> list[asyncio.Task[None]]:
        """Be in the group for as long as we fold: others read on while we finish our attempts."""
        group = self._group
        if group is None:
            return []
        folding.add_done_callback(lambda _: group.stop())
        return [self._start(tasks, "group", lambda: group.run(lambda: self.ingest.reached))]

    def _start(self, tasks: asyncio.TaskGroup, name: str, loop: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        return tasks.create_task(self._watchdog.watch(name, loop), name=name)

    async def _until_settled(self, caught_up: asyncio.Task[None], stop: asyncio.Event) -> None:
        """Return when a single pass has nothing left to do, or makes no progress any more."""
        await asyncio.wait([caught_up])
        self.ingest.stop()  # later events belong to the next pass
        timeout_s = max(self.config.retry.backoff_max_s, _TIMEOUTS_ONCE * self.config.windchill.timeout_s)
        once = Once(self.store, self.reconciler, self._engine.breaker, self.clock, timeout_s=timeout_s)
        while not stop.is_set() and not self.writes.stopped:
            if self.due_feeder.refilled and await once.over():  # documents due at the start are part of this pass
                return
            self.reconciler.settled.clear()
            await self.clock.wait(self.reconciler.settled, _POLL_S)

    # ------------------------------------------------------------------------------------------ making the flows

    def _make_engine(self, breaker: Breaker, limiter: Limiter, queue: Queue) -> application.Engine:
        most, ingest = self.config.windchill.in_flight_max, self.ingest
        return application.Engine(breaker, limiter, queue, ingest.seen, lambda: ingest.reached, most)

    def _make_attempt(self, gate: Gate, shared: Shared | None) -> Attempt:
        how = self._in_force.options, self._make_budget(shared), self.writes, self.config.windchill.account
        return Attempt(gate, self.store, self.clock, *how, partial(leases.lost_until_us, self._lease))

    def _make_budget(self, shared: Shared | None) -> Spending:
        limits = self.config.resync.writes_max_per_window, self.config.resync.window_s
        if shared is None or not limits[0]:
            return budget.OwnBudget(WriteBudget(*limits), self.clock)
        return shared.spending(*limits)

    def _make_reload(self, policy_source: reload.PolicySource, shared: Shared | None) -> reload.Reload:
        by = partial(factory.by_policy, self.config)
        known_s, mine = self.config.store.evict_s, self._duty("policy")
        return reload.Reload(
            policy_source,
            self._in_force,
            self.store,
            self.clock,
            self.telemetry,
            take_up=self._change_policy,
            offer=self.reconciler.offer,
            under_way=lambda: self._engine.queue.running,
            together=None if shared is None else reload.Together(shared, by, known_s, mine),
        )

    def _change_policy(self, in_force: reload.InForce) -> None:
        """Decide by another policy from here on; what has to be signed does not change."""
        decoding = attrs.evolve(in_force.decoding, signed=self._in_force.decoding.signed)
        self._in_force = in_force = attrs.evolve(in_force, decoding=decoding)
        self.reconciler.decide_by(in_force.options)
        self.ingest.decode_by(in_force.decoding)

    def _make_publisher(self) -> Publisher:
        sign = partial(outcomes.signed, topic=self.config.log.outcomes_topic, keys=self._in_force.decoding.keys)
        return Publisher(self.store, self.log, self.clock, self.reconciler.outbox_filled, sign, self.may_send)

    def _require_signatures(self, signed: Required) -> None:
        """Accept only signed decisions from here on."""
        decoding = attrs.evolve(self._in_force.decoding, signed=signed)
        self._in_force = attrs.evolve(self._in_force, decoding=decoding)
        self.ingest.decode_by(decoding)

    def _make_ingest(self, tracing: Tracing) -> Ingest:
        known = self.log, self.store, self.clock, self.telemetry
        return Ingest(
            *known,
            options=self._in_force.decoding,
            dead_letter_topic=self.config.log.dead_letter_topic,
            batch_max=self.config.log.fetch_records_max,
            offer=self.reconciler.offer,
            wake=self.reconciler.outbox_filled,
            tracing=tracing,
            sharing=self._sharing(),
        )

    def _duty(self, name: str) -> Callable[[], bool]:
        """Return what tells whether a duty is ours; a lone process has all of them."""
        lease = self._lease
        return (lambda: True) if lease is None else lambda: lease.has(name)

    def _sharing(self) -> Sharing | None:
        """Return how we read the log together with other replicas; a lone process reads all of it."""
        if self._lease is None or self._group is None or not isinstance(self.log, SharedLog):
            return None
        return Sharing(self.log, self._group, self.store.anchors)

    def _make_lease(self, slots: Slots, limiter: Limiter, quota: RetryQuota, breaker: Breaker) -> leases.Lease:
        settings = self.config.windchill
        return leases.Lease(
            slots=slots,
            clock=IdleClock(self.clock),
            limiter=limiter,
            quota=quota,
            breaker=breaker,
            in_flight_max=settings.in_flight_max,
            evict_s=self.config.store.evict_s,
            requests_s=settings.timeout_s,
            duties=DUTIES,
            moved=self._look_around,
            notice=lambda number: self._reload.notice(number),  # noqa: PLW0108  it is made later
        )

    def _look_at_store(self) -> None:
        """Learn at once of what an operator has just done here."""
        self.due_feeder.wake()
        self.writes.look.set()

    def _writes_changed(self) -> None:
        self.due_feeder.wake()
        self.reconciler.wake()

    def _look_around(self) -> None:
        """Take up what another replica has left, now and not when we would have looked again."""
        self.due_feeder.wake()
        self.reconciler.outbox_filled.set()

    def _make_housekeeping(self, slots: Slots | None) -> Mapping[str, Checkpoints | Retention | Maintenance]:
        def duty(name: str) -> Callable[[], bool]:
            mine = self._duty(name)
            return lambda: mine() and self._progress.phase is Phase.READY

        known, wake = (self.config, self.store, IdleClock(self.clock), slots), self.reconciler.outbox_filled.set
        made = factory.make_housekeeping(*known, duty=duty, wake=wake, telemetry=self.telemetry)
        return {**made, "maintenance": self.maintenance}

    def _make_drift(self, changes: ChangeList, gate: Gate) -> Drift:
        known = changes, gate, self.store, self.clock
        return Drift(
            *known,
            offer=self.reconciler.offer,
            woken=self.hooked,
            poll_s=self.config.resync.poll_s,
            overlap_s=self.config.resync.poll_overlap_s,
            mine=self._duty("drift"),
        )

    def _make_notifier(self, receivers: Sequence[notify.Receiver], breaker: Breaker) -> Notifier:
        return Notifier(
            receivers,
            store=self.store,
            breaker=breaker,
            clock=IdleClock(self.clock),
            telemetry=self.telemetry,
            thresholds=factory.notify_thresholds(self.config),
            mine=self._duty("notify"),
        )

    def _make_actions(self) -> OperatorActions:
        made = factory.actions(self.config, self.store, self.log, self.clock)
        woken = attrs.evolve(made, offer=self.reconciler.offer, wake=self._look_at_store)
        return attrs.evolve(woken, decoding=lambda: self._in_force.decoding)

    def _make_services(self, stop: asyncio.Event) -> application.Services:
        return application.Services(
            late=self._watchdog.late,
            readiness=lambda: attrs.evolve(
                self._progress.readiness(stopping=stop.is_set()),
                folding_waits=self.ingest.waits_for or getattr(self.log, "waits_for", ""),
                clock=self.due_feeder.clock_fault,
                stop=self.writes.stop,
                maintenance_until_us=self.maintenance.until_us(),
            ),
            metrics=Exposition(self.telemetry, self._gauges.refresh).render,
            wake=self.hooked.set,
            clock=self.clock,
            store=self.store,
            log=self.log,
            decoding=lambda: self._in_force.decoding,
            engine=self._engine,
            series=self._series.last,
            stopping=stop,
            settings=lambda: self._in_force.settings,
            access=self._access,
            actions=self._make_actions(),
            spaces=lambda: factory.spaces(self.config),
            windchill_link=factory.windchill_link(self.config),
            hook_secret=self.config.admin.hook_secret,
        )


@asynccontextmanager
async def daemon(
    config: Config, *, once: bool = False, policy_source: reload.PolicySource | None = None
) -> AsyncIterator[Daemon]:
    """Open everything that the configuration names, and close it again in any case."""
    clock = SystemClock()
    if once:  # a single pass has no time for quiet periods
        config = attrs.evolve(config, windchill=attrs.evolve(config.windchill, quiet_s=0.0, checkin_interval_s=0.0))
    async with AsyncExitStack() as stack:
        admin = access = None
        if config.admin.bind and not once:  # a single pass is short, and must not take the port of a daemon
            identity = factory.make_identity(config, clock)
            if identity is not None:
                stack.push_async_callback(identity.close)
            access = factory.make_access_control(config, clock, identity)
            admin = server.AdminServer(server.listen(config.admin.bind))
            stack.callback(admin.close)
        store = await factory.open_store(config, owner=True)
        stack.push_async_callback(store.close)
        log = factory.make_log(config, clock, grows=not once)
        stack.push_async_callback(log.close)
        telemetry = Counters()
        tracing = configured_tracing(os.environ)
        stack.push_async_callback(tracing.close)

        def may_send() -> bool:
            return running.may_send()  # asked only while it runs

        windchill = factory.make_windchill(config, clock, telemetry, tracing, may_send=may_send)
        stack.push_async_callback(windchill.close)
        outcomes = factory.make_outcome_log(config, clock)
        receivers = factory.make_receivers(config, clock, store)
        for receiver in receivers:
            stack.push_async_callback(receiver.webhook.close)
        group = factory.make_reader_group(config, IdleClock(clock), divided=store.slots is not None)
        running = Daemon(
            config,
            store,
            log,
            windchill,
            clock,
            outcomes=outcomes,
            letters=factory.make_letter_log(config, clock),
            telemetry=telemetry,
            admin=admin,
            access=access,
            receivers=receivers,
            group=group,
            slots=store.slots,
            shared=store.shared,
            policy_source=policy_source,
            tracing=tracing,
        )
        yield running


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T], grace_s: float) -> T | None:
    """Return the result of work that may block; after a stop it has `grace_s` left, then it is cancelled."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        await ending.ended([working], grace_s)
    finally:
        working.cancel()
        stopping.cancel()
    return None if working.cancelled() else working.result()
