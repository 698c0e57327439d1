"""The series of plots: from the whole daemon's work to the points that are served."""

from typing import Any

import httpx
import pytest

from reconciler.core.explain.series import Point
from tests.flows.world import KEY, World
from tests.web.conftest import Daemon
from tests.web.test_daemon import living

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


async def test_the_daemon_samples_what_it_does_from_its_first_minute_on() -> None:
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
