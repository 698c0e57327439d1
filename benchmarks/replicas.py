"""
Several replicas on PostgreSQL: what an event and an attempt cost with one, two and four of them, whether they keep the
limit of requests in flight, how soon others take over, how long an event takes, and what they need while nothing
happens.
"""

import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import attrs

from benchmarks import crowd, events, filled, latency, measure
from benchmarks.crowd import IN_FLIGHT_MAX, Place
from benchmarks.measure import Figures, Sample
from benchmarks.report import Finding, Report
from reconciler.adapters import packing
from reconciler.model import codec
from reconciler.simulator.server import Simulator
from reconciler.simulator.settings import Settings
from tests import postgres
from tests.adapters.simulated import Simulated
from tests.brokers.apache import Apache

NAME = "replicas"
_COUNTS = (1, 2, 4)
_GROWTH = 1.15
_KILLED_S, _STOPPED_S = 18.0, 1.0  # the first: `store.evict_s` and three seconds
_DISK_COMMITS = 3  # the fold, the intent, and what the disk has to write for both
_SHORT = "replicas, PostgreSQL, Kafka and the simulated Windchill share the cores of one machine here."


@attrs.frozen
class Sizes:
    """How much of everything."""

    events: int = 100_000
    documents: int = 10_000
    attempts: int = 2_000
    held: int = 48
    singles: int = 400
    million: int = 1_000_000
    idle_s: float = 60.0


@attrs.define
class Found:
    """What was measured: samples by the number of replicas, and seconds, milliseconds and percent."""

    folds: dict[int, list[Sample]] = attrs.field(factory=lambda: {count: [] for count in _COUNTS})
    attempts: dict[int, list[Sample]] = attrs.field(factory=lambda: {count: [] for count in _COUNTS})
    at_once: list[float] = attrs.field(factory=list)
    killed_s: list[float] = attrs.field(factory=list)
    stopped_s: list[float] = attrs.field(factory=list)
    latencies: dict[str, list[float]] = attrs.field(factory=dict)
    commit_ms: list[float] = attrs.field(factory=list)
    idle: dict[str, float] = attrs.field(factory=dict)


def run(rounds: int, tell: Callable[[str], None]) -> Report:
    """Measure; raises `apache.Unavailable` without Java or Maven."""
    load = measure.load()
    database = postgres.Server(durable=True)
    try:
        crowd.migrated(database)
        with measure.scratch() as folder, Apache(partitions=1) as kafka:
            found = measured(kafka, database, rounds, tell, folder=folder, sizes=Sizes())
    finally:
        database.remove()
    return _report(found, load)


def measured(
    kafka: Apache, database: postgres.Server, rounds: int, tell: Callable[[str], None], *, folder: Path, sizes: Sizes
) -> Found:
    """Measure every part so often; the idle replicas once."""
    found = Found()
    server = Settings(port=0, documents=max(sizes.attempts, sizes.held, latency.DOCUMENTS))
    for number in range(rounds):
        for count in _COUNTS:
            with Simulator(server) as windchill:
                place = Place(kafka, windchill.url, database, folder)
                found.folds[count].append(_fold(place, count, sizes))
                found.attempts[count].append(_attempt(place, count, sizes))
                found.at_once.append(found.attempts[count][-1].more["at_once"])
            for what, samples in (("folding", found.folds), ("attempts", found.attempts)):
                tell(f"  round {number + 1}: {count} replicas, {what}: {_account(samples[count][-1])}")
        for taken, how in ((found.killed_s, signal.SIGKILL), (found.stopped_s, signal.SIGTERM)):
            with Simulator(server) as windchill:
                taken.append(_taken_over(Place(kafka, windchill.url, database, folder), how, sizes))
            tell(f"  round {number + 1}: taken over {taken[-1]:.2f} s after {how.name}")
        for name, replicas in (("SQLite", 1), ("PostgreSQL, 1 replica", 1), ("PostgreSQL, 3 replicas", 3)):
            with Simulator(server) as windchill:
                place = Place(kafka, windchill.url, database, folder)
                p99_ms = _latency(place, name, replicas, sizes)
            found.latencies.setdefault(name, []).append(p99_ms)
            tell(f"  round {number + 1}: {name}: p99 {p99_ms:.1f} ms from event to PATCH")
        found.commit_ms.append(_commit_ms(database))
    with Simulator(server) as windchill:
        found.idle = _idle(Place(kafka, windchill.url, database, folder), sizes)
    tell(f"  idle: {found.idle}")
    return found


def _account(sample: Sample) -> str:
    return (
        f"{sample.rate:,.0f}/s, {sample.cpu_us:.0f} µs of the replicas and {sample.more['server_us']:.0f} µs of"
        " PostgreSQL each"
    )


# ------------------------------------------------------------------------------------------------- folding and attempts


def _fold(place: Place, count: int, sizes: Sizes) -> Sample:
    """Fold a topic without attempts."""
    archive, setting = place.folder / "events.jsonl", place.config()
    if not archive.exists():
        events.write_file(archive, sizes.events, sizes.documents)
    with crowd.replicas(setting, count, only_fold=True) as them, crowd.used(place, them) as sample:
        _feed(place, setting, archive)
        _until_folded(them, sizes.events)
        return sample(sizes.events)


def _attempt(place: Place, count: int, sizes: Sizes) -> Sample:
    """Fold an event for each document and write it, all of whose tokens are known."""
    setting, windchill = place.config(), Simulated(place.windchill)
    with crowd.replicas(setting, count) as them:
        for turn in (1, 2):
            archive = place.folder / f"each-{turn}.jsonl"
            crowd.one_each(archive, sizes.attempts, turn)
            with crowd.used(place, them) as sample:
                _feed(place, setting, archive)
                _until_folded(them, turn * sizes.attempts)
                _until_settled(them)
                found = sample(sizes.attempts)
    at_once, written = windchill.crowding()["in_flight"], len(windchill.whole_history())
    windchill.close()
    assert written == 2 * sizes.attempts, f"{written} writes for {2 * sizes.attempts} events"
    return attrs.evolve(found, more=found.more | {"at_once": at_once})


def _feed(place: Place, setting: crowd.Setting, archive: Path) -> None:
    measure.side(crowd.__name__, "feed", place.kafka.address(), setting.topic, archive)


def _until_folded(them: crowd.Replicas, count: int) -> None:
    assert them.sql is not None
    them.sql.until(
        "SELECT coalesce(sum(next_offset), 0)::bigint FROM position"
        " WHERE right(encode(topic, 'escape'), 8) = '.changes'",
        count,
    )


def _until_settled(them: crowd.Replicas) -> None:
    assert them.sql is not None
    them.sql.until("SELECT count(*) FROM document WHERE status <> 'synced'", 0)


# ------------------------------------------------------------------------------------------------------------- takeover


def _taken_over(place: Place, how: signal.Signals, sizes: Sizes) -> float:
    """Return how long it takes until Windchill has a write for each document that one of three replicas had."""
    setting, windchill = place.config(), Simulated(place.windchill)
    with crowd.replicas(setting, 3) as them:
        assert them.sql is not None
        for turn in (1, 2):
            archive = place.folder / f"held-{turn}.jsonl"
            crowd.one_each(archive, sizes.held, turn)
            if turn == 2:
                windchill.faults(slow=1.0, slow_ms=400)
            _feed(place, setting, archive)
            if turn == 1:
                _until_folded(them, sizes.held)
                _until_settled(them)
        keys: list[str] = []
        while not keys:
            held = them.sql.rows("SELECT holder, key FROM document WHERE holder IS NOT NULL")
            keys = [row["key"].decode() for row in held if row["holder"] == 1]
        at_s = them.send(1, how)
        windchill.faults(slow=0.0)
        _until_settled(them)
        seen = {entry.document: entry.time.timestamp() for entry in windchill.whole_history()}
    windchill.close()
    return max(max(0.0, seen[key] - at_s) for key in keys)


# -------------------------------------------------------------------------------------------------------------- latency


def _latency(place: Place, name: str, replicas: int, sizes: Sizes) -> float:
    """Return the 99th percentile of the milliseconds from an event to its PATCH."""
    setting = place.config(sqlite=name == "SQLite")
    windchill = Simulated(place.windchill)
    log = place.kafka.address(), f"{setting.topic}.changes"
    with crowd.replicas(setting, replicas):
        measure.side(latency.__name__, "feed", *log, 1, latency.DOCUMENTS)
        time.sleep(2)
        fed = measure.side(latency.__name__, "feed", *log, latency.DOCUMENTS + 1, sizes.singles)
        time.sleep(2)
        entries = windchill.whole_history()
    windchill.close()
    at_s = {entry.changes["title"][1]: entry.time.timestamp() for entry in entries if "title" in entry.changes}
    took = [
        (at_s[latency.title(number)] - appended_s) * 1000
        for number, appended_s in enumerate(fed.more["appended"], latency.DOCUMENTS + 1)
    ]
    return float(statistics.quantiles(took, n=100)[98])


def _commit_ms(database: postgres.Server) -> float:
    """Return how long a small transaction takes until it is durable."""
    sql = crowd.Sql(database.new())
    sql("CREATE TABLE written (number bigint)")
    took_ms = []
    for number in range(200):
        began_s = time.perf_counter()
        sql(f"INSERT INTO written VALUES ({number})")
        took_ms.append((time.perf_counter() - began_s) * 1000)
    sql.close()
    return statistics.median(took_ms)


# ----------------------------------------------------------------------------------------------------------------- idle


def _idle(place: Place, sizes: Sizes) -> dict[str, float]:
    """Return the percent of a core that three replicas and PostgreSQL need over a store where nothing happens."""
    setting = place.config(resync=f"interval_s = {86_400 * 7}")
    _fill(setting.url, sizes.million)
    with crowd.replicas(setting, 3) as them:
        time.sleep(min(10.0, sizes.idle_s))
        before, server_s = them.used_s(), place.used_s()
        time.sleep(sizes.idle_s)
        after, percent = them.used_s(), 100 / sizes.idle_s
        return {
            "PostgreSQL": (place.used_s() - server_s) * percent,
            "a replica": max(now - then for now, then in zip(after, before, strict=True)) * percent,
        }


def _fill(url: str, count: int) -> None:
    """Make rows of settled documents that are due tomorrow and later."""
    kind = filled.Kind.of(1, 5)
    desired, agreement = codec.encode_desired(kind.desired), packing.pack(codec.encode(kind.agreement))
    tomorrow_us = round((time.time() + 86_400) * 1_000_000)
    key = f"convert_to(lpad(number::text, 10, '0'), 'UTF8') AS key FROM generate_series(1, {count}) AS number"
    sql = crowd.Sql(url)
    for statement in (
        f"INSERT INTO desired SELECT key, 1, '\\x{desired.hex()}' FROM (SELECT {key}) AS one",
        f"INSERT INTO agreement SELECT key, 1, '\\x{agreement.hex()}' FROM (SELECT {key}) AS one",
        (
            "INSERT INTO document (key, version, revision, status, reason, lane, due_us, conflicts, attempts)"
            f" SELECT key, 1, 1, 'synced', '', 3, {tomorrow_us} + number, 0, 1 FROM (SELECT number, {key}) AS one"
        ),
        f"UPDATE folding SET documents = {count} WHERE slot = 0",
        "VACUUM ANALYZE",
    ):
        sql(statement)
    sql.close()


# --------------------------------------------------------------------------------------------------------------- report


def _report(found: Found, load: float) -> Report:
    limit = [count / IN_FLIGHT_MAX for count in found.at_once]
    plain = found.latencies["SQLite"]
    allowed = [1.5 * p99 + _DISK_COMMITS * commit for p99, commit in zip(plain, found.commit_ms, strict=True)]
    shown = ", ".join(f"{name} {Figures.of(p99).shown('.1f')}" for name, p99 in found.latencies.items())
    return Report(
        NAME,
        f"One, two and four replicas on one PostgreSQL and {crowd.PARTITIONS} partitions of Apache Kafka.",
        [
            *_growth("an event folded", found.folds),
            *_growth("an event folded, written, settled and told", found.attempts),
            Finding("most requests at once / `in_flight_max`", Figures.of(limit), 1.0, False),
            *(
                Finding(f"attempts a second of {count} replicas / of one", _ratio(found.attempts, count, _rate), 0.9)
                for count in _COUNTS[1:]
            ),
            Finding(
                "seconds until others have written what a killed one had", Figures.of(found.killed_s), _KILLED_S, False
            ),
            Finding("and what one that was asked to end had", Figures.of(found.stopped_s), _STOPPED_S, False),
            *(
                Finding(
                    f"p99 from event to PATCH / (1.5 × SQLite's + {_DISK_COMMITS} commits), {name}",
                    Figures.of([p99 / most for p99, most in zip(found.latencies[name], allowed, strict=True)]),
                    1.0,
                    False,
                )
                for name in found.latencies
                if name != "SQLite"
            ),
            *(
                Finding(f"idle over a million documents, percent of one core, {who}", Figures.of([percent]), 1.0, False)
                for who, percent in found.idle.items()
            ),
        ],
        [
            f"p99 in milliseconds: {shown}; a commit takes {statistics.median(found.commit_ms):.2f} ms.",
        ],
        _SHORT,
        load,
        {
            f"{count} replicas, {what}": samples[count]
            for what, samples in (("folding", found.folds), ("attempts", found.attempts))
            for count in _COUNTS
        },
    )


def _growth(what: str, samples: dict[int, list[Sample]]) -> list[Finding]:
    return [
        Finding(f"processor for {what}, {count} replicas / one, {who}", _ratio(samples, count, used), _GROWTH, False)
        for count in _COUNTS[1:]
        for who, used in (("replicas", lambda one: one.cpu_us), ("PostgreSQL", lambda one: one.more["server_us"]))
    ]


def _rate(sample: Sample) -> float:
    return sample.rate


def _ratio(samples: dict[int, list[Sample]], count: int, of: Callable[[Sample], float]) -> Figures:
    return Figures.of([of(many) / of(one) for many, one in zip(samples[count], samples[1], strict=True)])
