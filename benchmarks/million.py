"""
A store of a million documents: how soon the daemon starts on it, what it holds in memory, what it does while nothing
happens, and what one change costs compared with a store of ten thousand.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks import engine, events, filled, measure
from benchmarks.measure import Figures, Sample
from benchmarks.report import Finding, Report
from reconciler import app
from reconciler.cli import log_output, runtime
from reconciler.model.event import PlainRecord
from reconciler.simulator.server import Simulator
from reconciler.simulator.settings import Settings

NAME = "million"
_LARGE, _SMALL = 1_000_000, 10_000
_CHANGES = 300
_IDLE_S = 30.0
_START_S_MAX = 60.0
_INTERVAL_S = 86_400  # documents are due tomorrow; with a shorter interval the daemon would cut a million wrong waits
_SHORT = "a start is mostly Python importing its libraries; the store is opened, not read."


def run(rounds: int, tell: Callable[[str], None]) -> Report:
    """Measure."""
    load = measure.load()
    with measure.scratch() as folder:
        starts, found = measured(folder, rounds, tell)
    wall = [large.wall_s / small.wall_s for large, small in zip(found["large"], found["small"], strict=True)]
    cpu = [large.cpu_s / small.cpu_s for large, small in zip(found["large"], found["small"], strict=True)]
    idle = starts[-1].more
    return Report(
        NAME,
        f"The daemon on a store of {_LARGE:,} settled documents with nothing due; and one change, from event to settled"
        f" PATCH, compared with a store of {_SMALL:,} documents.",
        [
            Finding(
                "seconds from the start of the process to the log's “started”",
                Figures.of([s.wall_s for s in starts]),
                3.0,
                False,
            ),
            Finding("resident memory, MiB", Figures.of([s.more["rss_mib"] for s in starts]), 200, False, ".0f"),
            Finding(
                f"processor while idle for {_IDLE_S:.0f} s, percent of one core",
                Figures.of([idle["idle_percent"]]),
                1.0,
                False,
            ),
            Finding("time of a change / in the small store", Figures.of(wall), 1.5, False),
            Finding("the same by processor time", Figures.of(cpu)),
        ],
        [
            (
                f"Milliseconds for one change, one after the other: {_ms(found['large'])} with {_LARGE:,} documents,"
                f" {_ms(found['small'])} with {_SMALL:,}. Both are mostly waits for the disk: the fold, the intent and"
                " the settlement are durable one after the other."
            )
        ],
        _SHORT,
        load,
    )


def measured(
    folder: Path,
    rounds: int,
    tell: Callable[[str], None],
    *,
    small: int = _SMALL,
    large: int = _LARGE,
    count: int = _CHANGES,
    idle_s: float = _IDLE_S,
) -> tuple[list[Sample], dict[str, list[Sample]]]:
    """Return what the starts of the daemon gave, the last with a time of doing nothing, and what the changes gave."""
    with Simulator(Settings(port=0, documents=small)) as server:
        stores = {"small": folder / "small.db", "large": folder / "large.db"}
        for path, documents in zip(stores.values(), (small, large), strict=True):
            began_s = time.monotonic()
            filled.fill(path, documents, [filled.Kind.of(1, 5)], new=small)
            mib = path.stat().st_size / 2**20
            tell(f"  {documents:,} documents: {mib:,.0f} MiB in {time.monotonic() - began_s:.0f} s")
        starts = [_started(stores["large"], server.url, folder, idle_s=0.0) for _ in range(rounds - 1)]
        starts.append(_started(stores["large"], server.url, folder, idle_s=idle_s))
        tell(f"  started in {Figures.of([start.wall_s for start in starts]).shown()} s")

        def side(path: Path, seeds: Iterator[int]) -> Sample:
            seed = next(seeds)
            # Each round has documents of its own; 7919 is prime, so that they lie far apart.
            keys = [events.key((seed * count + number) * 7919 % small + 1) for number in range(count)]
            return measure.side(__name__, "changes", path, server.url, folder, seed, " ".join(keys))

        sides = {
            name: partial(side, path, seed)
            for (name, path), seed in zip(stores.items(), (_seeds(0), _seeds(1000)), strict=True)
        }
        return starts, measure.in_turn(rounds, sides, tell)


def _seeds(first: int) -> Iterator[int]:
    return iter(range(first, first + 1000))


def _ms(samples: list[Sample]) -> str:
    return Figures.of([sample.wall_s / sample.count * 1000 for sample in samples]).shown(".1f")


# ----------------------------------------------------------------------------------------------------------- the daemon


def _started(database: Path, url: str, folder: Path, *, idle_s: float) -> Sample:
    """Start `reconciler run`, look at it, and stop it."""
    (folder / "empty.jsonl").touch()
    settings = {
        "RECONCILER_LOG__KIND": "file",
        "RECONCILER_LOG__PATH": str(folder / "empty.jsonl"),
        "RECONCILER_STORE__URL": f"sqlite:///{database}",
        "RECONCILER_WINDCHILL__BASE_URL": url,
        "RECONCILER_RESYNC__INTERVAL_S": str(_INTERVAL_S),
    }
    began_s = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "reconciler", "run"],
        env=os.environ | settings,
        stderr=subprocess.PIPE,
        cwd=folder.parent,
    )
    try:
        assert child.stderr is not None
        while b'"started"' not in (line := child.stderr.readline()):
            assert line, f"the daemon ended with {child.wait(_START_S_MAX)}"
        wall_s = time.perf_counter() - began_s
        time.sleep(2)  # the loops have had their first look
        cpu_s = measure.cpu_s(child.pid)
        time.sleep(idle_s)
        percent = (measure.cpu_s(child.pid) - cpu_s) / idle_s * 100 if idle_s else 0.0
        return Sample(1, wall_s, cpu_s, {"rss_mib": _rss_mib(child.pid), "idle_percent": percent})
    finally:
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=_START_S_MAX)


def _rss_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


# -------------------------------------------------------------------------------------------------------------- changes


def changes(database: str, url: str, folder: str, seed: str, keys: str) -> Sample:
    """Fold one event and settle its document, again and again, always another document."""
    log_output.configure("info", asked_for=False)
    return runtime.run(_changes(Path(database), url, Path(folder), int(seed), keys.split()))


async def _changes(database: Path, url: str, folder: Path, seed: int, keys: list[str]) -> Sample:
    config = engine.configured(folder, database, url)
    async with app.daemon(config) as daemon, asyncio.TaskGroup() as tasks:
        tasks.create_task(daemon.reconciler.feed())
        tasks.create_task(daemon.reconciler.work())
        await daemon.clock.sleep(1.5)  # see `engine`: whole seconds
        records = engine.records(seed, keys)
        await _change(daemon, records[:10])
        measure.settle_memory()
        with measure.stopwatch() as stop:
            for record in records[10:]:
                await _change(daemon, [record])
            sample = stop(len(records) - 10)
        daemon.reconciler.stop()
    return sample


async def _change(daemon: app.Daemon, records: list[PlainRecord]) -> None:
    wanted = daemon.telemetry.total("attempts_total", result="written") + len(records)
    await daemon.ingest.take(records)
    while daemon.telemetry.total("attempts_total", result="written") < wanted:
        daemon.reconciler.settled.clear()
        async with asyncio.timeout(30):
            await daemon.reconciler.settled.wait()
