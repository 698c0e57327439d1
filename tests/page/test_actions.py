"""Operator actions on a page in a real browser, with and without scripts; no one else may act."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import pytest
import pytest_asyncio

from reconciler.model.document import Status
from reconciler.web.probes import Phase, Readiness
from tests.flows.world import World
from tests.page import inspection
from tests.page.conftest import Stage, Visit
from tests.page.stage import COVER, DRAWING, furnish
from tests.web.conftest import Daemon
from tests.web.keys import LINES, TOKENS, Role

pytestmark = pytest.mark.asyncio(loop_scope="session")

scripts = pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])


async def conflict_on(world: World, field: str) -> Any:
    return next(row.conflict for row in await world.store.conflicts() if row.conflict.field == field)


@pytest_asyncio.fixture(loop_scope="session")
async def conflict(world: World) -> Any:
    return await conflict_on(world, "attributes.CostCenter")


async def press(visit: Visit, name: str, *, asks: bool = False) -> None:
    await visit.page.get_by_role("main").get_by_role("button", name=name, exact=True).first.click()
    if asks:
        dialog = visit.page.get_by_role("dialog")
        await dialog.get_by_role("button", name=name, exact=True).click()


@asynccontextmanager
async def signed_in(stage: Stage, role: Role, path: str) -> AsyncIterator[Visit]:
    """A page of a server that asks people for their tokens, to which someone has shown one."""
    stage.daemon.tokens = LINES
    async with stage.served_again() as again, again.visit(path) as visit:
        await visit.page.get_by_label("Token").fill(TOKENS[role])
        await press(visit, "Sign in with a token")
        yield visit


async def recorded(daemon: Daemon) -> list[tuple[str, str, str]]:
    return [(action.who, action.role, str(action.kind)) for action in await daemon.world.store.actions()]


@scripts
async def test_a_conflict_is_decided_in_two_clicks_from_the_overview(stage: Stage, world: World, script: bool) -> None:
    async with stage.visit("/", script=script) as visit:
        await visit.page.locator("#needs li", has_text="CostCenter").get_by_role("link").click()
        await press(visit, "Write our value")
        await visit.page.get_by_text("Resolved. The decision takes effect").wait_for()
    await world.fold()
    await world.settle(DRAWING)
    assert world.live(DRAWING)["attributes"]["CostCenter"] == "4020"
    assert (await recorded(stage.daemon))[0] == ("local", "admin", "resolve")
    assert visit.complaints == []


async def test_a_preview_shows_what_will_be_written(stage: Stage, world: World) -> None:
    found = await conflict_on(world, "attributes.Note")
    async with stage.visit(f"/conflicts/{found.id}") as visit:
        theirs, ours = [await visit.text(f".pick >> nth={number}") for number in (0, 1)]
        assert "Nothing will be written" in theirs
        assert "This will be written" in ours
        assert "0.15 mm" in ours.split("→")[0]
        await visit.page.get_by_role("textbox", name="Value").fill('"Deburr nothing"')
        await press(visit, "Preview")
        assert '"Deburr nothing"' in await visit.text(".pick >> nth=2")
        assert world.live(COVER)["attributes"]["Note"] != "Deburr nothing"
        await press(visit, "Write this value")
        await visit.page.get_by_text("Resolved.").first.wait_for()
    await world.fold()
    await world.settle(COVER)
    assert world.live(COVER)["attributes"]["Note"] == "Deburr nothing"


@scripts
async def test_a_decision_on_outdated_values_is_refused_and_the_page_shows_new_ones(stage: Stage, script: bool) -> None:
    world = await furnish(stage.daemon, calm=1)
    found = await conflict_on(world, "attributes.CostCenter")
    async with stage.visit(f"/conflicts/{found.id}", script=script) as visit:
        world.windchill.edit(DRAWING, {"title": "Bracket, right"})
        await world.resync(DRAWING)
        await press(visit, "Write our value")
        await visit.page.get_by_text("a value has changed since").wait_for()
        await press(visit, "Write our value")
        await visit.page.get_by_text("Resolved.").first.wait_for()
    assert len(await recorded(stage.daemon)) == 1


async def test_a_conflict_that_is_settled_meanwhile_offers_nothing(stage: Stage, world: World, conflict: Any) -> None:
    async with stage.visit(f"/conflicts/{conflict.id}") as visit:
        world.windchill.edit(DRAWING, {"attributes.CostCenter": "4020"})
        await world.resync(DRAWING)
        await press(visit, "Keep Windchill's value")
        await visit.page.get_by_text("there is nothing to decide").wait_for()
        assert await visit.page.get_by_role("button", name="Keep Windchill's value").count() == 0
    assert await recorded(stage.daemon) == []


async def test_an_open_conflict_says_that_it_was_settled_elsewhere(stage: Stage, world: World, conflict: Any) -> None:
    async with stage.visit(f"/conflicts/{conflict.id}") as visit:
        assert await visit.text("#standing") == "open"
        await visit.page.get_by_label("Reason").first.fill("as agreed")
        world.windchill.edit(DRAWING, {"attributes.CostCenter": "4020"})
        await world.resync(DRAWING)
        await visit.page.get_by_text("This conflict was closed").wait_for()
        assert await visit.text("#standing") == "closed"
        assert await visit.page.get_by_label("Reason").first.input_value() == "as agreed"
        assert await visit.page.get_by_role("heading").all_inner_texts() == [
            "attributes.CostCenter",
            "Values",
            "Details",
        ]


async def test_all_conflicts_of_a_field_are_resolved_after_a_preview(stage: Stage) -> None:
    world = await furnish(stage.daemon, calm=1)
    async with stage.visit("/conflicts") as visit:
        await visit.page.get_by_label("Field", exact=True).select_option("attributes.Note")
        await press(visit, "Keep Windchill's value for all…")
        await visit.page.get_by_text("nothing: Windchill already has this value").wait_for()
        assert await inspection.structure(visit.page) == []
        assert await visit.overflow() <= 0
        assert await recorded(stage.daemon) == []
        await press(visit, "Resolve 1 conflict")
        await visit.page.get_by_text("Resolved: 1.").wait_for()
    await world.fold()
    await world.settle(COVER)
    assert "attributes.Note" not in world.held(COVER)
    assert world.held(DRAWING)
    assert visit.complaints == []


async def test_all_conflicts_of_a_rule_are_decided_at_once_the_last_rule_too(stage: Stage, world: World) -> None:
    async with stage.visit("/conflicts", script=False) as visit:
        form = visit.page.locator("form", has=visit.page.get_by_label("Rule", exact=True))
        await form.get_by_label("Rule", exact=True).select_option("default")
        await form.get_by_role("button", name="Write our value for all…").click()
        await press(visit, "Resolve 3 conflicts")
        await visit.page.get_by_text("Resolved: 3.").wait_for()
    await world.fold()
    for key in (COVER, DRAWING):
        await world.settle(key)
        assert world.held(key) == []


async def test_of_many_that_were_shown_those_that_have_moved_since_are_left(stage: Stage, world: World) -> None:
    moved = await conflict_on(world, "attributes.Note")
    async with stage.visit("/conflicts", script=False) as visit:
        form = visit.page.locator("form", has=visit.page.get_by_label("Rule", exact=True))
        await form.get_by_label("Rule", exact=True).select_option("default")
        await form.get_by_role("button", name="Write our value for all…").click()
        world.windchill.edit(COVER, {"title": "Lid"})
        await world.resync(COVER)
        await press(visit, "Resolve 3 conflicts")
        assert f"Resolved: 2; left open: 1. {moved.id}: it has moved since it was shown." in await visit.text()
    assert len(await recorded(stage.daemon)) == 2


async def test_conflicts_are_found_by_their_field(stage: Stage, world: World) -> None:
    async with stage.visit("/conflicts") as visit:
        await visit.page.get_by_label("Filter by field").fill("attributes.Note")
        await press(visit, "Filter")
        assert await visit.page.locator("#rows tbody tr").count() == 1
        await visit.go("/conflicts?field=nothing")
        assert "No conflicts on this field" in await visit.text()


@scripts
async def test_a_document_can_be_paused_resumed_and_reconciled_now(stage: Stage, world: World, script: bool) -> None:
    async with stage.visit(f"/documents/{DRAWING}", script=script) as visit:
        await press(visit, "Reconcile now")
        await visit.page.get_by_text("The document is due now").wait_for()
        assert world.document(DRAWING).due_us == world.clock.now_us()
        await visit.page.get_by_label(re.compile("^Reason")).first.fill("merging two drawings")
        await press(visit, "Pause")
        await visit.page.get_by_text("Paused. The document").wait_for()
        assert world.document(DRAWING).status is Status.PAUSED
        assert "merging two drawings" in await visit.text()
        await press(visit, "Resume")
        await visit.page.get_by_text("Resumed.").first.wait_for()
        assert world.document(DRAWING).status is Status.PENDING
        assert "local paused the document, as admin (“merging two drawings”)." in await visit.text("#moments")
    assert [kind for *_, kind in await recorded(stage.daemon)] == ["resume", "pause", "retry"]
    assert visit.complaints == []


async def test_a_document_is_released_when_it_is_confirmed(stage: Stage, world: World) -> None:
    async with stage.visit(f"/documents/{DRAWING}") as visit:
        await press(visit, "Release", asks=True)
        await visit.page.get_by_text("Released. The reconciler").wait_for()
        await world.fold()
        await visit.go(f"/documents/{DRAWING}")
        assert "The whole document was released" in await visit.text()
        await press(visit, "Release", asks=True)
        await visit.page.get_by_text("there is nothing to release").wait_for()
    assert "error: Failed to load resource: the server responded with a status of 409 (Conflict)" in visit.complaints


@scripts
async def test_a_dead_letter_can_be_corrected_and_sent_again(stage: Stage, world: World, script: bool) -> None:
    letter = next(iter(world.store.letters.values()))
    async with stage.visit(f"/dead-letters/{letter.id.replace('/', '%2F')}", script=script) as visit:
        field = visit.page.get_by_label("Corrected event")
        given = await field.input_value()
        assert given == (letter.value or b"").decode()
        await press(visit, "Send corrected event")
        await visit.page.get_by_text("it is not an RFC 3339 date-time").first.wait_for()
        assert await field.input_value() == given
        await field.fill(given.replace("2026-11-22 10:00", "2026-11-22T10:00:00Z"))
        await press(visit, "Send corrected event")
        await visit.page.get_by_text("The corrected event is in the log").wait_for()
        await world.fold()
        assert "0000012361" in world.store.rows
    assert (await recorded(stage.daemon))[0][2] == "resend"


async def test_a_dead_letter_is_discarded_with_a_reason(stage: Stage, world: World) -> None:
    letter = list(world.store.letters.values())[1]
    async with stage.visit(f"/dead-letters/{letter.id.replace('/', '%2F')}") as visit:
        assert "\\xff" in await visit.text(".bytes")
        assert "U+202E" in await visit.text(".bytes")
        reason = visit.page.locator("form", has=visit.page.get_by_role("button", name="Discard")).get_by_label("Reason")
        await reason.fill("a test of ours")
        await press(visit, "Discard", asks=True)
        await visit.page.get_by_text("Discarded. It stays").wait_for()
    assert (await world.store.dead_letter(letter.id)).status == "discarded"  # type: ignore[union-attr]  # it is there


async def test_every_button_says_the_command_that_does_the_same(stage: Stage, world: World, conflict: Any) -> None:
    letter = (await stage.daemon.world.store.dead_letters())[0].id.replace("/", "%2F")
    async with stage.visit() as visit:
        for path in (f"/documents/{DRAWING}", f"/conflicts/{conflict.id}", f"/dead-letters/{letter}", "/conflicts"):
            await visit.go(path)
            bare = await visit.page.evaluate(
                "[...document.querySelectorAll('main form[method=post]')].filter((form) =>"
                " !form.closest('.act, .pick, .body')?.querySelector('.command code')).map((form) => form.action)"
            )
            assert bare == []


async def test_a_viewer_sees_commands_and_no_buttons(stage: Stage, world: World, conflict: Any) -> None:
    async with signed_in(stage, Role.VIEWER, f"/conflicts/{conflict.id}") as visit:
        for path in (f"/conflicts/{conflict.id}", f"/documents/{DRAWING}", "/conflicts"):
            await visit.go(path)
            assert await visit.page.locator("main form[method=post]").count() == 0
            assert "You need the role operator" in await visit.text()
            assert await visit.page.locator(".command code").count() > 0
        status = await visit.page.evaluate(
            f"fetch('/documents/{DRAWING}/retry', {{ method: 'POST', headers: {{ 'x-csrf-token':"
            " document.querySelector('meta[name=csrf]').content } }).then((reply) => reply.status)"
        )
        assert status == 403
    assert await recorded(stage.daemon) == []


async def test_an_operator_can_sign_in_act_and_sign_out(stage: Stage, world: World) -> None:
    async with signed_in(stage, Role.OPERATOR, f"/documents/{DRAWING}") as visit:
        await press(visit, "Reconcile now")
        await visit.page.get_by_text("The document is due now").wait_for()
        await visit.page.get_by_role("button", name="Sign out").click()
        await visit.page.get_by_label("Token").wait_for()
    assert await recorded(stage.daemon) == [("operator.jones", "operator", "retry")]


async def test_an_open_page_says_that_access_has_ended(stage: Stage, world: World) -> None:
    async with signed_in(stage, Role.OPERATOR, "/") as visit:
        await visit.page.locator("#live", has_text="Live").wait_for()
        stage.daemon.tokens = LINES.replace(" operator ", " viewer ")
        await visit.page.locator("#live", has_text="Signed out").wait_for()


async def test_a_form_of_no_page_of_ours_does_nothing(stage: Stage, world: World) -> None:
    async with stage.visit(f"/documents/{DRAWING}") as visit:
        await visit.page.evaluate("document.querySelector('[action$=retry] [name=csrf]').value = 'x'")
        await press(visit, "Reconcile now")
        await visit.page.get_by_role("heading", name="Forbidden").wait_for()
    assert await recorded(stage.daemon) == []


async def test_every_document_is_compared_at_the_press_of_a_button(stage: Stage, world: World) -> None:
    settled = {Status.SYNCED, Status.HELD, Status.ABSENT, Status.PARKED}
    wanted = {key for key, row in world.store.rows.items() if row.status in settled}
    async with stage.visit("/documents") as visit:
        await press(visit, "Compare all", asks=True)
        await visit.page.get_by_text("Documents due for a comparison").wait_for()
    now_us = world.clock.now_us()
    due = {key for key, row in world.store.rows.items() if row.due_us is not None and row.due_us <= now_us}
    assert wanted
    assert wanted <= due
    assert [kind for *_, kind in await recorded(stage.daemon)] == ["compare"]
    assert visit.complaints == []


async def test_operator_actions_are_listed_with_name_and_reason(stage: Stage, world: World) -> None:
    await stage.daemon.actions.pause("jdoe", [DRAWING], "a big change")
    await stage.daemon.actions.resume("akim", [DRAWING])
    async with stage.visit("/audit/acts") as visit:
        assert "a big change" in await visit.text("#list")
        await visit.page.get_by_role("searchbox", name="Operator").fill("akim")
        await press(visit, "Search")
        assert await visit.page.locator("#list tbody tr").count() == 1


@scripts
async def test_all_writes_are_stopped_on_the_overview_said_on_every_page_and_resumed(
    stage: Stage, world: World, script: bool
) -> None:
    async with stage.visit("/", script=script) as visit:
        await visit.page.locator("#writes").get_by_label("Reason").fill("wrong prices")
        await press(visit, "Stop all writes", asks=script)
        await visit.page.get_by_text("Nothing changes Windchill any more.").wait_for()
        stop = await world.store.write_stop()
        assert stop is not None
        assert stop.reason == "wrong prices"
        stage.daemon.readiness = Readiness(Phase.READY, stop=stop)
        await visit.go("/documents")
        assert "All writes to Windchill are stopped by local since" in await visit.text("#stop")
        await visit.page.locator("#stop").get_by_role("link", name="Resume").click()
        await press(visit, "Resume all writes")
        await visit.page.get_by_text("All replicas write again.").wait_for()
        assert await world.store.write_stop() is None
        assert visit.complaints == []
    assert [kind for _, _, kind in await recorded(stage.daemon)][:2] == ["resume-writes", "stop-writes"]


async def test_conflicts_are_filtered_by_document_and_source_and_sorted_by_what_a_heading_says(
    stage: Stage, world: World
) -> None:
    async with stage.visit("/conflicts") as visit:
        rows = visit.page.locator("#rows tbody tr")
        oldest = await rows.all_inner_texts()
        await visit.page.locator("#rows thead").get_by_role("link", name="Opened").click()
        await visit.page.get_by_text("newest first").wait_for()
        newest = await rows.all_inner_texts()
        assert [one.split()[:2] for one in newest] == [one.split()[:2] for one in reversed(oldest)]
        await visit.page.locator("#rows thead").get_by_role("link", name="Document").click()
        await visit.page.wait_for_url("**sort=document*")
        keys = await visit.page.locator("#rows tbody th").all_inner_texts()
        assert keys == sorted(keys)
        assert len(keys) == 3
        await visit.go("/conflicts?sort=field&limit=2")
        await visit.page.get_by_role("link", name="Next page").click()
        assert await rows.count() == 1
        await visit.page.get_by_label("Document begins with").fill(COVER)
        await press(visit, "Filter")
        assert await visit.page.locator("#rows tbody th").all_inner_texts() == [COVER]
        assert "sort=field" in visit.page.url
        await visit.page.get_by_label("Source").fill("//nobody")
        await press(visit, "Filter")
        assert "No conflicts like this" in await visit.text()
        assert await inspection.structure(visit.page) == []
        assert await visit.overflow() <= 0
    assert visit.complaints == []


async def test_a_conflict_says_who_edited_when_and_leads_to_the_document_in_windchill(
    stage: Stage, world: World
) -> None:
    stage.daemon.windchill_link = lambda document: f"https://plm.example.com/doc?number={document.key}"
    found = await conflict_on(world, "attributes.Note")
    async with stage.served_again() as again, again.visit(f"/conflicts/{found.id}", script=False) as visit:
        text = await visit.text()
        assert "by jdoe" in text
        assert "document last modified by akim, 20" in text
        link = visit.page.get_by_role("link", name="View in Windchill")
        assert await link.get_attribute("href") == f"https://plm.example.com/doc?number={COVER}"
        await visit.go(f"/documents/{COVER}")
        assert await link.get_attribute("href") == f"https://plm.example.com/doc?number={COVER}"


async def test_times_are_those_of_the_viewers_zone_also_after_a_refresh(stage: Stage, world: World) -> None:
    found = await conflict_on(world, "attributes.Note")
    async with stage.visit(f"/conflicts/{found.id}", timezone_id="Asia/Kolkata") as visit:
        times = visit.page.locator("time")
        before = await times.all_inner_texts()
        shown = [one for one in before if "GMT+5:30" in one]
        assert shown
        assert not [one for one in before if "UTC" in one]
        first = visit.page.locator("time", has_text="GMT+5:30").first
        utc = datetime.fromisoformat(await first.get_attribute("datetime") or "")
        told = (await first.inner_text()).removesuffix(" GMT+5:30")
        assert datetime.fromisoformat(f"{told}+05:30") == utc.replace(microsecond=0)
        assert str(await first.get_attribute("title")).startswith(told)
        world.windchill.edit(COVER, {"title": "Lid"}, who="lchen")
        await world.resync(COVER)
        await visit.page.get_by_text("This conflict was closed").or_(visit.page.get_by_text("Live")).first.wait_for()
        assert not [one for one in await times.all_inner_texts() if "UTC" in one]
    async with stage.visit(f"/conflicts/{found.id}", script=False, timezone_id="Asia/Kolkata") as visit:
        assert "UTC" in await visit.text()
