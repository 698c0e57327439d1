"""
How long an event takes on an idle daemon: from when the log has it until Windchill receives the PATCH.

The log has an event once the call that appends it has returned: then Kafka has acknowledged it, or the file has the
line. What the broker needs for that, and the producer, is told, but it is no part of the result.

Events come one at a time at random moments, from a process of their own; the daemon and the simulated Windchill are two
more. The daemon's process notes when each step ends, and the simulated Windchill when it has the PATCH, all by the same
clock. Each event concerns a document whose token is known, so that its PATCH is the only request.
"""

# ruff: noqa: SLF001  the steps are noted where the daemon does them
import asyncio
import itertools
import math
import os
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import httpx
import orjson
from confluent_kafka import Producer

from benchmarks import engine, events, measure
from benchmarks.measure import Figures, Sample
from benchmarks.report import Finding, Report
from reconciler import app
from reconciler.cli import log_output, runtime
from reconciler.config import Config
from reconciler.simulator.server import Simulator
from reconciler.simulator.settings import Settings
from tests.brokers.apache import Apache

NAME = "latency"
_EVENTS, DOCUMENTS = 1_000, 50
_GAP_S = (0.1, 0.3)  # between two events, at random: longer than one takes
_PARTITIONS = 4
_TARGETS_MS: dict[str, dict[int, float | None]] = {
    "kafka": {50: 8.0, 95: None, 99: 20.0},
    "file": {50: 12.0, 95: None, 99: None},
}
_STEPS = ("appended", "fetched", "folded", "loaded", "intended", "received")  # appended: noted by the source
_HEADERS: list[tuple[str, str | bytes | None]] = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
_SHORT = "two waits for the disk come before each PATCH, and other work on this machine delays both."


def run(rounds: int, tell: Callable[[str], None]) -> Report:
    """Measure, `rounds` times `_EVENTS` events from each log; raises `apache.Unavailable` without Java or Maven."""
    load = measure.load()
    found: dict[str, list[Sample]] = {}
    server = Settings(port=0, documents=DOCUMENTS)
    with measure.scratch() as folder, Apache(partitions=_PARTITIONS) as kafka:
        for log, number in itertools.product(_TARGETS_MS, range(rounds)):
            with Simulator(server) as windchill:
                sample = measure.side(
                    __name__, "daemon", f"{log}-{number}", kafka.address(), windchill.url, folder, _EVENTS
                )
            found.setdefault(log, []).append(sample)
            tell(f"  round {number + 1}: {log:<6} {_account(sample)}")
        disk_ms = _disk_ms(folder)
    findings = [
        Finding(f"{log}, p{percent}, ms", Figures.of([_of(sample, percent) for sample in found[log]]), target, False)
        for log, targets in _TARGETS_MS.items()
        for percent, target in targets.items()
    ]
    return Report(
        NAME,
        f"{_EVENTS:,} single events at random moments, {_GAP_S[0] * 1000:.0f} to {_GAP_S[1] * 1000:.0f} ms apart, on an"
        f" idle daemon, for {DOCUMENTS} documents that it knows: from when {kafka.name} has acknowledged the event, or"
        " a file has it, until the simulated Windchill has the PATCH. The steps begin with the call that appends it.",
        findings,
        [
            *(f"Medians of the steps, ms, {log}: {_account(found[log][-1])}." for log in found),
            f"The same disk takes {disk_ms[0]:.2f} ms (median; p99 {disk_ms[1]:.2f}) to append 12 KB durably.",
        ],
        _SHORT,
        load,
    )


def _of(sample: Sample, percent: int) -> float:
    found: list[float] = sample.more["took"]
    return statistics.quantiles(found, n=100)[percent - 1]


def _account(sample: Sample) -> str:
    """Say how long each step takes after the one before."""
    ends = [0.0, *(statistics.median(sample.more[step]) for step in _STEPS)]
    steps = ", ".join(
        f"{step} {after - before:.2f}" for step, (before, after) in zip(_STEPS, itertools.pairwise(ends), strict=True)
    )
    whole = ", ".join(f"p{percent} {_of(sample, percent):.1f}" for percent in (50, 95, 99))
    return f"{steps}; {whole}; {sample.more['commits']:.2f} transactions and {sample.cpu_us / 1000:.1f} ms of processor"


def _disk_ms(folder: Path) -> tuple[float, float]:
    """Return median and 99th percentile of a durable append."""
    took_s = []
    with (folder / "disk").open("wb", buffering=0) as file:
        for _ in range(300):
            began_s = time.perf_counter()
            file.write(bytes(12 * 1024))
            os.fdatasync(file.fileno())
            took_s.append(time.perf_counter() - began_s)
            time.sleep(0.01)
    found = statistics.quantiles(took_s, n=100)
    return found[49] * 1000, found[98] * 1000


# ----------------------------------------------------------------------------------------------------------- the daemon


@attrs.define
class _Notes:
    """When which step of any event ended, by this machine's clock; and how many transactions there were."""

    ends: dict[str, list[float]] = attrs.field(factory=lambda: {step: [] for step in _STEPS})
    commits: int = 0

    def follow(self, owner: Any, method: str, step: str) -> None:
        """Note whenever a method returns something."""
        call: Callable[..., Awaitable[Any]] = getattr(owner, method)

        async def followed(*given: Any, **more: Any) -> Any:
            answer = await call(*given, **more)
            if answer is None or answer:  # not: a fetch without records
                self.ends[step].append(time.time())
            return answer

        setattr(owner, method, followed)

    def count(self, store: Any) -> None:
        """Count the durable transactions of a store."""
        database = store._database
        write = database.write

        async def counted(*given: Any) -> Any:
            self.commits += 1
            return await write(*given)

        database.write = counted


def daemon(name: str, brokers: str, url: str, folder: str, count: str) -> Sample:
    """Run the daemon while another process appends the events; return when each step of them ended."""
    log_output.configure("info", asked_for=False)
    return runtime.run(_daemon(name, brokers, url, Path(folder), int(count)))


async def _daemon(name: str, brokers: str, url: str, folder: Path, count: int) -> Sample:
    log = name.partition("-")[0]
    database, file = folder / f"{name}.db", folder / f"{name}.jsonl"
    file.touch()
    config = _configured(engine.configured(folder, database, url), log, brokers, name, file)
    place = (brokers, name) if log == "kafka" else (str(file), "")
    notes, stop = _Notes(), asyncio.Event()
    async with app.daemon(config) as daemon:
        notes.follow(daemon.log, "fetch", "fetched")
        notes.follow(daemon.store, "fold", "folded")
        notes.follow(daemon.store, "documents", "loaded")
        notes.follow(daemon.store, "intend", "intended")
        notes.count(daemon.store)
        task = asyncio.create_task(daemon.run(stop))
        await daemon._writable.wait()
        await asyncio.to_thread(measure.side, __name__, "feed", *place, 1, DOCUMENTS)
        await engine._written(daemon, DOCUMENTS)  # every token is known from here on
        before = notes.commits
        with measure.stopwatch() as watch:
            fed = await asyncio.to_thread(measure.side, __name__, "feed", *place, DOCUMENTS + 1, count)
            await engine._written(daemon, DOCUMENTS + count)
            sample = watch(count)
        commits = (notes.commits - before) / count
        stop.set()
        await task
    measure.remove(database)
    sent = fed.more["sent"]
    steps = {step: _after(sent, ends) for step, ends in notes.ends.items()}
    steps["appended"] = [(at_s - sent_s) * 1000 for at_s, sent_s in zip(fed.more["appended"], sent, strict=True)]
    steps["received"] = await _received(url, sent)
    took = [received - appended for received, appended in zip(steps["received"], steps["appended"], strict=True)]
    return attrs.evolve(sample, more={**steps, "took": took, "commits": commits})


def _configured(config: Config, log: str, brokers: str, name: str, file: Path) -> Config:
    if log == "file":
        return attrs.evolve(config, log=attrs.evolve(config.log, path=str(file)))
    return attrs.evolve(
        config,
        log=attrs.evolve(
            config.log,
            kind="kafka",
            brokers=(brokers,),
            topic=name,
            decisions_topic=f"{name}.decisions",
            outcomes_topic=f"{name}.outcomes",
            dead_letter_topic=f"{name}.dead-letters",
        ),
    )


async def _received(url: str, sent: Sequence[float]) -> list[float]:
    """Return how many milliseconds after each event was sent Windchill had its PATCH."""
    async with httpx.AsyncClient(base_url=url) as client:
        history = (await client.get("/_control/history")).json()["items"]
    at_s = {
        entry["changes"]["title"][1]: datetime.fromisoformat(entry["time"]).timestamp()
        for entry in history
        if "title" in entry["changes"]
    }
    return [(at_s[title(number)] - sent_s) * 1000 for number, sent_s in enumerate(sent, DOCUMENTS + 1)]


def _after(sent: Sequence[float], ends: Sequence[float]) -> list[float]:
    """Return how many milliseconds after each event was sent a step ended; none for events that met the next one."""
    found, place = [], 0
    for at_s, next_s in itertools.pairwise([*sent, math.inf]):
        while place < len(ends) and ends[place] < at_s:
            place += 1
        if place < len(ends) and ends[place] < next_s:
            found.append((ends[place] - at_s) * 1000)
    return found


# ----------------------------------------------------------------------------------------------------------- the source


def feed(place: str, topic: str, first: str, count: str) -> Sample:
    """Append events, one at a time, at random moments; return when each was sent, and when the log had it."""
    append = _to_kafka(place, topic) if topic else _to_file(Path(place))
    chance, sent, appended = random.Random(f"latency {first}"), [], []
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    for number in range(int(first), int(first) + int(count)):
        time.sleep(chance.uniform(*_GAP_S))
        key = events.key(number % DOCUMENTS + 1)
        event = _event(number, key)
        sent.append(time.time())
        append(key, event)
        appended.append(time.time())
    took = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    return Sample(int(count), *took, {"sent": sent, "appended": appended})


def _to_kafka(brokers: str, topic: str) -> Callable[[str, bytes], None]:
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 0})

    def append(key: str, event: bytes) -> None:
        producer.produce(topic, event, key.encode(), headers=_HEADERS)
        producer.flush()

    return append


def _to_file(path: Path) -> Callable[[str, bytes], None]:
    file = path.open("ab", buffering=0)

    def append(_: str, event: bytes) -> None:
        file.write(event + b"\n")

    return append


def title(number: int) -> str:
    """Return what an event sets, by which its PATCH is known."""
    return f"Bracket {number}, drawing"


def _event(number: int, key: str) -> bytes:
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": f"0b8f2c1e-77aa-4d0c-9a50-{number:012d}",
            "source": "//erp/prod",
            "type": "windchill.document.changed.v1",
            "subject": key,
            "time": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "datacontenttype": "application/json",
            "actor": "jdoe",
            "data": {"set": {"title": title(number)}, "reason": "ECN-2231 approved"},
        }
    )
