"""Requests of the dialect: nonces, origins, pages, metadata and what refusals mean. Real sockets."""

import asyncio
from typing import Any

import pytest

from reconciler.adapters.credentials import Basic
from reconciler.adapters.replies import MESSAGE_CHARACTERS_MAX, Reply
from reconciler.adapters.wrs import results
from reconciler.adapters.wrs.metadata import Schema
from reconciler.adapters.wrs.nonces import QUIET_S
from reconciler.adapters.wrs.service import Service
from reconciler.model.answer import Broken, Failed, NotAvailable, Throttled, Unauthorised
from reconciler.model.snapshot import Token
from tests.adapters.wrs.odata import (
    LOGIN,
    METADATA,
    NONCE,
    PLAIN,
    Answer,
    Asked,
    LaterClock,
    OData,
    accepting,
    error,
    numbered,
    row,
    rows,
    windchill,
)
from tests.checks import expect

HTML = {"content-type": "text/html"}
ID = "OR:wt.doc.WTDocument:100"
PASSWORD = "s3cret-password"


def status(exchange: Any) -> int:
    assert isinstance(exchange, Reply), exchange
    return exchange.status


# ------------------------------------------------------------------------------------------------------------- nonces


async def test_a_nonce_is_asked_for_once_whatever_starts_at_the_same_time(odata: OData, service: Service) -> None:
    odata.respond = accepting("8q87=")
    path = service.action(ID, "PTC.DocMgmt.CheckOut")
    answers = await asyncio.gather(*(service.post(path, {"CheckOutNote": "x"}) for _ in range(8)))
    answers.append(await service.patch(service.entity(ID), {"Title": "t"}, None))
    assert [status(answer) for answer in answers] == [204] * 9
    assert len(odata.of("/PTC/GetCSRFToken()")) == 1


async def test_a_write_says_what_is_written_and_under_which_guard(odata: OData, service: Service) -> None:
    odata.respond = accepting("8q87=")
    await service.patch(service.entity(ID), {"Title": "é", "Note": None}, Token('W/"5"'))
    await service.post(service.action(ID, "PTC.DocMgmt.CheckOut"), {})
    patch, post = odata.documents
    assert (patch.method, patch.path) == ("PATCH", f"/v6/DocMgmt/Documents('{ID}')")
    assert patch.body == {"Title": "é", "Note": None}
    assert patch.headers["if-match"] == 'W/"5"'
    assert patch.headers["content-type"] == "application/json"
    assert (post.method, post.path) == ("POST", f"/v6/DocMgmt/Documents('{ID}')/PTC.DocMgmt.CheckOut")
    assert "if-match" not in post.headers
    assert post.headers["accept-encoding"] == "identity"


async def test_a_nonce_refused_when_new_fails_and_then_nothing_is_sent_for_a_while(
    odata: OData, service: Service, clock: LaterClock
) -> None:
    numbered(odata)
    odata.respond = accepting()
    first = expect(Failed, await service.post("Documents('x')/A", {}))
    assert "INVALID_NONCE" in first.message
    assert len(odata.documents) == 2
    second = await service.patch("Documents('x')", {}, None)
    assert second == first
    assert len(odata.documents) == 2
    clock.ahead_s = QUIET_S + 1
    odata.respond = accepting("3")
    assert status(await service.post("Documents('x')/A", {})) == 204
    assert len(odata.documents) == 3


async def test_what_frees_a_document_is_sent_though_nonces_are_refused(odata: OData, service: Service) -> None:
    numbered(odata)
    odata.respond = accepting("3")
    refused = expect(Failed, await service.post("Documents('x')/CheckIn", {}))
    assert status(await service.post("Documents('x')/UndoCheckOut", {}, urgent=True)) == 204
    assert await service.post("Documents('x')/CheckOut", {}) == refused
    assert [asked.path.rpartition("/")[2] for asked in odata.documents] == ["CheckIn", "CheckIn", "UndoCheckOut"]


async def test_another_refusal_is_not_taken_for_one_of_the_nonce(odata: OData, service: Service) -> None:
    odata.respond = lambda asked: error(400, "INVALID_REQUEST", "INVALID_NONCE is not the matter here")
    assert status(await service.post("Documents('x')/A", {})) == 400
    assert len(odata.documents) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        *((error(refused, "BAD", "you said 8q87="), "BAD: you said ***") for refused in (400, 401, 403)),
        (Answer(200, "x", {"content-type": "text/8q87="}), "with text/*** is not an answer"),
        (error(423, "LOCKED", "locked by 8q87="), "LOCKED: locked by ***"),
    ],
    ids=["400", "401", "403", "as a content type", "as the holder of a lock"],
)
async def test_a_nonce_is_never_shown(odata: OData, service: Service, answer: Answer, said: str) -> None:
    odata.respond = lambda asked: answer
    found = results.of(service, await service.post("Documents('x')/A", {}))
    assert odata.documents[0].headers["csrf_nonce"] == "8q87="
    assert not isinstance(found, Reply)
    assert said in found.message
    assert "8q87" not in str(found)


async def test_of_a_nonce_where_a_message_is_cut_not_even_the_beginning_is_shown(
    odata: OData, service: Service
) -> None:
    before = "x" * (MESSAGE_CHARACTERS_MAX - len("BAD: ") - len("8q87"))
    odata.respond = lambda asked: error(400, "BAD", f"{before}{asked.headers['csrf_nonce']}")
    reply = expect(Reply, await service.post("Documents('x')/A", {}))
    assert "8q8" not in service.message(reply)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(200, LOGIN, HTML), Failed),
        (Answer(200, {"NonceKey": "Host", "NonceValue": "evil.example"}), Failed),
        (Answer(200, {"NonceKey": "CSRF_NONCE", "NonceValue": "a\r\nHost: evil.example"}), Failed),
        (Answer(200, {"NonceKey": "CSRF_NONCE", "NonceValue": " "}), Failed),
        (Answer(200, {"NonceKey": "CSRF_NONCE"}), Failed),
        (Answer(404), Failed),
        (Answer(403), Failed),
        (Answer(500), Failed),
        (Answer(302, headers={"location": "http://127.0.0.1:9/login"}), Failed),
        (Answer(401, LOGIN, HTML), Unauthorised),
        (Answer(503, headers={"retry-after": "7"}), Throttled),
    ],
)
async def test_without_a_nonce_nothing_is_written(
    odata: OData, service: Service, answer: Answer, expected: type
) -> None:
    odata.nonce = answer
    assert isinstance(await service.post("Documents('x')/A", {}), expected)
    assert not odata.documents
    odata.nonce, odata.respond = NONCE, accepting("8q87=")
    assert status(await service.post("Documents('x')/A", {})) == 204


async def test_a_nonce_whose_asker_was_cancelled_is_asked_for_by_the_next(odata: OData, service: Service) -> None:
    asked = asyncio.Event()
    odata.respond = accepting("8q87=")

    async def hold(request: Any) -> None:
        if "GetCSRFToken" in request.path and not asked.is_set():
            asked.set()
            await asyncio.sleep(30)

    odata.hold = hold
    first = asyncio.create_task(service.post("Documents('x')/A", {}))
    second = asyncio.create_task(service.post("Documents('x')/B", {}))
    await asked.wait()
    first.cancel()
    assert status(await second) == 204


async def test_a_plain_service_is_asked_for_no_nonce(odata: OData) -> None:
    odata.respond = lambda asked: Answer(204)
    async with windchill(odata.url, service="") as plain:
        reply = await plain.service.patch("Documents('x')", {"Title": "t"}, Token('"1"'))
    assert status(reply) == 204
    assert [asked.path for asked in odata.asked] == ["/Documents('x')"]
    assert "csrf_nonce" not in odata.asked[0].headers


# ------------------------------------------------------------------------------------------------------------ origins


async def test_a_redirect_within_the_origin_is_followed_by_reads_only(odata: OData, service: Service) -> None:
    def respond(asked: Asked) -> Answer:
        if asked.path.endswith("/moved"):
            return Answer(200, {"ok": True})
        return Answer(307, headers={"location": "/Windchill/servlet/odata/v6/DocMgmt/moved"})

    odata.respond = respond
    assert status(await service.get("Documents('x')")) == 200
    assert status(await service.post("Documents('x')/A", {})) == 307


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2:{port}/x",
        "//evil.example/x",
        "https://127.0.0.1:{port}/x",
        "http://127.0.0.1:{port}@evil.example/x",
        "http://jdoe:theirs@127.0.0.1:{port}/x",  # our server, and another's credentials
    ],
)
async def test_a_redirect_to_another_origin_is_not_followed(odata: OData, service: Service, location: str) -> None:
    port = odata.url.rpartition(":")[2]
    odata.respond = lambda asked: Answer(302, headers={"location": location.format(port=port) + "?secret=s3cret"})
    reply = expect(Reply, await service.get("Documents('x')"))
    said = service.not_promised(reply).message
    assert "not followed" in said
    assert "see base_url" in said
    assert "s3cret" not in said
    assert len(odata.asked) == 1


async def test_a_link_with_credentials_in_it_is_not_taken_up_where_ours_are_sent(odata: OData) -> None:
    theirs = odata.url.replace("//", "//jdoe:theirs@")
    async with windchill(odata.url, auth=Basic("integration", PASSWORD)) as made:
        odata.respond = lambda asked: rows(row(), next_link=f"{theirs}/p/{PASSWORD}")
        _, trouble = await gathered(made.service)
        assert isinstance(trouble, Broken)
        assert PASSWORD not in trouble.message
        odata.respond = lambda asked: Answer(302, headers={"location": f"{theirs}/p/{PASSWORD}"})
        (trouble,) = await gathered(made.service)
        assert isinstance(trouble, Broken)
        assert PASSWORD not in trouble.message
    assert len(odata.asked) == 2


async def test_redirects_that_lead_in_a_circle_end(odata: OData, service: Service) -> None:
    odata.respond = lambda asked: Answer(
        302, headers={"location": asked.raw.replace("/v6", "/Windchill/servlet/odata/v6")}
    )
    assert status(await service.get("Documents('x')")) == 302
    assert len(odata.asked) == 4


async def gathered(service: Service, pages_max: int = 10) -> list[Any]:
    return [page async for page in service.pages("$filter=x", pages_max)]


async def test_pages_are_followed_to_the_last_with_the_size_that_is_preferred(odata: OData, service: Service) -> None:
    def respond(asked: Asked) -> Answer:
        page = int(asked.query.get("$skiptoken", "0"))
        links = [
            "Documents?$skiptoken=1",
            odata.url + "/Windchill/servlet/odata/v6/DocMgmt/Documents?$skiptoken=2",
            None,
        ]
        return rows(row(id=page), next_link=links[page])

    odata.respond = respond
    assert [page[0]["ID"][-1] for page in await gathered(service)] == ["0", "1", "2"]
    assert [asked.headers["prefer"] for asked in odata.asked] == ["odata.maxpagesize=200"] * 3


@pytest.mark.parametrize("link", ["http://evil.example/p", "https://127.0.0.1/p", "http://[", "ftp://127.0.0.1/p"])
async def test_a_next_page_on_another_origin_is_not_read(odata: OData, service: Service, link: str) -> None:
    odata.respond = lambda asked: rows(row(), next_link=link + "?secret=s3cret")
    _, trouble = await gathered(service)
    assert isinstance(trouble, Broken)
    assert "another origin" in trouble.message
    assert "s3cret" not in trouble.message


async def test_pages_that_lead_in_a_circle_or_nowhere_end(odata: OData, service: Service) -> None:
    odata.respond = lambda asked: rows(row(), next_link="Documents?$filter=x")
    assert isinstance((await gathered(service))[-1], Broken)
    count = iter(range(100))
    odata.respond = lambda asked: rows(row(), next_link=f"Documents?page={next(count)}")
    pages = await gathered(service, pages_max=3)
    assert len(pages) == 4
    assert isinstance(pages[-1], Failed)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(200, LOGIN, HTML), Broken),
        (Answer(200, LOGIN), Broken),
        (Answer(200, {"value": []}, HTML), Broken),
        (Answer(200, {"value": {}}), Broken),
        (Answer(200, {"rows": []}), Broken),
        (Answer(200, '{"value": [', {}), Broken),
        (Answer(204), Broken),
        (error(404, "NOT_FOUND"), Failed),
        (error(403, "FORBIDDEN"), Failed),
        (error(400, "INVALID"), NotAvailable),
        (error(500, "BROKEN"), Failed),
        (error(501, "NOT_IMPLEMENTED"), Failed),
        (error(429, "SLOW", **{"retry-after": "5"}), Throttled),
        (Answer(401, LOGIN, HTML), Unauthorised),
    ],
)
async def test_what_is_no_page_of_rows_is_trouble(
    odata: OData, service: Service, answer: Answer, expected: type
) -> None:
    odata.respond = lambda asked: answer
    assert [type(page) for page in await gathered(service)] == [expected]


# ----------------------------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error(403, "FORBIDDEN", "not yours"), NotAvailable(403, "FORBIDDEN: not yours", forbidden=True)),
        (error(404, "NOT_FOUND", "gone"), NotAvailable(404, "NOT_FOUND: gone", absent=True)),
        (error(400, "ENTITY_NOT_FOUND", "gone"), NotAvailable(404, "ENTITY_NOT_FOUND: gone", absent=True)),
        (error(500, "OOPS", "x"), Failed("OOPS: x", 500)),
        (error(501, "NOT_IMPLEMENTED", "x"), Failed("NOT_IMPLEMENTED: x", 501)),
        (error(408, "LATE", "x"), Failed("LATE: x", 408)),
        (error(503, "BUSY", "x", **{"retry-after": "9"}), Throttled(503, "BUSY: x", 9.0)),
        (error(400, "BAD", "x"), None),
        (error(409, "LOCKED", "x"), None),
        (Answer(200), None),
    ],
)
async def test_trouble_that_reads_and_writes_share(
    odata: OData, service: Service, answer: Answer, expected: Any
) -> None:
    odata.respond = lambda asked: answer
    reply = expect(Reply, await service.get("Documents('x')"))
    assert service.trouble(reply) == expected


async def test_a_message_is_cut(odata: OData, service: Service) -> None:
    odata.respond = lambda asked: error(400, "BAD", "long " * 1000)
    reply = expect(Reply, await service.get("Documents('x')"))
    assert service.message(reply).startswith("BAD: long")
    assert len(service.message(reply)) <= 300


# ------------------------------------------------------------------------------------------------------------- schema


async def test_the_metadata_is_read_once_whatever_starts_at_the_same_time(odata: OData, service: Service) -> None:
    found = await asyncio.gather(*(service.schema() for _ in range(5)))
    assert all(isinstance(schema, Schema) for schema in found)
    assert await service.schema("#PTC.DocMgmt.Specification") is found[0]
    assert len(odata.of("/v6/DocMgmt/$metadata")) == 1


async def test_the_metadata_is_read_again_for_a_type_it_does_not_know_but_once_only(
    odata: OData, service: Service
) -> None:
    await service.schema()
    odata.metadata = Answer(body=METADATA.replace('"Specification"', '"Novelty"'), headers={"content-type": "text/xml"})
    schema = expect(Schema, await service.schema("#PTC.DocMgmt.Novelty"))
    assert schema.type("#PTC.DocMgmt.Novelty") is not None
    for _ in range(3):
        assert isinstance(await service.schema("#PTC.DocMgmt.No one"), Schema)
    assert len(odata.of("$metadata")) == 3


async def test_metadata_that_stands_in_the_way_is_read_again_now_and_then(
    odata: OData, service: Service, clock: LaterClock
) -> None:
    old = expect(Schema, await service.schema())
    odata.metadata = Answer(body=METADATA.replace('Name="Title"', 'Name="Heading"'), headers=odata.metadata.headers)
    assert await service.schema_since(old) is old
    assert len(odata.of("$metadata")) == 1
    clock.ahead_s = 301
    found = await asyncio.gather(*(service.schema_since(old) for _ in range(5)))
    assert all("Heading" in schema.document.properties for schema in found)
    assert len(odata.of("$metadata")) == 2
    assert await service.schema() is found[0]
    clock.ahead_s = 602
    odata.metadata = Answer(500)
    assert [await service.schema_since(found[0]) for _ in range(3)] == [found[0]] * 3
    assert len(odata.of("$metadata")) == 3


async def test_types_without_end_don_t_cost_the_metadata_each_time(
    odata: OData, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.adapters.wrs.service._UNKNOWN_TYPES_MAX", 3)
    for number in range(10):
        assert isinstance(await service.schema(f"#PTC.DocMgmt.Type{number}"), Schema)
    assert len(odata.of("$metadata")) == 3


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(200, LOGIN, HTML), Broken),
        (Answer(200, METADATA), Broken),
        (Answer(200, METADATA[:500], {"content-type": "application/xml"}), Broken),
        (Answer(200, "<!DOCTYPE x><x/>", {"content-type": "application/xml"}), Broken),
        (
            Answer(200, METADATA.replace('Name="Documents"', 'Name="Parts"'), {"content-type": "application/xml"}),
            Broken,
        ),
        (Answer(404, "no such domain", HTML), Failed),
        (Answer(403), Failed),
        (Answer(500), Failed),
        (Answer(401, LOGIN, HTML), Unauthorised),
    ],
)
async def test_metadata_that_cannot_be_had_is_trouble_and_asked_for_again(
    odata: OData, service: Service, answer: Answer, expected: type
) -> None:
    good, odata.metadata = odata.metadata, answer
    assert isinstance(await service.schema(), expected)
    odata.metadata = good
    assert isinstance(await service.schema(), Schema)


async def test_types_that_another_domain_describes_are_read_there_on_the_same_origin_only(odata: OData) -> None:
    head, tail = METADATA.split('<Schema Namespace="PTC" ')
    borrowed, own = tail.split('<Schema Namespace="PTC.DocMgmt" ')
    references = "".join(
        f'<edmx:Reference Uri="{uri}"><edmx:Include Namespace="PTC"/></edmx:Reference>'
        for uri in ("http://evil.example/$metadata", "../PTC/$metadata")
    )
    opening, services = head.split("<edmx:DataServices>")
    xml = {"content-type": "application/xml"}
    odata.metadata = Answer(
        body=f'{opening}{references}<edmx:DataServices>{services}<Schema Namespace="PTC.DocMgmt" {own}', headers=xml
    )
    ptc = Answer(body=f'{head}<Schema Namespace="PTC" {borrowed}</edmx:DataServices></edmx:Edmx>', headers=xml)
    odata.others["/v6/PTC/$metadata"] = ptc
    async with windchill(odata.url) as made:
        schema = await made.service.schema()
    assert isinstance(schema, Schema)
    assert schema.document.whole
    assert "LastModified" in schema.document.properties
    assert [asked.path for asked in odata.asked] == ["/v6/DocMgmt/$metadata", "/v6/PTC/$metadata"]


# ---------------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize("id", ["O'Brien", "a/b?c#d%e&f+g h", "ü", "''", "OR:wt.doc.WTDocument:1", "x" * 300, ".."])
async def test_any_id_arrives_as_it_is(odata: OData, service: Service, id: str) -> None:
    odata.respond = lambda asked: Answer(200, {})
    await service.get(service.entity(id), "$expand=Context")
    doubled = id.replace("'", "''")
    assert odata.asked[0].path == f"/v6/DocMgmt/Documents('{doubled}')"
    assert odata.asked[0].query == {"$expand": "Context"}


async def test_a_key_that_is_no_text_stands_without_quotes(odata: OData) -> None:
    odata.metadata = Answer(body=PLAIN, headers={"content-type": "application/xml"})
    async with windchill(odata.url, service="") as made:
        await made.service.schema()
        assert made.service.entity("6fa2-11") == "Documents(6fa2-11)"
        assert made.service.entity("1)/x?a'") == "Documents(1%29%2Fx%3Fa%27)"
