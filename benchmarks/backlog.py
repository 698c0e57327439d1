"""
A backlog of ten million events on Apache Kafka before a slow Windchill: whether the daemon's memory depends on it.

The daemon runs as `reconciler run` does, from an empty store, and is looked at from outside once a second: resident
memory from /proc, what is folded from the positions in its store, what is settled from its audit trail. Beside the
large log stand a tenth of it, the same number of events for a single document, and a hundred times as many requests in
flight.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import attrs
from confluent_kafka import Producer

from benchmarks import events, measure
from benchmarks.measure import Figures
from benchmarks.report import Finding, Report
from reconciler.simulator.server import Simulator
from reconciler.simulator.settings import Faults, Settings
from tests.brokers.apache import Apache

NAME = "backlog"
_LARGE, _SMALL, _DOCUMENTS = 10_000_000, 1_000_000, 200_000
_PARTITIONS = 8
_IN_FLIGHT, _WIDE = 4, 400
_REPLY_MS = 50.0
_WRITING_S = 90.0  # of looking on once everything is folded
_FOLDING_S_MAX = 3600.0
_STOP_S_MAX = 120.0
_MARKS = (1, 2, 5, 10)  # millions of events folded
_TARGET = 1.2
_FOLDED = "SELECT coalesce(sum(next_offset), 0) FROM position WHERE topic = ?"  # outcomes have positions too
_HEADERS: list[tuple[str, str | bytes | None]] = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
_SHORT = "something is kept for each event of the backlog, or for each document."


@attrs.frozen
class _Look:
    """The daemon at one moment."""

    at_s: float
    rss_mib: float
    folded: int
    settled: int


@attrs.frozen
class Watched:
    """A daemon from its start until it had been writing for a while."""

    looks: list[_Look]
    peak_mib: float
    folding_s: float  # with the start of the process, which takes a second or two
    events: int
    store_mib: float

    def at(self, folded: int) -> float:
        """Resident memory once so many events were folded."""
        return next(look.rss_mib for look in self.looks if look.folded >= folded)

    @property
    def writing(self) -> list[_Look]:
        """What was seen after the last event was folded."""
        return [look for look in self.looks if look.folded >= self.events]


def run(rounds: int, tell: Callable[[str], None]) -> Report:
    """Measure, `rounds` times each but for the two that are only for comparison; raises `apache.Unavailable`."""
    server = Settings(port=0, documents=_DOCUMENTS, faults=Faults(slow_ms=_REPLY_MS))
    with measure.scratch() as folder, Apache(partitions=_PARTITIONS) as kafka, Simulator(server) as windchill:

        def fill(topic: str, count: int, documents: int) -> None:
            began_s = time.monotonic()
            asyncio.run(kafka.create_topic(topic, _PARTITIONS))
            fill_topic(kafka.address(), topic, events.generated(count, documents))
            tell(f"  {count:,} events for {documents:,} documents in {time.monotonic() - began_s:.0f} s")

        def watch(topic: str, count: int, in_flight: int = _IN_FLIGHT) -> Watched:
            found = watched(kafka.address(), topic, windchill.url, folder, count=count, in_flight=in_flight)
            tell(f"  {topic}, {in_flight} in flight: {_summary(found)}")
            return found

        fill("small", _SMALL, _DOCUMENTS)
        fill("large", _LARGE, _DOCUMENTS)
        load = measure.load()
        pairs = [(watch("small", _SMALL), watch("large", _LARGE)) for _ in range(rounds)]
        wide = watch("small", _SMALL, _WIDE)
        fill("hot", _LARGE, 1)
        hot = watch("hot", _LARGE)
    small, large = pairs[-1]
    return Report(
        NAME,
        f"`reconciler run` from an empty store on {_LARGE:,} events over {_DOCUMENTS:,} documents in {kafka.name}"
        f" ({_PARTITIONS} partitions, lz4), before a simulated Windchill that takes {_REPLY_MS:.0f} ms for each reply,"
        f" {_IN_FLIGHT} in flight; watched once a second until it had folded everything and written for"
        f" {_WRITING_S:.0f} s. Compared with {_SMALL:,} events over the same documents.",
        [
            Finding(
                f"peak memory / with {_SMALL:,} events",
                Figures.of([many.peak_mib / few.peak_mib for few, many in pairs]),
                _TARGET,
                False,
            ),
            Finding("peak memory, MiB", Figures.of([many.peak_mib for _, many in pairs]), None, False, ".0f"),
            Finding(
                "events folded a second", Figures.of([_LARGE / many.folding_s for _, many in pairs]), None, True, ",.0f"
            ),
        ],
        [
            (
                f"Resident MiB at {_at_marks(large)}; {_in_writing(large)}."
                f" With {_SMALL:,} events: peak {small.peak_mib:.0f}, {_in_writing(small)}."
            ),
            f"Store: {large.store_mib:,.0f} MiB after {_LARGE:,} events, {small.store_mib:,.0f} after {_SMALL:,}.",
            (
                f"{_LARGE:,} events for one document: peak {hot.peak_mib:.0f} MiB,"
                f" {_LARGE / hot.folding_s:,.0f} events a second, store {hot.store_mib:,.0f} MiB."
                f" {_SMALL:,} events with {_WIDE} in flight: peak {wide.peak_mib:.0f} MiB, {_in_writing(wide)}."
            ),
        ],
        _SHORT,
        load,
    )


def _at_marks(found: Watched) -> str:
    millions = " / ".join(map(str, _MARKS))
    return f"{millions} million events folded: " + " / ".join(f"{found.at(mark * 1_000_000):.0f}" for mark in _MARKS)


def _in_writing(found: Watched) -> str:
    first, last = found.writing[0], found.writing[-1]
    most = max(look.rss_mib for look in found.writing)
    rate = (last.settled - first.settled) / (last.at_s - first.at_s)
    return f"while writing {most:.0f} at most and {last.rss_mib:.0f} at the end ({rate:,.0f} attempts a second)"


def _summary(found: Watched) -> str:
    return (
        f"peak {found.peak_mib:.0f} MiB, folded {found.events / found.folding_s:,.0f}/s, {_in_writing(found)},"
        f" store {found.store_mib:,.0f} MiB"
    )


# -------------------------------------------------------------------------------------------------------------- the log


def fill_topic(brokers: str, topic: str, told: Iterable[tuple[str, bytes]]) -> None:
    """Append events, each under its document's key."""
    producer = Producer(
        {
            "bootstrap.servers": brokers,
            "compression.type": "lz4",
            "linger.ms": 50,
            "batch.size": 512 * 1024,
            "queue.buffering.max.messages": 200_000,
        }
    )
    for subject, event in told:
        while True:
            try:
                producer.produce(topic, event, subject.encode(), headers=_HEADERS)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(120) == 0, f"{topic}: not every event was acknowledged"


# ----------------------------------------------------------------------------------------------------------- the daemon


def watched(
    brokers: str, topic: str, url: str, folder: Path, *, count: int, in_flight: int, writing_s: float = _WRITING_S
) -> Watched:
    """Run the daemon until it has folded so many events, and for a while longer; look at it all the time."""
    database, said = folder / "state.db", folder / "daemon.log"
    settings = {
        "RECONCILER_LOG__BROKERS": brokers,
        "RECONCILER_LOG__TOPIC": topic,
        "RECONCILER_LOG__DECISIONS_TOPIC": f"{topic}.decisions",
        "RECONCILER_LOG__OUTCOMES_TOPIC": f"{topic}.outcomes",
        "RECONCILER_LOG__DEAD_LETTER_TOPIC": f"{topic}.dead-letters",
        "RECONCILER_STORE__URL": f"sqlite:///{database}",
        "RECONCILER_WINDCHILL__BASE_URL": url,
        "RECONCILER_WINDCHILL__IN_FLIGHT_MAX": str(in_flight),
        "RECONCILER_ADMIN__BIND": "",
    }
    order = [sys.executable, "-m", "reconciler", "run"]
    with said.open("wb") as stderr:
        child = subprocess.Popen(order, env=os.environ | settings, stderr=stderr, cwd=folder)
    try:
        looks: list[_Look] = []
        folded_s = _FOLDING_S_MAX
        for look in _looks(child.pid, database, topic):
            assert child.poll() is None, f"the daemon ended:\n{said.read_text()[-4000:]}"
            looks.append(look)
            if look.folded >= count:
                folded_s = min(folded_s, look.at_s)
            if look.at_s - folded_s > writing_s:
                break
            assert look.at_s < _FOLDING_S_MAX, f"{look.folded:,} of {count:,} events in {_FOLDING_S_MAX:.0f} s"
        store_mib = sum(file.stat().st_size for file in folder.glob("state.db*")) / 2**20
        return Watched(looks, measure.peak_mib(child.pid), folded_s, count, store_mib)
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        measure.remove(database)


def _looks(pid: int, database: Path, topic: str) -> Iterator[_Look]:
    began_s = time.monotonic()
    for second in itertools.count(1):
        time.sleep(max(0.0, began_s + second - time.monotonic()))
        folded, settled = _progress(database, topic)
        yield _Look(time.monotonic() - began_s, _rss_mib(pid), folded, settled)


def _progress(database: Path, topic: str) -> tuple[int, int]:
    """Return how many events are folded and how many attempts have ended, by the store."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            (folded,) = connection.execute(_FOLDED, (topic,)).fetchone()
            (settled,) = connection.execute("SELECT coalesce(max(id), 0) FROM audit").fetchone()
            return folded, settled
    except sqlite3.OperationalError:  # not made yet
        return 0, 0


def _rss_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
