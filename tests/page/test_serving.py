"""How pages are served, without a browser: their security policy, static files, content, and errors."""

from __future__ import annotations

import asyncio
import csv
import html
import io
import re
import threading

import attrs
import httpx
import jinja2
import pytest
from httpx import AsyncClient
from msgspec import structs
from starlette.types import Message

from reconciler.errors import LogError, RecordTooLargeError, StoreError
from reconciler.model.action import Side
from reconciler.model.audit import AuditRecord
from reconciler.model.chain import Cut
from reconciler.model.document import Status
from reconciler.model.event import Outgoing
from reconciler.web import application
from reconciler.web.page import audit as audit_page
from reconciler.web.page import rendering
from reconciler.web.principal import Role
from reconciler.web.probes import Phase, Readiness
from tests.flows.world import TOPIC
from tests.page.stage import DRAWING, furnish
from tests.web.conftest import Daemon
from tests.web.keys import LINES, csrf_in, signed_in

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


async def test_a_page_allows_itself_nothing_from_elsewhere_and_nothing_inline(client: AsyncClient) -> None:
    reply = await client.get("/")
    assert reply.headers["content-security-policy"] == rendering.POLICY
    assert "unsafe" not in rendering.POLICY
    assert not re.search(r"<style|style=|<script(?! src=\"/static/)| on\w+=", reply.text)


async def test_an_unchanged_page_has_the_same_etag_on_every_replica(daemon: Daemon) -> None:
    daemon.browsing = attrs.evolve(daemon.browsing, key="k" * 32)
    world = await furnish(daemon, calm=1)
    async with daemon.served() as one:
        for path in ("/", "/documents", "/conflicts", "/dead-letters", "/audit"):
            first = await one.get(path)
            etag = first.headers["etag"]
            await world.clock.advance(70)  # that time passes is no change
            for method in ("GET", "HEAD"):
                again = await one.request(method, path, headers={"if-none-match": etag})
                assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag), path
                assert again.headers["cache-control"] == "no-store"
                assert again.headers["content-security-policy"] == rendering.POLICY
    daemon.stopping = asyncio.Event()
    async with daemon.served() as other:
        assert (await other.get(path, headers={"if-none-match": etag})).status_code == 304
        world.windchill.put("newcomer", {"title": "Cover"})
        await world.emit({"title": "Lid"}, key="newcomer")
        await world.attempt(key="newcomer")
        changed = await other.get(path, headers={"if-none-match": etag})
        assert (changed.status_code, "newcomer" in changed.text) == (200, True)
        missing = await other.get("/nope", headers=BROWSER)
        assert (missing.status_code, "etag" in missing.headers) == (404, False)


async def test_an_etag_is_per_user_and_gives_no_access(daemon: Daemon) -> None:
    daemon.tokens = LINES
    async with daemon.served() as client:
        etags: set[str] = set()
        for role in (Role.VIEWER, Role.OPERATOR):
            client.cookies.clear()
            csrf = await signed_in(client, role)
            etag = (await client.get("/documents")).headers["etag"]
            again = {"if-none-match": ", ".join([*etags, etag])}
            assert (await client.get("/documents", headers={"if-none-match": ", ".join(etags)})).status_code == 200
            assert (await client.get("/documents", headers=again)).status_code == 304
            etags.add(etag)
        await client.post("/signout", data={"csrf": csrf})
        assert (await client.get("/documents", headers=again)).status_code == 303


@pytest.mark.parametrize("name", ["page.css", "page.js", "icon.svg"])
async def test_a_file_of_the_page_may_be_kept_for_good(client: AsyncClient, name: str) -> None:
    reply = await client.get(rendering.address(name))
    assert reply.status_code == 200
    assert reply.headers["content-type"].split(";")[0] in ("text/css", "text/javascript", "image/svg+xml")
    assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
    again = await client.get(rendering.address(name), headers={"if-none-match": reply.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_a_file_of_another_version_is_not_there(client: AsyncClient) -> None:
    for name in ("page.css", "page.0000000000000000.css", "..%2Frendering.py", "%2e%2e%2frendering.py"):
        assert (await client.get(f"/static/{name}")).status_code == 404


async def test_an_unknown_address_is_a_page_for_browsers_and_a_problem_for_programs(client: AsyncClient) -> None:
    for path in ("/nope", "/static", "/documents/a/b/c"):
        assert (await client.get(path)).headers["content-type"] == "application/problem+json"
        shown = await client.get(path, headers=BROWSER)
        assert (shown.status_code, shown.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert "<h1>Not Found</h1>" in shown.text
    api = await client.get("/api/v1/nope", headers=BROWSER)
    assert api.headers["content-type"] == "application/problem+json"


async def test_errors_of_pages_are_pages_and_escaped(client: AsyncClient) -> None:
    reply = await client.get("/", params={"<script>": "1"})
    assert reply.status_code == 400
    assert "&lt;script&gt;: unknown query parameter" in reply.text
    assert (await client.put("/")).status_code == 405


async def test_a_busy_store_is_reported_on_a_page(
    daemon: Daemon, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy() -> None:
        raise StoreError("can't count documents: the store is busy")

    monkeypatch.setattr(daemon.world.store, "counts", busy)
    reply = await client.get("/")
    assert (reply.status_code, reply.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert "the store is busy" in reply.text


async def test_an_oversized_record_is_reported_on_a_page_with_advice(
    daemon: Daemon, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await furnish(daemon, calm=1)
    conflict, letter = (await world.store.conflicts())[0], next(iter(world.store.letters.values()))
    at = f"/conflicts/{conflict.conflict.id}"
    seen = re.findall(r'name="seen" value="([^"]+)"', (await client.get(at)).text)[0]
    letter_at = f"/dead-letters/{letter.id.replace('/', '%2F')}"
    mended = {"value": (letter.value or b"").decode().replace("2026-11-22 10:00", "2026-11-22T10:00:00Z")}

    async def too_large(_: object) -> None:
        raise RecordTooLargeError("a record has 2 bytes, and 1 is the most: make it smaller")

    monkeypatch.setattr(world.log, "append", too_large)
    before = await world.store.actions()
    for path, form in (
        (f"{at}/resolve", {"take": "live", "seen": seen}),
        (
            "/conflicts/resolve",
            {"field": conflict.conflict.field, "take": "live", "seen": f"{conflict.conflict.id}:{seen}"},
        ),
        (f"/documents/{DRAWING}/release", {}),
        (f"{letter_at}/replay", {}),
        (f"{letter_at}/resend", mended),
    ):
        reply = await client.post(path, data={"csrf": csrf_in(await client.get("/")), **form})
        assert (reply.status_code, reply.headers["content-type"]) == (413, "text/html; charset=utf-8"), path
        assert "and 1 is the most: make it smaller" in reply.text
        assert "Go back: what you typed" in reply.text
    assert await world.store.actions() == before


async def test_a_form_takes_either_side_by_each_name_and_a_value_only_as_json(
    daemon: Daemon, client: AsyncClient
) -> None:
    world = await furnish(daemon, calm=1)
    at = f"/conflicts/{(await world.store.conflicts())[0].conflict.id}"
    csrf = csrf_in(await client.get("/"))
    seen = re.findall(r'name="seen" value="([^"]+)"', (await client.get(at)).text)[0]
    reply = await client.post(f"{at}/preview", data={"csrf": csrf, "value": "<LOT-7>"})
    assert reply.status_code == 422
    assert "write text in double quotes, as in &#34;&lt;LOT-7&gt;&#34;" in reply.text
    assert "\n&lt;LOT-7&gt;</textarea>" in reply.text, "what was typed is there to be mended"
    for form, code in (({"take": "value", "value": "theirs"}, 422), ({"take": "thiers"}, 400), ({}, 400)):
        reply = await client.post(f"{at}/resolve", data={"csrf": csrf, "seen": seen, **form})
        assert reply.status_code == code, form
    assert await world.store.actions() == []
    reply = await client.post(f"{at}/resolve", data={"csrf": csrf, "seen": seen, "take": "theirs"})
    assert (reply.status_code, reply.headers["location"]) == (303, "/conflicts?done=decided")
    assert [action.details["take"] for action in await world.store.actions()] == ["live"]


async def test_a_contested_field_has_three_ways_out_and_each_a_button(daemon: Daemon, client: AsyncClient) -> None:
    world = daemon.world
    await world.emit({"status": "RELEASED"})
    await world.attempt()
    for _ in range(4):
        await world.edit({"status": "INWORK"})
        await world.resync()
    (row,) = [row for row in await world.store.conflicts() if row.conflict.field == "status"]
    at = f"/conflicts/{row.conflict.id}"
    shown = await client.get(at)
    page = shown.text
    assert [
        label in html.unescape(page)
        for label in ("Accept as equal", "Retry now", "Keep Windchill's value", "Write our value")
    ] == [True] * 3 + [False]
    assert "Windchill does not keep it" in page
    form = {"csrf": csrf_in(shown), "field": "status", "take": "accept"}
    assert "<h1>Accept as equal: 1 conflict</h1>" in (await client.post("/conflicts/preview", data=form)).text
    assert f"reconciler conflicts accept {row.conflict.id}" in page
    seen = re.findall(r'name="take" value="accept"><input type="hidden" name="seen" value="(\w+)"', page)
    reply = await client.post(f"{at}/resolve", data={"csrf": csrf_in(shown), "seen": seen[0], "take": "accept"})
    assert (reply.status_code, reply.headers["location"]) == (303, "/conflicts?done=decided")
    assert [action.details["take"] for action in await world.store.actions()] == ["accept"]


READ = [
    *("/", "/documents", "/documents?status=held", "/documents?status=&q=0000", "/documents/0000012345", "/conflicts"),
    *("/conflicts?closed=true", "/dead-letters", "/dead-letters?status=all", "/dead-letters/changes%2F0%2F3"),
    *("/hotspots", "/policy", "/config", "/audit", "/audit?document=0000012345&since=2026-01-01&until=", "/audit.csv"),
]


@pytest.mark.parametrize("path", READ)
async def test_every_page_is_there_with_something_and_with_nothing_to_show(
    daemon: Daemon, client: AsyncClient, path: str
) -> None:
    empty = await client.get(path)
    assert empty.status_code == (404 if "00012345" in path.split("?", maxsplit=1)[0] or "%2F" in path else 200)
    await furnish(daemon, calm=2)
    if "%2F" in path:
        path = f"/dead-letters/{(await daemon.world.store.dead_letters())[0].id.replace('/', '%2F')}"
    reply = await client.get(path)
    assert reply.status_code == 200
    assert "-&gt;" not in reply.text
    assert "Undefined" not in reply.text


async def test_the_oldest_of_many_entries_need_attention_first(daemon: Daemon, client: AsyncClient) -> None:
    rows = daemon.world.store.rows
    for number in range(80):  # the later its key, the longer it has waited
        await daemon.world.emit({"title": "x"}, key=f"d{number:02}")
        row, status = daemon.world.document(f"d{number:02}"), (Status.PARKED, Status.CONTENDED)[number % 2]
        rows[row.key] = structs.replace(row, status=status, pending_since_us=1_000_000_000 - number)
    reply = await client.get("/")
    shown = re.findall(r'href="/documents/(d\d\d)"', reply.text)
    assert list(dict.fromkeys(shown))[:15] == [f"d{number:02}" for number in range(79, 64, -1)]


async def test_keys_are_found_by_how_they_begin(daemon: Daemon, client: AsyncClient) -> None:
    for key in ("a", "ab", "ab/c", "abc", "ac", "b", "\ue000x", "é"):
        await daemon.world.emit({"title": "x"}, key=key)

    async def found(q: str, **more: str) -> list[str]:
        reply = await client.get("/documents", params={"q": q, **more})
        return re.findall(r'href="/documents/([^"?]+)"', reply.text)

    assert await found("ab") == ["ab", "ab%2Fc", "abc"]
    assert await found("\ue000") == ["%EE%80%80x"]
    assert await found("é") == ["%C3%A9"]
    assert await found("zz") == []
    assert await found("ab", limit="2") == ["ab", "ab%2Fc"]


async def test_a_long_list_comes_in_pages_that_miss_nothing(daemon: Daemon, client: AsyncClient) -> None:
    keys = [f"{number:04}" for number in range(120)]
    for key in keys:
        daemon.world.append(daemon.world.event({"title": "x"}, key=key))
    await daemon.world.fold()
    found, address = [], "/documents"
    while address:
        text = (await client.get(address)).text
        found += re.findall(r'href="/documents/(\d+)"', text)
        following = re.search(r'href="([^"]+)" rel="next"', text)
        address = html.unescape(following[1]) if following else ""
    assert found == keys


async def test_the_export_is_a_table_without_formulas(daemon: Daemon, client: AsyncClient) -> None:
    daemon.world.windchill.put("=cmd|' /C calc'!A0", {"title": "y"})
    await daemon.world.emit({"title": "x"}, key="=cmd|' /C calc'!A0")
    await daemon.world.attempt(key="=cmd|' /C calc'!A0")
    reply = await client.get("/audit.csv")
    assert reply.headers["content-type"].startswith("text/csv")
    assert "attachment" in reply.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(reply.text)))
    assert [row["document"] for row in rows] == ["'=cmd|' /C calc'!A0"]
    assert (await client.get("/audit.csv?since=yesterday")).status_code == 400


async def attempt(daemon: Daemon) -> AuditRecord:
    await furnish(daemon, calm=1)
    return (await daemon.world.store.audit(limit=1))[0]


async def test_an_export_has_every_attempt_however_many_there_are(
    daemon: Daemon, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 10_050
    one = structs.replace(await attempt(daemon), document="=1+1")

    async def audit(*given: object) -> list[AuditRecord]:
        *_, limit, before = given
        first = before[1] - 1 if isinstance(before, tuple) else count
        assert isinstance(limit, int)
        assert limit <= 500
        return [structs.replace(one, id=number) for number in range(first, max(0, first - limit), -1)]

    monkeypatch.setattr(daemon.world.store, "audit", audit)
    rows = list(csv.DictReader(io.StringIO((await client.get("/audit.csv")).text)))
    assert [int(row["id"]) for row in rows] == list(range(count, 0, -1))
    assert {row["document"] for row in rows} == {"'=1+1"}


@pytest.mark.parametrize("trouble", ["silence", "store", "stop"])
async def test_an_export_that_breaks_off_is_a_download_that_failed(
    daemon: Daemon, client: AsyncClient, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    one = await attempt(daemon)
    pages = 0

    async def audit(*given: object) -> list[AuditRecord]:
        nonlocal pages
        pages += 1
        if pages < 3:
            return [one] * 3
        monkeypatch.setattr(application, "REQUEST_S_MAX", 0.05)  # from the next piece on
        if pages < 5:
            if trouble == "stop":
                daemon.stopping.set()
            return [one] * 3
        if trouble == "silence":
            await asyncio.Event().wait()
        raise StoreError("can't read the audit trail: the disk is gone")

    monkeypatch.setattr(audit_page, "_PAGE", 2)
    monkeypatch.setattr(daemon.world.store, "audit", audit)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message body"):
        await client.get("/audit.csv")
    assert pages <= 5


async def test_an_answer_in_pieces_has_the_time_of_a_request_for_each_and_a_client_has_its_own(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Limit:
        def __init__(self) -> None:
            self.ends: list[float | None] = []

        async def __aenter__(self) -> Limit:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        def reschedule(self, when: float | None) -> None:
            self.ends.append(when)

    await furnish(daemon, calm=1)
    limit, sent = Limit(), []

    async def send(message: Message) -> None:
        sent.append((message["type"], limit.ends[-1] if limit.ends else 0))

    with monkeypatch.context() as patched:
        patched.setattr(application.asyncio, "timeout", lambda _: limit)
        headers = [(b"host", b"localhost")]
        path = {"path": "/audit.csv", "raw_path": b"/audit.csv", "query_string": b"", "root_path": ""}
        scope = {"type": "http", "method": "GET", "scheme": "http", "http_version": "1.1", "headers": headers, **path}
        await application.application(daemon.services)(scope, never, send)
    assert [end for kind, end in sent if kind == "http.response.body"][:-1] == [None, None]
    assert [end for end in limit.ends if end is not None] == sorted(end for end in limit.ends if end is not None)
    assert limit.ends[-1] is not None


async def never() -> Message:
    return await asyncio.Event().wait()  # type: ignore[return-value]  # it does not return


async def test_a_slow_page_blocks_no_other_request(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    answered, was_answered = threading.Event(), []
    render = jinja2.Template.render

    def slowly(template: jinja2.Template, *given: object) -> str:
        was_answered.append(answered.wait(10))
        return render(template, *given)

    monkeypatch.setattr(jinja2.Template, "render", slowly)
    page = asyncio.create_task(client.get("/policy"))
    while not was_answered and not answered.is_set():
        assert (await client.get("/livez")).status_code == 200
        answered.set()
    reply = await page
    assert (reply.status_code, was_answered) == (200, [True])
    assert int(reply.headers["content-length"]) == len(reply.content)


async def test_an_unreachable_log_is_reported_and_the_rest_shown(daemon: Daemon, client: AsyncClient) -> None:
    async def away() -> None:
        raise LogError("no broker")

    await furnish(daemon, calm=2)
    daemon.world.log.ends = away  # type: ignore[method-assign, assignment]  # the broker is gone
    text = (await client.get("/")).text
    assert "The change log is unreachable." in text
    assert "The change log is unreachable" in text
    assert "Resolve" in text


async def test_a_hundred_thousand_documents_come_by_the_page(daemon: Daemon, client: AsyncClient) -> None:
    world = await furnish(daemon, calm=1)
    rows = world.store.rows
    calm, held = rows["0000012400"], rows[DRAWING]
    for number in range(100_000):
        key = f"{number:06}-" + "x" * (number % 400)
        rows[key] = structs.replace(held if number % 100 == 0 else calm, key=key)
    for path in ("/", "/documents", "/documents?status=held", "/documents?q=09999", "/documents?limit=100"):
        reply = await client.get(path)
        assert reply.status_code == 200
        assert len(reply.content) < (100_000 if "limit" not in path else 1_000_000)
    assert "100," in (await client.get("/documents")).text


async def test_the_history_has_each_attempt_and_action_once_newest_first(daemon: Daemon, client: AsyncClient) -> None:
    world = await furnish(daemon, calm=1)
    await daemon.actions.pause("jdoe", [DRAWING], "a <b>change</b>")
    text = (await client.get(f"/documents/{DRAWING}")).text
    history = text.partition('id="moments"')[2].partition("</section>")[0]
    told = [int(number) for number in re.findall(r'id="attempt-(\d+)"', text)]
    assert sorted(told) == sorted(record.id for record in await world.store.audit(DRAWING))
    assert told == sorted(told, reverse=True)
    assert set(re.findall(r'href="#(attempt-\d+)"', text)) <= {f"attempt-{number}" for number in told}
    assert history.count("jdoe paused the document, ") == 1
    assert "(“a &lt;b&gt;change&lt;/b&gt;”)" in history


async def test_the_history_names_the_archives_that_have_what_was_before(daemon: Daemon, client: AsyncClient) -> None:
    world = await furnish(daemon, calm=1)
    assert "are in archives" not in (await client.get(f"/documents/{DRAWING}")).text
    world.store.archived.append(Cut(f"0:{'00' * 32}", f"1:{'00' * 32}", 1, 2, "audit-0-1-1.jsonl.zst", "00"))
    assert "<code>audit-0-1-1.jsonl.zst</code>" in (await client.get(f"/documents/{DRAWING}")).text


async def test_a_field_has_a_story_of_its_own(daemon: Daemon, client: AsyncClient) -> None:
    await furnish(daemon, calm=1)
    text = (await client.get(f"/documents/{DRAWING}")).text
    address = next(one for one in re.findall(r'href="([^"]+)#line-heading"', text) if "owner" in one)
    page = (await client.get(html.unescape(address))).text
    told = page.partition('id="told"')[2]
    assert set(re.findall(r'href="#(attempt-\d+)"', page)) <= set(re.findall(r'id="(attempt-\d+)"', page))
    assert "lchen" in told
    assert "4711" not in told
    assert f"reconciler explain {DRAWING} owner" in told.replace("</span> <span>", " ")
    assert (await client.get(f"/documents/{DRAWING}?field=nothing")).status_code == 200


async def test_a_page_that_takes_too_long_says_so_in_a_page(
    daemon: Daemon, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(application, "REQUEST_S_MAX", 0.05)
    monkeypatch.setattr(daemon.world.store, "counts", never)
    reply = await client.get("/")
    assert (reply.status_code, reply.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert "the request took too long" in reply.text


@pytest.mark.parametrize(
    "path", [f"/documents/{DRAWING}/release", "/conflicts/{conflict}/resolve", "/dead-letters/{letter}/replay"]
)
async def test_nothing_is_appended_by_a_page_before_the_log_is_open(daemon: Daemon, path: str) -> None:
    await furnish(daemon)
    daemon.readiness = Readiness(Phase.RECOVERING)
    letter = (await daemon.world.store.dead_letters())[0].id.replace("/", "%2F")
    conflict = (await daemon.world.store.conflicts())[0].conflict.id
    async with daemon.served() as client:
        csrf = re.search(r'name="csrf" content="([^"]+)"', (await client.get("/")).text)
        assert csrf
        form = {"csrf": csrf[1], "take": "live", "seen": "x"}
        reply = await client.post(path.format(conflict=conflict, letter=letter), data=form)
        assert (reply.status_code, "recovering" in reply.text) == (503, True)
        reply = await client.post(f"/documents/{DRAWING}/pause", data={"csrf": csrf[1], "reason": "x" * 2001})
        assert (reply.status_code, "at most 2000" in reply.text) == (422, True)


async def test_a_conflict_that_has_opened_again_leads_to_where_it_waits(daemon: Daemon, client: AsyncClient) -> None:
    world = await furnish(daemon, calm=1)
    first = next(row.conflict for row in await world.store.conflicts() if row.conflict.field == "attributes.CostCenter")
    page = (await client.get(f"/documents/{DRAWING}")).text
    assert "2 fields are waiting" in page
    assert "on_overlap" not in page.partition('id="fields"')[0]
    world.windchill.edit(DRAWING, {"attributes.CostCenter": "5000"})
    await world.resync(DRAWING)
    again = next(row.conflict for row in await world.store.conflicts() if row.conflict.field == first.field)
    assert again.id != first.id
    text = (await client.get(f"/conflicts/{first.id}")).text
    assert f'href="/conflicts/{again.id}"' in text
    assert "events and Windchill both changed it" in text
    assert "No decision is needed" not in text
    world.windchill.edit(DRAWING, {"attributes.CostCenter": "4020"})
    await world.resync(DRAWING)
    settled = (await client.get(f"/conflicts/{first.id}")).text
    assert "No decision is needed" in settled
    assert "by no operator" in settled


async def test_the_page_of_a_settled_conflict_is_a_record_of_it(daemon: Daemon, client: AsyncClient) -> None:
    world = await furnish(daemon, calm=1)
    one = next(row.conflict for row in await world.store.conflicts() if row.conflict.field == "attributes.CostCenter")
    await daemon.actions.resolve("mlee", one.id, Side.LIVE, reason="asked <finance>")
    await world.fold()
    await world.settle(DRAWING)
    page = (await client.get(f"/conflicts/{one.id}")).text
    record = " ".join(html.unescape(re.sub(r"<[^>]+>", "", page.partition("<main")[2].replace("<d", " <d"))).split())
    ours = r'Our value, from the log "4020"from //erp/prod, [-\d:UTC ]+'
    both = f'{ours} Windchill.s value when the conflict opened "4711"'
    decided = r"Resolved Keep Windchill.s value, \"4711\", by mlee \(command line\), [-\d:UTC ]+: “asked <finance>”"
    assert re.search(f"Values.*{both} .*Details .*Opened .*Closed .*{decided}", record), record
    assert 'id="closed" role="status" data-live><p class="note good"' in page
    assert 'id="choice"' not in page


async def test_a_history_of_one_field_leads_back_to_that_of_all(daemon: Daemon, client: AsyncClient) -> None:
    await furnish(daemon, calm=1)
    back = f'href="/documents/{DRAWING}#line-heading"'
    assert back not in (await client.get(f"/documents/{DRAWING}")).text
    assert back in (await client.get(f"/documents/{DRAWING}?field=owner")).text


async def test_bytes_that_are_not_text_can_not_be_edited(daemon: Daemon, client: AsyncClient) -> None:
    world = daemon.world
    for value in (b"\xff\x00 not json", b'{"id": "\xe2\x80\xaetxt"}'):
        world.broker.put(Outgoing(TOPIC, None, value, ()))
    await world.fold()
    pages = [
        await client.get(f"/dead-letters/{one.id.replace('/', '%2F')}") for one in await world.store.dead_letters()
    ]
    mended = [re.search(r"<textarea[^>]*>\n(.*?)</textarea>", page.text, re.DOTALL) for page in pages]
    assert [found and html.unescape(found[1]) for found in mended] == ["", '{"id": "\\u202etxt"}']
