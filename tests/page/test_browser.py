"""Every page in a real browser: it fits, is accessible, stays current, and causes no browser errors."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reconciler.errors import StoreError
from reconciler.web.page import rendering
from reconciler.web.sessions import Sessions
from tests.flows.world import OPERATORS, World
from tests.page import inspection
from tests.page.conftest import Stage, Visit
from tests.page.stage import DRAWING, furnish, infest, measure
from tests.web.conftest import Daemon

pytestmark = pytest.mark.asyncio(loop_scope="session")

LISTS = ["/", "/documents", "/conflicts", "/dead-letters", "/hotspots", "/policy", "/config", "/audit", "/audit/acts"]


async def addresses(daemon: Daemon) -> list[str]:
    """Every page that there is something on."""
    conflict = (await daemon.world.store.conflicts())[0].conflict.id
    letters = [letter.id.replace("/", "%2F") for letter in await daemon.world.store.dead_letters()]
    documents = [row.key for row in await daemon.world.store.list_documents(None, "", 3)]
    return [
        *LISTS,
        *(f"/documents/{key}" for key in documents if key.isalnum()),
        f"/conflicts/{conflict}",
        *(f"/dead-letters/{letter}" for letter in letters[:2]),
        *("/nope", "/documents?status=locked", "/documents?q=zz", "/conflicts?closed=true"),
    ]


async def fits(visit: Visit) -> bool:
    """Whether a page is no wider than the window of a desk, and then of a phone, which it leaves it in."""
    for width in (1280, 375):
        await visit.page.set_viewport_size({"width": width, "height": 900})
        if await visit.overflow() > 0:
            return False
    return True


async def test_pages_are_in_order_fit_and_can_be_read(stage: Stage, world: World) -> None:
    measure(stage.daemon)
    async with stage.visit(reduced_motion="reduce") as visit:  # no colour is on its way to another one
        for path in await addresses(stage.daemon):
            await visit.go(path)
            assert await inspection.structure(visit.page) == [], path
            await visit.page.emulate_media(color_scheme="dark")
            assert await inspection.contrast(visit.page) == [], path
            await visit.page.emulate_media(color_scheme="light")
            assert await inspection.contrast(visit.page) == [], path
            assert await fits(visit), path
            assert await inspection.contrast(visit.page) == [], path
            await visit.page.set_viewport_size({"width": 1280, "height": 900})
    assert [said for said in visit.complaints if "404" not in said] == []


async def test_hostile_texts_are_texts(stage: Stage) -> None:
    world = await infest(stage.daemon)
    async with stage.visit() as visit:
        keys = [row.key for row in await world.store.list_documents(None, "", 50)]
        conflicts = [f"/conflicts/{row.conflict.id}" for row in await world.store.conflicts()]
        for path in [*await addresses(stage.daemon), *conflicts]:
            reply = await visit.go(path)
            assert reply.status < 500
            assert await fits(visit), path
            assert await visit.page.evaluate("window.owned") is None, path
            assert await inspection.structure(visit.page) == [], path
        await visit.go("/conflicts")
        await visit.page.get_by_label("Rule", exact=True).select_option("default")
        await visit.page.get_by_role("button", name="Write our value for all…").last.click()
        await visit.page.get_by_text("What will be written").wait_for()
        assert await fits(visit)
        assert await visit.page.evaluate("window.owned") is None
        assert await inspection.structure(visit.page) == []
        for key in keys:
            if key == "..":  # browsers tidy such an address away; the list says all there is to say
                continue
            await visit.go("/documents?limit=100")
            async with visit.page.expect_navigation():
                await visit.page.get_by_role("link", name=shown(key), exact=True).first.click()
            assert await fits(visit), key
            assert (await visit.page.text_content("h1")) == "".join(shown(one, cut=False) for one in key)
    assert [said for said in visit.complaints if "404" not in said] == []


def shown(key: str, *, cut: bool = True) -> str:
    text = key.replace("\u202e", "U+202E")
    return f"{text[:90]}…" if cut and len(text) > 90 else text


async def test_a_long_value_is_cut_and_can_be_opened(stage: Stage) -> None:
    await infest(stage.daemon)
    async with stage.visit("/documents/long") as visit:
        assert len(await visit.text()) < 20_000
        await visit.page.locator("#fields summary").first.click()
        assert "a" * 90_000 in await visit.text("#fields")
    assert visit.complaints == []


async def test_everything_can_be_read_without_scripts(stage: Stage, world: World) -> None:
    async with stage.visit("/", script=False) as visit:
        assert "need attention" in await visit.text()
        await visit.page.get_by_role("link", name="Resolve").first.click()
        assert "Our value" in await visit.text()
        await visit.go(f"/documents/{DRAWING}")
        assert "asked" in await visit.text("#moments")


async def test_an_export_is_downloaded_by_its_button(stage: Stage, world: World) -> None:
    async with stage.visit("/audit") as visit:
        async with visit.page.expect_download() as begun:
            await visit.page.get_by_role("link", name="Export as CSV").click()
        download = await begun.value
        assert download.suggested_filename == "audit.csv"
        assert (await download.path()).read_text(encoding="utf-8").count("\n") == 1 + len(
            stage.daemon.world.store.trail
        )
    assert visit.complaints == []


async def test_the_first_stop_of_the_keyboard_skips_to_the_content(stage: Stage) -> None:
    async with stage.visit("/") as visit:
        await visit.page.keyboard.press("Tab")
        skip = visit.page.locator(":focus")
        assert await skip.inner_text() == "Skip to the content"
        box = await skip.bounding_box()
        assert box is not None
        assert box["y"] >= 0
        await visit.page.keyboard.press("Enter")
        assert await visit.page.evaluate("document.activeElement.id") == "content"


async def test_the_focused_element_is_visible(stage: Stage, world: World) -> None:
    async with stage.visit("/documents") as visit:
        shown = "(({ tagName }, { outlineWidth }) => [tagName, outlineWidth])"
        stops = []
        for _ in range(40):
            await visit.page.keyboard.press("Tab")
            focus = "document.activeElement"
            stops.append(await visit.page.evaluate(f"{shown}({focus}, getComputedStyle({focus}))"))
        widths = [float(width.removesuffix("px")) for tag, width in stops if tag != "BODY"]
        assert len(widths) > 15
        assert min(widths) >= 2


async def test_keys_lead_around_and_are_listed(stage: Stage, world: World) -> None:
    async with stage.visit("/") as visit:
        await visit.page.keyboard.press("?")
        dialog = visit.page.get_by_role("dialog", name="Keyboard shortcuts")
        assert "Go to search" in await dialog.inner_text()
        assert await inspection.contrast(visit.page) == []
        await visit.page.keyboard.press("Escape")
        await dialog.wait_for(state="detached")
        await visit.page.keyboard.press("n")
        assert (await visit.page.locator(":focus").inner_text()).startswith("Resolve")
        await visit.page.keyboard.press("g")
        await visit.page.keyboard.press("d")
        await visit.page.wait_for_url("**/documents")
        await visit.page.keyboard.press("/")
        await visit.page.keyboard.type("gd?")
        assert await visit.page.locator(":focus").input_value() == "gd?"
    assert visit.complaints == []


async def test_a_command_is_copied_as_it_is_typed(stage: Stage, world: World) -> None:
    async with stage.visit(f"/documents/{DRAWING}", permissions=["clipboard-read", "clipboard-write"]) as visit:
        await visit.page.locator("[data-copy^='reconciler docs show']").click()
        await visit.page.get_by_text("Copied").wait_for()
        assert await visit.page.evaluate("navigator.clipboard.readText()") == f"reconciler docs show {DRAWING}"
    assert visit.complaints == []


async def test_a_page_stays_current_without_taking_anything_from_the_hand(stage: Stage, world: World) -> None:
    measure(stage.daemon)
    async with stage.visit("/") as visit:
        await visit.page.locator("#live", has_text="Live").wait_for()
        await visit.page.locator("#plot-clashes summary").click()
        await visit.page.locator("#needs a").first.focus()
        focused = await visit.page.evaluate("document.activeElement.href")
        assert "4 min" in await visit.text("#recent") or "ago" in await visit.text("#recent")
        await world.emit({"title": "Lid"}, key="newcomer")
        world.windchill.put("newcomer", {"title": "Cover"})
        await world.attempt(key="newcomer")
        await world.clock.advance(2)
        await visit.page.locator("#recent", has_text="newcomer").wait_for()
        assert await visit.page.locator("#plot-clashes details").get_attribute("open") is not None
        assert await visit.page.evaluate("document.activeElement.href") == focused
    assert visit.complaints == []


async def _happen(world: World, key: str) -> None:
    world.windchill.put(key, {"title": "Cover"})
    await world.emit({"title": "Lid"}, key=key)
    await world.attempt(key=key)


async def test_two_windows_stay_current(stage: Stage, world: World) -> None:
    async with stage.visit() as one, stage.visit() as other:
        await one.go("/")
        await other.go("/documents")
        await _happen(world, "newcomer")
        await one.page.locator("#recent", has_text="newcomer").wait_for()
        await other.page.locator("#rows", has_text="newcomer").wait_for()


async def test_a_window_shows_what_was_resolved_in_another(stage: Stage, world: World) -> None:
    async with stage.visit() as conflicts, stage.visit() as document:
        await conflicts.go("/conflicts")
        await document.go(f"/documents/{DRAWING}")
        assert "2 fields are waiting" in await document.text("#reason")
        for row in await world.store.conflicts():
            one = row.conflict
            await world.emit({one.field: one.live}, key=row.document, source=OPERATORS, expect={one.field: one.live})
            await world.settle(row.document)
        await conflicts.page.locator("#rows", has_text="No field is waiting for a decision.").wait_for()
        await document.page.locator("#reason:empty").wait_for(state="attached")


async def test_a_page_that_has_not_changed_is_not_sent_again(stage: Stage, world: World) -> None:
    async with stage.visit("/") as visit:
        for status in (200, 304, 304):
            async with visit.page.expect_response(f"{visit.address}/") as told:
                await world.clock.advance(1)  # that time passes is no change
            reply = await told.value
            assert (reply.status, len(await reply.body()) > 0 if status == 200 else True) == (status, True)
        await _happen(world, "newcomer")
        await visit.page.locator("#recent", has_text="newcomer").wait_for()


_HIDING = """
window.isHidden = false;
Object.defineProperty(document, "hidden", { get: () => window.isHidden });
window.hide = (isHidden) => {
  window.isHidden = isHidden;
  document.dispatchEvent(new Event("visibilitychange"));
};
"""


@asynccontextmanager
async def timed(stage: Stage) -> AsyncIterator[tuple[Visit, list[str]]]:
    """The first page, current, in a browser whose clock stands still unless it is run; and what it asks for."""
    asked: list[str] = []
    async with stage.visit() as visit:
        await visit.page.add_init_script(_HIDING)
        await visit.page.clock.install(time=0)
        await visit.page.clock.pause_at(1)
        await visit.go("/")
        await visit.page.clock.run_for(3000)
        await visit.page.locator("#live", has_text="Live").wait_for()
        visit.page.on("request", lambda request: asked.append(request.url.removeprefix(visit.address)))
        yield visit, asked


async def test_a_page_asks_only_while_it_is_seen_and_at_once_when_it_is_shown(stage: Stage, world: World) -> None:
    async with timed(stage) as (visit, asked):
        await visit.page.evaluate("hide(true)")
        await _happen(world, "newcomer")
        await visit.page.clock.run_for(60_000)
        await visit.page.evaluate("fetch('/livez')")
        assert asked == ["/livez"]
        await visit.page.evaluate("hide(false)")  # no time passes
        await visit.page.locator("#recent", has_text="newcomer").wait_for()


async def test_a_page_that_takes_long_to_make_is_asked_for_less_often(
    stage: Stage, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, made = world.store.counts, asyncio.Event()

    async def slowly() -> Any:
        await made.wait()
        return await counts()

    async with timed(stage) as (visit, asked):
        await _happen(world, "latecomer")
        monkeypatch.setattr(world.store, "counts", slowly)
        async with visit.page.expect_request(f"{visit.address}/"):
            await visit.page.clock.run_for(3000)
        await visit.page.clock.run_for(600)
        made.set()
        await visit.page.locator("#recent", has_text="latecomer").wait_for()
        await visit.page.clock.run_for(5900)  # ten times as long as it took, less a moment
        await visit.page.evaluate("fetch('/livez')")
        assert asked == ["/", "/livez"]
        async with visit.page.expect_request(f"{visit.address}/"):
            await visit.page.clock.run_for(200)


async def test_a_part_that_was_in_use_is_brought_up_to_date_afterwards(stage: Stage, world: World) -> None:
    async with stage.visit("/") as visit:
        await visit.page.evaluate("document.getSelection().selectAllChildren(document.querySelector('#recent h2'))")
        await _happen(world, "newcomer")
        await visit.page.locator("#counts", has_text="2 synced").wait_for()
        assert "newcomer" not in await visit.text("#recent")
        assert await visit.page.evaluate("document.getSelection().toString()") == "Recent activity"
        await visit.page.evaluate("document.getSelection().removeAllRanges()")
        await visit.page.locator("#recent", has_text="newcomer").wait_for()


async def test_typed_text_survives_a_refresh(stage: Stage, world: World) -> None:
    async with stage.visit(f"/documents/{DRAWING}") as visit:
        field = visit.page.locator("#pause-reason")
        await field.fill("ECN-24")
        await world.emit({"title": "Bracket, left, brass"}, key=DRAWING, id="brass")
        await world.attempt(key=DRAWING)
        await visit.page.locator("#fields", has_text="Bracket, left, brass").wait_for()
        assert await visit.page.evaluate("document.activeElement.name") == "reason"
        assert await field.input_value() == "ECN-24"


async def test_the_buttons_of_an_open_page_work_after_a_restart(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await furnish(stage.daemon, calm=1)
    async with stage.visit(f"/documents/{DRAWING}") as visit:
        await visit.page.locator("#live", has_text="Live").wait_for()
        monkeypatch.setattr(Sessions, "csrf", lambda *_: "of-another-process")
        await visit.page.locator("[action$=retry] [name=csrf][value=of-another-process]").wait_for(state="attached")
        await visit.page.get_by_role("button", name="Reconcile now").click()
        await visit.page.locator("#notice.good").wait_for()


async def test_a_page_of_an_older_version_says_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async with stage.visit("/") as visit:
        await visit.page.locator("#live", has_text="Live").wait_for()
        monkeypatch.setitem(rendering._TEMPLATES.globals, "static", lambda name: f"/static/newer.{name}")
        await visit.page.locator("#live", has_text="Out of date").wait_for()


async def test_a_lost_and_a_restored_connection_are_shown(stage: Stage) -> None:
    async with stage.visit("/") as visit:
        await visit.page.locator("#live", has_text="Live").wait_for()
        await visit.page.context.set_offline(True)
        await visit.page.locator("#live", has_text="Connection lost").wait_for()
        await visit.page.context.set_offline(False)
        await visit.page.locator("#live", has_text="Live").wait_for()


async def test_a_server_that_does_not_answer_is_a_lost_connection_too(stage: Stage) -> None:
    async with stage.visit() as visit:
        await visit.page.add_init_script(
            "const made = AbortSignal.timeout; AbortSignal.timeout = () => made.call(AbortSignal, 300)"
        )
        await visit.go("/")
        await visit.page.route(f"{visit.address}/", lambda _: asyncio.sleep(0))  # held for good
        await visit.page.locator("#live", has_text="Connection lost").wait_for()


async def test_a_page_that_can_not_be_refreshed_says_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails() -> None:
        raise StoreError("can't count documents: the disk is full")

    async with stage.visit("/") as visit:
        monkeypatch.setattr(stage.daemon.world.store, "counts", fails)
        await visit.page.locator("#live", has_text="Not current (status 503)").wait_for()
        assert "No documents yet" in await visit.text("#verdict")


async def test_no_animation_where_none_is_wanted(stage: Stage) -> None:
    async with stage.visit("/", reduced_motion="reduce") as visit:
        moving = (
            "[...document.querySelectorAll('*')].filter((one) => parseFloat(getComputedStyle(one).transitionDuration))"
        )
        assert await visit.page.evaluate(f"{moving}.length") == 0
