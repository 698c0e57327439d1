"""Liveness and readiness."""

import pytest
from httpx import AsyncClient

from reconciler.core.scheduling.breaker import Breaker
from reconciler.model.standing import WriteStop
from reconciler.web.probes import Health, Phase, Progress, Readiness
from tests.fakes.outage import opened
from tests.web.conftest import Daemon


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.READY])
async def test_a_daemon_that_does_not_do_its_work_yet_or_any_more_is_unready(
    daemon: Daemon, client: AsyncClient, phase: Phase
) -> None:
    daemon.readiness = Readiness(phase)
    reply = await client.get("/readyz")
    assert (reply.status_code, reply.json()) == (503, {"status": phase.value})
    assert (await client.get("/livez")).status_code == 200


async def test_a_daemon_whose_folding_waits_says_why(daemon: Daemon, client: AsyncClient) -> None:
    daemon.readiness = Readiness(Phase.READY, folding_waits="this host's clock is behind")
    reply = await client.get("/readyz")
    said = {"status": "degraded", "windchill": "up", "folding": "this host's clock is behind"}
    assert (reply.status_code, reply.json()) == (200, said)
    assert (await client.get("/api/v1/status")).json()["folding_waits"] == "this host's clock is behind"


async def test_a_stuck_loop_fails_liveness_and_is_named(daemon: Daemon, client: AsyncClient) -> None:
    assert (await client.get("/livez")).json() == {"status": "alive"}
    daemon.late = {"ingest": 312.4}
    reply = await client.get("/livez")
    assert (reply.status_code, reply.json()) == (503, {"status": "stuck", "loops": {"ingest": 312}})


def test_an_open_breaker_is_seen_as_a_windchill_that_is_down() -> None:
    breaker = Breaker()
    progress = Progress(breaker, maintenance=lambda: False)
    progress.phase = Phase.READY
    assert progress.readiness(stopping=False) == Readiness(Phase.READY, Health.UP)
    opened(breaker)
    assert progress.readiness(stopping=False) == Readiness(Phase.READY, Health.DOWN)
    assert progress.readiness(stopping=True).phase is Phase.STOPPING
    assert Progress(breaker, maintenance=lambda: True).readiness(stopping=False).windchill is Health.MAINTENANCE


async def test_a_stop_of_all_writes_is_a_reason_to_be_degraded_and_names_nobody(
    daemon: Daemon, client: AsyncClient
) -> None:
    daemon.readiness = Readiness(Phase.READY, stop=WriteStop(1, 0, "jdoe", "wrong prices"))
    reply = await client.get("/readyz")
    said = {"status": "degraded", "windchill": "up", "writes": "stopped at 1970-01-01T00:00:00.000000Z"}
    assert (reply.status_code, reply.json()) == (200, said)
