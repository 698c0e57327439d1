"""Jobs over HTTP, and once end to end: the real daemon on a file log against the simulated Windchill."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from reconciler import app
from reconciler.config import Admin, Config, Log, Resync, Store, Windchill
from reconciler.model.job import JobKind
from reconciler.simulator.process import Simulator
from reconciler.simulator.settings import Settings
from reconciler.web.principal import Principal, Role
from reconciler.web.probes import Phase, Readiness
from reconciler.web.tokens import line
from tests.adapters.simulated import Simulated
from tests.e2e.world import event

if TYPE_CHECKING:
    from pathlib import Path

    from tests.web.conftest import Daemon

PATH = "/api/v1/jobs"
PATIENCE_S = 60.0
JSON = {"content-type": "application/json"}


async def test_a_job_is_begun_listed_shown_and_cancelled(daemon: Daemon, client: httpx.AsyncClient) -> None:
    assert (await client.get(PATH)).json() == {"items": []}
    begun = await client.post(PATH, json={"kind": "resync"})
    assert begun.status_code == 202
    job = begun.json()
    assert {name: job[name] for name in ("kind", "state", "by", "done", "total", "ended_at")} == {
        "kind": "resync",
        "state": "running",
        "by": "local",
        "done": 0,
        "total": None,
        "ended_at": None,
    }
    assert (await client.get(PATH)).json() == {"items": [job]}
    assert (await client.get(f"{PATH}/{job['id']}")).json() == job
    again = await client.post(PATH, json={"kind": "resync"})
    assert (again.status_code, "is under way" in again.json()["detail"]) == (409, True)
    cancelled = await client.post(f"{PATH}/{job['id']}/cancel", json={})
    assert (cancelled.status_code, cancelled.json()["message"]) == (202, "cancelled by local")
    acts = await daemon.world.store.acts()
    assert [(act.who, act.role, act.kind, act.target) for act in acts] == [
        ("local", "admin", "job.cancel", job["id"]),
        ("local", "admin", "job.start", job["id"]),
    ]


async def test_who_asked_is_named_by_their_token(daemon: Daemon) -> None:
    daemon.tokens = line(Principal("jdoe", Role.OPERATOR), "rec_jdoe")
    async with daemon.served() as client:
        begun = await client.post(PATH, json={"kind": "replay"}, headers={"authorization": "Bearer rec_jdoe"})
        assert begun.json()["by"] == "jdoe"


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b'{"kind":"catch-up"}', b'{"kind":"resync","more":1}', b'{"kind":1}', b"\xff", b"[" * 4000],
)
async def test_what_names_no_job_is_refused(daemon: Daemon, client: httpx.AsyncClient, body: bytes) -> None:
    reply = await client.post(PATH, content=body, headers=JSON)
    assert reply.status_code == 400
    assert reply.json()["detail"].startswith('send {"kind":"resync"}')
    assert not daemon.jobs.list()


async def test_a_body_that_is_too_large_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post(PATH, content=b" " * 10_000, headers=JSON)).status_code == 413


async def test_there_is_no_job_of_another_id(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"{PATH}/nope")).status_code == 404
    assert (await client.post(f"{PATH}/nope/cancel", json={})).status_code == 404


async def test_what_can_not_be_cancelled_says_why(daemon: Daemon, client: httpx.AsyncClient) -> None:
    daemon.jobs.catching_up(5)
    (job,) = (await client.get(PATH)).json()["items"]
    assert (job["kind"], job["by"], job["total"]) == ("catch-up", "reconciler", 5)
    reply = await client.post(f"{PATH}/{job['id']}/cancel", json={})
    assert (reply.status_code, "can't be cancelled" in reply.json()["detail"]) == (409, True)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.READY])
async def test_before_and_after_its_work_the_daemon_begins_nothing(
    daemon: Daemon, client: httpx.AsyncClient, phase: Phase
) -> None:
    daemon.readiness = Readiness(phase)
    reply = await client.post(PATH, json={"kind": "replay"})
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
    assert JobKind.REPLAY not in [job.kind for job in daemon.jobs.list()]


# ---------------------------------------------------------------------------------------------------------- end to end


async def until(client: httpx.AsyncClient, path: str, true: Any) -> Any:
    """Ask again and again until an answer is as it should be, and return it."""
    give_up_s = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(httpx.TransportError):
            shown = (await client.get(path)).json()
            if true(shown):
                return shown
        assert time.monotonic() < give_up_s, shown
        await asyncio.sleep(0.05)


@pytest.mark.e2e
async def test_both_jobs_with_a_file_log_a_store_on_disk_and_a_windchill_of_its_own(tmp_path: Path) -> None:
    keys = [f"{number:010}" for number in range(1, 31)]
    log = tmp_path / "events.jsonl"
    log.write_text("".join(json.dumps(event(key, {"status": "RELEASED"})) + "\n" for key in keys), encoding="utf-8")
    with Simulator(Settings(port=0, documents=len(keys))) as running:
        simulated = Simulated(running.url)
        config = Config(
            log=Log(kind="file", path=str(log)),
            store=Store(url=f"sqlite:///{tmp_path}/state.db"),
            windchill=Windchill(base_url=running.url),
            resync=Resync(interval_s=0),
            admin=Admin(bind="127.0.0.1:0"),
        )
        stop = asyncio.Event()
        async with app.daemon(config) as daemon:
            assert daemon._admin is not None
            task = asyncio.create_task(daemon.run(stop))
            async with httpx.AsyncClient(base_url=daemon._admin.address) as client:
                await until(client, "/api/v1/status", lambda shown: shown["documents"].get("synced") == len(keys))
                assert {job["kind"] for job in (await client.get(PATH)).json()["items"]} == {"catch-up"}
                for key in keys:
                    simulated.edit({"status": "INWORK"}, document=key)
                for kind in ("resync", "replay"):
                    job = (await client.post(PATH, json={"kind": kind})).json()
                    ended = await until(client, f"{PATH}/{job['id']}", lambda shown: shown["state"] != "running")
                    assert (ended["state"], ended["done"], ended["total"]) == ("done", len(keys), len(keys))
                assert {simulated.document(key)["status"] for key in keys} == {"RELEASED"}
            stop.set()
            await asyncio.wait_for(task, PATIENCE_S)
        simulated.close()
