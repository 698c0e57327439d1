"""Documents that are sick, over real sockets: a single pass ends, and the healthy ones are written."""

import asyncio
import itertools
import json
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import attrs
import pytest

from reconciler import app
from reconciler.cli import runtime
from reconciler.config import Admin, Config, Log, Resync, Retry, Store, Windchill
from reconciler.flows import ending
from reconciler.model.document import Status
from tests.checks import check_audit
from tests.e2e.world import event
from tests.faults.hostile import ANSWERS, STREAMS, Hostile
from tests.patience import HANG_S

MINUTES_3_S = 180.0
SUCCESSES = ("nothing", "an ETag that guards nothing", "an unusable time")  # as answers to a write
IMPATIENT = Retry(backoff_base_s=0.02, backoff_max_s=0.3, cooldown_base_s=0.05, cooldown_max_s=0.1)
HEALTHY = [f"healthy-{number}" for number in range(5)]


def configured(path: Path, server: Hostile, **groups: Any) -> Config:
    config = Config(
        log=Log(kind="file", path=str(path / "events.jsonl")),
        store=Store(url=f"sqlite:///{path}/state.db"),
        windchill=Windchill(base_url=server.url, timeout_s=0.4, body_bytes_max=100_000, retry_after_max_s=0.2),
        retry=IMPATIENT,
        resync=Resync(interval_s=0),
        admin=Admin(bind=""),
    )
    return attrs.evolve(config, **groups)


def write_events(path: Path, *keys: str) -> None:
    lines = [event(key, {"status": "RELEASED"}) for key in keys]
    (path / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


async def once(config: Config) -> ending.Summary:
    async with app.daemon(config, once=True) as daemon:
        summary = await asyncio.wait_for(daemon.run(asyncio.Event(), once=True), HANG_S)
        await check_audit(daemon.store)
    return summary


@pytest.mark.parametrize("writes_only", [False, True], ids=["reads", "writes"])
@pytest.mark.parametrize("answer", [*ANSWERS, *STREAMS])
async def test_a_single_pass_ends_whatever_a_document_answers(
    tmp_path: Path, answer: str, *, writes_only: bool
) -> None:
    keys = ["sick", *HEALTHY]
    async with Hostile(*keys, writes_only=writes_only) as server:
        server.sick["sick"] = answer
        write_events(tmp_path, *keys)
        summary = await once(configured(tmp_path, server))
    assert [server.bodies[key]["status"] for key in HEALTHY] == ["RELEASED"] * 5
    assert server.bodies["sick"]["status"] == "INWORK"
    believed = writes_only and answer in SUCCESSES
    assert summary.settled is believed
    assert summary.counts[Status.SYNCED] == 5 + believed


@pytest.mark.parametrize("dialect", ["documents", "wrs"])
@pytest.mark.parametrize("answer", [*ANSWERS, *STREAMS])
async def test_a_single_pass_ends_whatever_the_server_answers(tmp_path: Path, answer: str, dialect: Any) -> None:
    async with Hostile(*HEALTHY) as server:
        server.everything = answer
        write_events(tmp_path, *HEALTHY)
        config = configured(tmp_path, server)
        config = attrs.evolve(config, windchill=attrs.evolve(config.windchill, dialect=dialect))
        assert not (await once(config)).settled


async def test_a_single_pass_ends_when_windchill_is_not_there(tmp_path: Path) -> None:
    async with Hostile(*HEALTHY) as server:
        config = configured(tmp_path, server)
    write_events(tmp_path, *HEALTHY)
    summary = await once(config)
    assert summary.counts[Status.PENDING] == 5


async def test_a_single_pass_does_not_wait_for_events_that_come_after_its_start(tmp_path: Path) -> None:
    async with Hostile(*HEALTHY) as server:
        write_events(tmp_path, *HEALTHY)
        with (tmp_path / "events.jsonl").open("a", encoding="utf-8") as log:

            async def produce() -> None:
                for number in itertools.count():
                    log.write(json.dumps(event(HEALTHY[number % 5], {"status": f"STATE {number}"})) + "\n")
                    log.flush()
                    await asyncio.sleep(0.001)

            producing = asyncio.create_task(produce())
            try:
                await once(configured(tmp_path, server))
            finally:
                producing.cancel()


async def test_the_program_says_by_its_exit_code_that_documents_are_left_pending(tmp_path: Path) -> None:
    async with Hostile("sick", *HEALTHY) as server:
        server.sick["sick"] = "a login page"
        write_events(tmp_path, "sick", *HEALTHY)
        (tmp_path / "reconciler.toml").write_text(
            f"""
            log = {{ kind = "file", path = "{tmp_path}/events.jsonl" }}
            store = {{ url = "sqlite:///{tmp_path}/state.db" }}
            windchill = {{ base_url = "{server.url}", timeout_s = 0.4 }}
            retry = {{ backoff_base_s = 0.02, backoff_max_s = 0.3 }}
            """
        )
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "reconciler", "run", "--once", "-c", tmp_path / "reconciler.toml", stdout=PIPE
        )
        said, _ = await asyncio.wait_for(program.communicate(), HANG_S)
    assert program.returncode == runtime.UNSETTLED
    assert b"docs list --status pending" in said


@pytest.mark.parametrize("answer", ["too busy, until tomorrow", "too busy", "an error", "a login page"])
@pytest.mark.parametrize(("sick", "healthy"), [(8, 52), (300, 40)])
async def test_every_healthy_document_is_written_soon_however_many_are_sick(
    tmp_path: Path, answer: str, sick: int, healthy: int
) -> None:
    ill, well = [f"0-sick-{n}" for n in range(sick)], [f"1-healthy-{n}" for n in range(healthy)]
    async with Hostile(*ill, *well) as server:
        server.sick = dict.fromkeys(ill, answer)
        write_events(tmp_path, *ill, *well)
        config = configured(tmp_path, server, windchill=Windchill(base_url=server.url), retry=Retry())
        async with app.daemon(config) as daemon:
            stop = asyncio.Event()
            task = asyncio.create_task(daemon.run(stop))
            async with asyncio.timeout(MINUTES_3_S):
                while not all(server.bodies[key]["status"] == "RELEASED" for key in well):
                    assert not task.done()
                    await asyncio.sleep(0.02)
            stop.set()
            await task
