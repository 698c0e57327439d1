from typing import Any

import httpx
import pytest

from tests.simulator.conftest import DOCUMENT, Behave, Script, Switch
from tests.simulator.wrs import DOCUMENTS, ODATA, User, code, steps


def audited(server: httpx.Client) -> list[dict[str, Any]]:
    return server.get("/_control/wrs/audit").raise_for_status().json()["items"]


def test_changes_need_a_nonce_and_each_one_without_is_audited(server: httpx.Client) -> None:
    user = User(server)
    identity = user.find()["ID"]
    assert audited(server) == []
    assert code(user.act(identity, "CheckOut")) == (400, "INVALID_NONCE")
    user.headers["CSRF_NONCE"] = "made up"
    assert code(user.patch(identity, {})) == (400, "INVALID_NONCE")
    found = [(entry["user"], entry["method"], entry["given"]) for entry in audited(server)]
    assert found == [("integration", "POST", False), ("integration", "PATCH", True)]
    assert user.nonce().act(identity, "CheckOut").status_code == 200
    assert len(audited(server)) == 2


def test_a_nonce_is_one_users_and_stays_the_same(server: httpx.Client, user: User, rival: User) -> None:
    assert user.headers["CSRF_NONCE"] == User(server).nonce().headers["CSRF_NONCE"]
    rival.headers["CSRF_NONCE"] = user.headers["CSRF_NONCE"]
    assert code(rival.act(user.find()["ID"], "CheckOut")) == (400, "INVALID_NONCE")


def test_nonces_can_be_expired(server: httpx.Client, user: User) -> None:
    old = user.headers["CSRF_NONCE"]
    server.post("/_control/wrs/expire-nonces").raise_for_status()
    assert code(user.act(user.find()["ID"], "CheckOut")) == (400, "INVALID_NONCE")
    assert user.nonce().headers["CSRF_NONCE"] != old
    assert user.check_out()["CheckoutState"] == "Working copy"


def test_nonces_can_expire_with_use(server: httpx.Client, switch: Switch) -> None:
    switch(nonce_uses=2)
    user = User(server).nonce()
    copy = user.check_out()["ID"]
    assert user.patch(copy, {"Title": "T"}).status_code == 204
    assert code(user.patch(copy, {"Title": "U"})) == (400, "INVALID_NONCE")


def test_nonces_can_be_left_out_if_the_server_allows_it(server: httpx.Client, switch: Switch) -> None:
    switch(nonce_required=False)
    assert User(server).check_out()["CheckoutState"] == "Working copy"


@pytest.mark.parametrize("needed", [True, False])
def test_bearer_calls_may_or_may_not_need_one(
    server: httpx.Client, behave: Behave, switch: Switch, needed: bool
) -> None:
    behave(auth="bearer")
    switch(nonce_for_bearer=needed)
    user = User(server)
    user.headers["Authorization"] = "Bearer simulated-token"
    assert user.act(user.find()["ID"], "CheckOut").status_code == (400 if needed else 200)


def test_one_path_wants_passwords_and_the_other_tokens(server: httpx.Client, behave: Behave) -> None:
    behave(auth="basic")
    basic, bearer = httpx.BasicAuth("integration", "secret"), {"Authorization": "Bearer simulated-token"}
    oauth = DOCUMENTS.replace("/Windchill/", "/Windchill/oauth/")
    assert server.get(DOCUMENTS, auth=basic).status_code == 200
    assert server.get(oauth, headers=bearer).status_code == 200
    assert server.get(DOCUMENTS, headers=bearer).status_code == 401
    refused = server.get(oauth, auth=basic)
    assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, 'Bearer error="invalid_token"')


def test_a_401_may_be_a_page(server: httpx.Client, behave: Behave) -> None:
    behave(auth="basic", unauthorized_body="html")
    reply = server.get(DOCUMENTS)
    assert (reply.status_code, reply.headers["Content-Type"]) == (401, "text/html;charset=UTF-8")
    assert "<html>" in reply.text


def test_a_lost_reply_leaves_what_was_done(server: httpx.Client, user: User, script: Script) -> None:
    identity = user.find()["ID"]
    script("lost_reply", method="POST")
    with pytest.raises(httpx.RemoteProtocolError):
        user.act(identity, "CheckOut")
    (item,) = server.get("/_control/wrs/working-copies").json()["items"]
    assert (item["document"], item["holder"]) == (DOCUMENT, "integration")


def test_a_fault_can_wait_for_one_action(server: httpx.Client, user: User) -> None:
    given = {"document": DOCUMENT, "method": "POST", "path": "PTC.DocMgmt.CheckIn", "faults": ["dropped_request"]}
    server.post("/_control/script", json=given).raise_for_status()
    copy = user.check_out()["ID"]
    with pytest.raises(httpx.RemoteProtocolError):
        user.check_in(copy)
    assert user.check_in(copy)["Version"] == "A.2"


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ("unavailable", (503, "application/json")),
        ("throttle", (429, "application/json")),
        ("login_page", (200, "text/html;charset=UTF-8")),
        ("wrong_type", (200, "text/plain")),
        ("drip", (200, "application/json;odata.metadata=minimal")),
        ("expired_token", (401, "application/json")),
    ],
)
def test_faults_reach_this_dialect(user: User, script: Script, fault: str, seen: tuple[int, str]) -> None:
    user.server.put("/_control/faults", json={"drip_ms": 1}).raise_for_status()
    script(fault, method="GET")
    reply = user.get(f"{DOCUMENTS}?$filter=Number eq '{DOCUMENT}'")
    assert (reply.status_code, reply.headers["Content-Type"]) == seen
    assert len(user.page(f"$filter=Number eq '{DOCUMENT}'")["value"]) == 1


def test_a_script_about_a_document_finds_it_by_every_name(server: httpx.Client, user: User, script: Script) -> None:
    entity = user.find()
    for path in (f"('{entity['ID']}')", f"('{entity['VersionID']}')", f"?$filter=Number eq '{DOCUMENT}' and Latest"):
        script("throttle", method="GET")
        assert user.get(f"{DOCUMENTS}?$filter=Number eq '0000000002'").status_code == 200
        assert user.get(f"{DOCUMENTS}{path}").status_code == 429


def test_a_rival_gets_in_right_before_a_check_out(server: httpx.Client, user: User, script: Script) -> None:
    before = user.find()
    script("version_conflict", method="POST")
    assert code(user.act(before["ID"], "CheckOut")) == (400, "STALE_ITERATION")
    assert (user.find()["Version"], steps(server)) == ("A.2", [])


def test_unknown_functions_are_not_implemented(user: User) -> None:
    assert code(user.get(f"{ODATA}/PTC/GetUser()")) == (501, "NOT_IMPLEMENTED")
    assert code(user.act(user.find()["ID"], "Promote")) == (501, "NOT_IMPLEMENTED")


WHOLE = {"document": DOCUMENT, "user": "jdoe", "do": ["checkout", "edit", "checkin"], "set": {"title": "theirs"}}


@pytest.mark.parametrize(
    ("when", "reply", "title"), [("before", (400, "STALE_ITERATION"), "theirs"), ("after", None, "unchanged")]
)
def test_a_person_acts_right_before_or_after_a_request(
    server: httpx.Client, user: User, when: str, reply: tuple[int, str] | None, title: str
) -> None:
    before = user.find()
    step = {"act": WHOLE, "when": when}
    given = {"document": DOCUMENT, "method": "POST", "path": "PTC.DocMgmt.CheckOut", "faults": [step]}
    server.post("/_control/script", json=given).raise_for_status()
    answered = user.act(before["ID"], "CheckOut")
    # After it, our lock holds for that person, too.
    assert (None if answered.is_success else code(answered)) == reply
    assert (user.find()["Title"] == "theirs") is (title == "theirs")
    assert server.get("/_control/stats").json()["refusals"].get("act", 0) == (when == "after")


def test_a_person_can_act_and_the_reply_be_lost(server: httpx.Client, user: User) -> None:
    copy = user.check_out()["ID"]
    step = {"act": WHOLE, "when": "after", "faults": ["lost_reply"]}
    given = {"document": DOCUMENT, "method": "POST", "path": "PTC.DocMgmt.CheckIn", "faults": [step]}
    server.post("/_control/script", json=given).raise_for_status()
    with pytest.raises(httpx.RemoteProtocolError):
        user.check_in(copy)
    _, *then = [(step["event"], step["user"]) for step in steps(server)]
    assert then == [("CheckIn", "integration"), ("CheckOut", "jdoe"), ("CheckIn", "jdoe")]


@pytest.mark.parametrize(
    "step",
    [
        *({"act": {"document": DOCUMENT}}, {"act": {**WHOLE, "do": ["edit", "sleep"]}}),
        *({"act": WHOLE, "when": "later"}, {"act": WHOLE, "faults": ["lost"]}),
        {"act": {"document": DOCUMENT, "user": "jdoe", "do": "edit"}},
    ],
)
def test_a_mistaken_act_is_refused(server: httpx.Client, step: dict[str, Any]) -> None:
    given = {"document": None, "method": None, "faults": [step]}
    assert server.post("/_control/script", json=given).status_code == 400
