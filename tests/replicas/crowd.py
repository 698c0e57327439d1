"""
One run of several replicas: rounds of misfortune, then peace with all of them alive, then the judgement.

The seed fixes what happens and to whom. Times are real, and short: a replica is taken for dead after three seconds. On
a busy machine that happens to one that lives, too; then it must end, and another one begins.
"""

import asyncio
import json
import logging
import random
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.kafka_client import KafkaOptions
from reconciler.adapters.kafka_group import KafkaGroup
from reconciler.adapters.postgres import Address, migrate_store
from tests import postgres
from tests.brokers.apache import Apache
from tests.crash import runner
from tests.crash.launch import Launcher
from tests.crash.runner import Broken, Tally
from tests.faults.proxy import StreamProxy
from tests.patience import HANG_S

REPLICAS = 3
EVICT_S, SESSION_S = 3, 6  # the shortest that the configuration allows
IN_FLIGHT_MAX = 4
KILL, FREEZE, STOP = "SIGKILL", "SIGSTOP", "SIGTERM"
STORE, BROKER, CUT = "PostgreSQL restarts", "broker restarts", "cut off from PostgreSQL"
STORM, CLOCK = "members come and go", "clock jumps by an hour"
KINDS = (KILL, FREEZE, STOP, STORE, BROKER, CUT, STORM, CLOCK)
FAILOVER = "PostgreSQL fails over and loses commits"  # not among the others: afterwards less can be judged
_HOUR_S = 3600
_EVICTED = "no sign of life"  # what an evicted replica says at its end
# And one that has begun long before the broker is back.
_NO_BROKER = "is Kafka running?", "create it (this broker", "did not tell its offsets"
_DATABASE = "crowd"
STORE_DUMP = "store.dump"  # for `pg_restore`


@attrs.frozen
class Options(runner.Options):
    """What is asked for."""

    rounds: int = 5


class Replica:
    """One process after another, in the place of one replica."""

    def __init__(self, folder: Path, number: int, threads: ThreadPoolExecutor) -> None:
        self._launcher = Launcher(folder, f"replica-{number}")
        self._folder = folder
        self.network = StreamProxy()  # to PostgreSQL
        self._threads = threads
        self._said_before = 0
        self.number = number
        self.pid = 0
        self.killed = False
        self.ended: asyncio.Future[int]

    def start(self, config: str) -> None:
        self.tell(0)
        path = self._folder / f"replica-{self.number}.toml"
        path.write_text(config.replace(f":{self.network.target[1]}/", f":{self.network.port}/"))
        stderr = self._launcher.stderr
        self._said_before = stderr.stat().st_size if stderr.exists() else 0
        self.killed = False
        self.pid = self._launcher.start(["run", "-c", str(path)])
        self.ended = asyncio.get_running_loop().run_in_executor(self._threads, self._launcher.wait)

    def send(self, number: signal.Signals) -> None:
        if not self.ended.done():
            self.killed |= number == signal.SIGKILL
            runner.send(self.pid, number)

    def tell(self, wrong_s: int) -> None:
        """Let its time of day be wrong by so much."""
        written = self._launcher.clock.open("r+b" if self._launcher.clock.exists() else "wb")
        with written:
            written.write(b"%-20d" % wrong_s)

    async def end(self, within_s: float = HANG_S) -> int | None:
        """How it ends; None if it does not."""
        await asyncio.wait({self.ended}, timeout=within_s)
        return self.ended.result() if self.ended.done() else None

    def said(self) -> str:
        """What this process has said."""
        path = self._launcher.stderr
        return path.read_text(errors="replace")[self._said_before :] if path.exists() else ""

    def close(self) -> None:
        """Let go of the warm process, and of the port, which a test that comes later would be blamed for."""
        self.network.shut()
        self._launcher.close()


class Crowd(runner.Crashes):
    """Several replicas at work, and their phases in order."""

    PARTITIONS = 8

    def __init__(
        self, options: Options, folder: Path, *given: Any, databases: list[postgres.Server], broker: Apache
    ) -> None:
        super().__init__(options, folder, *given)
        self._rounds = options.rounds
        self._rng = random.Random(f"{options.seed}/rounds")
        self._databases = databases  # the last one is the primary
        self._broker = broker
        self._threads = ThreadPoolExecutor(REPLICAS + 1)  # at a rollout one more is there for a while
        self._replicas = [Replica(folder, number, self._threads) for number in range(REPLICAS)]
        self._evicted = self._overlaps = 0

    @property
    def _database(self) -> postgres.Server:
        return self._databases[-1]

    async def prepare(self, broker: Any) -> None:
        """Have an empty store as well."""
        await asyncio.to_thread(self._database.sql, f"CREATE DATABASE {_DATABASE}")
        await migrate_store(Address(self._database.url(_DATABASE)), SystemClock())
        await super().prepare(broker)
        for replica in self._replicas:
            replica.network.target = postgres.HOST, self._database.port
            await replica.network.open()

    async def suffer(self) -> None:
        """Let misfortunes come, one round after the other, while everyone else goes on."""
        async with self._meanwhile() as others:
            for replica in self._replicas:
                self._start(replica)
            await asyncio.sleep(self._rng.uniform(2, 5))
            for kind in self._kinds():
                await self._round(kind)
                if self._tally.kills.total() >= self._rounds or any(task.done() for task in others):
                    break

    def _kinds(self) -> Iterator[str]:
        """Kinds of misfortune without end; each gets its turn before any gets its next."""
        kinds = self._options.kinds or KINDS
        while True:
            yield from self._rng.sample(kinds, len(kinds))

    async def _round(self, kind: str) -> None:
        replica, between = self._rng.choice(self._replicas), self._rng.uniform
        before = self._simulated.crowding()["overlaps"]
        match kind:
            case "SIGKILL":
                replica.send(signal.SIGKILL)
                await asyncio.sleep(between(0, 2 * EVICT_S))
            case "SIGTERM":
                await self._stop(replica)
            case "SIGSTOP":
                await self._until_living(REPLICAS)  # those that were killed before are taken for dead
                replica.send(signal.SIGSTOP)
                asleep = asyncio.create_task(asyncio.sleep(self._rng.triangular(5, 40, 8)))
                await self._until_living(REPLICAS - 1)
                await asleep
                replica.send(signal.SIGCONT)
            case "PostgreSQL restarts":
                await asyncio.to_thread(self._database.stop)
                await asyncio.sleep(between(0, 1.5 * EVICT_S))
                await asyncio.to_thread(self._database.start)
            case "PostgreSQL fails over and loses commits":
                await self._fail_over()
            case "broker restarts":
                await asyncio.to_thread(self._broker.restart)
            case "cut off from PostgreSQL":
                await self._cut_off(replica, silently=self._rng.random() < 0.5)
            case "members come and go":
                for _ in range(self._rng.randint(2, 4)):
                    await self._visit(2)
                    await asyncio.sleep(2)
            case "clock jumps by an hour":
                replica.tell(self._rng.choice((-_HOUR_S, _HOUR_S)))
                await asyncio.sleep(between(2, 3 * EVICT_S))
                replica.tell(0)
        self._tally.kills[kind] += 1
        await asyncio.sleep(between(1, 3))
        if kind != FREEZE:  # one that wakes may write once more; the server refuses that, or takes it for its own
            self._overlaps += self._simulated.crowding()["overlaps"] - before
        self._look_after()

    async def _fail_over(self) -> None:
        """Let the primary die, and promote a standby that has not received its last commits."""
        old = self._database
        standby = await asyncio.to_thread(lambda: postgres.Server(durable=True, follows=old))
        self._databases.insert(0, standby)  # to be removed at the end, whatever happens
        await asyncio.to_thread(standby.start)
        await asyncio.to_thread(standby.stall, old)
        await asyncio.sleep(self._rng.uniform(0.5, 3))
        await asyncio.to_thread(old.stop)
        await asyncio.sleep(self._rng.uniform(0, 1.5 * EVICT_S))
        await asyncio.to_thread(standby.promote)
        self._databases.append(self._databases.pop(0))
        self._lost = True
        self._load_configs()
        (self._folder / "operator.toml").unlink(missing_ok=True)
        for replica in self._replicas:
            replica.network.target = postgres.HOST, standby.port
            replica.network.cut()

    async def _cut_off(self, replica: Replica, *, silently: bool) -> None:
        """Let nothing pass between one replica and PostgreSQL for a while, which may be too long."""
        network, for_s = replica.network, self._rng.uniform(0, 3 * EVICT_S)
        if silently:
            network.hold()
        else:
            network.shut()
            network.cut()
        await asyncio.sleep(for_s)
        if silently:
            network.release()
        else:
            await network.open()

    async def _visit(self, for_s: float) -> None:
        """Be in the consumer group for a while, and read nothing of what we get."""
        options = KafkaOptions(brokers=tuple(self._brokers), topics=(self._topics[0], self._decisions))
        group = KafkaGroup(options, self.GROUP, SystemClock(), divided=True, session_s=SESSION_S)
        visit = asyncio.create_task(group.run(dict))
        await asyncio.sleep(for_s)
        group.stop()
        await visit

    async def _until_living(self, count: int) -> None:
        """Wait until so many have a slot and are not taken for dead; on a busy machine that takes a while."""
        living = "SELECT count(*) FROM slot WHERE held AND NOT leaving"
        async with asyncio.timeout(HANG_S):
            found = ""
            while found != str(count):
                self._look_after()
                await asyncio.sleep(0.2)
                found = await asyncio.to_thread(self._database.sql, living, _DATABASE)
                await asyncio.sleep(0.2)

    def _look_after(self) -> None:
        """Begin anew in the place of each that has ended; it was stopped or killed by us, or taken for dead."""
        for replica in self._replicas:
            if replica.ended.done():
                self._ends(replica, replica.ended.result())
                self._start(replica)

    def _ends(self, replica: Replica, status: int) -> None:
        """Judge how one has ended."""
        evicted = status == 1 and _EVICTED in replica.said()
        self._evicted += evicted
        asked = status in (0, -signal.SIGTERM) or (replica.killed and status == -signal.SIGKILL)
        too_soon = status == 1 and any(said in replica.said() for said in _NO_BROKER)
        if not evicted and not asked and not too_soon:
            raise Broken(f"replica {replica.number} ended by itself, status {status}: {replica.said()[-2000:]}")

    def _start(self, replica: Replica) -> None:
        replica.start(self._config_text(0, IN_FLIGHT_MAX))
        self._tally.lives += 1

    async def _stop(self, replica: Replica) -> None:
        """Stop one in good order, unless it is taken for dead at that moment."""
        replica.send(signal.SIGTERM)
        status = await replica.end()
        if status is None:
            raise Broken(f"replica {replica.number} still runs {HANG_S:.0f} s after SIGTERM: {replica.said()[-2000:]}")
        self._ends(replica, status)
        self._tally.in_order += 1

    async def come_to_rest(self) -> None:
        """Everything settles while all of them live, and once more when a single one looks at it."""
        self.calm()
        if self._tally.kills[CLOCK]:  # a retry that was put off by a clock an hour ahead looks like one that Windchill
            await self._operate("docs", "retry", *runner.KEYS)  # has asked for: it waits for that hour
        give_up_s = time.monotonic() + HANG_S
        while not await self._is_settled():
            self._look_after()
            if time.monotonic() > give_up_s:
                raise Broken(f"not settled {HANG_S:.0f} s after the faults: {await self._operate('status')}")
            await asyncio.sleep(0.5)
        for replica in self._replicas:
            await self._stop(replica)
            await replica.network.__aexit__(None, None, None)
        await super().come_to_rest()

    async def _is_settled(self) -> bool:
        found = json.loads(await self._operate("status", "-o", "json") or "{}")
        documents, log = found.get("documents", {"pending": 1}), found.get("log", [])
        unsettled = sum(documents.get(status, 0) for status in ("pending", "collecting"))
        return not unsettled and len(log) > self.PARTITIONS and not any(one["lag"] for one in log)

    async def judge(self) -> None:
        """As of a single one; and what only the server knows of several."""
        await super().judge()
        crowding, counts = self._simulated.crowding(), self._tally.counts
        left = await asyncio.to_thread(self._database.sql, "SELECT count(*) FROM outbox", _DATABASE)
        counts |= {"taken for dead": self._evicted, "requests at once": crowding["in_flight"]}
        if crowding["in_flight"] > IN_FLIGHT_MAX:
            self._tally.violations.append(f"{crowding['in_flight']} requests at once, {IN_FLIGHT_MAX} are allowed")
        if self._overlaps:
            self._tally.violations.append(f"{self._overlaps} writes came during another one on their document")
        if left != "0":
            self._tally.violations.append(f"{left} messages are left in the outbox")

    async def keep(self) -> None:
        """The store too, as a dump."""
        await super().keep()
        await self._save("store", asyncio.to_thread(self._dump))

    def _dump(self) -> None:
        shutil.copy(self._database.dump(_DATABASE), self._folder / STORE_DUMP)

    def close(self) -> None:
        """End what was started."""
        for replica in self._replicas:
            if replica.pid:
                replica.send(signal.SIGKILL)
        self._threads.shutdown()  # once all of them have ended
        for replica in self._replicas:
            replica.close()
        super().close()

    def _groups(self, in_flight_max: int) -> dict[str, dict[str, Any]]:
        groups = super()._groups(in_flight_max)
        groups["log"] |= {"session_s": SESSION_S}
        groups["store"] = {"url": self._database.url(_DATABASE), "evict_s": EVICT_S}
        return groups


async def run(options: Options, *, keep: bool = False, made: type[Crowd] = Crowd) -> Tally:
    """Run one plan to its verdict, on a PostgreSQL and a Kafka of its own: it restarts them."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # producers tell many times that the broker restarts
    # With the broker's own timestamps a replica whose clock is behind knows that, and blames no producer.
    stamped = {"log.message.timestamp.type": "LogAppendTime"}
    databases, broker = [postgres.Server(durable=True)], Apache(properties=stamped)
    try:
        await asyncio.gather(asyncio.to_thread(databases[0].start), asyncio.to_thread(broker.start))
        return await runner.run(options, broker, keep=keep, make=partial(made, databases=databases, broker=broker))
    finally:
        broker.stop()
        for database in databases:
            database.remove()
