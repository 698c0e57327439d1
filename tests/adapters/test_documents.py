"""What the dialect `documents` makes of answers that only HTTP can give. Real sockets, on both sides."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.credentials import Basic, Bearer, ClientCredentials
from reconciler.adapters.documents import DocumentsWindchill
from reconciler.adapters.http import HttpClient
from reconciler.errors import ConfigError
from reconciler.model.answer import (
    Broken,
    Failed,
    Locked,
    NotAvailable,
    NotSent,
    ReadAnswer,
    Refused,
    Throttled,
    Unauthorised,
    Unchanged,
    Unguarded,
    Unknown,
    VersionConflict,
    WriteAnswer,
    Written,
)
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import Json
from reconciler.ports import Windchill
from tests import defaults
from tests.adapters.simulated import DOCUMENT, Simulated, listening, windchill
from tests.checks import expect
from tests.windchills import seen, write_on

JSON = {"content-type": "application/json"}
HTML = {"content-type": "text/html;charset=UTF-8"}
LOGIN = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><input type='password'></body></html>"
READ = Snapshot(DOCUMENT, {"id": DOCUMENT, "owner": "sgarcia"}, Token('"v1"'))


@pytest.fixture
async def documents(server: Simulated) -> AsyncIterator[DocumentsWindchill]:
    made = windchill(server.url)
    yield made
    await made.close()


async def write(documents: Windchill, fields: dict[str, Json] | None = None) -> WriteAnswer:
    return await write_on(documents, await seen(documents, DOCUMENT), fields or {"owner": "akim"})


def canned(status: int, body: Any = "", headers: dict[str, str] | None = None, *, applied: bool = False) -> Any:
    given: dict[str, Any] = {"status": status, "body": body, "applied": applied}
    return given if headers is None else given | {"headers": headers}


# ------------------------------------------------------------------------------------------------------------- reading


UNPROMISED = {
    "login page": canned(200, LOGIN, HTML),
    "html without saying so": canned(200, LOGIN, JSON),
    "no content type": canned(200, '{"id":"0000000001"}', {}),
    "json as text": canned(200, '{"id":"0000000001"}', {"content-type": "text/plain"}),
    "json lines": canned(200, '{"id":"0000000001"}', {"content-type": "application/jsonlines"}),
    "cut json": canned(200, '{"id":"00000', JSON),
    "an array": canned(200, "[]", JSON),
    "nothing": canned(200, "", JSON),
    "another document": canned(200, {"id": "0000000002", "owner": "x"}),
    "a number for a key": canned(200, {"id": 1}),
    "bottomless": canned(200, "[" * 100_000, JSON),
    "not utf-8 escapes": canned(200, '{"a":"\\ud800"}', JSON),
    "no content": canned(204, "", {}),
    "partial content": canned(206, {"id": DOCUMENT}),
    "unasked 304": canned(304, "", {}),
    "method not allowed": canned(405, {"error": "no GET"}),
    "proxy authentication": canned(407, "who are you", {}),
}


@pytest.mark.parametrize("answer", UNPROMISED.values(), ids=UNPROMISED)
async def test_what_the_protocol_does_not_promise_is_never_data(
    documents: Windchill, server: Simulated, answer: Any
) -> None:
    server.script("GET", answer)
    read = expect(Broken, await documents.read(DOCUMENT))
    assert 0 < len(read.message) <= 300


async def test_a_login_page_is_called_one(documents: Windchill, server: Simulated) -> None:
    server.script("GET", canned(200, LOGIN, HTML))
    read = expect(Broken, await documents.read(DOCUMENT))
    assert "an HTML login page titled 'Sign in'" in read.message


@pytest.mark.parametrize("kind", ["application/json", "application/json;charset=utf-8", "application/hal+json"])
async def test_json_goes_by_many_names(documents: Windchill, server: Simulated, kind: str) -> None:
    server.script("GET", canned(200, '{"owner":"x"}', {"content-type": kind}))
    read = expect(Snapshot, await documents.read(DOCUMENT))
    assert read.token is None


@pytest.mark.parametrize("modified", ["yesterday", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", 5, None, ""])
async def test_a_malformed_modification_time_is_none(documents: Windchill, server: Simulated, modified: Any) -> None:
    server.script("GET", canned(200, {"id": DOCUMENT, "modifiedOn": modified, "modifiedBy": 7, "type": []}))
    read = expect(Snapshot, await documents.read(DOCUMENT))
    assert (read.modified_at, read.modified_by, read.type) == (None, None, None)


async def test_a_modification_time_with_an_offset_becomes_canonical(documents: Windchill, server: Simulated) -> None:
    server.script("GET", canned(200, {"modifiedOn": "2026-08-19T14:16:48+02:00"}))
    read = expect(Snapshot, await documents.read(DOCUMENT))
    assert read.modified_at == "2026-08-19T12:16:48.000000Z"


@pytest.mark.parametrize("tag", ['"v1.2.45"', 'W/"abc"', '"x-gzip"', "unquoted", '"a, b"', '"ü"', '""'])
async def test_a_token_is_sent_back_byte_for_byte(documents: Windchill, tag: str) -> None:
    async with raw_windchill(ok(b'{"id":"k"}', etag=tag.encode()), ok(b"{}"), ok(b"{}")) as (there, requests):
        snapshot = expect(Snapshot, await there.read("k"))
        assert snapshot.token is not None
        await there.read("k", snapshot)
        await write_on(there, snapshot, {"owner": "x"})
    assert b"if-none-match: %s\r\n" % tag.encode() in requests[1].lower().replace(tag.lower().encode(), tag.encode())
    assert b"if-match: %s\r\n" % tag.encode() in requests[2].lower().replace(tag.lower().encode(), tag.encode())
    assert b"if-modified-since" not in requests[1].lower()


@pytest.mark.parametrize("tag", [b"*", b"", b'"\xfc"'])
async def test_a_tag_that_can_guard_nothing_is_no_token(tag: bytes) -> None:
    async with raw_windchill(ok(b'{"id":"k"}', etag=tag)) as (there, _):
        snapshot = await there.read("k")
    assert isinstance(snapshot, Snapshot)
    assert snapshot.token is None


async def test_without_tokens_a_read_asks_by_date(documents: Windchill, server: Simulated) -> None:
    server.behave(etag="absent")
    snapshot = expect(Snapshot, await documents.read(DOCUMENT))
    assert snapshot.token is None
    assert await documents.read(DOCUMENT, snapshot) == Unchanged()
    server.edit({"owner": "jdoe"})
    assert isinstance(await documents.read(DOCUMENT, snapshot), Snapshot)


DATES = [
    (b"Sun, 22 Nov 2026 10:00:00 GMT", b"Sun, 22 Nov 2026 10:00:01 GMT", True),
    (b"Sun, 22 Nov 2026 10:00:00 GMT", b"Sun, 22 Nov 2026 10:00:00 GMT", False),
    (b"Sun, 22 Nov 2026 10:00:00 GMT", b"", False),
    (b"soon", b"Sun, 22 Nov 2026 10:00:01 GMT", False),
]


@pytest.mark.parametrize(("modified", "sent", "asked_by"), DATES)
async def test_a_date_of_this_very_second_is_not_asked_by(modified: bytes, sent: bytes, asked_by: bool) -> None:
    reply = ok(b'{"id":"k"}').replace(b"\r\n", b"\r\nlast-modified: %s\r\ndate: %s\r\n" % (modified, sent), 1)
    async with raw_windchill(reply) as (there, _):
        snapshot = await there.read("k")
    assert isinstance(snapshot, Snapshot)
    assert snapshot.last_modified == (modified.decode() if asked_by else None)


async def test_replies_are_asked_for_uncompressed_and_read_all_the_same_when_compressed() -> None:
    body = gzip.compress(b'{"id":"k","owner":"x"}')
    async with raw_windchill(ok(body, encoding=b"gzip"), ok(body[:10], encoding=b"br")) as (there, requests):
        first, second = await there.read("k"), await there.read("k")
    assert isinstance(first, Snapshot)
    assert first.value("owner") == "x"
    assert isinstance(second, Broken)
    assert b"accept-encoding: identity\r\n" in requests[0].lower()


async def test_a_reply_that_unpacks_to_too_much_is_broken() -> None:
    async with raw_windchill(
        ok(gzip.compress(b" " * 5_000_000), encoding=b"gzip"), http=defaults.http(body_bytes_max=1_000_000)
    ) as (there, _):
        assert isinstance(await there.read("k"), Broken)


@pytest.mark.parametrize("declared", [True, False])
async def test_a_reply_that_is_too_large_is_not_taken_in(server: Simulated, declared: bool) -> None:
    server.faults(too_large_declared=declared, too_large_bytes=50_000_000)
    server.script("GET", "too_large", "ok")
    server.script("PATCH", "too_large")
    documents = windchill(server.url, http=defaults.http(body_bytes_max=100_000))
    assert isinstance(await documents.read(DOCUMENT), Broken)
    assert isinstance(await write(documents), Unknown)
    await documents.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_reported_and_no_one_gets_our_credentials(server: Simulated, status: int) -> None:
    async with raw_server() as (elsewhere, requests):
        leads = {"location": f"{elsewhere}/login?secret=1"}
        server.script("GET", canned(status, "", leads), "ok")
        server.script("PATCH", canned(status, "", leads))
        documents = windchill(server.url, auth=Basic("integration", "secret"))
        read, written = await documents.read(DOCUMENT), await write(documents)
        await documents.close()
    assert isinstance(read, Broken)
    assert f"redirect to {elsewhere}/login (status {status})" in read.message
    assert isinstance(written, Unknown)
    assert requests == []


@pytest.mark.parametrize(("status", "answer"), [(400, NotAvailable), (423, NotAvailable), (408, Failed), (500, Failed)])
async def test_other_refusals_of_a_read(documents: Windchill, server: Simulated, status: int, answer: type) -> None:
    server.script("GET", canned(status, {"message": "no"}))
    assert await documents.read(DOCUMENT) == answer(status=status, message="no")


@pytest.mark.parametrize("fault", ["dropped_request", "cut_reply"])
async def test_a_read_whose_connection_breaks_has_failed(documents: Windchill, server: Simulated, fault: str) -> None:
    server.script("GET", fault, fault)  # twice: a broken GET may be sent again
    assert isinstance(await documents.read(DOCUMENT), Failed)


RETRY_AFTER = [
    ("7", 7.0),
    (" 0 ", 0.0),
    ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ("Sunday, 06-Nov-94 08:49:37 GMT", 0.0),
    ("soon", None),
    ("-5", None),
    ("1.5", None),
    ("", None),
]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("header", "seconds"), RETRY_AFTER)
async def test_retry_after_is_seconds_or_a_date(
    documents: Windchill, server: Simulated, status: int, header: str, seconds: float | None
) -> None:
    server.script("GET", canned(status, "busy", {"retry-after": header}))
    assert await documents.read(DOCUMENT) == Throttled(status, "busy", seconds)


async def test_a_retry_after_date_counts_from_now(documents: Windchill, server: Simulated) -> None:
    server.faults(retry_after_form="date", retry_after_s=3600)
    server.script("GET", "unavailable")
    read = expect(Throttled, await documents.read(DOCUMENT))
    assert read.retry_after_s is not None
    assert 3000 < read.retry_after_s <= 3601


# ------------------------------------------------------------------------------------------------------------- writing


MISMATCH = {"error": "Version mismatch", "message": "Document modified by another user"}
REFUSALS: dict[str, tuple[Any, WriteAnswer]] = {
    "412": (canned(412), VersionConflict(412, "status 412 without a message")),
    "409 mismatch": (
        canned(409, MISMATCH),
        VersionConflict(409, "Version mismatch: Document modified by another user"),
    ),
    "409 mismatch as text": (
        canned(409, "VERSION  MISMATCH", {"content-type": "text/plain"}),
        VersionConflict(409, "VERSION MISMATCH"),
    ),
    "409 locked": (
        canned(409, {"message": "Document is checked out by mrossi."}),
        Locked(409, "Document is checked out by mrossi.", "mrossi"),
    ),
    "409 locked, no name": (
        canned(409, {"message": "Locked by another user"}),
        Locked(409, "Locked by another user", None),
    ),
    "409 holder in a member": (
        canned(409, {"message": "Object locked", "lockedBy": "Rossi, Mario"}),
        Locked(409, "Object locked", "Rossi, Mario"),
    ),
    "409 not checked out": (
        canned(409, {"message": "The document is not checked out"}),
        Refused(409, "The document is not checked out", perhaps_stale=True),
    ),
    "409 blocked": (
        canned(409, {"message": "Transition is blocked"}),
        Refused(409, "Transition is blocked", perhaps_stale=True),
    ),
    "409 business rule": (
        canned(409, {"message": "Lifecycle transition not allowed", "field": "status"}),
        Refused(409, "Lifecycle transition not allowed", ("status",), perhaps_stale=True),
    ),
    "423": (canned(423, {"message": "Locked by Smith, John since 10:00"}), None),  # type: ignore[dict-item]  # below
    "428": (canned(428, {"message": "Send If-Match"}), Unguarded(428, "Send If-Match")),
    "400": (canned(400, {"message": "no"}), Refused(400, "no")),
    "413": (canned(413, "too long", {}), Refused(413, "too long")),
    "501": (canned(501, {"message": "no PATCH here"}), Refused(501, "no PATCH here")),
    "408": (canned(408, {"message": "too slow"}), Failed("too slow", 408)),
    "403": (canned(403, {"message": "no right"}), NotAvailable(403, "no right", forbidden=True)),
    "403 about a field": (
        canned(403, {"message": "no right to change it", "field": "owner"}),
        Refused(403, "no right to change it", ("owner",)),
    ),
    "403 about a field in a quoted word": (
        canned(403, {"message": "you may not set 'owner'"}),
        Refused(403, "you may not set 'owner'", ("owner",)),
    ),
    "403 that speaks of an owner": (
        canned(403, {"message": "only its owner may change the document"}),
        NotAvailable(403, "only its owner may change the document", forbidden=True),
    ),
    "401": (canned(401, {"message": "who?"}), Unauthorised("who?")),
    "503": (canned(503, {"message": "later"}), Throttled(503, "later", perhaps_applied=True)),
}
REFUSALS["423"] = (REFUSALS["423"][0], Locked(423, "Locked by Smith, John since 10:00", "Smith, John"))


@pytest.mark.parametrize(("reply", "answer"), REFUSALS.values(), ids=REFUSALS)
async def test_a_refused_write_is(documents: Windchill, server: Simulated, reply: Any, answer: WriteAnswer) -> None:
    server.script("PATCH", reply)
    assert await write(documents, {"status": "RELEASED", "owner": "akim"}) == answer


UNKNOWN = {
    "500": canned(500, {"message": "oops"}),
    "502": canned(502, LOGIN, HTML),
    "504": canned(504),
    "507": canned(507),
    "202": canned(202),
    "login page": canned(200, LOGIN, HTML),
    "text": canned(200, "ok", {"content-type": "text/plain"}),
    "another document": canned(200, {"id": "0000000002"}),
    "304": canned(304, "", {}),
    "207": canned(207, {"id": DOCUMENT}),
}


@pytest.mark.parametrize("reply", UNKNOWN.values(), ids=UNKNOWN)
async def test_a_write_with_an_answer_that_tells_nothing_is_unknown(
    documents: Windchill, server: Simulated, reply: Any
) -> None:
    server.script("PATCH", reply)
    answer = expect(Unknown, await write(documents))
    assert 0 < len(answer.message) <= 300


@pytest.mark.parametrize("fault", ["cut_reply", "lost_reply", "dropped_request"])
@pytest.mark.parametrize("drop_with", ["close", "reset"])
@pytest.mark.parametrize("write_method", ["patch", "put"])
async def test_a_write_whose_connection_breaks_is_unknown_and_sent_once(
    server: Simulated, fault: str, drop_with: str, write_method: str
) -> None:
    documents = windchill(server.url, write_method=write_method)
    server.faults(drop_with=drop_with)
    server.script(write_method.upper(), fault, fault)
    assert isinstance(await write(documents), Unknown)
    assert sum(server.requests()[write_method.upper()].values()) == 1
    await documents.close()


BARE_SUCCESSES = {
    "no body": (canned(200, "", {"etag": '"v2"'}), Written(None, Token('"v2"'))),
    "no body, no token": (canned(200, "", {}), Written(None, None)),
    "204 weak": (canned(204, "", {"etag": 'W/"v2"'}), Written(None, Token('W/"v2"'))),
    # What else changed can't be known from these, so there must be a read before the next write.
    "an excerpt": (canned(200, {"id": DOCUMENT, "owner": "akim"}, JSON | {"etag": '"v2"'}), Written(None, None)),
    "a mere ok": (canned(200, {"ok": True}, JSON | {"etag": '"v2"'}), Written(None, None)),
}


@pytest.mark.parametrize(("reply", "answer"), BARE_SUCCESSES.values(), ids=BARE_SUCCESSES)
async def test_a_success_without_the_document_is_written_all_the_same(
    documents: Windchill, server: Simulated, reply: Any, answer: WriteAnswer
) -> None:
    server.script("PATCH", reply)
    assert await write(documents) == answer


async def test_a_success_with_a_body_that_can_not_be_read_proves_nothing(
    documents: Windchill, server: Simulated
) -> None:
    for body in ('{"id":', "[]", "null"):
        server.script("PATCH", canned(200, body, JSON | {"etag": '"v2"'}))
        assert isinstance(await write(documents), Unknown)


async def test_a_server_that_wants_plain_json_gets_it_from_then_on() -> None:
    replies = [status(b"415 Unsupported Media Type"), *[ok(b'{"id":"k","owner":"x"}', etag=b'"2"')] * 2]
    async with raw_windchill(*replies) as (there, requests):
        known = Snapshot("k", {"id": "k"}, Token('"1"'))
        assert isinstance(await write_on(there, known, {"owner": "x"}), Written)
        assert isinstance(await write_on(there, known, {"owner": "x"}), Written)
    kinds = [b"merge-patch+json" in request for request in requests]
    assert kinds == [True, False, False]


async def test_a_server_that_wants_neither_refuses(documents: Windchill, server: Simulated) -> None:
    server.script("PATCH", canned(415), canned(415))
    assert isinstance(await write(documents), Refused)


async def test_a_put_sends_the_whole_document_with_its_read_only_fields_as_read() -> None:
    body = b'{"id":"k","owner":"a","n":123456789012345678901234567890,"modifiedBy":"jdoe","attributes":{"x":1,"y":2}}'
    async with raw_windchill(ok(body, etag=b'"1"'), status(b"204 No Content"), write_method="put") as (there, requests):
        snapshot = expect(Snapshot, await there.read("k"))
        await write_on(there, snapshot, {"owner": None, "attributes.x": {"z": None}, "modifiedBy": "me"})
    sent = requests[1].partition(b"\r\n\r\n")[2]
    assert sent == body.replace(b'"a"', b"null").replace(b'"x":1', b'"x":{"z":null}')
    assert requests[1].startswith(b"PUT /documents/k HTTP/1.1\r\n")


async def test_a_null_inside_an_object_is_refused_before_anything_is_sent(
    documents: Windchill, server: Simulated
) -> None:
    answer = expect(Refused, await write(documents, {"attributes.Size": {"w": None}, "owner": "akim"}))
    assert (answer.status, answer.fields) == (0, ("attributes.Size",))
    assert "PATCH" not in server.requests()


BLAMED: list[tuple[Any, tuple[str, ...]]] = [
    ({"field": "attributes.Note"}, ("attributes.Note",)),
    ({"field": "Note", "message": "owner is fine"}, ("attributes.Note",)),
    ({"fields": ["owner", "elsewhere"]}, ("owner",)),
    ({"fields": {"owner": "no such user"}}, ("owner",)),
    ({"errors": [{"field": "status"}, {"path": "/attributes/Note"}]}, ("status", "attributes.Note")),
    ({"errors": {"status": ["bad"]}}, ("status",)),
    ({"field": "modifiedOn", "message": "owner"}, ()),
    ({"message": "Value 'owner' is not allowed for attributes.Note"}, ("attributes.Note",)),
    ({"message": "Unknown attribute 'Note'; owner unchanged"}, ("attributes.Note",)),
    ({"message": "Note: too long"}, ("attributes.Note",)),
    ({"message": "the status is wrong."}, ("status",)),
    ({"message": "Notes and statuses, attributes.Note.x and co-owners2"}, ()),
    ({"error": {"code": "X", "message": "status must not be null"}}, ("status",)),
    ({"error": {"code": "400", "message": "no text, owner", "target": "Documents('1')/status"}}, ("status",)),
    ({"error": {"message": "two", "details": [{"target": "Note"}, {"target": "owner"}, 3]}}, ("owner",)),
    ({"error": {"message": "status is wrong", "target": "Documents"}}, ("status",)),
    ({"error": {"message": "status is wrong", "target": 3, "details": 3}}, ("status",)),
    ("status is wrong", ("status",)),
    (["status"], ("status",)),
    ("", ()),
]


@pytest.mark.parametrize(("body", "fields"), BLAMED)
@pytest.mark.parametrize("status_code", [400, 422])
async def test_a_refusal_blames_the_fields_it_names(
    documents: Windchill, server: Simulated, body: Any, fields: tuple[str, ...], status_code: int
) -> None:
    server.script("PATCH", canned(status_code, body))
    answer = expect(Refused, await write(documents, {"status": "X", "owner": "x", "attributes.Note": "x"}))
    assert answer.fields == fields


async def test_a_message_is_cut_to_one_short_line(documents: Windchill, server: Simulated) -> None:
    server.script("PATCH", canned(400, "é\n\n\tx " * 100_000, {}))
    answer = expect(Refused, await write(documents))
    assert len(answer.message) == 300
    assert answer.message.startswith("é x é x")


# --------------------------------------------------------------------------------------------------------- credentials


def oauth(server: Simulated, secret: str = "secret") -> ClientCredentials:
    return ClientCredentials(f"{server.url}/oauth/token", "integration", secret)


async def test_new_credentials_that_do_not_help_are_not_tried_again(server: Simulated) -> None:
    server.behave(auth="bearer")
    documents = windchill(server.url, auth=oauth(server))
    server.script("GET", "expired_token", "expired_token")
    assert isinstance(await documents.read(DOCUMENT), Unauthorised)
    assert server.requests()["POST"] == {"200": 2}  # the first, and one renewal
    await documents.close()


async def test_twenty_calls_share_one_failed_renewal(server: Simulated) -> None:
    server.behave(auth="bearer")
    documents = windchill(server.url, auth=oauth(server, "wrong"))
    reads = await asyncio.gather(*(documents.read(DOCUMENT) for _ in range(20)))
    assert all(isinstance(read, Unauthorised) for read in reads)
    assert server.requests() == {"POST": {"401": 1}}
    assert isinstance(await documents.read(DOCUMENT), Unauthorised)  # a later call tries again
    assert server.requests() == {"POST": {"401": 2}}
    await documents.close()


TOKEN_TROUBLE: dict[str, tuple[bytes, type]] = {
    "refused": (b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", Unauthorised),
    "busy": (b"HTTP/1.1 503 Unavailable\r\nretry-after: 3\r\ncontent-length: 0\r\n\r\n", Throttled),
    "down": (b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", Failed),
    "html": (b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>", Failed),
    "silent": (b"", Failed),
}


@pytest.mark.parametrize(("reply", "answer"), TOKEN_TROUBLE.values(), ids=TOKEN_TROUBLE)
async def test_trouble_with_the_authorisation_server_is_never_an_unknown_write(
    server: Simulated, reply: bytes, answer: type
) -> None:
    async with raw_server(reply) as (url, requests):
        documents = windchill(server.url, auth=ClientCredentials(f"{url}/token", "me", "s:ß", "a b"))
        assert isinstance(await write_on(documents, READ, {"owner": "x"}), answer)
        await documents.close()
    assert requests[0].endswith(b"\r\n\r\ngrant_type=client_credentials&scope=a+b")
    assert server.requests() == {}


async def test_a_cancelled_renewal_leaves_it_to_the_next(server: Simulated) -> None:
    server.behave(auth="bearer")
    async with raw_server(None, ok(b'{"access_token":"simulated-token","expires_in":3600}')) as (url, requests):
        documents = windchill(server.url, auth=ClientCredentials(f"{url}/token", "me", "secret"))
        first = asyncio.ensure_future(documents.read(DOCUMENT))
        while not requests:  # noqa: ASYNC110  the server only keeps a list
            await asyncio.sleep(0.001)
        second = asyncio.ensure_future(documents.read(DOCUMENT))
        first.cancel()
        assert isinstance(await second, Snapshot)
        await documents.close()


@pytest.mark.parametrize(
    ("kind", "auth", "answer"),
    [
        ("basic", Basic("integration", "secret"), Snapshot),
        ("basic", Basic("integration", "wrong"), Unauthorised),
        ("bearer", Bearer("simulated-token"), Snapshot),
        ("bearer", Bearer("wrong"), Unauthorised),
        ("bearer", None, Unauthorised),
    ],
)
async def test_fixed_credentials_are_accepted_or_not(server: Simulated, kind: str, auth: Any, answer: type) -> None:
    server.behave(auth=kind)
    documents = windchill(server.url, auth=auth)
    assert isinstance(await documents.read(DOCUMENT), answer)
    assert sum(server.requests()["GET"].values()) == 1
    await documents.close()


async def test_a_secret_that_the_server_echoes_is_not_shown(server: Simulated) -> None:
    documents = windchill(server.url, auth=Bearer("hunter2"))
    server.script("GET", canned(403, "no entry for hunter2", {}))
    assert await documents.read(DOCUMENT) == NotAvailable(403, "no entry for ***", forbidden=True)
    assert "hunter2" not in repr(Bearer("hunter2"))
    await documents.close()


async def test_a_secret_that_the_server_names_as_the_holder_is_not_shown(server: Simulated) -> None:
    documents = windchill(server.url, auth=Bearer("hunter2"))
    server.script("PATCH", canned(423, "locked by hunter2", {}))
    answer = await write_on(documents, READ, {"owner": "x"})
    assert answer == Locked(423, "locked by ***", "***")
    await documents.close()


# ---------------------------------------------------------------------------------------------------------- connections


@pytest.mark.parametrize("write_method", ["patch", "put"])
async def test_a_write_on_a_connection_that_the_server_closes_is_not_sent_again(write_method: str) -> None:
    async with raw_windchill(ok(b'{"id":"k"}', etag=b'"1"'), b"", ok(b"{}"), write_method=write_method) as (
        there,
        requests,
    ):
        snapshot = expect(Snapshot, await there.read("k"))
        assert isinstance(await write_on(there, snapshot, {"owner": "x"}), Unknown)
    assert [request.split()[0] for request in requests] == [b"GET", write_method.upper().encode()]


@pytest.mark.parametrize("reply", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\nx"])
async def test_what_is_not_http_is_a_failed_read_and_an_unknown_write(reply: bytes) -> None:
    async with raw_windchill(reply, reply, reply) as (there, _):
        assert isinstance(await there.read("k"), Failed)
        assert isinstance(await write_on(there, READ, {"owner": "x"}), Unknown)


@pytest.mark.parametrize(
    "url", ["ftp://host", "host:80", "http://", "http://u:p@host", "https://host/?a=b", "http://host/#x"]
)
def test_a_base_url_that_can_not_be_one_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        defaults.documents(base_url=url)


async def test_a_base_url_may_have_a_path_and_a_final_slash() -> None:
    async with raw_server(ok(b'{"id":"k"}')) as (url, requests):
        there = windchill(f"{url}/front/end/")
        read: ReadAnswer = await there.read("k")
        await there.close()
    assert isinstance(read, Snapshot)
    assert requests[0].startswith(b"GET /front/end/documents/k HTTP/1.1\r\n")


async def test_requests_are_counted_by_method_and_status(server: Simulated) -> None:
    counted: list[Any] = []

    class Counting:
        def add(self, metric: str, amount: float = 1, **labels: str) -> None:
            counted.append((metric, labels))

        def gauge(self, metric: str, value: float, **labels: str) -> None: ...

        def observe(self, metric: str, seconds: float, **labels: str) -> None:
            counted.append((metric, labels))

    client = HttpClient(defaults.http(), SystemClock(), telemetry=Counting())
    documents = DocumentsWindchill(client, defaults.documents(base_url=server.url))
    server.script("GET", "ok", "dropped_request", "dropped_request")
    await documents.read(DOCUMENT)
    await documents.read(DOCUMENT)
    await documents.close()
    assert [labels for metric, labels in counted if metric == "http_requests_total"] == [
        {"method": "GET", "status": "200"},
        {"method": "GET", "status": "none"},
    ]
    assert counted.count(("http_request_seconds", {})) == 2


async def test_nothing_is_sent_once_another_replica_may_have_our_place(server: Simulated) -> None:
    server.behave(auth="bearer", users={"integration": "secret"})
    grant = ClientCredentials(f"{server.url}/oauth/token", "integration", "secret")
    client = HttpClient(defaults.http(), SystemClock(), grant, may_send=lambda: False)
    documents = DocumentsWindchill(client, defaults.documents(base_url=server.url))
    assert await documents.read(DOCUMENT) == NotSent()
    assert await write_on(documents, READ, {"owner": "akim"}) == NotSent()
    await documents.close()
    assert server.requests() == {"POST": {"200": 1}}, "for credentials it has waited before it looked"


def test_certificates_that_can_not_be_used_are_a_fault_of_the_configuration(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path / "empty"):
        (tmp_path / "empty").write_text("")
        with pytest.raises(ConfigError, match="ca_file"):
            HttpClient(defaults.http(ca_file=path), SystemClock())


def status(line: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\n%s\r\n" % (line, b"" if line.startswith(b"204") else b"content-length: 0\r\n")


def ok(body: bytes, *, etag: bytes | None = None, encoding: bytes | None = None) -> bytes:
    headers = b"content-type: application/json\r\n"
    headers += b"" if etag is None else b"etag: %s\r\n" % etag
    headers += b"" if encoding is None else b"content-encoding: %s\r\n" % encoding
    return b"HTTP/1.1 200 OK\r\n%scontent-length: %d\r\n\r\n%s" % (headers, len(body), body)


@asynccontextmanager
async def raw_windchill(
    *replies: bytes | None, **options: Any
) -> AsyncIterator[tuple[DocumentsWindchill, list[bytes]]]:
    """The adapter at such a server, and what it has asked."""
    async with raw_server(*replies) as (url, requests):
        there = windchill(url, **options)
        yield there, requests
        await there.close()


@asynccontextmanager
async def raw_server(*replies: bytes | None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Answer requests with these bytes, one after another. No bytes: close the connection. None: never answer."""
    waiting = list(replies)
    requests: list[bytes] = []
    leaving = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                body = await reader.readexactly(int(lengths[0].partition(b":")[2]) if lengths else 0)
                requests.append(head + body)
                reply = waiting.pop(0)
                if reply is None:
                    await leaving.wait()
                writer.write(reply or b"")
                if not reply or b"\r\n\r\n" not in reply:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    async with listening(serve) as address:
        yield f"http://{address}", requests
        leaving.set()
