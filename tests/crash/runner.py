"""One run: lives until enough of them were killed, then peace, then the judgement."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
from aiokafka import AIOKafkaProducer

from reconciler import config as configuration
from reconciler.config import Config
from reconciler.simulator.server import Simulator
from reconciler.simulator.settings import Behaviour, Settings
from tests import brokers
from tests.adapters.simulated import Simulated
from tests.brokers.fixtures import topic_factory
from tests.crash import checks, plan, workload
from tests.crash.evidence import Evidence
from tests.crash.launch import COUNT_COPIES, Launcher
from tests.crash.plan import Life
from tests.crash.strikes import STRUCK
from tests.patience import HANG_S

DOCUMENTS = 30
KEYS = tuple(f"{number:010d}" for number in range(1, DOCUMENTS + 1))
_LIFE_S_MAX = 4.0  # a strike that has not come by then is replaced by a kill from outside
VERDICT = "verdict.json"  # in the folder of a run that failed
_ROOT = Path(__file__).parent.parent.parent


@attrs.frozen
class Options:
    """What is asked for."""

    seed: int = 1
    kills: int = 300
    mutant: str | None = None
    kinds: tuple[str, ...] = ()  # of ends; none: all
    events_per_second: float = 20.0
    operator_every_s: float = 4.0


@attrs.define
class Tally:
    """What a run came to."""

    seed: int
    kills: Counter[str] = attrs.field(factory=Counter)  # by point
    lives: int = 0
    in_order: int = 0
    seconds: float = 0.0
    counts: dict[str, int] = attrs.field(factory=dict)
    violations: list[str] = attrs.field(factory=list)
    folder: Path | None = None  # kept when something was broken


class Broken(Exception):
    """The program did what it must not while it lived."""


async def run(
    options: Options, broker: brokers.Server, *, keep: bool = False, make: "Callable[..., Crashes] | None" = None
) -> Tally:
    """Run one plan to its verdict; `make` puts the run together."""
    folder = Path(tempfile.mkdtemp(prefix="crash-"))
    began_s = time.monotonic()
    behaviour = Behaviour(modified_on_precision="microseconds", cleared_fields="null")
    settings = Settings(port=0, documents=DOCUMENTS, seed=options.seed, behaviour=behaviour)
    tally = Tally(options.seed)
    with Simulator(settings) as simulator:
        crashes = (make or Crashes)(options, folder, Simulated(simulator.url), tally)
        try:
            await crashes.prepare(broker)
            await crashes.suffer()
            await crashes.come_to_rest()
            await crashes.judge()
        except Broken as error:
            tally.violations.append(str(error))
        except Exception:  # noqa: BLE001  whatever ends a run is its verdict, and its folder is kept
            tally.violations.append(traceback.format_exc())
        try:
            if tally.violations or keep:
                tally.folder = folder
                tally.seconds = time.monotonic() - began_s
                await crashes.keep()
        finally:
            crashes.close()
    tally.seconds = time.monotonic() - began_s
    if tally.folder is None:
        remove(folder)
    return tally


class Crashes:
    """The parts of one run, and its phases in their order."""

    PARTITIONS = 2
    GROUP = "crash"

    def __init__(self, options: Options, folder: Path, simulated: Simulated, tally: Tally) -> None:
        self._options = options
        self._folder = folder
        self._simulated = simulated
        self._tally = tally
        self._daemon = Launcher(folder, "daemon", options.mutant)
        self._command = Launcher(folder, "operator")
        self._resolved: list[str] = []
        self._configs: dict[int, Config] = {}
        self._gathered = False
        self._lost = False  # whether the store has lost commits

    async def prepare(self, broker: brokers.Server) -> None:
        """Topics, configurations, and the documents as they were before anyone touched them."""
        make = topic_factory(broker)
        self._topics = [
            await make(self.PARTITIONS, "changes"),
            await make(1, "outcomes"),
            await make(1, "dead-letters"),
        ]
        self._decisions = await make(1, "decisions")
        self._brokers = list(broker.brokers)
        self._producers = workload.Producers(self._options.seed, KEYS, self._topics[0], lambda: time.time_ns() // 1000)
        self._load_configs()
        self._initial = {key: self._simulated.document(key) for key in KEYS}

    def _load_configs(self) -> None:
        for number in range(plan.POLICIES):
            self._configs[number] = configuration.load(self._write_config(number, 4), {})

    async def suffer(self) -> None:
        """Live, die and live again, while everyone else goes on."""
        async with self._meanwhile() as others:
            for life in plan.lives(self._options.seed, self._options.kinds):
                await self._live(life)
                if self._tally.kills.total() >= self._options.kills or any(task.done() for task in others):
                    break

    @contextlib.asynccontextmanager
    async def _meanwhile(self) -> AsyncIterator[list[asyncio.Task[None]]]:
        """Let everyone else go on until the block ends: producers, rivals, the weather, an operator."""
        seed, over = self._options.seed, asyncio.Event()
        async with self._producer() as producer:
            await self._producers.first(producer)
            others = [
                asyncio.create_task(self._producers.run(producer, self._options.events_per_second, over)),
                asyncio.create_task(workload.make_weather(self._simulated, seed, KEYS, over)),
                asyncio.create_task(
                    workload.operate(seed, self._operate, self._resolved, self._options.operator_every_s, over)
                ),
            ]
            try:
                yield others
            finally:
                over.set()
                await asyncio.gather(*others)

    def calm(self) -> None:
        """Let faults stop and rivals rest."""
        self._simulated.rivals(per_second=0)
        self._simulated.faults(**plan.FAIR)
        self._simulated.behave(write_reply="document", write_etag=True)

    async def come_to_rest(self) -> None:
        """Everything settles in peace, and is compared once more."""
        self.calm()
        path = self._write_config(0, 4)
        await self._once(path)
        retried = await self._operate("docs", "retry", *KEYS)
        if not retried:
            raise Broken("`docs retry` failed")
        await self._once(path)
        await self._hear_everything_again(path)
        replayed = f"sqlite:///{self._folder}/{checks.REPLAYED}"
        if not await self._operate("replay", "--from", "kafka", "--into", replayed, "-o", "json"):
            raise Broken("`replay` failed")
        if not await self._operate("audit", "verify", "-o", "json"):
            raise Broken("`audit verify` found a broken chain")

    async def _hear_everything_again(self, path: Path) -> None:
        """Append every event once more: nothing that was written or edited since may move for a copy."""
        before = await asyncio.to_thread(self._simulated.whole_history)
        async with self._producer() as producer:
            await self._producers.everything_again(producer)
        await self._once(path, mistaken=self._options.mutant == COUNT_COPIES)
        after = await asyncio.to_thread(self._simulated.whole_history)
        if len(after) > len(before):
            raise Broken(f"copies of events have changed Windchill: {after[len(before) :][:3]}")

    async def judge(self) -> None:
        """Hold against each other what the server, the topics and the store say."""
        violations, counts = await checks.check(await self._gather(), self._folder, lost=self._lost)
        self._tally.violations.extend(violations)
        self._tally.counts = counts | {
            "events": len(self._producers.ids),
            "copies of events": self._producers.copies,
            "conflicts resolved by the operator": len(self._resolved),
            **{f"requests met: {name}": count for name, count in self._counted("faults").items()},
        }

    async def keep(self) -> None:
        """Write into the folder what is complained about, and all that it can be judged by once more."""
        tally = attrs.asdict(self._tally) | {"folder": str(self._folder), "commit": commit()}
        (self._folder / VERDICT).write_text(json.dumps(tally, indent=1))
        if not self._gathered:  # it has ended before its judgement
            await self._save("topics and history", self._gather())

    async def _save(self, what: str, work: Awaitable[Any]) -> None:
        """Do it if it can be done: what is at hand must not be lost with it."""
        try:
            await asyncio.wait_for(work, HANG_S)
        except Exception:  # noqa: BLE001  a broker or server that is down is no reason to keep nothing
            (self._folder / f"no {what}.txt").write_text(traceback.format_exc())

    async def _gather(self) -> Evidence:
        evidence = await Evidence.gathered(
            config=self._configs[0],
            policies=[config.policy for config in self._configs.values()],
            initial=self._initial,
            history=await asyncio.to_thread(self._simulated.whole_history),
            producers=self._producers,
        )
        evidence.keep(self._folder)
        self._gathered = True
        return evidence

    def _counted(self, what: str) -> dict[str, int]:
        """What the server has counted."""
        return dict(self._simulated._control.get("/stats").raise_for_status().json()[what])

    def close(self) -> None:
        """End what was started."""
        self._daemon.close()
        self._command.close()
        self._simulated.close()

    # ----------------------------------------------------------------------------------------------------------- lives

    async def _live(self, life: Life) -> None:
        """One process from its start to its end."""
        path = self._write_config(life.policy, life.in_flight_max)
        strike = attrs.asdict(life.strike) if life.strike else None
        pid = self._daemon.start(["run", "-c", str(path)], strike)
        self._tally.lives += 1
        ended = asyncio.create_task(asyncio.to_thread(self._daemon.wait))
        kind = life.kind
        try:
            await asyncio.wait({ended}, timeout=life.after_s if life.strike is None else _LIFE_S_MAX)
            if not ended.done() and life.end in (plan.IN_ORDER, plan.STOPPING):
                send(pid, signal.SIGTERM)
                timeout_s = HANG_S if life.end == plan.IN_ORDER else life.grace_s
                await asyncio.wait({ended}, timeout=timeout_s)
                if not ended.done() and life.end == plan.IN_ORDER:
                    raise Broken(f"life {life.number}: still running {HANG_S:.0f} s after SIGTERM")
            if not ended.done():
                kind = plan.AT_WORK if life.strike else kind
        finally:
            if not ended.done():
                send(pid, signal.SIGKILL)
            status = await ended
        self._count(life, kind, status)

    def _count(self, life: Life, kind: str, status: int) -> None:
        """Judge how a process has ended; nothing here but a signal may end it."""
        if status == -signal.SIGKILL:
            self._tally.kills[kind] += 1
            if life.strike and kind == life.kind and STRUCK not in self._said(300):
                raise Broken(f"life {life.number}: killed by someone else")
        elif status in (0, -signal.SIGTERM) and life.end in (plan.IN_ORDER, plan.STOPPING):
            self._tally.in_order += 1  # -SIGTERM: it came before the program had asked for it
        else:
            raise Broken(f"life {life.number} ({life.kind}) ended by itself, status {status}: {self._said()}")

    async def _once(self, path: Path, *, mistaken: bool = False) -> None:
        """Run until everything is settled, or waits for a person."""
        pid = self._daemon.start(["run", "--once", "-o", "json", "--debug", "-c", str(path)], mistaken=mistaken)
        status = await _ended(self._daemon, pid, HANG_S)
        if status is None:
            raise Broken(f"not settled {HANG_S:.0f} s after the faults had stopped: {self._said()}")
        if status not in (0, 3):
            raise Broken(f"`run --once` ended with {status}: {self._said()}")

    async def _operate(self, *arguments: str) -> str:
        """A command that a user gives; returns what it prints, nothing if it fails."""
        path = self._folder / "operator.toml"
        if not path.exists():
            path.write_text(self._config_text(0, 4))
        self._command.stdout.unlink(missing_ok=True)
        pid = self._command.start([*arguments, "-c", str(path)])
        status = await _ended(self._command, pid, HANG_S)
        if status is None:
            raise Broken(f"`reconciler {' '.join(arguments)}` hangs")
        return self._command.stdout.read_text() if status == 0 else ""

    def _said(self, characters: int = 2000) -> str:
        return self._daemon.stderr.read_text(errors="replace")[-characters:]

    @contextlib.asynccontextmanager
    async def _producer(self) -> AsyncIterator[AIOKafkaProducer]:
        patience_ms = int(HANG_S * 1000)  # for a broker that is being restarted
        brokers = self._brokers
        producer = AIOKafkaProducer(bootstrap_servers=brokers, acks="all", linger_ms=0, request_timeout_ms=patience_ms)
        await producer.start()
        try:
            yield producer
        finally:
            await producer.stop()

    def _write_config(self, policy: int, in_flight_max: int) -> Path:
        path = self._folder / "reconciler.toml"
        path.write_text(self._config_text(policy, in_flight_max))
        return path

    def _config_text(self, policy: int, in_flight_max: int) -> str:
        text = "".join(f"[{name}]\n{_toml(keys)}" for name, keys in self._groups(in_flight_max).items())
        return text + "".join(f"[[policy]]\n{_toml(rule)}" for rule in plan.policy_rules(self._options.seed, policy))

    def _groups(self, in_flight_max: int) -> dict[str, dict[str, Any]]:
        """The configuration, save for its policy."""
        return {
            "log": {
                "brokers": self._brokers,
                "topic": self._topics[0],
                "decisions_topic": self._decisions,
                "outcomes_topic": self._topics[1],
                "dead_letter_topic": self._topics[2],
                "group": self.GROUP,
                "fetch_records_max": 50,
            },
            "store": {"url": f"sqlite:///{self._folder}/state.db"},
            "windchill": {"base_url": self._simulated.url, "in_flight_max": in_flight_max, "timeout_s": 3},
            "retry": {"backoff_base_s": 0.05, "backoff_max_s": 0.5, "cooldown_base_s": 0.3, "cooldown_max_s": 1.0},
            "resync": {"interval_s": 2, "interval_factor_max": 2},
            "admin": {"bind": ""},
        }


async def _ended(launcher: Launcher, pid: int, within_s: float) -> int | None:
    """How it has ended; None if it had not by then, and was killed."""
    ended = asyncio.create_task(asyncio.to_thread(launcher.wait))
    await asyncio.wait({ended}, timeout=within_s)
    if ended.done():
        return ended.result()
    os.kill(pid, signal.SIGKILL)
    await ended
    return None


def _toml(keys: dict[str, Any]) -> str:
    """JSON's strings, numbers and lists of strings are TOML's too."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in keys.items())


def send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
        os.kill(pid, number)


def remove(folder: Path) -> None:
    """Take a run's folder away."""
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def commit() -> str:
    """The program's version, for the report of a failure."""
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=_ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def command(options: Options) -> str:
    """What to type to have the same plan again."""
    more = f" --mutant {options.mutant}" if options.mutant else ""
    more += "".join(f" --at '{kind}'" for kind in options.kinds)
    return f"python -m tests.crash --seed {options.seed} --kills {options.kills}{more}"
