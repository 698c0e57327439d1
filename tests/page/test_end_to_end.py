"""The whole program behind the page: the real daemon, its store and log on disk, and the simulated Windchill."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.async_api import Browser

from reconciler import app
from reconciler.config import Admin, Config, Log, Resync, Retry, Store, Windchill
from reconciler.model.document import Status
from reconciler.simulator.server import Simulator
from reconciler.simulator.settings import Settings
from tests.adapters.simulated import DOCUMENT, Simulated
from tests.e2e.world import event
from tests.page.conftest import Stage
from tests.patience import HANG_S
from tests.web.conftest import Daemon

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.e2e]


async def until(true: Callable[[], bool], what: str) -> None:
    give_up_s = asyncio.get_running_loop().time() + HANG_S
    while not true():
        assert asyncio.get_running_loop().time() < give_up_s, f"waited in vain until {what}"
        await asyncio.sleep(0.05)


async def test_two_clicks_settle_a_conflict_in_windchill_and_the_next_one_shows_by_itself(
    chromium: Browser, tmp_path: Path
) -> None:
    log = tmp_path / "events.jsonl"
    log.touch()
    with Simulator(Settings(port=0, documents=3)) as running:
        simulated = Simulated(running.url)
        config = Config(
            log=Log(kind="file", path=str(log)),
            store=Store(url=f"sqlite:///{tmp_path}/state.db"),
            windchill=Windchill(base_url=running.url),
            admin=Admin(bind="127.0.0.1:0"),
            retry=Retry(backoff_base_s=0.05, backoff_max_s=0.5),
            resync=Resync(interval_s=0),
        )

        def append(title: str) -> None:
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event(DOCUMENT, {"title": title})) + "\n")

        async with app.daemon(config) as daemon:
            stop = asyncio.Event()
            task = asyncio.create_task(daemon.run(stop))
            try:
                await asyncio.to_thread(append, "Cover")
                await until(lambda: simulated.document()["title"] == "Cover", "the first event has arrived")
                await asyncio.to_thread(simulated.edit, {"title": "Lid"})
                await asyncio.to_thread(append, "Plate")
                assert daemon._admin is not None
                stage = Stage(Daemon(hook_secret=""), daemon._admin.address, chromium)
                async with stage.visit() as visit:
                    await visit.go("/")
                    await visit.page.locator("#needs li", has_text=f"title of {DOCUMENT}").get_by_role("link").click()
                    await visit.page.get_by_role("button", name="Write our value").click()
                    await visit.page.get_by_text("Resolved. The decision takes effect").wait_for()
                    await until(lambda: simulated.document()["title"] == "Plate", "Windchill has what was decided")
                    await visit.go("/")
                    await visit.page.get_by_text("Windchill agrees with the log.").wait_for()
                    await asyncio.to_thread(simulated.edit, {"title": "Flange"})
                    await asyncio.to_thread(append, "Gasket")
                    # No one loads the page again: it says so by itself.
                    await visit.page.locator("#needs li", has_text=f"title of {DOCUMENT}").wait_for()
                    await visit.page.get_by_text("1 item needs attention.").wait_for()
                    await visit.go(f"/documents/{DOCUMENT}")
                    assert "local decided at" in await visit.text("#moments")
                assert visit.complaints == []
                found = (await daemon.store.documents([DOCUMENT]))[DOCUMENT]
                assert found.status is Status.HELD
            finally:
                stop.set()
                await asyncio.wait_for(task, HANG_S)
                simulated.close()
