"""The flows over fakes: a log, a store, a Windchill and a clock in memory, driven by hand or by the whole daemon."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import attrs

from reconciler import app, factory
from reconciler.adapters.counters import Counters
from reconciler.config import Config, Log
from reconciler.core.events import decode
from reconciler.core.scheduling.breaker import Breaker
from reconciler.core.scheduling.limiter import Limiter, RetryQuota, WriteBudget
from reconciler.core.settling.cases import Pace
from reconciler.flows import ending
from reconciler.flows.actions import OperatorActions
from reconciler.flows.attempt import Attempt
from reconciler.flows.budget import OwnBudget
from reconciler.flows.gate import Gate
from reconciler.flows.ingest import Ingest
from reconciler.flows.notify import Receiver, Webhook
from reconciler.flows.reload import PolicySource
from reconciler.model import codec, instant
from reconciler.model.audit import Settlement
from reconciler.model.document import Document, Due, Intent, Lane, Status
from reconciler.model.event import ChangeTopic, Outgoing, Topics
from reconciler.model.policy import DEFAULT_RULES, Policy, Rule
from reconciler.model.snapshot import Snapshot
from reconciler.ports import ReaderGroup
from tests import defaults
from tests.checks import check_audit, check_outcomes
from tests.fakes.memory_log import MemoryBroker, MemoryLog
from tests.fakes.memory_store import MemoryStore
from tests.fakes.memory_windchill import MemoryWindchill
from tests.fakes.shared_slots import OwnSlot
from tests.fakes.virtual_clock import START_US, VirtualClock

T = TypeVar("T")

KEY = "0000012345"
OPERATORS = "//reconciler/operators"
BODY: dict[str, Any] = {
    "status": "INWORK",
    "owner": "sgarcia",
    "title": "Bracket",
    "attributes": {"CostCenter": "4000", "Note": "", "Keywords": ["draft", "sheet-metal"]},
}
TOPIC, OUTCOMES, LETTERS = "changes", "outcomes", "dead-letters"
TOPICS = Topics((ChangeTopic(TOPIC),))
DECISIONS = TOPICS.decisions
_CONTENT_TYPE = (("content-type", b"application/cloudevents+json"),)
_INSIDE = frozenset({"add", "remove", "release", "expect", "reason"})


def policy(*rules: Rule) -> Policy:
    """These rules before the default ones."""
    return Policy(rules + DEFAULT_RULES)


class World:
    """Everything that one test needs. `config` groups go to the daemon only."""

    def __init__(
        self,
        rules: Policy | None = None,
        *,
        pace: Pace | None = None,
        writes_max: int = 0,
        partitions: int = 1,
        body: Mapping[str, Any] | None = None,
        **windchill: bool,
    ) -> None:
        self.policy = rules or Policy()
        # Half a second off, because a time of whole seconds stands for any time within it.
        self.clock = VirtualClock(start_us=START_US - 500_000)
        self.windchill = MemoryWindchill({KEY: BODY if body is None else body}, now_us=self.clock.now_us, **windchill)
        self.broker = MemoryBroker(self.clock, **{TOPIC: partitions})
        self.log = self.make_log()
        self.store = MemoryStore()
        self.telemetry = Counters()
        self.attempt_options = defaults.attempt_options(
            policy=self.policy,
            policy_digest=codec.policy_digest(self.policy),
            pace=pace or defaults.pace(),
            outcomes_topic=OUTCOMES,
            source="//reconciler/test",
        )
        self.limiter = Limiter(16)
        self.gate = Gate(
            self.windchill,
            self.clock,
            limiter=self.limiter,
            breaker=Breaker(documents_max=1000),
            quota=RetryQuota(),
        )
        self.budget = OwnBudget(WriteBudget(writes_max, 600.0), self.clock)
        self.attempts = Attempt(self.gate, self.store, self.clock, self.attempt_options, self.budget)
        self.offered: list[Due] = []
        self.woken = asyncio.Event()
        self.signing: dict[str, str] = {}  # keys that the daemon has
        self.ingest = self.make_ingest()
        self._ids = itertools.count(1)

    def make_ingest(self, *, until: str | None = None, store: MemoryStore | None = None) -> Ingest:
        return Ingest(
            self.log,
            store or self.store,
            self.clock,
            self.telemetry,
            options=decode.Options(policy=self.policy, topics=TOPICS),
            dead_letter_topic=LETTERS,
            batch_max=100,
            offer=self.offered.append,
            wake=self.woken,
            until=until,
        )

    # ---------------------------------------------------------------------------------------------------------- events

    def event(self, fields: Mapping[str, Any] | None = None, *, key: str = KEY, **more: Any) -> dict[str, Any]:
        """A changed event of now; `add`, `remove`, `release`, `expect` and `reason` go into its data."""
        data = ({"set": dict(fields)} if fields else {}) | {name: more[name] for name in _INSIDE & more.keys()}
        return {
            "specversion": "1.0",
            "id": f"e{next(self._ids)}",
            "source": "//erp/test",
            "type": "windchill.document.changed.v1",
            "subject": key,
            "time": instant.from_us(self.clock.now_us()),
            "data": data,
            **{name: value for name, value in more.items() if name not in _INSIDE},
        }

    def actions(self, rules: Policy | None = None) -> OperatorActions:
        """What operators can do, under the policy of this world or another."""
        decoding = decode.Options(policy=rules or self.policy, topics=TOPICS)
        return OperatorActions(store=self.store, log=self.log, clock=self.clock, decoding=lambda: decoding)

    def make_log(self) -> MemoryLog:
        """A client of the whole change log."""
        return MemoryLog(self.broker, TOPIC, DECISIONS)

    def append(self, given: dict[str, Any]) -> None:
        """Put an event into the log, where its source may speak; no one folds it yet."""
        topic = DECISIONS if given["source"] == OPERATORS else TOPIC
        self.broker.put(Outgoing(topic, given["subject"].encode(), json.dumps(given).encode(), _CONTENT_TYPE))

    async def emit(self, fields: Mapping[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """Let a second pass, append an event and fold it."""
        await self.clock.advance(1)
        given = self.event(fields, **more)
        self.append(given)
        await self.fold()
        return given

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something that takes time, by letting time pass."""
        task = asyncio.ensure_future(work)
        while not task.done():
            await self.clock.advance(0.5)
        return await task

    async def fold(self, *given: dict[str, Any]) -> None:
        """Append events, and fold whatever the log holds beyond the stored positions."""
        for event in given:
            self.append(event)
        await self.log.open(self.store.offsets)
        while records := await self.log.fetch(100, 0):
            await self.ingest.take(records)

    async def edit(self, fields: Mapping[str, Any], key: str = KEY) -> None:
        """Let a second pass; then a person edits the document."""
        await self.clock.advance(1)
        self.windchill.edit(key, fields)

    # -------------------------------------------------------------------------------------------------------- attempts

    def put(self, *keys: str) -> None:
        """Documents that Windchill has as well, with the usual body."""
        for key in keys:
            self.windchill.put(key, BODY | {"id": key})

    def slowed(self, verb: str, delay_s: float) -> asyncio.Event:
        """Make each `read` or `write` of Windchill begin so much later; what is returned is set once one waits."""
        at_once, under_way = getattr(self.windchill, verb), asyncio.Event()

        async def slowly(*args: Any, **named: Any) -> Any:
            under_way.set()
            await self.clock.sleep(delay_s)
            return await at_once(*args, **named)

        setattr(self.windchill, verb, slowly)
        return under_way

    def document(self, key: str = KEY) -> Document:
        return self.store.shown(self.store.rows[key])

    async def attempt(self, lane: Lane | None = None, key: str = KEY) -> Settlement:
        """Make one attempt, whenever it is due."""
        document = self.document(key)
        settlement = await self.attempts.run(document, document.lane if lane is None else lane)
        await self.store.settle(settlement)
        return settlement

    async def settle(self, key: str = KEY, attempts_max: int = 20) -> Document:
        """Make attempts as they come due, time passing in between, until the document is settled."""
        for _ in range(attempts_max):
            document = self.document(key)
            if document.status in (Status.SYNCED, Status.HELD):
                return document
            await self.wait(key)
            await self.attempt(key=key)
        raise AssertionError(f"{key} is not settled after {attempts_max} attempts: {self.document(key)}")

    async def emit_and_attempt(self, fields: Mapping[str, Any] | None = None, **more: Any) -> Settlement:
        await self.emit(fields, **more)
        return await self.attempt()

    async def emit_and_settle(self, fields: Mapping[str, Any] | None = None, **more: Any) -> Document:
        await self.emit(fields, **more)
        return await self.settle()

    async def wait(self, key: str = KEY) -> float:
        """Let time pass until a document is due; return how many seconds that took."""
        due_us = self.document(key).due_us
        assert due_us is not None, f"{key} is never looked at again: {self.document(key)}"
        wait_s = max(0.0, (due_us - self.clock.now_us()) / 1_000_000)
        await self.clock.advance(wait_s)
        return wait_s

    async def attempt_and_wait(self) -> float:
        """Make one attempt; return how many seconds pass until the document is due again."""
        await self.attempt()
        return await self.wait()

    async def next_attempt(self) -> float:
        """Let time pass until the document is due, and make an attempt; return how many seconds that took."""
        waited_s = await self.wait()
        await self.attempt()
        return waited_s

    async def resync(self, key: str = KEY) -> Settlement:
        """Compare a document with Windchill, as when its interval is over."""
        await self.clock.advance(1)
        return await self.attempt(Lane.RESYNC, key)

    # ------------------------------------------------------------------------------------------------------- what came

    def live(self, key: str = KEY) -> dict[str, Any]:
        """The document as it is in Windchill."""
        return self.windchill.body(key)

    async def snapshot(self, key: str = KEY) -> Snapshot:
        """What a read of it shows."""
        shown = await self.windchill.read(key)
        assert isinstance(shown, Snapshot)
        return shown

    def outcomes(self, kind: str = "", key: str | None = None) -> list[dict[str, Any]]:
        """The outcomes that wait to be published or were; of a kind such as `conflict.opened`."""
        records = [record for record in self.store.outbox.values() if record.topic == OUTCOMES]
        records += [Outgoing(r.topic, r.key, r.value) for r in self.broker.records(OUTCOMES)]
        events = [json.loads(record.value or b"") for record in records]
        return [e for e in events if kind in e["type"] and key in (None, e["subject"])]

    def intent(self) -> Intent:
        """The write that is in doubt."""
        intent = self.document().agreement.intent
        assert intent is not None
        return intent

    def held(self, key: str = KEY) -> list[str]:
        """The fields that wait for a person."""
        return [conflict.field for conflict in self.document(key).agreement.held]

    async def check(self) -> None:
        """What must hold after every test."""
        await self.store.keep_policy(self.attempt_options.policy_digest, self.policy)
        await check_audit(self.store)
        check_outcomes(self.outcomes())
        open_now = {(row.document, row.conflict.id) for row in await self.store.conflicts()}
        held = {(row.key, one.id) for row in self.store.rows.values() for one in row.agreement.held}
        assert open_now == held, "the list of conflicts and what the documents say of theirs differ"
        for row in self.store.rows.values():
            waits = row.status in (Status.PENDING, Status.CONTENDED, Status.LOCKED, Status.ABSENT)
            assert row.due_us is not None or not waits, f"dropped: {row}"
            assert row.status is not Status.HELD or row.agreement.held, f"held for no field: {row}"

    # ---------------------------------------------------------------------------------------------------------- daemon

    @asynccontextmanager
    async def running(
        self,
        *,
        once: bool = False,
        accept_truncation: bool = False,
        webhook: Webhook | None = None,
        policy_source: PolicySource | None = None,
        slots: OwnSlot | None = None,
        group: ReaderGroup | None = None,
        **groups: Any,
    ) -> AsyncIterator[Running]:
        """The whole daemon over the fakes; time passes only as the test lets it."""
        config = Config(
            log=Log(topic=TOPIC, outcomes_topic=OUTCOMES, dead_letter_topic=LETTERS, group="test", **self.signing),
            policy=self.policy,
            **groups,
        )
        await self.clock.advance(1)  # events are then later than the documents
        outcomes = MemoryLog(self.broker, OUTCOMES)
        daemon = app.Daemon(
            config,
            self.store,
            self.log,
            self.windchill,
            self.clock,
            outcomes=outcomes,
            receivers=() if webhook is None else (Receiver("webhook", webhook, factory.notify_options(config)),),
            policy_source=policy_source,
            slots=slots,
            group=group,
            shared=None if slots is None else slots.shared.over(self.store, self.clock),
        )
        stop = asyncio.Event()
        task = asyncio.create_task(daemon.run(stop, once=once, accept_truncation=accept_truncation))
        running = Running(self, daemon, stop, task)
        try:
            yield running
            await running.ended()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@attrs.define
class Running:
    """A daemon under a virtual clock."""

    world: World
    daemon: app.Daemon
    stop: asyncio.Event
    task: asyncio.Task[ending.Summary]

    async def ended(self, within_s: float = 120) -> ending.Summary:
        """Stop the daemon and return its summary; time passes as far as that needs."""
        self.stop.set()
        await self.pass_until(self.task.done, "the daemon has ended", within_s)
        return self.task.result()

    async def pass_until(self, true: Any, what: str, within_s: float = 3600) -> float:
        """Let time pass, from one wake-up to the next, until something is true; return how many seconds that took."""
        began_s = self.world.clock.monotonic_s()
        while not true():
            if self.task.done():
                self.task.result()
                raise AssertionError(f"the daemon ended while waiting until {what}")
            assert self.world.clock.monotonic_s() - began_s <= within_s, f"waited {within_s} s in vain until {what}"
            await self.world.clock.advance(min(self.world.clock.next_wake_s() or 0, 1.0))
        return self.world.clock.monotonic_s() - began_s

    async def settled(self, key: str = KEY, *statuses: Status) -> None:
        """Let time pass until a document stands where it is to stand (or is settled)."""
        wanted = statuses or (Status.SYNCED, Status.HELD)
        rows = self.world.store.rows
        await self.pass_until(
            lambda: key in rows and rows[key].status in wanted and not self.daemon.reconciler._queue.running,
            f"{key} is {' or '.join(wanted)}",
        )
