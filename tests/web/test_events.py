"""Events over HTTP: every mode of the binding, refusals, and no answer before the log has the events."""

import json
from typing import Any

import attrs
import pytest
from httpx import AsyncClient, Response

from reconciler.errors import LogError, RecordTooLargeError
from reconciler.model.event import Outgoing
from reconciler.model.limits import EVENT_BYTES_MAX
from reconciler.model.policy import Rule, Strategy
from reconciler.web import application, event_api, openapi, tokens
from reconciler.web.principal import Principal, Role
from reconciler.web.probes import Phase, Readiness
from tests.flows.world import KEY, TOPIC, policy
from tests.web.conftest import Daemon
from tests.web.keys import LINES, TOKENS

ONE, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"


async def sent(client: AsyncClient, content: Any, kind: str = ONE, **headers: str) -> Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    named = {"content-type": kind} | {name.replace("_", "-"): text for name, text in headers.items()}
    return await client.post(event_api.PATH, content=body, headers=named)


def appended(daemon: Daemon) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in daemon.world.broker.records(TOPIC)]


def appended_raw(daemon: Daemon) -> list[bytes]:
    return [record.value or b"" for record in daemon.world.broker.records(TOPIC)]


def is_refused(reply: Response, status: int, says: str) -> None:
    assert (reply.status_code, reply.headers["content-type"]) == (status, "application/problem+json"), reply.text
    assert says in reply.json()["detail"]


# --------------------------------------------------------------------------------------------------------------- modes


async def test_a_structured_event_is_appended_and_folded(client: AsyncClient, daemon: Daemon) -> None:
    event = daemon.world.event({"title": "Cover"}, reason="ECN-1")
    reply = await sent(client, event, ONE + "; charset=UTF-8")
    assert reply.status_code == 202, reply.text
    assert reply.json() == {"items": [{"id": event["id"], "document": KEY, "topic": TOPIC}]}
    (record,) = daemon.world.broker.records(TOPIC)
    assert record.key == KEY.encode()
    await daemon.world.fold()
    register = daemon.world.document().desired.fields["title"].register
    assert register is not None
    assert (register.value, register.reason, register.actor) == ("Cover", "ECN-1", "local")


async def test_a_batch_is_appended_in_its_order(client: AsyncClient, daemon: Daemon) -> None:
    sends = [daemon.world.event({"title": str(n)}, key=f"d{n}") for n in range(event_api.BATCH_MAX)]
    reply = await sent(client, sends, BATCH)
    assert reply.status_code == 202, reply.text
    assert [row["document"] for row in reply.json()["items"]] == [event["subject"] for event in sends]
    assert [event["id"] for event in appended(daemon)] == [event["id"] for event in sends]


async def test_an_event_in_binary_mode_is_put_together(client: AsyncClient, daemon: Daemon) -> None:
    event = daemon.world.event({"title": "Deckel ü"}, key="a/b ü")
    data = event.pop("data")
    headers = {f"ce-{name}": text for name, text in event.items()} | {"ce-subject": "a/b%20%C3%BC"}
    reply = await sent(client, data, "application/json", **headers)
    assert reply.status_code == 202, reply.text
    assert appended(daemon) == [
        event | {"data": data, "datacontenttype": "application/json", "actor": "local", "subject": "a/b ü"}
    ]


async def test_a_release_in_binary_mode_needs_no_body(client: AsyncClient, daemon: Daemon) -> None:
    event = daemon.world.event(type="windchill.document.released.v1")
    del event["data"]
    reply = await client.post(event_api.PATH, headers={f"ce-{name}": text for name, text in event.items()})
    assert reply.status_code == 202, reply.text


async def test_unknown_members_are_kept_byte_for_byte(client: AsyncClient, daemon: Daemon) -> None:
    event = daemon.world.event({"rank": 1})
    more = '{"big": 123456789012345678901234567890,'
    text = json.dumps(event).replace('"rank": 1', '"rank": 1.0e2').replace("{", more, 1)
    assert (await sent(client, text.encode())).status_code == 202
    (record,) = daemon.world.broker.records(TOPIC)
    assert b"1.0e2" in (record.value or b"")
    assert b"123456789012345678901234567890" in (record.value or b"")


# ------------------------------------------------------------------------------------------------------------- who says


async def test_the_sender_is_the_actor_unless_the_event_names_one(client: AsyncClient, daemon: Daemon) -> None:
    event = daemon.world.event({"title": "x"})
    for actor in ({}, {"actor": None}, {"actor": ""}, {"actor": "sgarcia"}):
        assert (await sent(client, event | actor)).status_code == 202
    assert [found["actor"] for found in appended(daemon)] == ["local", "local", "local", "sgarcia"]


async def test_the_name_of_a_token_becomes_the_actor(daemon: Daemon) -> None:
    daemon.tokens = tokens.line(Principal("jdoe", Role.OPERATOR), "rec_jdoe")
    async with daemon.served() as client:
        reply = await sent(client, daemon.world.event({"title": "x"}), authorization="Bearer rec_jdoe")
    assert reply.status_code == 202
    assert [found["actor"] for found in appended(daemon)] == ["jdoe"]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_site_appends_nothing_through_a_browser(client: AsyncClient, daemon: Daemon, site: str) -> None:
    is_refused(await sent(client, daemon.world.event({"title": "x"}), sec_fetch_site=site), 403, "another site")
    assert appended(daemon) == []


async def test_an_event_of_a_source_that_is_not_the_tokens_own_is_refused(daemon: Daemon, guarded: AsyncClient) -> None:
    good = daemon.world.event({"title": "x"}) | {"source": "//erp/prod"}
    producer = f"Bearer {TOKENS[Role.PRODUCER]}"
    assert (await sent(guarded, good, authorization=producer)).status_code == 202
    reply = await sent(guarded, good | {"source": "//mes/a"}, authorization=producer)
    is_refused(reply, 403, "producer.jones may not append events of the source //mes/a, only of //erp/*")
    reply = await sent(guarded, [good, good | {"source": "//mes/a"}], BATCH, authorization=producer)
    is_refused(reply, 403, "1 of 2 events may not be appended; nothing was appended")
    assert [error["number"] for error in reply.json()["errors"]] == [1]
    twice = json.dumps(good).replace("{", '{"source": "//erp/prod", ', 1).replace("//erp/prod", "//mes/a", 1)
    # Whichever of two is read, it is asked.
    for text in (twice, json.dumps(good)[:-1] + ', "source": "//mes/a"}'):
        found = await sent(guarded, text.encode(), authorization=producer)
        assert found.status_code in (202, 403, 422)
    reply = await sent(guarded, good, authorization=f"Bearer {TOKENS[Role.VIEWER]}")
    is_refused(reply, 403, "this needs the role operator; viewer.jones has viewer")
    await daemon.world.fold()
    register = daemon.world.document().desired.fields["title"].register
    assert register is not None
    assert register.stamp.source == "//erp/prod"
    assert {event["source"] for event in appended(daemon)} == {"//erp/prod"}


@pytest.mark.parametrize("role", [None, *Role])
@pytest.mark.parametrize("source", ["//reconciler/operators", "//reconciler/emit", "//reconciler", "//RECONCILER/x"])
async def test_no_one_can_use_the_reconcilers_own_source(daemon: Daemon, role: Role | None, source: str) -> None:
    daemon.tokens = None if role is None else LINES
    headers = {} if role is None else {"authorization": f"Bearer {TOKENS[role]}"}
    async with daemon.served() as client:
        reply = await sent(client, daemon.world.event({"title": "x"}) | {"source": source}, **headers)
        assert reply.status_code in (403, 422), reply.text
    assert appended(daemon) == []


@pytest.mark.parametrize("source", ["//mes/a", "//reconciler/operators"])
async def test_a_corrected_event_needs_a_source_that_its_sender_may_use(daemon: Daemon, source: str) -> None:
    daemon.tokens = tokens.line(Principal("jdoe", Role.OPERATOR, sources=("//erp/*",)), "rec_jdoe")
    daemon.world.broker.put(Outgoing(TOPIC, b"k", b"not json"))
    await daemon.world.fold()
    (letter,) = daemon.world.store.letters
    before = len(appended_raw(daemon))
    event = daemon.world.event({"title": "x"})
    async with daemon.served() as client:
        client.headers["authorization"] = "Bearer rec_jdoe"
        at = f"/api/v1/dead-letters/{letter.replace('/', '%2F')}/resend"
        reply = await client.post(at, json={"event": event | {"source": source}})
        assert reply.status_code in (403, 422), reply.text
        assert len(appended_raw(daemon)) == before
        reply = await client.post(at, json={"event": event | {"source": "//erp/prod"}})
        assert reply.status_code == 200, reply.text


# -------------------------------------------------------------------------------------------------------------- refused


async def test_of_a_batch_with_a_fault_nothing_is_appended(client: AsyncClient, daemon: Daemon) -> None:
    good = daemon.world.event({"title": "x"})
    reply = await sent(client, [good, good | {"time": "yesterday"}, good, {"specversion": "1.0"}, 7], BATCH)
    is_refused(reply, 422, "3 of 5 events can't be used; nothing was appended")
    errors = reply.json()["errors"]
    assert [error["number"] for error in errors] == [1, 3, 4]
    assert "`time` is 'yesterday'" in errors[0]["reason"]
    assert appended(daemon) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"subject": ""}, "`subject`"),
        ({"subject": "x" * 513}, "`subject`"),
        ({"data": {"sett": {}}}, "unknown field `sett`"),
        ({"data": {}}, "`data` is empty"),
        ({"type": "windchill.document.changed.v9"}, "is not known here"),
        ({"type": "com.example.other"}, "is not one of ours"),
        ({"time": "2027-01-01T00:00:00Z"}, "after the record was written"),
        ({"specversion": "0.3"}, "specversion"),
        ({"actor": 7}, "actor"),
    ],
)
async def test_an_event_is_refused_with_the_reason_of_a_dead_letter(
    client: AsyncClient, daemon: Daemon, change: dict[str, Any], says: str
) -> None:
    is_refused(await sent(client, daemon.world.event({"title": "x"}) | change), 422, says)
    assert appended(daemon) == []


async def test_a_source_that_may_not_set_a_field_is_refused(daemon: Daemon) -> None:
    daemon.world.policy = policy(Rule(("title",), Strategy.EXTERNAL, sources=("//mes/*",), name="policy[1]"))
    async with daemon.served() as client:
        is_refused(await sent(client, daemon.world.event({"title": "x"})), 422, "may not set `title`")


@pytest.mark.parametrize(
    ("content", "kind", "status", "says"),
    [
        *((content, ONE, 422, "not JSON") for content in (b"{", b"", b"\xff")),
        (b'{"a":' * 5000, ONE, 422, "nothing was appended"),
        *((content, BATCH, 400, "a batch must be a JSON array") for content in (b"[" * 5000, b"{}")),
        (b"[]", BATCH, 400, "1 to 100 events, not 0"),
        (b"[" + b"1," * 100 + b"1]", BATCH, 400, "1 to 100 events, not 101"),
        *((b"{}", f"application/{kind}", 415, "send application/cloudevents+json") for kind in ("json", "xml")),
        (b"x" * (EVENT_BYTES_MAX + 1), ONE, 413, "larger than 1 MiB"),
    ],
)
async def test_anything_but_an_event_is_refused(
    client: AsyncClient, daemon: Daemon, *, content: bytes, kind: str, status: int, says: str
) -> None:
    is_refused(await sent(client, content, kind), status, says)
    assert appended(daemon) == []


@pytest.mark.parametrize(
    ("headers", "body", "says"),
    [
        ({"ce-data": "x"}, b"{}", "ce-data"),
        ({"ce-a-b": "x"}, b"{}", "ce-a-b"),
        ({"ce-subject": "%ff"}, b"{}", "ce-subject"),
        ({}, b'{},"subject":"other"', "data in JSON"),
        ({}, b"{", "data in JSON"),
    ],
)
async def test_headers_and_a_body_can_not_make_another_event(
    client: AsyncClient, daemon: Daemon, headers: dict[str, str], body: bytes, says: str
) -> None:
    event = daemon.world.event({"title": "x"})
    del event["data"]
    given = {f"ce-{name}": text for name, text in event.items()} | headers
    is_refused(await sent(client, body, "application/json", **given), 400, says)
    assert appended(daemon) == []


async def test_a_body_without_a_length_is_counted_as_it_comes(daemon: Daemon) -> None:
    """Without a client between, which might fail to send the rest before it reads the answer."""
    said: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"x" * 65_536, "more_body": True}

    async def send(message: Any) -> None:
        said.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", ONE.encode()), (b"transfer-encoding", b"chunked")]
    path = {"path": event_api.PATH, "raw_path": event_api.PATH.encode(), "query_string": b"", "root_path": ""}
    scope = {"type": "http", "method": "POST", "scheme": "http", "http_version": "1.1", "headers": headers, **path}
    await application.application(daemon.services)(scope, receive, send)
    assert said[0]["status"] == 413
    assert (b"connection", b"close") in said[0]["headers"]


async def test_there_is_nothing_to_be_read_where_events_are_sent(client: AsyncClient) -> None:
    reply = await client.get(event_api.PATH)
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")


# -------------------------------------------------------------------------------------------------------------- the log


async def test_nothing_is_accepted_that_the_log_has_not(client: AsyncClient, daemon: Daemon) -> None:
    daemon.world.broker.down = True
    is_refused(await sent(client, daemon.world.event({"title": "x"})), 503, "no broker answers")
    daemon.world.broker.down = False
    assert appended(daemon) == []


async def test_an_event_that_the_log_does_not_take_is_too_large(
    client: AsyncClient, daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(_: Any) -> Any:
        raise RecordTooLargeError("a record is larger than the broker takes")

    monkeypatch.setattr(daemon.world.log, "append", full)
    is_refused(await sent(client, daemon.world.event({"title": "x"})), 413, "larger than the broker takes")
    assert issubclass(RecordTooLargeError, LogError)


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.READY])
async def test_events_are_taken_only_while_the_daemon_is_ready(
    client: AsyncClient, daemon: Daemon, phase: Phase
) -> None:
    daemon.readiness = attrs.evolve(Readiness(Phase.READY), phase=phase)
    reply = await sent(client, daemon.world.event({"title": "x"}))
    is_refused(reply, 503, phase.value)
    assert reply.headers["retry-after"] == "5"


def test_the_document_of_the_api_tells_of_every_mode() -> None:
    described = openapi.document(event_api.ENDPOINTS)["paths"][event_api.PATH]["post"]
    assert set(described["requestBody"]["content"]) == {ONE, BATCH, "application/json"}
    assert set(described["responses"]) >= {"202", "400", "401", "403", "413", "415", "422", "503"}
    tokens_of = [{"token": ["producer"]}, {"token": ["operator"]}]
    assert described["security"] == [*tokens_of, {"session": ["operator"], "csrf": []}]
