"""The read-only API: lists, single items, refused requests, and awkward keys."""

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from httpx import AsyncClient

from reconciler.errors import StoreError
from reconciler.model.chain import Cut
from reconciler.web.probes import Health, Phase, Readiness
from tests.contracts.test_store import HOSTILE
from tests.fakes.outage import opened
from tests.flows.world import KEY, TOPIC, World
from tests.web.conftest import Daemon

API = "/api/v1"
LISTS = ["/documents", "/conflicts?closed=true", "/dead-letters?status=all", f"/documents/{KEY}/audit", "/audit"]


async def got(client: AsyncClient, path: str, status: int = 200) -> Any:
    reply = await client.get(API + path)
    assert reply.status_code == status, reply.text
    kind = "application/json" if status == 200 else "application/problem+json"
    assert reply.headers["content-type"] == kind
    return reply.json()


async def refused(client: AsyncClient, path: str, status: int = 400) -> str:
    return str((await got(client, path, status))["detail"])


# -------------------------------------------------------------------------------------------------------------- status


async def test_the_status_counts_everything(client: AsyncClient, daemon: Daemon, world: World) -> None:
    world.append(world.event({"title": "not folded yet"}))
    found = await got(client, "/status")
    assert found["documents"]["pending"] == 1
    assert set(found["documents"]) >= {"pending", "synced", "held", "contended", "locked", "parked"}
    assert (found["conflicts"], found["dead_letters"]) == (1, 2)
    (log,) = (row for row in found["log"] if row["topic"] == TOPIC)
    assert (log["topic"], log["end"] - log["position"], log["lag"]) == (TOPIC, 1, 1)
    assert found["log_reachable"] is True
    assert (found["phase"], found["windchill"], found["breaker"]) == ("ready", "up", "closed")
    assert found["in_flight_limit"] == world.limiter.limit
    assert found["oldest_pending_seconds"] >= 0
    assert found["oldest_pending_at"].startswith("2026-11-22T")


async def test_the_status_is_shown_while_the_log_is_unreachable(
    client: AsyncClient, daemon: Daemon, world: World
) -> None:
    world.broker.down = True
    found = await got(client, "/status")
    assert found["log_reachable"] is False
    assert [(row["end"], row["lag"]) for row in found["log"]] == [(None, None)]


async def test_the_status_tells_of_maintenance_and_of_an_open_breaker(client: AsyncClient, daemon: Daemon) -> None:
    daemon.readiness = Readiness(Phase.READY, Health.MAINTENANCE)
    opened(daemon.breaker)
    found = await got(client, "/status")
    assert (found["maintenance"], found["windchill"], found["breaker"]) == (True, "maintenance", "open")
    assert found["oldest_pending_at"] is None


# ----------------------------------------------------------------------------------------------------------- documents


async def test_a_document_shows_each_field_on_all_sides(client: AsyncClient, world: World) -> None:
    found = await got(client, f"/documents/{KEY}")
    assert (found["document"], found["status"]) == (KEY, "pending")
    fields = {field["field"]: field for field in found["fields"]}
    title = fields["title"]
    assert (title["desired"], title["live"], title["base"]) == ("Plate", "Lid", "Cover")
    assert (title["rule"], title["strategy"], title["decision"]["decision"]) == ("default", "merge", "hold")
    assert title["conflict"] == world.document().agreement.held[0].id
    (claim,) = title["claims"]
    assert (claim["kind"], claim["value"], claim["expect"], claim["offset"]) == ("set", "Plate", "Cover", 1)
    owner = fields["owner"]
    assert (owner["desired"], owner["live"], owner["rule"]) == ("erp2", "sgarcia", "default owner")
    status = fields["status"]
    assert (status["managed"], "desired" in status, status["claims"][0]["kind"]) == (False, False, "release")
    keywords = fields["attributes.Keywords"]
    assert keywords["desired"] == {"add": ["bracket"], "remove": []}
    assert (keywords["decision"], keywords["claims"][0]["element"]) == (None, "bracket")


async def test_documents_are_filtered_by_where_they_stand(client: AsyncClient, world: World) -> None:
    await world.emit({"title": "x"}, key="other")
    rows = (await got(client, "/documents?status=pending"))["items"]
    assert [row["document"] for row in rows] == [KEY, "other"]
    assert (await got(client, "/documents?status=parked"))["items"] == []


async def test_a_story_consists_of_sentences(client: AsyncClient, world: World) -> None:
    found = await got(client, f"/documents/{KEY}/story")
    assert any("waits for a decision" in sentence["text"] for sentence in found["now"])
    assert found["chapters"]
    assert {"kind": "conflict", "value": world.document().agreement.held[0].id} in [
        reference for sentence in found["now"] for reference in sentence["references"]
    ]
    only = await got(client, f"/documents/{KEY}/story?field=owner")
    assert {sentence["field"] for sentence in only["now"]} == {"owner"}


async def test_a_story_names_the_archives_that_have_what_was_before(client: AsyncClient, world: World) -> None:
    assert (await got(client, f"/documents/{KEY}/story"))["archived"] is None
    for number in range(5):
        head = f"{number + 1}:{'00' * 32}"
        world.store.archived.append(Cut(f"{number}:{'00' * 32}", head, number, number * 1_000_000, f"{number}", "00"))
    found = (await got(client, f"/documents/{KEY}/story"))["archived"]
    assert found == {"until": "1970-01-01T00:00:04.000000Z", "files": ["4", "3", "2"], "more": 2}


async def test_the_attempts_on_a_document_are_listed_newest_first(client: AsyncClient, world: World) -> None:
    rows = (await got(client, f"/documents/{KEY}/audit"))["items"]
    assert [row["id"] for row in rows] == [record.id for record in await world.store.audit(KEY)]
    assert rows[-1]["written"] == ["owner", "status", "title"]
    assert rows[0]["policy"] == world.attempt_options.policy_digest
    (title,) = [verdict for verdict in rows[0]["decisions"] if verdict["field"] == "title"]
    assert (title["desired"], title["live"], title["base"]) == ("Plate", "Lid", "Cover")


async def test_attempts_are_found_by_document_and_time(client: AsyncClient, world: World) -> None:
    every = (await got(client, "/audit"))["items"]
    newest = every[0]["at"]
    later = (await got(client, f"/audit?since={newest}"))["items"]
    earlier = (await got(client, f"/audit?until={newest}&document={KEY}"))["items"]
    assert [*later, *earlier] == every
    assert (await got(client, "/audit?document=other"))["items"] == []


# --------------------------------------------------------------------------------------------- what waits for a person


async def test_a_conflict_is_shown_with_all_three_values(client: AsyncClient, world: World) -> None:
    (row,) = (await got(client, "/conflicts"))["items"]
    shown = {"document": KEY, "field": "title", "base": "Cover", "desired": "Plate", "live": "Lid"}
    assert row | shown == row
    assert await got(client, f"/conflicts/{row['id']}") == row
    assert row["closed_at"] is None
    await refused(client, "/conflicts/nope", 404)


@pytest.mark.usefixtures("world")
async def test_a_dead_letter_is_shown_with_its_bytes(client: AsyncClient, daemon: Daemon) -> None:
    rows = (await got(client, "/dead-letters"))["items"]
    assert [row["offset"] for row in rows] == [4, 5]
    found = await got(client, f"/dead-letters/{quote(rows[0]['id'], safe='')}")
    assert base64.b64decode(found["value"]["base64"]) == b"not json \xff\0"
    assert (found["value"]["bytes"], found["value"]["truncated"]) == (11, False)
    assert base64.b64decode(found["key"]["base64"]) == b"k\xff"
    assert [header["name"] for header in found["headers"]] == ["h", "null"]
    assert found["headers"][1]["value"] is None
    cut = await got(client, f"/dead-letters/{quote(rows[0]['id'], safe='')}?bytes_max=3")
    assert (cut["value"]["base64"], cut["value"]["bytes"], cut["value"]["truncated"]) == ("bm90", 11, True)
    await daemon.actions.discard_letters("jdoe", [rows[0]["id"]], "a test")
    assert [row["offset"] for row in (await got(client, "/dead-letters?status=discarded"))["items"]] == [4]


async def test_hot_spots_name_documents_and_fields(client: AsyncClient, world: World) -> None:
    world.store.field_conflicts["title"], world.store.field_attempts["title"] = 3, 4
    (spot,) = (await got(client, "/hotspots?limit=1"))["items"]
    none, day = {"conflicts": 0, "attempts": 0, "rate": 0.0}, {"conflicts": 1, "attempts": 2, "rate": 0.5}
    totals = {"conflicts": 3, "attempts": 4, "rate": 0.75}
    assert spot.pop("advice").startswith("Nothing to do")
    assert spot.pop("hours") == [*[0] * 47, 1]
    assert spot == {"field": "title", **totals, "day": day, "day_before": none, "trend": "too few to tell"}


async def test_the_policy_is_shown_rule_by_rule(client: AsyncClient, world: World) -> None:
    found = await got(client, "/policy")
    assert [rule["name"] for rule in found["rules"]] == ["default status", "default owner"]
    assert found["rules"][0]["strategy"] == "external"
    assert (found["fallback"]["fields"], found["digest"]) == (["*"], world.attempt_options.policy_digest)


async def test_settings_are_shown_with_their_origin(client: AsyncClient, daemon: Daemon) -> None:
    line = ("windchill", "password", "********", "env RECONCILER_WINDCHILL__PASSWORD")
    daemon.settings = [line]
    (item,) = (await got(client, "/config"))["items"]
    assert item == dict(zip(("section", "key", "value", "origin"), line, strict=True))


# --------------------------------------------------------------------------------------------------------------- pages


@pytest.mark.parametrize("path", LISTS)
async def test_pages_of_one_make_the_whole_list(client: AsyncClient, world: World, path: str) -> None:
    for name in ("a", "b"):
        world.windchill.put(name, {"title": "-"})
        await world.emit({"title": "ours"}, key=name)
        await world.settle(name)
        world.windchill.edit(name, {"title": "theirs"})
        await world.emit({"title": "ours again"}, key=name)
        await world.settle(name)
    whole = (await got(client, path))["items"]
    assert len(whole) > 1
    separator = "&" if "?" in path else "?"
    found: list[Any] = []
    after = ""
    for _ in range(len(whole)):
        page = await got(client, f"{path}{separator}limit=1{f'&after={after}' if after else ''}")
        assert len(page["items"]) == 1
        found += page["items"]
        after = page["next"]
    assert found == whole
    assert after is None


NO_PLACES = [
    *(b'["a","b","c"]', b"[1]", b"[]", b"{}", b'["\\ud800"]', b"[-1,1]", b'[99999999999999999999,"x"]', b"\xff", b"1"),
    *(b"[" * 2000, b'[ "a" ]', b'[1.5,"x"]', b"[null,null]", b'["' + b"x" * 9000 + b'"]'),
]


@pytest.mark.parametrize("path", LISTS)
async def test_an_invalid_cursor_is_refused(client: AsyncClient, world: World, path: str) -> None:
    separator = "&" if "?" in path else "?"
    made = [base64.urlsafe_b64encode(place).decode().rstrip("=") for place in NO_PLACES]
    for cursor in (*made, "*", "a", "=", "%00", "\u00e9", " "):
        assert (await refused(client, f"{path}{separator}after={cursor}")).startswith("after: "), cursor


# ---------------------------------------------------------------------------------------------------------- what is not


@pytest.mark.parametrize(
    ("path", "says"),
    [
        *((f"/documents?limit={limit}", "limit: ") for limit in ("0", "501", "ten", "")),
        ("/documents?limit=1&limit=2", "limit: given twice"),
        ("/documents?status=dead", "status: "),
        ("/documents?Status=held", "Status: unknown query parameter; known: limit, after, status"),
        ("/status?x=1", "x: unknown query parameter; known: none"),
        ("/conflicts?closed=maybe", "closed: "),
        ("/audit?since=yesterday", "since: "),
        ("/audit?since=2026-11-22T10:00:00", "since: it has no offset"),
        ("/dead-letters?status=dead", "status: "),
        ("/documents?status=%ff", "the query string must be"),
        ("/documents?" + "&".join(f"a{n}=1" for n in range(60)), "the query string must be"),
    ],
)
async def test_a_wrong_query_parameter_is_named(client: AsyncClient, path: str, says: str) -> None:
    assert (await refused(client, path)).startswith(says)


async def test_unknown_things_are_not_found(client: AsyncClient) -> None:
    for path in ("/documents/nope", "/documents/nope/story", "/documents/nope/audit", "/dead-letters/nope"):
        await refused(client, path, 404)
    for path in ("", "/", "/documents/", "/documents//story", "/document", "/documents/a/b", "/documents/%ff"):
        reply = await client.get(str(client.base_url).rstrip("/") + API + path)
        assert (reply.status_code, reply.json()["title"]) == (404, "Not Found")


async def test_a_failing_store_is_a_503(client: AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken() -> Any:
        raise StoreError("can't count documents: the disk is full")

    monkeypatch.setattr(world.store, "counts", broken)
    assert "the disk is full" in (await got(client, "/status", 503))["detail"]


# ---------------------------------------------------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    "key",
    [*HOSTILE, "a/b", "a/story", "a?b=c", "a#b", "%2F", "a b", "a+b", "..", ".", "a;b", "<script>alert(1)</script>"],
)
async def test_any_key_is_an_address(client: AsyncClient, daemon: Daemon, key: str) -> None:
    await daemon.world.emit({"title": key}, key=key)
    assert (await got(client, "/documents"))["items"][0]["document"] == key
    address = f"{str(client.base_url).rstrip('/')}{API}/documents/{quote(key, safe='').replace('.', '%2E')}"
    for below in ("", "/story", "/audit"):
        reply = await client.get(address + below)
        assert reply.status_code == 200, (below, reply.text)
    found = (await client.get(address)).json()
    assert (found["document"], found["fields"][0]["desired"]) == (key, key)
    page = await got(client, f"/audit?document={quote(key, safe='')}")
    assert page == {"items": [], "next": None}


async def test_answers_are_json(client: AsyncClient, daemon: Daemon) -> None:
    await daemon.world.emit({"title": "</script><b>\u202e\u2028" + "x" * 100_000}, key="k")
    reply = await client.get(f"{API}/documents/k")
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert json.loads(reply.content)["fields"][0]["desired"].endswith("x" * 100_000)


# ------------------------------------------------------------------------------------------------------- this machine


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8090", "10.0.0.1", ""]
)
async def test_a_request_for_another_host_is_not_answered(client: AsyncClient, host: str) -> None:
    for path in ("/api/v1/status", "/metrics"):
        reply = await client.get(path, headers={"host": host})
        assert (reply.status_code, reply.headers["content-type"]) == (421, "application/problem+json")
    assert (await client.get("/livez", headers={"host": host})).status_code == 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8090", "127.0.0.1", "127.8.9.1:1", "[::1]:8090", "[::1]"])
async def test_this_machine_is_answered_under_its_own_names(client: AsyncClient, host: str) -> None:
    assert (await client.get("/api/v1/status", headers={"host": host})).status_code == 200
