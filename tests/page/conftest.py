"""Pages on a real socket, over the world that the API's tests have, and a real browser in front of them."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Response, async_playwright

from tests.flows.world import World
from tests.page.stage import furnish
from tests.patience import HANG_S
from tests.web.conftest import Daemon, client, daemon

__all__ = ["client", "daemon"]

_QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """One browser for all tests; CI must have one."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        reason = "there is no Chromium here: install Debian's package chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=[*_QUIET])
        yield browser
        await browser.close()


@attrs.define
class Visit:
    """Someone who looks at pages; what the browser complains of is kept."""

    page: Page
    address: str
    daemon: Daemon
    complaints: list[str] = attrs.field(factory=list)

    async def go(self, path: str) -> Response:
        reply = await self.page.goto(self.address + path)
        assert reply is not None
        return reply

    async def overflow(self) -> int:
        """How many pixels a page is wider than its window."""
        return await self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    async def text(self, selector: str = "main") -> str:
        return await self.page.inner_text(selector)


@attrs.define
class Stage:
    """A server with its world, and visitors."""

    daemon: Daemon
    address: str
    chromium: Browser

    @asynccontextmanager
    async def visit(
        self, path: str = "", *, width: int = 1280, scheme: Any = "light", script: bool = True, **more: Any
    ) -> AsyncIterator[Visit]:
        """Someone who looks at a page."""
        context = await self.chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script, **more
        )
        context.set_default_timeout(HANG_S * 1000)
        page = await context.new_page()
        visit = Visit(page, self.address, self.daemon)
        page.on("console", lambda said: visit.complaints.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: visit.complaints.append(f"uncaught: {error}"))
        page.on("dialog", lambda dialog: visit.complaints.append(f"dialog: {dialog.message}"))
        try:
            if path:
                await visit.go(path)
            yield visit
        finally:
            await context.close()

    @asynccontextmanager
    async def served_again(self) -> AsyncIterator[Stage]:
        """Another server over the same world, with the settings that the daemon has by now."""
        self.daemon.stopping = asyncio.Event()
        async with self.daemon.served() as client:
            yield attrs.evolve(self, address=str(client.base_url).rstrip("/"))


@pytest_asyncio.fixture(loop_scope="session")
async def stage(chromium: Browser) -> AsyncIterator[Stage]:
    daemon = Daemon(hook_secret="")
    async with daemon.served() as client:
        yield Stage(daemon, str(client.base_url).rstrip("/"), chromium)


@pytest_asyncio.fixture(loop_scope="session")
async def world(stage: Stage) -> World:
    """The stage's world, on which a few documents have had all that happens to documents."""
    return await furnish(stage.daemon, calm=1)
