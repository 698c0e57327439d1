"""
The whole reconcile loop, from due documents to settled ones, against the same HTTP client doing nothing but the same
guarded PATCHes. The server, a simulated Windchill, runs in a process of its own and serves both.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import attrs
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from benchmarks import events, measure
from benchmarks.measure import Figures, Sample
from benchmarks.report import Finding, Report
from reconciler import app
from reconciler.cli import log_output, runtime
from reconciler.config import Config
from reconciler.model.event import PlainRecord
from reconciler.simulator.server import Simulator
from reconciler.simulator.settings import Settings

NAME = "engine"
_TARGET = 0.85
_IN_FLIGHT = 32
_DOCUMENTS = 3_000
_PAST_S = 1.5  # the server shows whole seconds: an event within the second of the other side's write would yield to it
_PASS_S_MAX = 120.0
_SHORT = (
    "for each PATCH the engine also reads and decodes the document, decides and records why, and stores an intent, the"
    " settlement, an audit record and an outcome durably."
)


def run(rounds: int, tell: Callable[[str], None]) -> Report:
    """Measure."""
    load = measure.load()
    with measure.scratch() as folder, Simulator(Settings(port=0, documents=_DOCUMENTS)) as server:
        sides = {
            "client": lambda: measure.side(__name__, "client", server.url),
            "engine": lambda: measure.side(__name__, "engine", server.url, folder),
        }
        found = measure.in_turn(rounds, sides, tell)
    wall, cpu = measure.ratios(found["engine"], found["client"])
    rates = {name: Figures.of([sample.rate for sample in samples]).shown(",.0f") for name, samples in found.items()}
    return Report(
        NAME,
        f"PATCHes a second of the whole reconcile loop at {_IN_FLIGHT} in flight, on {_DOCUMENTS:,} documents whose"
        " token is known, with SQLite on disk; compared with httpx over the aiohttp transport sending the same guarded"
        f" PATCHes from {_IN_FLIGHT} tasks to the same server.",
        [
            Finding("rate / rate of the client alone", wall, _TARGET),
            Finding("the same by processor time of the client's process", cpu),
        ],
        [f"PATCHes a second: engine {rates['engine']}, client alone {rates['client']}."],
        _SHORT,
        load,
    )


def client(url: str) -> Sample:
    """The bare client: it knows the tokens and sends."""
    return runtime.run(_client(url))


async def _client(url: str) -> Sample:
    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=0)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    async with httpx.AsyncClient(transport=AiohttpTransport(client=session), base_url=url) as http:
        tokens = {}
        for key in _keys():
            tokens[key] = (await http.get(f"/documents/{key}")).headers["etag"]

        async def patch(number: int, keys: Iterator[str]) -> None:
            for key in keys:
                headers = {"if-match": tokens[key], "content-type": "application/merge-patch+json"}
                content = orjson.dumps(_patch(number))
                reply = await http.patch(f"/documents/{key}", content=content, headers=headers)
                assert reply.status_code == 200, reply.text
                reply.json()
                tokens[key] = reply.headers["etag"]

        async def patch_all(number: int) -> None:
            keys = _keys()
            async with asyncio.TaskGroup() as tasks:
                for _ in range(_IN_FLIGHT):
                    tasks.create_task(patch(number, keys))

        await patch_all(1)  # connections are made, code is warm
        measure.settle_memory()
        with measure.stopwatch() as stop:
            await patch_all(2)
            return stop(_DOCUMENTS)


def engine(url: str, folder: str) -> Sample:
    """The daemon's reconcile loop, wired by the composition root and logging as `reconciler run` does."""
    log_output.configure("info", asked_for=False)
    return runtime.run(_engine(url, Path(folder)))


async def _engine(url: str, folder: Path) -> Sample:
    config = configured(folder, folder / "engine.db", url)
    async with app.daemon(config) as daemon, asyncio.TaskGroup() as tasks:
        tasks.create_task(daemon.reconciler.feed())
        for _ in range(2 * _IN_FLIGHT):  # as many as the daemon has
            tasks.create_task(daemon.reconciler.work())
        await daemon.clock.sleep(_PAST_S)
        await daemon.ingest.take(records(1, list(_keys())))
        await _written(daemon, _DOCUMENTS)  # reads, then writes: from here on every token is known
        await daemon.ingest.take(records(2, list(_keys())))
        measure.settle_memory()
        with measure.stopwatch() as stop:
            await _written(daemon, 2 * _DOCUMENTS)
            sample = stop(_DOCUMENTS)
        daemon.reconciler.stop()
    measure.remove(folder / "engine.db")
    asked = {
        dict(labels).get("method"): int(count)
        for (name, labels), count in daemon.telemetry.counts.items()
        if name == "http_requests_total"
    }
    assert asked.get("PATCH", 2 * _DOCUMENTS) == 2 * _DOCUMENTS, f"one PATCH a document and pass, not {asked}"
    return sample


def configured(folder: Path, database: Path, url: str) -> Config:
    """Return a configuration of a store and a server, with a log that says nothing."""
    config = Config()
    log = folder / "empty.jsonl"
    log.touch()
    return attrs.evolve(
        config,
        log=attrs.evolve(config.log, kind="file", path=str(log)),
        store=attrs.evolve(config.store, url=f"sqlite:///{database}"),
        windchill=attrs.evolve(config.windchill, base_url=url, in_flight_max=_IN_FLIGHT),
        admin=attrs.evolve(config.admin, bind=""),
    )


async def _written(daemon: app.Daemon, count: int) -> None:
    """Wait until so many attempts have ended with a write."""
    async with asyncio.timeout(_PASS_S_MAX):
        while daemon.telemetry.total("attempts_total", result="written") < count:
            await daemon.clock.sleep(0.005)


def _keys() -> Iterator[str]:
    return (events.key(number) for number in range(1, _DOCUMENTS + 1))


def _patch(number: int) -> dict[str, object]:
    return {"title": f"Bracket {number}, drawing", "attributes": {"CostCenter": str(4000 + number)}}


def records(number: int, keys: Sequence[str]) -> list[PlainRecord]:
    """One event for each document, asking for what `_patch` sends."""
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    found = []
    for offset, key in enumerate(keys):
        event = {
            "specversion": "1.0",
            "id": f"0b8f2c1e-77aa-4d0c-9a50-{number:012d}",
            "source": "//erp/prod",
            "type": "windchill.document.changed.v1",
            "subject": key,
            "time": now,
            "datacontenttype": "application/json",
            "actor": "jdoe",
            "data": {
                "set": {"title": f"Bracket {number}, drawing", "attributes.CostCenter": str(4000 + number)},
                "reason": "ECN-2231 approved",
            },
        }
        found.append(PlainRecord("events", 0, number * _DOCUMENTS + offset, 0, None, orjson.dumps(event)))
    return found
