"""
Takes the documentation's pictures of the operators' page, with the data of the page's tests.

    make screenshots     # writes docs/images/*.png; needs Chromium

Clock and Windchill are simulated in memory, so that the same code gives the same pictures.
"""

import asyncio
import logging
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import structlog
from playwright.async_api import Browser, async_playwright

from tests.page.stage import DRAWING, furnish, measure
from tests.web.conftest import Daemon

FOLDER = Path(__file__).parent / "images"
BYTES_MAX = 300_000
ARGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--hide-scrollbars"]


class Picture(NamedTuple):
    """One picture: its name, what it shows, in which colours, and how large the window is."""

    name: str
    path: str
    scheme: str
    width: int
    height: int


async def main() -> int:
    """Take all pictures; return the exit code."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("error: there is no Chromium here: install Debian's package chromium")
        return 1
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    daemon = Daemon(hook_secret="")
    world = await furnish(daemon)
    measure(daemon)
    conflict = (await world.store.conflicts())[-1].conflict.id
    pictures = (
        Picture("overview", "/", "light", 1280, 1420),
        Picture("document", f"/documents/{DRAWING}", "light", 1280, 1180),
        Picture("conflict", f"/conflicts/{conflict}", "dark", 1280, 900),
        Picture("dead-letters", "/dead-letters", "light", 1280, 520),
        Picture("phone", "/", "dark", 390, 1100),
    )
    FOLDER.mkdir(exist_ok=True)
    async with daemon.served() as client, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGS)
        for picture in pictures:
            size = await take(browser, str(client.base_url).rstrip("/"), picture)
            print(f"docs/images/{picture.name}.png: {size:,} bytes")
            if size > BYTES_MAX:
                print(f"error: {picture.name}: a picture has at most {BYTES_MAX:,} bytes")
                return 1
        await browser.close()
    return 0


async def take(browser: Browser, address: str, picture: Picture) -> int:
    """Take one; returns how many bytes it has."""
    page = await browser.new_page(
        viewport={"width": picture.width, "height": picture.height},
        color_scheme="dark" if picture.scheme == "dark" else "light",
        java_script_enabled=False,  # what is rendered here is the same each time; "Live" comes when it comes
    )
    await page.goto(address + picture.path)
    content = await page.screenshot(path=FOLDER / f"{picture.name}.png", animations="disabled")
    await page.close()
    return len(content)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
