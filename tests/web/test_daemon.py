"""The daemon and its server together: probes through its life, measurements, and shutdown."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconciler import app
from reconciler.config import Admin, Config, Log, Store
from reconciler.core.explain.series import Point
from reconciler.errors import ConfigError, LogTruncatedError
from reconciler.model.answer import Failed
from reconciler.model.document import Status
from reconciler.web import server
from tests.fakes.memory_log import MemoryLog
from tests.flows.world import KEY, LETTERS, OUTCOMES, TOPIC, Running, World
from tests.patience import HANG_S
from tests.web.conftest import SECRET, Daemon, held_up


@asynccontextmanager
async def living(world: World, outcomes: MemoryLog | None = None) -> AsyncIterator[tuple[Running, httpx.AsyncClient]]:
    """A daemon over fakes that really listens; time passes only as the test lets it."""
    config = Config(
        log=Log(topic=TOPIC, outcomes_topic=OUTCOMES, dead_letter_topic=LETTERS, group="test"),
        admin=Admin(hook_secret=SECRET),
    )
    await world.clock.advance(1)
    admin = server.AdminServer(server.listen("127.0.0.1:0"))
    log = outcomes or MemoryLog(world.broker, OUTCOMES)
    parts = world.store, world.log, world.windchill, world.clock
    daemon = app.Daemon(config, *parts, outcomes=log, admin=admin)
    stop = asyncio.Event()
    task = asyncio.create_task(daemon.run(stop))
    try:
        async with httpx.AsyncClient(base_url=admin.address) as client:
            yield Running(world, daemon, stop, task), client
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def said(client: httpx.AsyncClient, path: str) -> tuple[int, Any]:
    reply = await client.get(path)
    return reply.status_code, reply.json()


async def test_probes_answer_from_before_recovery_until_the_end() -> None:
    world = World()
    outcomes = MemoryLog(world.broker, OUTCOMES)
    outcomes_opened, log_opened = held_up(outcomes, "open"), held_up(world.log, "open")
    async with living(world, outcomes) as (running, client):
        assert await said(client, "/livez") == (200, {"status": "alive"})
        assert await said(client, "/readyz") == (503, {"status": "recovering"})
        assert (await client.get("/metrics")).status_code == 200
        outcomes_opened.set()
        await world.clock.advance(1)
        assert await said(client, "/readyz") == (503, {"status": "connecting"})
        log_opened.set()
        await world.clock.advance(1)
        assert await said(client, "/readyz") == (200, {"status": "ready", "windchill": "up"})
        world.append(world.event({"title": "Cover"}))
        await running.settled()
        await world.clock.advance(6)  # a look at the gauges is kept for five seconds
        assert b'reconciler_documents{status="synced"} 1.0' in (await client.get("/metrics")).content

        settling = held_up(world.store, "settle")  # so that the end of an attempt can be waited for
        world.append(world.event({"title": "Lid"}))
        await running.pass_until(lambda: world.live()["title"] == "Lid", "the write is sent")
        running.stop.set()
        await world.clock.advance(5)
        assert await said(client, "/readyz") == (503, {"status": "stopping"})
        assert await said(client, "/livez") == (200, {"status": "alive"})
        settling.set()
        await world.clock.advance(5)
        await asyncio.wait_for(running.task, HANG_S)
        with pytest.raises(httpx.ConnectError):
            await client.get("/livez")


async def test_a_windchill_that_is_down_degrades_and_does_not_unready(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    read, down = world.windchill.read, True

    async def away(*args: Any, **named: Any) -> Any:
        return Failed("no connection") if down else await read(*args, **named)

    monkeypatch.setattr(world.windchill, "read", away)
    async with living(world) as (running, client):
        await world.clock.advance(1)
        for number in range(10):
            world.append(world.event({"title": "Cover"}, key=f"d{number}"))
        world.append(world.event({"title": "Cover"}))
        await running.pass_until(lambda: running.daemon._progress._breaker.open_until_s > 0, "the breaker opens")
        assert await said(client, "/readyz") == (200, {"status": "degraded", "windchill": "down"})
        assert b"reconciler_breaker_open 1.0" in (await client.get("/metrics")).content
        down = False
        await running.settled()
        assert await said(client, "/readyz") == (200, {"status": "ready", "windchill": "up"})


async def test_many_hooks_are_one_wake() -> None:
    async with living(World()) as (running, client):
        assert not running.daemon.hooked.is_set()
        for _ in range(3):
            assert (await client.post(f"/hooks/windchill/{SECRET}", content=b"{}")).status_code == 202
        assert running.daemon.hooked.is_set()


async def test_a_daemon_that_fails_says_why_as_if_there_were_no_server() -> None:
    world = World()
    world.append(world.event({"title": "Cover"}))
    world.broker.forget_before(world.broker.partitions(TOPIC)[0], 1)
    async with living(world) as (running, client):
        await world.clock.advance(1)
        with pytest.raises(LogTruncatedError):
            await asyncio.wait_for(running.task, HANG_S)
        with pytest.raises(httpx.ConnectError):
            await client.get("/livez")


async def test_a_taken_port_is_found_before_the_store_is_touched(tmp_path: Path) -> None:
    with server.listen("127.0.0.1:0") as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        store = Store(url=f"sqlite:///{tmp_path}/state.db")
        config = Config(log=Log(kind="file", path=str(tmp_path / "e.jsonl")), store=store, admin=Admin(bind=bind))
        with pytest.raises(ConfigError, match="address already in use"):
            async with app.daemon(config):
                pass
        assert await asyncio.to_thread(os.listdir, tmp_path) == []
        async with app.daemon(config, once=True):  # one pass does not listen
            pass


async def test_a_request_that_never_ends_does_not_keep_a_stop_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_DRAIN_S", 0.3)
    world = World()
    write, sent, answers = world.windchill.write, asyncio.Event(), asyncio.Event()

    async def silent(*args: Any, **named: Any) -> Any:
        answer = await write(*args, **named)
        sent.set()
        await answers.wait()
        return answer

    world.windchill.write = silent  # type: ignore[method-assign]  # it writes, and never says so
    async with living(world) as (running, _):
        await world.clock.advance(1)
        world.append(world.event({"title": "Cover"}))
        await running.pass_until(sent.is_set, "the write is under way")
        running.stop.set()
        await world.clock.advance(5)  # everything else comes to its end
        assert not running.task.done()
        summary = await asyncio.wait_for(running.task, HANG_S)
        assert summary.counts[Status.PENDING] == 1
        assert world.document().agreement.intent is not None
    world.windchill.write = write  # type: ignore[method-assign]  # Windchill is itself again
    async with living(world) as (running, _):
        await running.settled()
        await running.ended()
    assert world.windchill.writes == 1
    await world.check()


async def test_a_broker_and_a_store_that_hang_do_not_keep_a_stop_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_REST_S", 0.3)
    world, never = World(), asyncio.Event()

    async def hangs(*_: Any, **__: Any) -> Any:
        await never.wait()

    async with living(world) as (running, _):
        await world.clock.advance(1)
        monkeypatch.setattr(world.log, "append", hangs)
        world.append(world.event({"title": "Cover"}))
        await running.pass_until(lambda: world.live()["title"] == "Cover", "the document is written", 60)
        monkeypatch.setattr(world.store, "counts", hangs)
        running.stop.set()
        await world.clock.advance(5)
        summary = await asyncio.wait_for(running.task, HANG_S)
        assert summary.counts == {}, "the store did not say"
    monkeypatch.undo()
    async with living(world) as (running, _):
        await running.settled()
        await running.ended()
    await world.check()  # what was not published then is now


# --------------------------------------------------------------------------------------------------------- measurements


PATH = "/api/v1/series"
NOTHING = (
    *("events_per_s", "writes_per_s", "convergence_p50_s", "convergence_p95_s", "version_conflict_rate"),
    *("pending", "lag"),
)


async def test_every_minute_of_the_hours_asked_for_is_there_null_where_nothing_is_known(
    daemon: Daemon, client: httpx.AsyncClient
) -> None:
    at_us = daemon.clock.now_us() // 60_000_000 * 60_000_000
    daemon.points.append(Point(at_us=at_us, events_per_s=2.5, pending=7))
    shown = (await client.get(PATH)).json()
    assert (shown["step_s"], len(shown["points"])) == (60, 360)
    known = {"at": "2026-11-22T09:59:00.000000Z", "events_per_s": 2.5, "pending": 7}
    assert shown["points"][-1] == dict.fromkeys(NOTHING) | known
    assert all(point[name] is None for point in shown["points"][:-1] for name in NOTHING)
    assert len((await client.get(PATH, params={"hours": 0.5})).json()["points"]) == 30


@pytest.mark.parametrize("hours", ["0", "-1", "25", "nan", "inf", "many", ""])
async def test_hours_that_are_none_are_refused(client: httpx.AsyncClient, hours: str) -> None:
    reply = await client.get(PATH, params={"hours": hours})
    assert reply.status_code == 400
    assert reply.json()["detail"].startswith("hours: ")


async def test_the_daemon_records_measurements_from_its_first_minute() -> None:
    world = World()
    async with living(world) as (running, client):
        await running.pass_until(lambda: world.store.offsets is not None, "it runs")
        for number in range(6):
            world.append(world.event({"title": f"title {number}"}))
        await running.settled(KEY)
        await world.clock.advance(120)
        points: list[Any] = (await client.get(PATH, params={"hours": 1})).json()["points"]
        known = [point for point in points if point["pending"] is not None]
        assert len(points) == 60
        assert len(known) in (2, 3)
        assert all(point["lag"] == 0 for point in known)
        assert sum(point["events_per_s"] or 0 for point in known) > 0
        assert sum(point["writes_per_s"] or 0 for point in known) > 0
        assert [point["version_conflict_rate"] for point in known if point["version_conflict_rate"] is not None] == [0]
        assert any(point["convergence_p95_s"] is not None for point in known)
        assert all(point[name] is None for point in points[: -len(known)] for name in NOTHING)
        await running.ended()
