from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.simulator.conftest import DOCUMENT, PATH, Fetch, edit, patch, tag, truth


def test_an_edit_by_hand_asks_no_version(server: httpx.Client, history: Fetch) -> None:
    edit(server, {"attributes.Note": "x", "owner": None}, user="pnovak")
    (entry,) = history()
    assert (entry.who, entry.kind, entry.guard) == ("pnovak", "control", None)
    assert (truth(server)["attributes"]["Note"], "owner" in truth(server)) == ("x", False)


def test_history_is_read_on_from_a_sequence_number_and_by_document(server: httpx.Client) -> None:
    edit(server, {"owner": "a"})
    edit(server, {"owner": "b"}, document="0000000002")
    edit(server, {"owner": "c"})
    found = server.get("/_control/history", params={"after": 1, "document": DOCUMENT}).json()
    assert [entry["sequence"] for entry in found["items"]] == [3]
    assert (found["last"], found["forgotten"]) == (3, 0)


def test_statistics_count_guarded_and_unguarded_writes_apart(server: httpx.Client) -> None:
    patch(server, {"owner": "a"}, tag(server))
    patch(server, {"owner": "a"})
    patch(server, {"owner": "a"}, '"stale"')
    edit(server, {"owner": "b"})
    stats = server.get("/_control/stats").json()
    assert stats["requests"] == {"GET": {"200": 1}, "PATCH": {"200": 2, "409": 1}}
    assert stats["accepted_writes"] == {
        "guarded": 1, "unguarded": 1, "stale": 0, "rival": 0, "control": 1, "changed_nothing": 1,
    }  # fmt: skip


def test_statistics_tell_how_many_requests_came_at_once_and_writes_of_one_document(server: httpx.Client) -> None:
    server.patch("/_control/faults", json={"slow": 1.0, "slow_ms": 300}).raise_for_status()
    with ThreadPoolExecutor() as threads:
        for key in (DOCUMENT, DOCUMENT, "0000000002"):
            threads.submit(patch, server, {"owner": "a"}, path=f"/documents/{key}")
        threads.submit(server.get, PATH)
    assert server.get("/_control/stats").json()["crowding"] == {"in_flight": 4, "overlaps": 1}


def test_a_document_can_be_made_replaced_and_removed(server: httpx.Client) -> None:
    server.post("/_control/documents", json={"id": "X", "owner": "a"}).raise_for_status()
    server.post("/_control/documents", json={"id": "X", "title": "t"}).raise_for_status()
    document = server.get("/documents/X").json()
    assert ("owner" in document, document["title"], document["modifiedBy"]) == (False, "t", "administrator")
    server.delete("/_control/documents/X").raise_for_status()
    assert server.get("/documents/X").status_code == 404
    assert server.get("/_control/documents/X").status_code == 404


def test_behaviour_can_be_changed_in_part(server: httpx.Client) -> None:
    server.put("/_control/behaviour", json={"conflict_status": 412, "etag": "weak"}).raise_for_status()
    shown = server.patch("/_control/behaviour", json={"etag": "strong"}).json()
    assert (shown["conflict_status"], shown["etag"]) == (412, "strong")
    assert server.put("/_control/behaviour", json={}).json()["conflict_status"] == 409


def test_a_reset_brings_back_the_beginning(server: httpx.Client) -> None:
    before = truth(server)
    edit(server, {"owner": "b"})
    server.post("/_control/lock", json={"document": DOCUMENT, "user": "akim"}).raise_for_status()
    server.post("/_control/reset").raise_for_status()
    assert truth(server) == before
    assert (tag(server), server.get("/_control/history").json()["last"]) == ('"v1.1.1"', 0)
    assert patch(server, {"owner": "b"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "given", "status"),
    [
        ("POST", "/_control/edit", {"document": "unknown", "set": {}}, 404),
        ("POST", "/_control/edit", {"document": DOCUMENT, "sett": {}}, 400),
        ("POST", "/_control/edit", {"document": DOCUMENT, "set": []}, 400),
        ("POST", "/_control/lock", {"document": DOCUMENT}, 400),
        ("POST", "/_control/documents", {"owner": "a"}, 400),
        ("POST", "/_control/condition", {"document": DOCUMENT, "status": 200}, 400),
        ("PUT", "/_control/behaviour", {"etag": "medium"}, 400),
        ("PUT", "/_control/rivals", {"fields": "owner"}, 400),
        ("PUT", "/_control/rivals", {"per_second": -1}, 400),
        ("GET", "/_control/unknown", None, 404),
        ("DELETE", "/_control/documents/unknown", None, 404),
    ],
)
def test_a_mistaken_call_is_refused(server: httpx.Client, method: str, path: str, given: object, status: int) -> None:
    assert server.request(method, path, json=given).status_code == status


def test_credentials_are_not_asked_for_here(server: httpx.Client) -> None:
    server.put("/_control/behaviour", json={"auth": "basic"}).raise_for_status()
    assert server.get(PATH).status_code == 401
    assert server.get("/_control/stats").status_code == 200
