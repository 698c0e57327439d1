"""Several replicas to measure: processes over one store, what they and PostgreSQL need, and the log that feeds them."""

import asyncio
import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import attrs
from confluent_kafka import Producer

from benchmarks import events, measure
from benchmarks.measure import Sample
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.postgres import Address, migrate_store
from reconciler.cli import log_output
from reconciler.cli import main as command_line
from reconciler.flows.reconcile import Reconciler
from tests import postgres
from tests.brokers.apache import Apache

PARTITIONS = 8
IN_FLIGHT_MAX = 16
_HEADERS: list[tuple[str, str | bytes | None]] = [("content-type", b"application/cloudevents+json; charset=UTF-8")]
_NUMBERS = itertools.count(1)  # of settings: topics outlive the place that they were made for
_TOPICS = ("changes", "decisions", "outcomes", "dead-letters")
_WAIT_S_MAX = 300.0
_LOOK_S = 0.1
_SETTLE_S = 3.0  # after the last start: a group divides its partitions, members learn of each other


class Sql:
    """One connection to a database, for questions that are short."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection = self._loop.run_until_complete(asyncpg.connect(url))

    def __call__(self, statement: str) -> Any:
        """Return the first value of an answer."""
        return self._loop.run_until_complete(self._connection.fetchval(statement))

    def rows(self, statement: str) -> Sequence[Any]:
        """Return the rows of an answer."""
        return list(self._loop.run_until_complete(self._connection.fetch(statement)))

    def until(self, statement: str, wanted: object) -> None:
        """Wait until an answer is as wanted."""
        end_s = time.monotonic() + _WAIT_S_MAX
        while (found := self(statement)) != wanted:
            assert time.monotonic() < end_s, f"{statement} gives {found}, not {wanted}"
            time.sleep(_LOOK_S)

    def close(self) -> None:
        """Let go of the connection."""
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()


@attrs.frozen
class Place:
    """Where replicas work: a log, a Windchill, and a PostgreSQL with a migrated template."""

    kafka: Apache
    windchill: str
    database: postgres.Server
    folder: Path

    def config(self, *, sqlite: bool = False, **settings: str) -> "Setting":
        """Return the configuration of replicas with a store and topics of their own."""
        name = f"run-{next(_NUMBERS)}"
        for topic in _TOPICS:
            partitions = PARTITIONS if topic == "changes" else 1
            asyncio.run(self.kafka.create_topic(f"{name}.{topic}", partitions))
        url = f"sqlite:///{self.folder}/{name}.db" if sqlite else self.database.new()
        path = self.folder / f"{name}.toml"
        more = "".join(f"[{group}]\n{text}\n" for group, text in settings.items())
        path.write_text(
            f"[log]\nbrokers = {json.dumps(self.kafka.brokers)}\n"
            f'topic = "{name}.changes"\ndecisions_topic = "{name}.decisions"\n'
            f'outcomes_topic = "{name}.outcomes"\ndead_letter_topic = "{name}.dead-letters"\ngroup = "{name}"\n'
            f'[store]\nurl = "{url}"\n'
            f'[windchill]\nbase_url = "{self.windchill}"\nin_flight_max = {IN_FLIGHT_MAX}\n'
            f'[admin]\nbind = ""\n{more}'
            '[[policy]]\nfields = ["*"]\nstrategy = "external"\n'
        )
        return Setting(path, name, url)

    def used_s(self) -> float:
        """Return the processor time of PostgreSQL so far."""
        postmaster = self.database.pid
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text(encoding="ascii").split()
        return measure.cpu_s(postmaster) + sum(_used_s(int(child)) for child in children)


@attrs.frozen
class Setting:
    """What replicas are told."""

    path: Path
    topic: str
    url: str


def _used_s(pid: int) -> float:
    try:
        return measure.cpu_s(pid)
    except (FileNotFoundError, ProcessLookupError):  # it has ended, and counts as its parent's
        return 0.0


def migrated(server: postgres.Server) -> None:
    """Start a server with a template of the store."""
    server.start()
    server.sql(f"CREATE DATABASE {postgres.TEMPLATE}")
    asyncio.run(migrate_store(Address(server.url(postgres.TEMPLATE)), SystemClock()))


class Replicas:
    """Processes of one store, in the order of their starts."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._processes: list[subprocess.Popen[bytes]] = []
        self.sql: Sql | None = None if setting.url.startswith("sqlite") else Sql(setting.url)

    def start(self, *, only_fold: bool = False) -> None:
        """Start one more, and wait until it is there."""
        number = len(self._processes)
        said = self._setting.path.with_suffix(f".{number}.log")
        order = [sys.executable, "-m", "benchmarks.crowd", "fold" if only_fold else "all", str(self._setting.path)]
        with said.open("wb") as file:
            self._processes.append(subprocess.Popen(order, stderr=file, cwd=Path(__file__).parents[1]))
        end_s = time.monotonic() + _WAIT_S_MAX
        while b'"started"' not in (text := said.read_bytes()):
            running = self._processes[-1].poll() is None and time.monotonic() < end_s
            assert running, f"a replica did not start: {text.decode(errors='replace')[-2000:]}"
            time.sleep(_LOOK_S)

    def used_s(self) -> list[float]:
        """Return the processor time of each so far."""
        return [measure.cpu_s(process.pid) for process in self._processes]

    def send(self, place: int, number: signal.Signals) -> float:
        """Send one a signal; return when that was, by the time of day."""
        self._processes[place].send_signal(number)
        return time.time()

    def close(self) -> None:
        """End them all."""
        if self.sql is not None:
            self.sql.close()
        for process in self._processes:
            process.kill()
            process.wait()


@contextmanager
def replicas(setting: Setting, count: int, *, only_fold: bool = False) -> Iterator[Replicas]:
    """So many replicas, until the block ends."""
    crowd = Replicas(setting)
    try:
        for _ in range(count):
            crowd.start(only_fold=only_fold)
        time.sleep(_SETTLE_S)
        yield crowd
    finally:
        crowd.close()


@contextmanager
def used(place: Place, crowd: Replicas) -> Iterator[Callable[[int], Sample]]:
    """Yield what makes a sample of the time since: the processor time of all replicas, and PostgreSQL's beside it."""
    wall_s, client_s, server_s = time.perf_counter(), sum(crowd.used_s()), place.used_s()

    def sample(count: int) -> Sample:
        took_s = time.perf_counter() - wall_s
        server_us = (place.used_s() - server_s) / count * 1e6
        return Sample(count, took_s, sum(crowd.used_s()) - client_s, {"server_us": server_us})

    yield sample


# ------------------------------------------------------------------------------------------------------ other processes


def feed(brokers: str, topic: str, archive: str) -> Sample:
    """Append all events of a file, as fast as the broker takes them."""
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 5})
    with Path(archive).open("rb") as lines, measure.stopwatch() as stop:
        count = 0
        for count, line in enumerate(lines, 1):  # noqa: B007  it is used below
            subject = line.partition(b'"subject":"')[2].partition(b'"')[0]
            producer.produce(f"{topic}.changes", line.rstrip(), subject, headers=_HEADERS)
            producer.poll(0)
        producer.flush()
        return stop(count)


def one_each(path: Path, count: int, turn: int) -> None:
    """Write a file with an event for each of so many documents."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(1, count + 1):
            event = {
                "specversion": "1.0",
                "id": f"{turn}-{number}",
                "source": "//erp/prod",
                "type": "windchill.document.changed.v1",
                "subject": events.key(number),
                "time": f"2026-03-02T06:{turn:02d}:00.000000Z",
                "data": {"set": {"title": f"Bracket {number}, drawing {turn}"}},
            }
            file.write(json.dumps(event, separators=(",", ":")) + "\n")


def main() -> None:
    """`python -m benchmarks.crowd all|fold CONFIG`: run a replica, which makes no attempts if it is only to fold."""
    what, config = sys.argv[1:]
    if what == "fold":

        async def rest(self: Reconciler) -> None:
            while not self._stopping:  # noqa: ASYNC110  as rarely as it ends
                await asyncio.sleep(_LOOK_S)

        Reconciler.feed = Reconciler.work = rest  # type: ignore[method-assign]  # this process measures folding alone
    log_output.configure("info", asked_for=False)
    command_line(["run", "-c", config])


if __name__ == "__main__":
    main()
