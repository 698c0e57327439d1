"""
Wiring: the flows of a daemon, each with what it needs of the others. Nothing runs yet; `app` runs them.

Only what decides knows a policy, and only the one in force: `_take_up` changes it everywhere in one step, and whoever
shows something asks anew each time.

No task is made here, and nothing is opened.
"""

import asyncio
from collections.abc import Callable
from functools import partial

import attrs
import structlog

from reconciler import parts
from reconciler.adapters.counters import Counters
from reconciler.adapters.metrics import Exposition
from reconciler.config import Config
from reconciler.core import announcing, notices
from reconciler.core.breaker import Breaker
from reconciler.core.budget import WriteBudget
from reconciler.core.limiter import Limiter, RetryQuota
from reconciler.core.queue import Queue
from reconciler.core.signing import Required
from reconciler.flows import notify, reload, watch
from reconciler.flows.acts import Acts
from reconciler.flows.attempt import Attempt
from reconciler.flows.beats import Beats, Unhurried
from reconciler.flows.catching_up import CatchingUp
from reconciler.flows.drift import Drift
from reconciler.flows.gate import Gate
from reconciler.flows.gauges import Gauges
from reconciler.flows.ingest import Ingest
from reconciler.flows.outbox import Publisher
from reconciler.flows.reconcile import Reconciler
from reconciler.flows.resync import Resync
from reconciler.flows.series import Series
from reconciler.model.event import Outgoing, Record
from reconciler.model.stamp import Place
from reconciler.ports import ChangeList, Clock, EventLog, Store, Windchill
from reconciler.tracing import NO_TRACING, Tracing
from reconciler.web import application, server
from reconciler.web.access import Door
from reconciler.web.probes import Progress

_log = structlog.get_logger(__name__)

QUEUE_CAPACITY = 10_000  # documents waiting in memory; the store holds the rest
_WORKERS_A_REQUEST = 2  # while one worker's request is in flight, another stores its settlement
_SILENT_S_MIN, _SILENT_REQUESTS = 300.0, 10  # of a loop, in seconds or requests' deadlines, before it passes for dead


class Wiring:
    """What a daemon is made of: one store, one log, one Windchill, and the flows between them."""

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
        door: Door | None = None,
        outside: notify.Outside | None = None,
        wish: reload.Wish | None = None,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        self.config = config
        self.store = store
        self.log = log
        self._outcomes = outcomes  # read at start only; what is published goes through `log`
        self._letters = letters  # likewise
        self.clock = clock
        self.telemetry = telemetry or Counters()
        self._admin = admin
        self._door = door or Door(clock)
        self._beats = Beats(clock, max(_SILENT_S_MIN, _SILENT_REQUESTS * config.windchill.timeout_s))
        self.hooked = asyncio.Event()  # set when Windchill says that something has changed there
        in_flight_max = config.windchill.in_flight_max
        self._workers = _WORKERS_A_REQUEST * in_flight_max
        limiter = Limiter(in_flight_max)
        breaker = Breaker(cooldown_max_s=config.windchill.retry_after_max_s)
        self._progress = Progress(breaker, maintenance=config.windchill.maintenance)
        gate = Gate(windchill, Unhurried(clock), limiter=limiter, breaker=breaker, quota=RetryQuota())
        budget = WriteBudget(config.resync.writes_max_per_window, config.resync.window_s)
        self._in_force = parts.in_force(config)
        attempt = Attempt(gate, store, clock, self._in_force.rules, budget)
        queue = Queue(QUEUE_CAPACITY)
        known = attempt, store, queue, clock, self.telemetry
        self.reconciler = Reconciler(*known, workers=self._workers, tracing=tracing)
        self.resync = Resync(store, queue, self.reconciler, clock, self._in_force.rules.pace)
        self._drift = self._lists(windchill, gate) if isinstance(windchill, ChangeList) else None
        self.ingest = self._folds(tracing)
        self._engine = application.Engine(breaker, limiter, queue, lambda: self.ingest.reached)
        self.publisher = Publisher(store, log, clock, self.reconciler.published, self._signs())
        self._reload = self._reloads(wish or reload.Wish(lambda: self._in_force))
        self._writable = asyncio.Event()
        self._catching_up = CatchingUp(self.ingest, clock, writable=self._writable)
        self._notifier = None if outside is None else self._tells(outside, breaker)
        seen = store, log, self.ingest, clock, self.telemetry
        backlog = (lambda: notify.Backlog(0, 0.0)) if self._notifier is None else self._notifier.backlog
        self._gauges = Gauges(*seen, queue=queue, limiter=limiter, breaker=breaker, backlog=backlog)
        self._series = Series(self.telemetry, store, log, self.ingest, Unhurried(clock))

    def _reloads(self, wish: reload.Wish) -> reload.Reload:
        known = wish, self._in_force, self.store, self.clock, self.telemetry
        offer, under_way = self.reconciler.offer, lambda: self._engine.queue.running
        return reload.Reload(*known, take_up=self._take_up, offer=offer, under_way=under_way)

    def _take_up(self, in_force: reload.InForce) -> None:
        """Let a policy decide from here on; what has to be signed stays what it is."""
        decoding = attrs.evolve(in_force.decoding, signed=self._in_force.decoding.signed)
        self._in_force = in_force = attrs.evolve(in_force, decoding=decoding)
        self.reconciler.decide_by(in_force.rules)
        self.ingest.decode_by(in_force.decoding)

    def _signs(self) -> Callable[[Outgoing], Outgoing]:
        return partial(announcing.signed, topic=self.config.log.outcomes_topic, keys=self._in_force.decoding.keys)

    def _require(self, signed: Required) -> None:
        """Believe only signed decisions from here on."""
        decoding = attrs.evolve(self._in_force.decoding, signed=signed)
        self._in_force = attrs.evolve(self._in_force, decoding=decoding)
        self.ingest.decode_by(decoding)

    def _folds(self, tracing: Tracing) -> Ingest:
        return Ingest(
            self.log,
            self.store,
            self.clock,
            self.telemetry,
            rules=self._in_force.decoding,
            dead_letter_topic=self.config.log.dead_letter_topic,
            batch_max=self.config.log.fetch_records_max,
            offer=self.reconciler.offer,
            wake=self.reconciler.published,
            tracing=tracing,
        )

    def _lists(self, changes: ChangeList, gate: Gate) -> Drift:
        return Drift(
            changes,
            gate,
            self.store,
            self.clock,
            offer=self.reconciler.offer,
            woken=self.hooked,
            poll_s=self.config.resync.poll_s,
            overlap_s=self.config.resync.poll_overlap_s,
        )

    def _tells(self, outside: notify.Outside, breaker: Breaker) -> notify.Notifier:
        manner, patience = parts.manner(self.config), parts.patience(self.config)
        believed = partial(self._believed, notices.of_outcome)
        sources = {
            name: attrs.evolve(source, read=believed) if source.read is notices.of_outcome else source
            for name, source in outside.sources.items()
        }
        known = attrs.evolve(outside, sources=sources), self.store, breaker, Unhurried(self.clock)
        return watch.notifier(*known, telemetry=self.telemetry, manner=manner, patience=patience)

    def _believed(self, read: notify.Read, record: Record) -> notices.Notice | None:
        """Return what an outcome has to tell, unless it should be signed and is not."""
        notice, signed = read(record), self._in_force.decoding.signed
        if notice is None or signed is None:
            return notice
        fault = signed.fault(record.value or b"", Place(record.topic, record.partition, record.offset))
        if fault is None:
            return notice
        _log.warning("nobody is told of an outcome that is not believed", offset=record.offset, reason=fault)
        return None

    def _acts(self) -> Acts:
        made = parts.acts(self.config, self.store, self.log, self.clock)
        woken = attrs.evolve(made, offer=self.reconciler.offer, wake=self.resync.wake)
        return attrs.evolve(woken, decoding=lambda: self._in_force.decoding)

    def _sources(self, stop: asyncio.Event) -> application.Sources:
        return application.Sources(
            late=self._beats.late,
            readiness=lambda: attrs.evolve(
                self._progress.readiness(stopping=stop.is_set()),
                folding_waits=self.ingest.waits_for,
                clock=self.resync.clock_fault,
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
            door=self._door,
            acts=self._acts(),
            hook_secret=self.config.admin.hook_secret,
        )
