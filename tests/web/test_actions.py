"""Operator actions through the API: the answers, the effects, and the record of who did what."""

import json
from typing import Any

import pytest
from httpx import AsyncClient

from reconciler.core.folding import fold
from reconciler.errors import RecordTooLargeError, StoreDamagedError
from reconciler.model.document import Status
from reconciler.web import action_api, application
from reconciler.web.principal import Role
from reconciler.web.probes import Health, Phase, Readiness
from tests.flows.world import World
from tests.web.conftest import Daemon
from tests.web.keys import TOKENS, shown

ROOT = "/api/v1"


async def post(client: AsyncClient, path: str, body: Any = None, status: int = 200) -> Any:
    reply = await client.post(ROOT + path, json={} if body is None else body)
    assert reply.status_code == status, reply.text
    return reply.json()


async def too_large(_: Any) -> Any:
    raise RecordTooLargeError("a record has 2 bytes, and 1 is the most: make it smaller")


async def recorded(client: AsyncClient, query: str = "") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await client.get(f"{ROOT}/acts{query}")).json()["items"]
    return items


@pytest.fixture
async def key(world: World) -> str:
    (found,) = world.store.rows
    return found


@pytest.fixture
async def conflict(world: World) -> str:
    (row,) = [row for row in await world.store.conflicts() if row.conflict.field == "title"]
    return row.conflict.id


# ------------------------------------------------------------------------------------------------------------ documents


async def test_a_document_is_paused_with_a_reason_and_resumed(client: AsyncClient, world: World, key: str) -> None:
    assert await post(client, f"/documents/{key}/pause", {"reason": "audit"}) == {"done": [key]}
    found = world.store.rows[key]
    assert (found.status, found.reason) == (Status.PAUSED, "paused by local: audit")
    paused = (await client.get(f"{ROOT}/documents/{key}")).json()["paused"]
    assert (paused["who"], paused["role"], paused["reason"]) == ("local", "admin", "audit")
    story = (await client.get(f"{ROOT}/documents/{key}/story")).json()
    assert "local paused the document at " in story["now"][0]["text"]
    again = await post(client, f"/documents/{key}/pause", {}, 409)
    assert again["detail"] == "it is paused already"
    assert "resume it first" in (await post(client, f"/documents/{key}/retry", None, 409))["detail"]
    await post(client, f"/documents/{key}/resume")
    assert world.store.rows[key].status is Status.PENDING
    assert (await client.get(f"{ROOT}/documents/{key}")).json()["paused"] is None
    assert (await post(client, f"/documents/{key}/resume", None, 409))["detail"] == "it is not paused"
    told = [(action["kind"], action["target"], action["details"]) for action in await recorded(client)]
    assert told == [("resume", key, {}), ("pause", key, {"reason": "audit"})]


async def test_a_story_tells_of_every_pause_however_many_events_were_sent_since(
    client: AsyncClient, daemon: Daemon, key: str
) -> None:
    for number in range(40):
        await post(client, f"/documents/{key}/pause", {"reason": "audit"})
        await daemon.actions.emitted("erp", {key: [f"e-{number}"]})
        await post(client, f"/documents/{key}/resume")
    story = (await client.get(f"{ROOT}/documents/{key}/story")).json()
    assert sum(chapter["title"].endswith(": local paused the document") for chapter in story["chapters"]) == 40


async def test_a_retried_document_is_due_at_once_before_all_others(client: AsyncClient, world: World, key: str) -> None:
    await world.settle()
    await post(client, f"/documents/{key}/retry")
    due = await world.store.due(world.clock.now_us(), 10)
    assert [(one.key, one.lane.name) for one in due] == [(key, "ASKED")]


async def test_a_document_is_released_by_an_event_of_the_operators(client: AsyncClient, world: World, key: str) -> None:
    said = await post(client, f"/documents/{key}/release", {"reason": "moved to SAP"})
    await world.fold()
    assert world.store.rows[key].desired.released is not None
    assert said["document"] == key
    (action,) = await recorded(client, f"?document={key}")
    assert (action["kind"], action["result"]) == ("release", "appended")
    assert action["details"] == {"reason": "moved to SAP", "events": said["events"]}
    assert "not managed" in (await post(client, f"/documents/{key}/release", {}, 422))["detail"]


async def test_one_field_is_released_and_the_others_are_not(client: AsyncClient, world: World, key: str) -> None:
    await post(client, f"/documents/{key}/release", {"fields": ["title"]})
    await world.fold()
    managed = fold.managed(world.store.rows[key].desired)
    assert ("title" in managed, "owner" in managed) == (False, True)
    assert "nope" in (await post(client, f"/documents/{key}/release", {"fields": ["nope"]}, 422))["detail"]


@pytest.mark.parametrize("what", ["retry", "pause", "resume", "release"])
async def test_an_action_on_an_unknown_document_is_404(client: AsyncClient, what: str) -> None:
    await post(client, f"/documents/nix/{what}", {}, 404)
    assert await recorded(client) == []


# ------------------------------------------------------------------------------------------------------------ conflicts


async def test_a_decision_writes_what_its_preview_shows(client: AsyncClient, world: World, conflict: str) -> None:
    shown_first = await post(client, f"/conflicts/{conflict}/preview", {"take": "value", "value": "Hood"})
    assert shown_first["steps"] == [{"field": "title", "before": "Lid", "after": "Hood"}]
    (event,) = shown_first["events"]
    assert event["data"] == {"set": {"title": "Hood"}, "expect": {"title": "Lid"}}
    assert shown_first["command"] == f"reconciler conflicts resolve {conflict} --value '\"Hood\"'"
    assert await recorded(client) == []
    body = {"take": "value", "value": "Hood", "reason": "asked", "seen": shown_first["seen"]}
    said = await post(client, f"/conflicts/{conflict}/resolve", body)
    assert [one["data"] for one in said["events"]] == [event["data"] | {"reason": "asked"}]
    assert (said["events"][0]["source"], said["events"][0]["actor"]) == ("//reconciler/operators", "local")
    await world.fold()
    await world.settle()
    assert world.live()["title"] == "Hood"
    (action,) = await recorded(client)
    assert (action["who"], action["role"], action["kind"], action["target"]) == ("local", "admin", "resolve", conflict)
    told = {"field": "title", "take": "value", "wanted": "Hood", "live": "Lid", "reason": "asked"}
    assert action["details"] == told | {"events": [one["id"] for one in said["events"]]}
    gone = await post(client, f"/conflicts/{conflict}/resolve", {"take": "live"}, 404)
    assert "was closed at" in gone["detail"]


async def test_keeping_windchills_value_writes_nothing(client: AsyncClient, conflict: str) -> None:
    assert (await post(client, f"/conflicts/{conflict}/preview", {"take": "live"}))["steps"] == []
    desired = await post(client, f"/conflicts/{conflict}/preview", {"take": "desired"})
    assert desired["steps"] == [{"field": "title", "before": "Lid", "after": "Plate"}]


async def test_a_decision_on_outdated_values_is_refused_with_a_new_preview(
    client: AsyncClient, world: World, key: str, conflict: str
) -> None:
    before = await post(client, f"/conflicts/{conflict}/preview", {"take": "desired"})
    body = {"take": "desired", "seen": before["seen"]}
    await world.emit({"title": "Third"}, key=key)  # folded, not decided yet
    stale = await post(client, f"/conflicts/{conflict}/resolve", body, 409)
    assert stale["preview"]["seen"] != body["seen"]
    assert await recorded(client) == []
    await post(client, f"/conflicts/{conflict}/resolve", body | {"seen": stale["preview"]["seen"]})


async def test_conflicts_of_a_field_are_decided_at_once(client: AsyncClient, conflict: str, world: World) -> None:
    said = await post(client, "/conflicts/resolve", {"take": "theirs", "field": "title", "reason": "they know"})
    assert ([one["conflict"] for one in said["decided"]], said["left"], said["more"]) == ([conflict], {}, False)
    await world.fold()
    assert (await world.settle()).agreement.held == ()
    assert world.live()["title"] == "Lid"
    assert (await post(client, "/conflicts/resolve", {"take": "live", "rule": "nope"}))["decided"] == []


async def test_of_many_those_that_need_a_look_are_left_with_why(
    client: AsyncClient, conflict: str, key: str, world: World
) -> None:
    await world.emit({"title": "Third"}, key=key)
    said = await post(client, "/conflicts/resolve", {"take": "desired", "field": "title"})
    assert said["decided"] == []
    assert "a newer event asks for something else" in said["left"][conflict]


@pytest.mark.parametrize("what", ["preview", "resolve"])
async def test_a_conflict_that_is_not_there_is_404(client: AsyncClient, what: str) -> None:
    await post(client, f"/conflicts/nix/{what}", {"take": "live"}, 404)


# --------------------------------------------------------------------------------------------------------- dead letters


async def test_a_corrected_event_replaces_a_dead_letter(client: AsyncClient, world: World, key: str) -> None:
    letter = next(iter(world.store.letters))
    event = world.event({"title": "Mended"}, key=key, id="e-mended")
    path = f"/dead-letters/{letter.replace('/', '%2F')}"
    refused = await post(client, f"{path}/resend", {"event": event | {"data": {"sat": {}}}}, 422)
    assert "can't be used" in refused["detail"]
    assert await recorded(client) == []
    said = await post(client, f"{path}/resend", {"event": event, "reason": "a typo"})
    assert said == {"document": key, "events": ["e-mended"]}
    assert world.store.letters[letter].status == "open"
    await world.fold()
    assert world.store.letters[letter].status == "replayed"
    (action,) = await recorded(client, f"?document={key}")
    assert (action["kind"], action["target"]) == ("resend", letter)
    assert action["details"] == {"reason": "a typo", "events": ["e-mended"]}


async def test_discarding_a_dead_letter_records_the_reason(client: AsyncClient, world: World) -> None:
    letter = next(iter(world.store.letters))
    path = f"/dead-letters/{letter.replace('/', '%2F')}"
    for body in ({}, {"reason": ""}):
        await post(client, f"{path}/discard", body, 422)
    await post(client, f"{path}/discard", {"reason": "a test"})
    assert world.store.letters[letter].status == "discarded"
    closed = (await client.get(f"{ROOT}{path}")).json()["closed"]
    assert (closed["kind"], closed["who"], closed["reason"]) == ("discard", "local", "a test")
    assert [(action["kind"], action["details"]) for action in await recorded(client)] == [
        ("discard", {"reason": "a test"})
    ]


async def test_a_replay_appends_the_original_record(client: AsyncClient, world: World) -> None:
    letter = next(iter(world.store.letters))
    await post(client, f"/dead-letters/{letter.replace('/', '%2F')}/replay")
    await world.fold()
    assert world.store.letters[letter].status == "replayed"
    assert len(world.store.letters) == 3  # it still can't be used


@pytest.mark.parametrize(
    ("what", "body"), [("replay", {}), ("discard", {"reason": "x"}), ("resend", {"event": {"id": "x"}})]
)
async def test_an_unknown_dead_letter_is_404(client: AsyncClient, what: str, body: Any) -> None:
    await post(client, f"/dead-letters/nix/{what}", body, 404)


# --------------------------------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ('{"take": "live", "rason": "x"}', 422, "rason"),
        ('{"take": "both"}', 422, "take"),
        ("{}", 422, "take"),
        ('{"take": "thiers"}', 422, "thiers"),
        ('{"take": "value"}', 422, "value"),
        ('{"take": "live", "value": 1}', 422, "value"),
        ('{"take": "live", "reason": 1}', 422, "reason"),
        ("[]", 422, "object"),
        ("{", 400, "not JSON"),
        ('{"take": "' + "x" * 70_000 + '"}', 413, "larger than 64 KiB"),
    ],
)
async def test_a_body_that_can_not_be_used_is_refused_by_name(
    client: AsyncClient, conflict: str, body: str, status: int, said: str
) -> None:
    headers = {"content-type": "application/json"}
    reply = await client.post(f"{ROOT}/conflicts/{conflict}/resolve", content=body, headers=headers)
    assert (reply.status_code, said in reply.json()["detail"]) == (status, True), reply.text


async def test_a_body_that_is_not_said_to_be_json_is_refused(guarded: AsyncClient, world: World, key: str) -> None:
    headers = shown(TOKENS[Role.OPERATOR])
    reply = await guarded.post(f"{ROOT}/documents/{key}/pause", content='{"reason": "x"}', headers=headers)
    assert reply.status_code == 415
    assert (await guarded.post(f"{ROOT}/documents/{key}/pause", headers=headers)).status_code == 200


async def test_nothing_is_appended_before_the_daemon_is_ready(
    daemon: Daemon, client: AsyncClient, conflict: str
) -> None:

    daemon.readiness = Readiness(Phase.RECOVERING)
    reply = await client.post(f"{ROOT}/conflicts/{conflict}/resolve", json={"take": "live"})
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")


async def test_a_failed_append_is_not_recorded_as_done(
    daemon: Daemon, client: AsyncClient, conflict: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = next(iter(daemon.world.store.letters)).replace("/", "%2F")
    event = daemon.world.event({"title": "x"}, key=key)
    appends = [
        (f"/conflicts/{conflict}/resolve", {"take": "desired"}),
        ("/conflicts/resolve", {"field": "title", "take": "live"}),
        (f"/documents/{key}/release", {}),
        (f"/dead-letters/{letter}/replay", {}),
        (f"/dead-letters/{letter}/resend", {"event": event}),
    ]

    async def tried(status: int) -> None:
        for path, body in appends:
            await post(client, path, body, status)
        sent = await client.post(f"{ROOT}/events", json=event, headers={"content-type": "application/cloudevents+json"})
        assert sent.status_code == status
        assert await recorded(client) == []

    daemon.world.broker.down = True
    await tried(503)
    daemon.world.broker.down = False
    with monkeypatch.context() as patched:
        patched.setattr(daemon.world.log, "append", too_large)
        await tried(413)
    await post(client, f"/documents/{key}/pause")  # what is done in the store alone needs no log
    assert [action["kind"] for action in await recorded(client)] == ["pause"]


async def test_all_writes_are_stopped_and_the_answer_says_who_may_still_write(
    client: AsyncClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(action_api, "STOP_PATIENCE_S", 0)
    world.store.owned = True
    await post(client, "/writes/resume", {}, 409)
    told = await post(client, "/writes/stop", {"reason": "wrong prices"})
    assert (told["write_stop"]["by"], told["write_stop"]["reason"]) == ("local", "wrong prices")
    assert told["writing"] == ["here"]
    await world.store.obey_stop(1)
    assert (await post(client, "/writes/stop"))["writing"] == []
    assert (await client.get(f"{ROOT}/status")).json()["write_stop"]["reason"] == "wrong prices"
    assert await post(client, "/writes/resume", {"reason": "corrected"}) == {"write_stop": None, "writing": []}
    assert (await client.get(f"{ROOT}/status")).json()["write_stop"] is None
    kinds = [(action["kind"], action["details"]) for action in await recorded(client)]
    assert kinds == [("resume-writes", {"reason": "corrected"}), ("stop-writes", {"reason": "wrong prices"})]


async def test_actions_work_while_windchill_is_in_maintenance(
    daemon: Daemon, client: AsyncClient, conflict: str, key: str
) -> None:
    daemon.readiness = Readiness(Phase.READY, Health.MAINTENANCE)
    await post(client, f"/conflicts/{conflict}/resolve", {"take": "desired"})
    await post(client, f"/documents/{key}/retry")
    assert [action["kind"] for action in await recorded(client)] == ["retry", "resolve"]


async def test_a_failed_store_write_is_not_reported_as_done(
    client: AsyncClient, world: World, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any, **__: Any) -> Any:
        raise StoreDamagedError("the store is damaged")

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "record_actions", broken)
        await post(client, f"/documents/{key}/pause", {}, 503)
    assert world.store.rows[key].status is not Status.PAUSED
    assert await recorded(client) == []


# ---------------------------------------------------------------------------------------------------------- the records


async def test_actions_record_the_operator_and_the_role(guarded: AsyncClient, world: World, key: str) -> None:
    await guarded.post(f"{ROOT}/documents/{key}/retry", headers=shown(TOKENS[Role.OPERATOR]))
    await guarded.post(f"{ROOT}/documents/{key}/retry", headers=shown(TOKENS[Role.ADMIN]))
    reply = await guarded.get(f"{ROOT}/acts", headers=shown(TOKENS[Role.VIEWER]))
    told = [(action["who"], action["role"]) for action in reply.json()["items"]]
    assert told == [("admin.jones", "admin"), ("operator.jones", "operator")]
    only = await guarded.get(f"{ROOT}/acts?actor=admin.jones", headers=shown(TOKENS[Role.VIEWER]))
    assert only.json()["items"] == reply.json()["items"][:1]


async def test_actions_are_paged_newest_first(client: AsyncClient, world: World, key: str) -> None:
    for _ in range(3):
        await post(client, f"/documents/{key}/retry")
    first = (await client.get(f"{ROOT}/acts?limit=2")).json()
    second = (await client.get(f"{ROOT}/acts?limit=2&after={first['next']}")).json()
    before = len(await world.store.audit())  # decisions have numbers of the same trail
    assert [action["id"] - before for page in (first, second) for action in page["items"]] == [3, 2, 1]
    assert len(second["items"]) == 1
    assert second["next"] is None


async def test_appended_events_are_recorded_with_their_sender(client: AsyncClient, world: World, key: str) -> None:
    event = world.event({"title": "x"}, key=key, id="e" * 1000)
    events = [event, event | {"id": "e2"}, event | {"id": "e3", "subject": "other"}]
    headers = {"content-type": "application/cloudevents-batch+json"}
    reply = await client.post(f"{ROOT}/events", content=json.dumps(events), headers=headers)
    assert reply.status_code == 202, reply.text
    found = {action["document"]: action["details"]["events"] for action in await recorded(client)}
    assert found == {key: ["e" * 200, "e2"], "other": ["e3"]}


def test_every_action_needs_an_operator_and_a_described_json_body() -> None:
    told = [one for one in action_api.ENDPOINTS if one.method == "POST"]
    assert all(one in application.ENDPOINTS for one in told)
    assert all(one.role is not None and one.role >= Role.OPERATOR and one.body for one in told)


# ------------------------------------------------------------------------------------------------------------ contested


async def contest(world: World) -> str:
    """Let another program set the status back as often as it takes; return the conflict's id."""
    await world.emit({"status": "RELEASED"})
    await world.attempt()
    for _ in range(4):
        await world.edit({"status": "INWORK"})
        await world.resync()
    (row,) = [row for row in await world.store.conflicts() if row.conflict.field == "status"]
    return row.conflict.id


async def test_a_contested_field_says_so_and_its_stored_form_is_accepted(client: AsyncClient, world: World) -> None:
    contested = await contest(world)
    listed = (await client.get(f"{ROOT}/conflicts/{contested}")).json()
    assert (listed["hold"], "changed again each time" in listed["reason"]) == ("contested", True)
    shown_first = await post(client, f"/conflicts/{contested}/preview", {"take": "accept"})
    assert (shown_first["steps"], shown_first["command"]) == ([], f"reconciler conflicts accept {contested}")
    said = await post(client, f"/conflicts/{contested}/resolve", {"take": "accept", "seen": shown_first["seen"]})
    assert said["events"][0]["data"]["accept"] == {"status": "INWORK"}
    await world.fold()
    await world.attempt()
    assert "status" not in world.held()


async def test_a_contested_field_is_written_again_on_request(client: AsyncClient, world: World) -> None:
    await contest(world)
    said = await post(client, "/conflicts/resolve", {"take": "retry", "field": "status", "reason": "the job is off"})
    assert (len(said["decided"]), said["left"]) == (1, {})
    await world.fold()
    await world.attempt()
    assert world.live()["status"] == "RELEASED"


async def test_only_a_contested_field_can_be_accepted(client: AsyncClient, conflict: str) -> None:
    refused = await post(client, f"/conflicts/{conflict}/resolve", {"take": "accept"}, 422)
    assert "not contested" in refused["detail"]
