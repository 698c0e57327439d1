"""
The whole reconcile loop, from due documents to settled ones, against clients that do nothing but the same guarded
PATCHes: aiohttp, httpx over it, and our own adapter. The server, a simulated Windchill, runs in a process of its own
and serves all of them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar, cast

import aiohttp
import attrs
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from benchmarks import events, measure
from benchmarks.measure import Sample
from benchmarks.report import Finding, Report
from reconciler import app, factory
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.counters import Counters
from reconciler.cli import log_output, runtime
from reconciler.config import Config
from reconciler.model.answer import Written
from reconciler.model.event import PlainRecord
from reconciler.model.snapshot import Snapshot
from reconciler.ports import Journal
from reconciler.simulator.server import Simulator
from reconciler.simulator.settings import Settings

NAME = "engine"
_TARGET = 0.85
_IN_FLIGHT = 32
_DOCUMENTS = 3_000
_PAST_S = 1.5  # the server shows whole seconds: an event within the second of the other side's write would yield to it
_PASS_S_MAX = 120.0
_HEADERS = {"content-type": "application/merge-patch+json"}
_SHORT = (
    "for each PATCH the engine also reads and decodes the document, decides and records why, and stores an intent, the"
    " settlement, an audit record and an outcome durably."
)

_State = TypeVar("_State")


def run(rounds: int, tell: Callable[[str], None]) -> Report:
    """Measure."""
    load = measure.load()
    with measure.scratch() as folder:
        found = measured(folder, rounds, tell)

    def against(what: str, other: str, target: float | None = None) -> list[Finding]:
        wall, cpu = measure.ratios(found["engine"], found[other])
        return [Finding(f"rate / {what}", wall, target), Finding("the same by processor time of the client", cpu)]

    return Report(
        NAME,
        f"PATCHes a second of the whole reconcile loop at {_IN_FLIGHT} in flight, on {_DOCUMENTS:,} documents whose"
        " token is known, with SQLite on disk; compared with aiohttp, with httpx over the aiohttp transport, and with"
        f" our own adapter, each sending the same guarded PATCHes from {_IN_FLIGHT} tasks to the same server. Each on"
        " one core, the server on another.",
        [
            *against("rate of httpx over aiohttp", "httpx over aiohttp", _TARGET),
            *against("rate of aiohttp", "aiohttp"),
            *against("rate of our adapter alone", "our adapter"),
        ],
        (),
        _SHORT,
        load,
        found,
    )


def measured(
    folder: Path, rounds: int, tell: Callable[[str], None], *, documents: int = _DOCUMENTS
) -> dict[str, list[Sample]]:
    """PATCH all documents of a simulated Windchill, on all sides."""
    server = Simulator(Settings(port=0, documents=documents))
    with measure.on_core(1):
        server.start()
    try:
        sides = {
            name: lambda function=function: measure.side(__name__, function, server.url, folder, documents)
            for name, function in _SIDES.items()
        }
        with measure.on_core(0):
            return measure.in_turn(rounds, sides, tell)
    finally:
        server.stop()


_SIDES = {
    "aiohttp": "bare",
    "httpx over aiohttp": "client",
    "our adapter": "adapter",
    "engine": "engine",
}
"""Each side by its name in the report, with the function that is run."""


# ---------------------------------------------------------------------------------------------------- the bare clients


def bare(url: str, _folder: str, documents: str) -> Sample:
    """The least that can be done: aiohttp."""
    return runtime.run(_bare(url, int(documents)))


async def _bare(url: str, documents: int) -> Sample:
    async with _session() as session:

        async def read(key: str) -> str:
            async with session.get(f"{url}/documents/{key}") as reply:
                return reply.headers["etag"]

        async def patch(key: str, token: str, content: bytes) -> str:
            headers = _HEADERS | {"if-match": token}
            async with session.patch(f"{url}/documents/{key}", data=content, headers=headers) as reply:
                orjson.loads(await reply.read())
                assert reply.status == 200
                return reply.headers["etag"]

        return await _timed(documents, read, patch)


def client(url: str, _folder: str, documents: str) -> Sample:
    """A client of httpx over aiohttp: it knows the tokens and sends."""
    return runtime.run(_client(url, int(documents)))


async def _client(url: str, documents: int) -> Sample:
    async with httpx.AsyncClient(transport=AiohttpTransport(client=_session), base_url=url) as http:

        async def read(key: str) -> str:
            return (await http.get(f"/documents/{key}")).headers["etag"]

        async def patch(key: str, token: str, content: bytes) -> str:
            reply = await http.patch(f"/documents/{key}", content=content, headers=_HEADERS | {"if-match": token})
            assert reply.status_code == 200, reply.text
            reply.json()
            return reply.headers["etag"]

        return await _timed(documents, read, patch)


def adapter(url: str, folder: str, documents: str) -> Sample:
    """Our own client and dialect, without anything that decides or stores."""
    return runtime.run(_adapter(url, Path(folder), int(documents)))


async def _adapter(url: str, folder: Path, documents: int) -> Sample:
    windchill = factory.make_windchill(configured(folder, folder / "unused.db", url), SystemClock(), Counters())

    async def read(key: str) -> Snapshot:
        answer = await windchill.read(key)
        assert isinstance(answer, Snapshot), answer
        return answer

    async def patch(_key: str, shown: Snapshot, content: bytes) -> Snapshot:
        assert shown.token is not None
        fields = orjson.loads(content)
        journal = cast("Journal", None)  # this dialect tells it nothing
        answer = await windchill.write(shown, fields, token=shown.token, journal=journal)
        assert isinstance(answer, Written), answer
        assert answer.snapshot is not None
        return answer.snapshot

    try:
        return await _timed(documents, read, patch)
    finally:
        await windchill.close()


def _session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


async def _timed(
    documents: int,
    read: Callable[[str], Awaitable[_State]],
    patch: Callable[[str, _State, bytes], Awaitable[_State]],
) -> Sample:
    """Read each document, then PATCH it twice; only the second time is measured."""
    states = {key: await read(key) for key in _keys(documents)}

    async def patch_some(number: int, keys: Iterator[str]) -> None:
        for key in keys:
            states[key] = await patch(key, states[key], orjson.dumps(_patch(number)))

    async def patch_all(number: int) -> None:
        keys = _keys(documents)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_IN_FLIGHT):
                tasks.create_task(patch_some(number, keys))

    await patch_all(1)  # connections are made, code is warm
    measure.settle_memory()
    stop = measure.started()
    await patch_all(2)
    return attrs.evolve(stop(documents), more={"rss_mib": measure.peak_mib()})


# ----------------------------------------------------------------------------------------------------------- the engine


def engine(url: str, folder: str, documents: str) -> Sample:
    """The daemon's reconcile loop, wired by the composition root and logging as `reconciler run` does."""
    log_output.configure("info", asked_for=False)
    return runtime.run(_engine(url, Path(folder), int(documents)))


async def _engine(url: str, folder: Path, documents: int) -> Sample:
    config = configured(folder, folder / "engine.db", url)
    async with app.daemon(config) as daemon, asyncio.TaskGroup() as tasks:
        tasks.create_task(daemon.reconciler.feed())
        for _ in range(2 * _IN_FLIGHT):  # as many as the daemon has
            tasks.create_task(daemon.reconciler.work())
        await daemon.clock.sleep(_PAST_S)
        await daemon.ingest.take(records(1, list(_keys(documents))))
        await _written(daemon, documents)  # reads, then writes: from here on every token is known
        await daemon.ingest.take(records(2, list(_keys(documents))))
        measure.settle_memory()
        with measure.stopwatch() as stop:
            await _written(daemon, 2 * documents)
            sample = stop(documents)
        daemon.reconciler.stop()
    more = {"rss_mib": measure.peak_mib(), "disk_mb": measure.disk_mb(folder)}
    measure.remove(folder / "engine.db")
    asked = {
        dict(labels).get("method"): int(count)
        for (name, labels), count in daemon.telemetry.counts.items()
        if name == "http_requests_total"
    }
    assert asked.get("PATCH") == 2 * documents, f"one PATCH a document and pass, not {asked}"
    return attrs.evolve(sample, more=more)


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
            await daemon.clock.sleep(0.02)  # the other sides look at nothing meanwhile


def _keys(documents: int) -> Iterator[str]:
    return (events.key(number) for number in range(1, documents + 1))


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
