"""
A rollout of three replicas as Kubernetes does it, under load: a new one begins, then an old one gets SIGTERM, in turn.

Then all get SIGTERM at once, while Windchill is slow and events wait. The server's history says how long each event
waited to be seen there.
"""

import asyncio
import itertools
import json
import time
from functools import partial
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from tests import postgres
from tests.brokers.apache import Apache
from tests.cli.program import event
from tests.crash import plan, runner
from tests.crash.runner import KEYS, Broken, Tally
from tests.patience import HANG_S
from tests.replicas.crowd import IN_FLIGHT_MAX, REPLICAS, Crowd, Options, Replica

WAIT, STOP = "longest wait of an event, ms", "longest stop, ms"
_EVENTS_PER_SECOND = 40
_HEADERS = [("content-type", b"application/cloudevents+json")]
_SLOW_MS = 500
_DATABASE = "crowd"


class Rollout(Crowd):
    """One new replica for each old one; nothing else goes wrong."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._numbers = itertools.count(1)
        self._sent: list[tuple[str, int, float]] = []  # document, number in its title, when it was acknowledged
        self._stop_s: list[float] = []

    async def suffer(self) -> None:
        """Replace each replica, then stop all of them."""
        self.calm()
        for replica in self._replicas:
            self._start(replica)
        await self._all_at_work()
        over = asyncio.Event()
        async with self._producer() as producer:
            appending = asyncio.create_task(self._append(producer, over))
            await asyncio.sleep(2)
            for old in [*self._replicas]:
                self._replicas.append(fresh := Replica(self._folder, old.number + REPLICAS, self._threads))
                self._start(fresh)
                await self._all_at_work()
                await self._stop(old)
                self._replicas.remove(old)
                old.close()
            await asyncio.sleep(2)
            over.set()
            await appending
            await self._all_seen()
            self._tally.counts = {WAIT: round(1000 * max(self._waits())), "events": len(self._sent)}
            await self._stop_under_load(producer)

    async def _append(self, producer: AIOKafkaProducer, over: asyncio.Event) -> None:
        for key, number in zip(itertools.cycle(KEYS), self._numbers, strict=False):
            if over.is_set():
                return
            await self._append_one(producer, key, number)
            await asyncio.sleep(1 / _EVENTS_PER_SECOND)

    async def _append_one(self, producer: AIOKafkaProducer, key: str, number: int) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{number % 1_000_000:06d}Z"
        said = json.dumps(event(key, "//erp/prod", {plan.TITLE: str(number)}, time=now, sequence=f"{number:09d}"))
        await producer.send_and_wait(self._topics[0], said.encode(), key=key.encode(), headers=_HEADERS)
        self._sent.append((key, number, time.time()))

    async def _all_at_work(self) -> None:
        """Wait until each has begun: as long as Kubernetes waits before it stops another one."""
        give_up_s = time.monotonic() + HANG_S
        while not all('"started"' in replica.said() for replica in self._replicas):
            if time.monotonic() > give_up_s:
                raise Broken("a replica does not begin")
            if ended := [one for one in self._replicas if one.ended.done()]:
                raise Broken(f"a replica has ended by itself: {ended[0].said()[-2000:]}")
            await asyncio.sleep(0.1)

    def _seen(self) -> dict[str, list[tuple[float, int]]]:
        """When the server has accepted which number, by document."""
        found: dict[str, list[tuple[float, int]]] = {key: [] for key in KEYS}
        for entry in self._simulated.whole_history():
            if plan.TITLE in entry.changes and str(title := entry.changes[plan.TITLE][1]).isdigit():
                found[entry.document].append((entry.time.timestamp(), int(str(title))))
        return found

    def _waits(self) -> list[float]:
        """How many seconds each event has waited until the server had its value, or a later one."""
        seen = self._seen()
        return [
            max(0.0, next((at for at, then in seen[key] if then >= number), float("inf")) - sent_s)
            for key, number, sent_s in self._sent
        ]

    async def _all_seen(self) -> None:
        give_up_s = time.monotonic() + HANG_S
        while max(await asyncio.to_thread(self._waits)) == float("inf"):
            if time.monotonic() > give_up_s:
                raise Broken(f"events are not written {HANG_S:.0f} s after the last")
            await asyncio.sleep(0.2)

    async def _stop(self, replica: Replica) -> None:
        began_s = time.monotonic()
        await super()._stop(replica)
        self._stop_s.append(time.monotonic() - began_s)

    async def _stop_under_load(self, producer: AIOKafkaProducer) -> None:
        """Stop all at once, each with requests under way and more documents in hand; see what they leave behind."""
        self._simulated.faults(slow_ms=_SLOW_MS)
        for key in KEYS:
            await self._append_one(producer, key, next(self._numbers))
        await self._held()
        await asyncio.gather(*(self._stop(replica) for replica in self._replicas))
        self._tally.counts[STOP] = round(1000 * max(self._stop_s))
        left = {
            "documents held": await self._sql("SELECT count(*) FROM document WHERE holder IS NOT NULL"),
            "slots held": await self._sql("SELECT count(*) FROM slot WHERE held"),
            "members of the group": await self._members(),
        }
        self._tally.violations += [f"{count} {what} after a stop in order" for what, count in left.items() if count]

    async def _held(self) -> None:
        """Wait until the replicas have documents in hand."""
        give_up_s = time.monotonic() + HANG_S
        while not await self._sql("SELECT count(*) FROM document WHERE holder IS NOT NULL"):
            if time.monotonic() > give_up_s:
                raise Broken("nobody takes up a document")
            await asyncio.sleep(0.02)

    async def _sql(self, question: str) -> int:
        return int(await asyncio.to_thread(self._database.sql, question, _DATABASE))

    async def _members(self) -> int:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._brokers)
        await admin.start()
        try:
            (answer,) = await admin.describe_consumer_groups(["crash"])
            return sum(len(group[5]) for group in answer.groups)
        finally:
            await admin.close()

    async def come_to_rest(self) -> None:
        """The next start does what is left."""
        self.calm()
        await self._once(self._write_config(0, IN_FLIGHT_MAX))

    async def judge(self) -> None:
        """Nothing is lost."""
        if max(await asyncio.to_thread(self._waits)) == float("inf"):
            self._tally.violations.append("an event was never written")
        if await self._sql("SELECT count(*) FROM outbox"):  # one that stops late may leave some to the next start
            self._tally.violations.append("an outcome was never published")
        if self._evicted:
            self._tally.violations.append(f"{self._evicted} replicas were taken for dead")

    def _groups(self, in_flight_max: int) -> dict[str, dict[str, Any]]:
        groups = super()._groups(in_flight_max)
        groups["store"] |= {"evict_s": 15}  # the default: a busy machine must not make it an eviction
        groups["log"] |= {"session_s": 30}
        return groups


async def run(*, keep: bool = False) -> Tally:
    """Roll three replicas, on a PostgreSQL and a Kafka of their own."""
    database, broker = postgres.Server(durable=True), Apache()
    try:
        await asyncio.gather(asyncio.to_thread(database.start), asyncio.to_thread(broker.start))
        make = partial(Rollout, databases=[database], broker=broker)
        return await runner.run(Options(seed=1), broker, keep=keep, make=make)
    finally:
        broker.stop()
        database.remove()
