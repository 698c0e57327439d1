"""
What an ordinary attempt leaves on the disk and what it writes on the way, by table: a PATCH of two fields of a document
whose token is known, made by the whole reconcile loop, with its outcome published.

Sizes are whole pages (SQLite's `dbstat`). Bytes written are frames of the write-ahead log, which is not checkpointed
meanwhile. A process of its own looks at the files: see `reconciler/adapters/sqlite/__init__.py`.
"""

import asyncio
import random
import sqlite3
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import orjson

from benchmarks import engine, events, measure
from benchmarks.measure import Figures, Sample
from benchmarks.report import Finding, Report
from reconciler import app
from reconciler.adapters import packing
from reconciler.adapters.sqlite import database
from reconciler.cli import log_output, runtime
from reconciler.config import Config
from reconciler.model.event import PlainRecord
from reconciler.simulator.server import Simulator
from reconciler.simulator.settings import Settings

NAME = "bytes"
_DOCUMENTS = 1_000
_WAL_HEADER, _FRAME_HEADER = 32, 24
_PAST_S = 1.5  # the server shows whole seconds
_PASS_S_MAX = 120.0
_DOCUMENT_TABLES = ("document", "agreement", "desired")


def run(rounds: int, tell: Callable[[str], None]) -> Report:
    """Measure."""
    load = measure.load()
    with measure.scratch() as folder, Simulator(Settings(port=0, documents=_DOCUMENTS)) as server:
        found = measure.in_turn(rounds, {"attempts": lambda: measure.side(__name__, "side", server.url, folder)}, tell)
    samples = [sample.more for sample in found["attempts"]]

    def each(*path: str) -> Figures:
        return Figures.of([_at(sample, path) for sample in samples])

    documents = Figures.of([sum(sample["disk"].get(name, 0) for name in _DOCUMENT_TABLES) for sample in samples])
    written = {name for sample in samples for name in sample["wal"]}
    shares = sorted(((each("wal", name), name) for name in written), key=lambda pair: -pair[0].middle)
    told = [f"{name} {of.middle:,.0f}" for of, name in shares if of.middle >= 1]
    return Report(
        NAME,
        f"Bytes for each of {_DOCUMENTS:,} attempts that write two fields, some tens of them in flight.",
        [
            Finding("of the audit trail, for good, with its indexes", each("grown", "audit"), 1000, False, ",.0f"),
            Finding("of the outbox, until it is published", each("grown", "outbox"), 1000, False, ",.0f"),
            Finding("of a settled document, with its indexes", documents, 2500, False, ",.0f"),
            Finding("written to the write-ahead log, settled", each("wal_settled"), None, False, ",.0f"),
            Finding("written to the write-ahead log, with publication", each("wal_published"), None, False, ",.0f"),
            Finding("µs of processor to pack a record", each("pack_us"), 15, False, ".1f"),
            Finding("bytes of a record as exported", each("record"), None, False, ",.0f"),
        ],
        [f"Written until settled, by table: {', '.join(told)}."],
        load=load,
    )


def _at(sample: dict[str, object], path: tuple[str, ...]) -> float:
    found: object = sample
    for name in path:
        found = found.get(name, 0.0) if isinstance(found, dict) else 0.0
    assert isinstance(found, float | int)
    return found


def side(url: str, folder: str) -> Sample:
    """Make the attempts and look at the store between."""
    log_output.configure("error", asked_for=False)
    database.CHECKPOINT_CHANGES = 10**9
    return runtime.run(_side(url, Path(folder)))


async def _side(url: str, folder: Path) -> Sample:
    path = folder / "bytes.db"
    config = engine.configured(folder, path, url)
    await asyncio.sleep(_PAST_S)
    await _passed(config, path, 1)  # reads, then writes: from here on every token is known
    sample = await _passed(config, path, 2)
    measure.remove(path)
    return sample


async def _passed(config: Config, path: Path, number: int) -> Sample:
    """Fold an event for each document, then make the attempts and publish; look at the store before, between, after."""
    looks = []
    async with app.daemon(config) as daemon, asyncio.TaskGroup() as tasks:
        await daemon.ingest.take(_records(number))
        looks.append(await asyncio.to_thread(measure.side, __name__, "looked", path))
        tasks.create_task(daemon.reconciler.feed())
        for _ in range(2 * config.windchill.in_flight_max):
            tasks.create_task(daemon.reconciler.work())
        with measure.stopwatch() as stop:
            await _written(daemon)
            sample = stop(_DOCUMENTS)
        looks.append(await asyncio.to_thread(measure.side, __name__, "looked", path))
        while await daemon.publisher.publish():
            pass
        looks.append(await asyncio.to_thread(measure.side, __name__, "looked", path))
        records = [entry.record async for entry in daemon.store.audit_chain()][-_DOCUMENTS:]
        daemon.reconciler.stop()
    return Sample(sample.count, sample.wall_s, sample.cpu_s, _figures([look.more for look in looks], records))


def _records(number: int) -> list[PlainRecord]:
    """Return events of ids that are as unlike each other as in life: each is stored several times."""
    chance = random.Random(number)
    found = []
    for record in engine.records(number, [events.key(one) for one in range(1, _DOCUMENTS + 1)]):
        event = orjson.loads(record.value or b"")
        event["id"] = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        found.append(record._replace(value=orjson.dumps(event)))
    return found


async def _written(daemon: app.Daemon) -> None:
    """Wait until each document has been written to."""
    async with asyncio.timeout(_PASS_S_MAX):
        while daemon.telemetry.total("attempts_total", result="written") < _DOCUMENTS:
            await daemon.clock.sleep(0.005)


def _figures(looks: list[dict[str, dict[str, int]]], records: list[bytes]) -> dict[str, object]:
    """Return bytes an attempt: growth on disk and frames by table; and what packing costs."""
    before, settled, published = looks
    for _ in range(2):  # the code is warm the second time
        with measure.stopwatch() as stop:
            for record in records:
                packing.pack(record)
            packed = stop(len(records))

    def more(kind: str, later: dict[str, dict[str, int]], earlier: dict[str, dict[str, int]]) -> dict[str, float]:
        return {name: (size - earlier[kind].get(name, 0)) / _DOCUMENTS for name, size in later[kind].items()}

    return {
        "disk": {name: size / _DOCUMENTS for name, size in settled["disk"].items()},
        "grown": more("disk", settled, before),
        "wal": more("wal", settled, before),
        "wal_settled": sum(more("wal", settled, before).values()),
        "wal_published": sum(more("wal", published, before).values()),
        "pack_us": packed.cpu_us,
        "record": sum(map(len, records)) / len(records),
    }


def looked(path: str) -> Sample:
    """Return the bytes of each table on disk, and in frames of the write-ahead log, indexes with their tables."""
    with measure.stopwatch() as stop, closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as store:
        tables = dict(store.execute("SELECT name, tbl_name FROM sqlite_schema"))
        pages = {page: tables.get(name, name) for page, name in store.execute("SELECT pageno, name FROM dbstat")}
        ((page_bytes,),) = store.execute("PRAGMA page_size")
        sample = stop(1)
    disk = Counter(pages.values())
    wal = Counter(pages.get(page, "free pages") for page in _frames(Path(f"{path}-wal"), page_bytes))
    more = {
        "disk": {name: count * page_bytes for name, count in disk.items()},
        "wal": {name: count * (_FRAME_HEADER + page_bytes) for name, count in wal.items()},
    }
    return Sample(1, sample.wall_s, sample.cpu_s, more)


def _frames(wal: Path, page_bytes: int) -> Iterator[int]:
    """Yield the page number of each frame."""
    with wal.open("rb") as file:
        file.seek(_WAL_HEADER)
        while header := file.read(_FRAME_HEADER):
            yield int.from_bytes(header[:4], "big")
            file.seek(page_bytes, 1)
