"""
Folding a log in a file into SQLite, durably, against a bare loop that parses the same lines and keeps, for each field,
the latest value in a dictionary.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import attrs

from benchmarks import events, measure
from benchmarks.fold_kafka import digest_of
from benchmarks.measure import Sample
from benchmarks.peers import limits
from benchmarks.report import Finding, Report
from reconciler import factory
from reconciler.adapters import sqlite
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.counters import Counters
from reconciler.cli import log_output, runtime
from reconciler.config import Config
from reconciler.flows import replay
from reconciler.flows.ingest import Ingest
from reconciler.flows.recovery import Bases
from reconciler.model.document import Lane

NAME = "fold-file"
_TARGET = 0.6
_SHORT = (
    "the bare loop parses and compares. The replay also validates every event, keeps for each field who set it, when,"
    " why and by which record, and encodes, stores and syncs the rows. Decoding costs about as much as the whole bare"
    " loop; most of the rest is memory traffic, because all of that is kept for every field until it is stored."
)


def run(rounds: int, tell: Callable[[str], None]) -> Report:
    """Measure."""
    load = measure.load()
    with measure.scratch() as folder:
        found = measured(folder, rounds, tell)
        size = (folder / "events.jsonl").stat().st_size
    wall, cpu = measure.ratios(found["replay"], found["only in memory"])
    return Report(
        NAME,
        f"Folding {events.EVENTS:,} events of {size // events.EVENTS} bytes over {events.DOCUMENTS:,} documents from a"
        " file into SQLite (`synchronous = FULL`) through the replay flow, compared with a loop of `orjson.loads` and a"
        " dictionary that keeps (value, stamp) for each field. Both have folded the same values.",
        [
            Finding("rate / rate of the bare loop", wall, _TARGET),
            Finding("the same by processor time", cpu),
        ],
        (),
        _SHORT,
        load,
        found,
    )


def measured(
    folder: Path,
    rounds: int,
    tell: Callable[[str], None],
    *,
    count: int = events.EVENTS,
    documents: int = events.DOCUMENTS,
) -> dict[str, list[Sample]]:
    """Fold a file on both sides; raises AssertionError if they did not fold the same."""
    archive = folder / "events.jsonl"
    events.write_file(archive, count, documents)
    sides = {
        "only in memory": lambda: measure.side(limits.__name__, "in_memory", archive, count),
        "replay": lambda: measure.side(__name__, "replayed", archive, folder, count, documents),
    }
    with measure.on_core(0):
        found = measure.in_turn(rounds, sides, tell)
    measure.require_equal_digests(found)
    return found


def replayed(path: str, folder: str, count: str, documents: str) -> Sample:
    """The replay flow, wired as the command wires it."""
    database = Path(folder) / "replayed.db"
    sample = replayed_into(Path(path), database, int(count), int(documents))
    more = {
        "rss_mib": measure.peak_mib(),
        "disk_mb": measure.disk_mb(database),
        "digest": asyncio.run(_digest(database)),
    }
    measure.remove(database)
    return attrs.evolve(sample, more=more)


async def _digest(database: Path) -> str:
    store = await sqlite.open_store(database, owner=True)
    try:
        return await digest_of(store)
    finally:
        await store.close()


def replayed_into(path: Path, database: Path, count: int, documents: int) -> Sample:
    """Replay a file into a store, which then has these many documents, and close it."""
    log_output.configure("error", asked_for=False)
    return runtime.run(_replayed(path, database, count, documents))


async def _replayed(path: Path, database: Path, count: int, documents: int) -> Sample:
    config = Config()
    config = attrs.evolve(
        config,
        log=attrs.evolve(config.log, kind="file", path=str(path)),
        store=attrs.evolve(config.store, url=f"sqlite:///{database}"),
    )
    clock = SystemClock()
    store = await factory.open_store(config, owner=True)
    log = factory.make_log(config, clock, grows=False)
    ingest = Ingest(
        log,
        store,
        clock,
        Counters(),
        options=factory.decoding(config),
        dead_letter_topic=config.log.dead_letter_topic,
        batch_max=replay.BATCH,
        offer=lambda _: None,
        wake=asyncio.Event(),
    )
    ingest.lane = Lane.REPLAY
    measure.settle_memory()
    with measure.stopwatch() as stop:
        done = await replay.replay(log, ingest, Bases(store, clock))
        stored = sum((await store.counts()).values())
        await store.close()  # moves what is left of the write-ahead log into the database
        sample = stop(done.records)
    assert done.records == count, "every event is folded"
    assert stored == documents, "into every document"
    await log.close()
    return sample
