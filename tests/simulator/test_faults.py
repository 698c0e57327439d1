from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import orjson
import pytest

from reconciler.simulator.faults import NAMES, FaultPlan, Met, spoiled
from reconciler.simulator.history import lost_updates
from reconciler.simulator.messages import Reply
from reconciler.simulator.settings import Faults
from tests.simulator.conftest import DOCUMENT, PATH, Fetch, Script, patch, tag, truth


def set_faults(server: httpx.Client, **faults: Any) -> None:
    server.put("/_control/faults", json=faults).raise_for_status()


@pytest.mark.parametrize("drop_with", ["close", "reset"])
def test_a_lost_reply_was_applied(server: httpx.Client, script: Script, drop_with: str) -> None:
    set_faults(server, drop_with=drop_with)
    script("lost_reply")
    known = tag(server)
    with pytest.raises(httpx.TransportError):
        patch(server, {"owner": "new"}, known)
    assert truth(server)["owner"] == "new"
    assert patch(server, {"owner": "newer"}, known).status_code == 409


def test_a_dropped_request_was_not_applied(server: httpx.Client, script: Script, history: Fetch) -> None:
    script("dropped_request")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        patch(server, {"owner": "new"}, tag(server))
    assert history() == []


def test_a_cut_reply_ends_in_its_middle(server: httpx.Client, script: Script) -> None:
    script("cut_reply")
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        patch(server, {"owner": "new"}, tag(server))
    assert truth(server)["owner"] == "new"


@pytest.mark.parametrize(("fault", "status"), [("unavailable", 503), ("throttle", 429)])
def test_a_busy_server_says_when_to_come_back(
    server: httpx.Client, script: Script, history: Fetch, fault: str, status: int
) -> None:
    set_faults(server, retry_after_s=7)
    script(fault, fault)
    reply = patch(server, {"owner": "new"}, tag(server))
    assert (reply.status_code, reply.headers["Retry-After"]) == (status, "7")
    server.patch("/_control/faults", json={"retry_after_form": "date"}).raise_for_status()
    reply = patch(server, {"owner": "new"}, tag(server))
    wait = parsedate_to_datetime(reply.headers["Retry-After"]) - parsedate_to_datetime(reply.headers["Date"])
    assert 0 < wait.total_seconds() < 60
    assert history() == []


def test_a_busy_server_may_not_say_when(server: httpx.Client, script: Script) -> None:
    set_faults(server, retry_after_s=None)
    script("unavailable")
    assert "Retry-After" not in patch(server, {"owner": "new"}, tag(server)).headers


def test_a_version_conflict_comes_from_a_rivals_real_edit(server: httpx.Client, script: Script, history: Fetch) -> None:
    script("version_conflict")
    assert patch(server, {"owner": "new"}, tag(server)).status_code == 409
    (rival,) = history()
    assert (rival.kind, rival.document) == ("rival", DOCUMENT)
    assert patch(server, {"owner": "new"}, tag(server)).status_code == 200
    assert lost_updates(history(), "integration") == []
    assert server.get("/_control/stats").json()["refusals"] == {"version_conflict": 1}


def test_an_unguarded_write_meets_no_version_conflict(server: httpx.Client, script: Script) -> None:
    script("version_conflict")
    assert patch(server, {"owner": "new"}).status_code == 200


def test_a_login_page_is_a_200_that_did_nothing(server: httpx.Client, script: Script, history: Fetch) -> None:
    script("login_page")
    reply = patch(server, {"owner": "new"}, tag(server))
    assert (reply.status_code, reply.headers["Content-Type"]) == (200, "text/html;charset=UTF-8")
    assert history() == []


def test_a_wrong_type_and_broken_json_come_after_the_write(server: httpx.Client, script: Script) -> None:
    script("wrong_type", "bad_json")
    assert patch(server, {"owner": "a"}, tag(server)).headers["Content-Type"] == "text/plain"
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(patch(server, {"owner": "b"}, tag(server)).content)
    assert truth(server)["owner"] == "b"


def test_broken_json_leaves_a_reply_alone_that_has_no_body() -> None:
    assert spoiled(Met(frozenset({"bad_json"})), Reply(304, [])).body == b""


@pytest.mark.parametrize("declared", [True, False])
def test_a_huge_reply_may_or_may_not_announce_its_size(server: httpx.Client, script: Script, declared: bool) -> None:
    set_faults(server, too_large_bytes=300_000, too_large_declared=declared)
    script("too_large", method="GET")
    reply = server.get(PATH)
    assert len(reply.content) == 300_000
    assert reply.json().keys() == {"padding"}
    assert ("Content-Length" in reply.headers) == declared


def test_a_dripping_reply_comes_in_pieces_and_whole(server: httpx.Client, script: Script) -> None:
    whole = server.get(PATH).content
    set_faults(server, drip_ms=3_000)  # so long that no reader is too slow to see a piece alone
    script("drip", method="GET")
    with server.stream("GET", PATH) as reply:
        assert 0 < len(next(reply.iter_raw())) < len(whole)
    set_faults(server, drip_ms=1)
    script("drip", method="GET")
    assert server.get(PATH).content == whole


def test_a_slow_request_is_looked_at_late(server: httpx.Client, script: Script) -> None:
    set_faults(server, slow_ms=2_000, slow=0)
    script("slow", method="GET")
    with pytest.raises(httpx.ReadTimeout):
        server.get(PATH, timeout=httpx.Timeout(10.0, read=0.2))
    assert server.get(PATH).status_code == 200


def test_a_slow_request_does_not_reach_past_a_reset(server: httpx.Client, script: Script, history: Fetch) -> None:
    script("slow")
    with pytest.raises(httpx.ReadTimeout):
        patch(server, {"owner": "new"}, timeout=httpx.Timeout(10.0, read=0.05))
    while server.get("/_control/script").json()["waiting"]:  # the server may not have got to the request yet
        pass
    server.post("/_control/reset").raise_for_status()
    script("slow", method="GET")
    assert server.get(PATH).status_code == 200  # takes as long, and began later: the other one is through by now
    assert history() == []


def test_scripts_are_used_up_in_order_by_the_requests_they_name(server: httpx.Client, script: Script) -> None:
    script("unavailable", "ok", "throttle")
    script("login_page", document=None, method=None)
    assert server.get("/documents/0000000002").headers["Content-Type"].startswith("text/html")
    assert server.get(PATH).status_code == 200
    answers = [patch(server, {"owner": "new"}).status_code for _ in range(4)]
    assert answers == [503, 200, 429, 200]
    assert server.get("/_control/script").json() == {"waiting": 0}


def test_one_request_can_meet_several_faults(server: httpx.Client, script: Script, history: Fetch) -> None:
    script(["version_conflict", "lost_reply"])
    with pytest.raises(httpx.TransportError):
        patch(server, {"owner": "new"}, tag(server))
    assert [entry.kind for entry in history()] == ["rival"]


def test_a_script_can_spell_out_a_reply(server: httpx.Client, script: Script) -> None:
    script(
        {"status": 307, "headers": {"Location": "https://elsewhere.example/"}},
        {"status": 500, "body": {"error": "java.lang.NullPointerException"}, "applied": True},
    )
    assert patch(server, {"owner": "a"}).headers["Location"] == "https://elsewhere.example/"
    assert truth(server)["owner"] != "a"
    assert patch(server, {"owner": "b"}).json() == {"error": "java.lang.NullPointerException"}
    assert truth(server)["owner"] == "b"


def test_waiting_scripts_can_be_cleared(server: httpx.Client, script: Script) -> None:
    script("unavailable")
    server.delete("/_control/script").raise_for_status()
    assert patch(server, {"owner": "new"}).status_code == 200


@pytest.mark.parametrize(
    "given", [{"faults": ["lost_replay"]}, {"faults": []}, {"faults": [{"stat": 1}]}, {"fault": ["ok"]}, ["ok"]]
)
def test_a_misspelt_script_is_refused(server: httpx.Client, given: object) -> None:
    assert server.post("/_control/script", json=given).status_code == 400


@pytest.mark.parametrize("given", [{"lost_reply": 1.5}, {"lost_reply": "often"}, {"lost": 0.5}, {"drop_with": "axe"}])
def test_impossible_faults_are_refused(server: httpx.Client, given: dict[str, object]) -> None:
    assert server.put("/_control/faults", json=given).status_code == 400


def test_every_fault_has_a_probability_and_every_probability_a_fault() -> None:
    for name in NAMES:
        assert 0 <= getattr(Faults(), name) <= 1


def test_the_same_seed_gives_the_same_faults() -> None:
    def drawn(seed: int) -> list[object]:
        plan = FaultPlan(seed, Faults(lost_reply=0.3, throttle=0.2))
        return [plan.met("A", "PATCH") for _ in range(50)]

    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)


def test_faults_by_chance_are_counted_and_never_touch_the_control_api(server: httpx.Client) -> None:
    set_faults(server, unavailable=1)
    assert {server.get(PATH).status_code for _ in range(5)} == {503}
    stats = server.get("/_control/stats").json()
    assert (stats["faults"], stats["requests"]) == ({"unavailable": 5}, {"GET": {"503": 5}})


def test_dropped_connections_are_counted_apart(server: httpx.Client) -> None:
    set_faults(server, dropped_request=1)
    with pytest.raises(httpx.TransportError):
        server.get(PATH)
    assert server.get("/_control/stats").json()["requests"] == {"GET": {"dropped": 1}}
    assert server.post("/_control/reset-stats").json()["requests"] == {}
