"""
Folding a log in a file into SQLite, durably, against a bare loop that parses the same lines and keeps, for each field,
the latest value in a dictionary.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import attrs
import orjson

from benchmarks import events, measure
from benchmarks.measure import Figures, Sample
from benchmarks.report import Finding, Report
from reconciler import factory
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.counters import Counters
from reconciler.cli import log_output, runtime
from reconciler.config import Config
from reconciler.flows import replay
from reconciler.flows.ingest import Ingest
from reconciler.flows.recovery import Bases
from reconciler.model.document import Lane

NAME = "fold-file"
_TARGET = 0.5
_SHORT = (
    "the bare loop parses and compares. The replay also validates every event, keeps for each field who set it, when,"
    " why and by which record, and encodes, stores and syncs the rows. Decoding costs about as much as the whole bare"
    " loop; most of the rest is memory traffic, because all of that is kept for every field until it is stored."
)


def run(rounds: int, tell: Callable[[str], None]) -> Report:
    """Measure."""
    with measure.scratch() as folder:
        log = folder / "events.jsonl"
        size = events.write_file(log)
        load = measure.load()
        sides = {
            "bare loop": lambda: measure.side(__name__, "bare", log),
            "replay": lambda: measure.side(__name__, "replayed", log, folder),
        }
        found = measure.in_turn(rounds, sides, tell)
    wall, cpu = measure.ratios(found["replay"], found["bare loop"])
    rates = {name: Figures.of([sample.rate for sample in samples]).shown(",.0f") for name, samples in found.items()}
    return Report(
        NAME,
        f"Folding {events.EVENTS:,} events of {size // events.EVENTS} bytes over {events.DOCUMENTS:,} documents from a"
        " file into SQLite (`synchronous = FULL`) through the replay flow, compared with a loop of `orjson.loads` and a"
        " dictionary that keeps (value, stamp) per field.",
        [
            Finding("rate / rate of the bare loop", wall, _TARGET),
            Finding("the same by processor time", cpu),
        ],
        [
            (
                f"Events a second: replay {rates['replay']}, bare loop {rates['bare loop']}."
                f" Peak memory of the replay: {max(sample.more['peak_mib'] for sample in found['replay'])} MiB."
            )
        ],
        _SHORT,
        load,
    )


def bare(path: str) -> Sample:
    """The least there is to do: parse, and keep for each field the value with the greatest stamp."""
    documents: dict[str, dict[str, tuple[object, tuple[str, str, int, str, str]]]] = {}
    measure.settle_memory()
    with measure.stopwatch() as stop:
        with Path(path).open("rb") as lines:
            for number, line in enumerate(lines):
                event = orjson.loads(line)
                fields = documents.setdefault(event["subject"], {})
                stamp = (event["time"], event.get("sequence", ""), number, event["source"], event["id"])
                for name, value in event["data"]["set"].items():
                    known = fields.get(name)
                    if known is None or known[1] < stamp:
                        fields[name] = (value, stamp)
        return stop(events.EVENTS)


def replayed(path: str, folder: str) -> Sample:
    """The replay flow, wired as the command wires it."""
    database = Path(folder) / "replayed.db"
    sample = replayed_into(Path(path), database, events.EVENTS, events.DOCUMENTS)
    measure.remove(database)
    return attrs.evolve(sample, more={"peak_mib": measure.peak_mib()})


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
