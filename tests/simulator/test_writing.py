"""The dialect `documents`: what writers get, and what becomes of the document."""

from typing import Any

import httpx
import pytest

from reconciler.simulator.history import lost_updates, stale_writes, unguarded
from tests.simulator.conftest import DOCUMENT, PATH, Behave, Fetch, edit, patch, tag, truth


def test_a_guarded_patch_changes_the_named_fields_alone(server: httpx.Client, history: Fetch) -> None:
    before = truth(server)
    reply = patch(server, {"owner": "new", "attributes": {"Note": None, "CostCenter": "4711"}}, tag(server))
    after = truth(server)
    assert (reply.status_code, reply.json(), reply.headers["ETag"]) == (200, after, tag(server))
    assert after["attributes"] == {
        **{name: value for name, value in before["attributes"].items() if name != "Note"},
        "CostCenter": "4711",
    }
    assert (after["owner"], after["title"], after["modifiedBy"]) == ("new", before["title"], "integration")
    (entry,) = history()
    assert (entry.guard, entry.before, entry.after) == ("v1.1.1", "v1.1.1", "v1.1.2")
    assert entry.changes["owner"] == (before["owner"], "new")


def test_plain_json_is_taken_as_a_merge_patch(server: httpx.Client) -> None:
    assert patch(server, {"owner": "new"}, Content_Type="application/json; charset=utf-8").status_code == 200
    assert truth(server)["owner"] == "new"


@pytest.mark.parametrize("status", [409, 412])
def test_a_stale_guard_is_refused_and_nothing_applied(server: httpx.Client, behave: Behave, status: int) -> None:
    behave(conflict_status=status)
    known = tag(server)
    edit(server, {"title": "by hand"})
    reply = patch(server, {"owner": "new"}, known)
    assert reply.status_code == status
    assert reply.json() == {"error": "Version mismatch", "message": "Document modified by another user"}
    assert truth(server)["owner"] != "new"


@pytest.mark.parametrize("guard", ["v1.1.1", 'W/"v1.1.1"', '"v1.1.1', "", '"v1.1.1-gzip"'])
def test_a_tag_must_come_back_as_it_was_issued(server: httpx.Client, guard: str) -> None:
    assert patch(server, {"owner": "new"}, guard).status_code == 409


def test_one_of_several_tags_may_match(server: httpx.Client) -> None:
    assert patch(server, {"owner": "new"}, '"v0", "v1.1.1"').status_code == 200


def test_any_version_matches_a_star_which_the_history_calls_unguarded(server: httpx.Client, history: Fetch) -> None:
    assert patch(server, {"owner": "new"}, "*").status_code == 200
    assert len(unguarded(history())) == 1


def test_a_weak_tag_matches_with_its_mark_alone(server: httpx.Client, behave: Behave) -> None:
    behave(etag="weak")
    assert patch(server, {"owner": "new"}, '"v1.1.1"').status_code == 409
    assert patch(server, {"owner": "new"}, 'W/"v1.1.1"').status_code == 200


def test_a_write_that_changes_nothing_makes_a_version_and_is_recorded_as_such(
    server: httpx.Client, history: Fetch
) -> None:
    patch(server, {"owner": truth(server)["owner"]}, tag(server))
    (entry,) = history()
    assert (entry.changes, entry.after) == ({}, "v1.1.2")


@pytest.mark.parametrize(("accepted", "status"), [(True, 200), (False, 409)])
def test_a_front_ends_suffix_is_known_again_or_not(
    server: httpx.Client, behave: Behave, history: Fetch, accepted: bool, status: int
) -> None:
    behave(etag="gzip", gzip_suffix_accepted=accepted)
    known = server.get(PATH, headers={"Accept-Encoding": "gzip"}).headers["ETag"]
    assert patch(server, {"owner": "new"}, known).status_code == status
    assert patch(server, {"owner": "newer"}, tag(server)).status_code == 200
    assert stale_writes(history(), "integration") == []


def test_an_ignored_guard_is_a_false_success_that_the_history_gives_away(
    server: httpx.Client, behave: Behave, history: Fetch
) -> None:
    behave(if_match_enforced=False)
    known = tag(server)
    edit(server, {"owner": "by hand"})
    assert patch(server, {"owner": "new"}, known).status_code == 200
    (loss,) = lost_updates(history(), "integration")
    assert (loss.field, loss.lost.who) == ("owner", "jdoe")
    assert server.get("/_control/stats").json()["accepted_writes"]["stale"] == 1


def test_an_unguarded_write_is_let_through_and_remembered(server: httpx.Client, history: Fetch) -> None:
    edit(server, {"owner": "by hand"})
    assert patch(server, {"owner": "new"}).status_code == 200
    assert [loss.field for loss in lost_updates(history(), "integration")] == ["owner"]
    assert server.get("/_control/stats").json()["accepted_writes"]["unguarded"] == 1


def test_a_write_may_be_answered_without_body_and_without_tag(server: httpx.Client, behave: Behave) -> None:
    behave(write_reply="none", write_etag=False)
    reply = patch(server, {"owner": "new"}, tag(server))
    assert (reply.status_code, reply.content, reply.headers.get("ETag")) == (204, b"", None)
    assert truth(server)["owner"] == "new"


@pytest.mark.parametrize("field", ["id", "modifiedBy", "modifiedOn"])
def test_read_only_fields_are_refused_by_name(server: httpx.Client, field: str) -> None:
    reply = patch(server, {"owner": "new", field: "x"}, tag(server))
    assert (reply.status_code, reply.json()["field"]) == (400, field)
    assert truth(server)["owner"] != "new"


def test_a_server_may_refuse_a_field_by_name(server: httpx.Client, behave: Behave) -> None:
    behave(refused_fields={"attributes.Note": "is locked by the template"})
    reply = patch(server, {"attributes": {"Note": "x"}}, tag(server))
    assert (reply.status_code, reply.json()["field"]) == (400, "attributes.Note")
    assert reply.json()["message"] == "attributes.Note is locked by the template"
    assert patch(server, {"attributes": {"Project": "x"}}, tag(server)).status_code == 200


def test_a_document_checked_out_by_someone_else_names_them(server: httpx.Client) -> None:
    server.post("/_control/lock", json={"document": DOCUMENT, "user": "akim"}).raise_for_status()
    reply = patch(server, {"owner": "new"}, tag(server))
    assert (reply.status_code, reply.json()["message"]) == (423, "Document is checked out by akim")
    assert patch(server, {"owner": "new"}, tag(server), X_Simulated_User="akim").status_code == 200
    server.post("/_control/unlock", json={"document": DOCUMENT}).raise_for_status()
    assert patch(server, {"owner": "newer"}, tag(server)).status_code == 200


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_standing_refusal_outranks_the_precondition(server: httpx.Client, status: int) -> None:
    given = {"document": DOCUMENT, "status": status, "writes_only": True}
    server.post("/_control/condition", json=given).raise_for_status()
    assert patch(server, {"owner": "new"}, '"stale"').status_code == status
    assert server.get(PATH).status_code == 200
    server.post("/_control/condition", json={"document": DOCUMENT, "status": None}).raise_for_status()
    assert patch(server, {"owner": "new"}, tag(server)).status_code == 200


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [("text/plain", b"{}", 415), ("application/json", b"{", 400), ("application/merge-patch+json", b"[]", 400)],
)
def test_a_body_that_is_no_merge_patch_is_refused(server: httpx.Client, kind: str, body: bytes, status: int) -> None:
    reply = server.patch(PATH, content=body, headers={"Content-Type": kind, "If-Match": tag(server)})
    assert reply.status_code == status


def test_cleared_fields_may_stay_as_nulls(server: httpx.Client, behave: Behave) -> None:
    behave(cleared_fields="null")
    patch(server, {"attributes": {"Note": None}}, tag(server))
    assert truth(server)["attributes"]["Note"] is None


def put(server: httpx.Client, document: dict[str, Any]) -> httpx.Response:
    return server.put(PATH, json=document, headers={"If-Match": tag(server)})


def test_a_put_replaces_the_whole_document_as_it_was_read(server: httpx.Client, history: Fetch) -> None:
    document = server.get(PATH).json()
    del document["title"]
    assert put(server, document | {"owner": "new"}).status_code == 200
    assert "title" not in truth(server)
    (entry,) = history()
    assert entry.changes.keys() == {"title", "owner"}


def test_a_put_can_not_change_what_is_read_only(server: httpx.Client) -> None:
    reply = put(server, server.get(PATH).json() | {"modifiedBy": "me"})
    assert (reply.status_code, reply.json()["field"]) == (400, "modifiedBy")


def test_a_token_is_never_used_again_for_a_document_created_again(server: httpx.Client) -> None:
    known = tag(server)
    server.delete(f"/_control/documents/{DOCUMENT}").raise_for_status()
    assert patch(server, {"owner": "new"}, known).status_code == 404
    server.post("/_control/documents", json={"id": DOCUMENT, "owner": "other"}).raise_for_status()
    assert patch(server, {"owner": "new"}, known).status_code == 409
