"""Revisions: a new one leaves the old one open to clients that still have its ID."""

import httpx

from tests.simulator.conftest import DOCUMENT, Fetch, Switch, truth
from tests.simulator.wrs import INREVIEW, User, act, code

OLD = f"{DOCUMENT} (A)"
NUMBER = f"$filter=Number eq '{DOCUMENT}'"


def versions(user: User, more: str = "") -> list[tuple[str, bool]]:
    return [(row["Version"], row["Latest"]) for row in user.page(NUMBER + more)["value"]]


def test_a_new_revision_is_a_copy_beside_the_old_one(server: httpx.Client, user: User, history: Fetch) -> None:
    act(server, "checkout", "edit", "checkin", "setstate", set={"title": "Lid"}, state="RELEASED")
    old = user.find()
    where = act(server, "revise")
    new = user.find()
    assert (old["Version"], new["Version"], new["Revision"]) == ("A.2", "B.1", "B")
    assert (where["latest"], where["version"], where["former_revisions"]) == (new["ID"], "B.1", [OLD])
    assert (new["Title"], new["State"]["Value"], new["ModifiedBy"]) == ("Lid", "INWORK", "jdoe")
    same = ("Number", "Name", "MasterID", "@odata.type")
    assert [new[name] for name in same] == [old[name] for name in same]
    assert (new["ID"] != old["ID"], new["VersionID"] != old["VersionID"]) == (True, True)
    assert user.read(old["ID"]) | old == user.read(old["ID"])
    assert user.read(old["VersionID"])["ID"] == old["ID"]
    entry = history()[-1]
    assert (entry.document, entry.way, entry.who) == (DOCUMENT, "Revise", "jdoe")
    assert set(entry.changes) == {"revision", "status"}


def test_the_last_iteration_of_each_revision_calls_itself_the_latest(
    server: httpx.Client, user: User, switch: Switch
) -> None:
    act(server, "checkout", "edit", "checkin", "revise", set={"title": "Lid"})
    assert versions(user) == [("A.1", False), ("A.2", True), ("B.1", True)]
    assert versions(user, " and Latest eq true") == [("A.2", True), ("B.1", True)]
    assert versions(user, "&ptc.search.latestversion=true") == [("B.1", True)]
    switch(latest_of="document")
    assert versions(user, " and Latest eq true") == [("B.1", True)]


def test_an_old_revision_is_written_beside_the_new_one(server: httpx.Client, user: User, history: Fetch) -> None:
    old = user.find()["ID"]
    act(server, "revise")
    copy = user.check_out(old)["ID"]
    act(server, "checkout", "edit", "checkin", set={"title": "Theirs"})
    user.patch(copy, {"Title": "Ours"})
    assert user.check_in(copy)["Version"] == "A.2"
    assert user.act(copy, "SetState", State=INREVIEW).status_code == 200
    assert [(row["Version"], row["Title"], row["State"]["Value"]) for row in user.page(NUMBER)["value"]][1:] == [
        ("A.2", "Ours", "INREVIEW"),
        ("B.1", user.read(old)["Title"], "INWORK"),
        ("B.2", "Theirs", "INWORK"),
    ]
    ours = [(entry.document, entry.way) for entry in history() if entry.who == "integration"]
    assert ours == [(OLD, "CheckIn"), (OLD, "SetState")]
    assert truth(server)["title"] == "Theirs"


def test_number_and_name_are_the_same_in_all_revisions(server: httpx.Client, user: User) -> None:
    old = user.find()["ID"]
    act(server, "revise")
    user.act(old, "UpdateCommonProperties", Updates={"Number": "N-7", "Name": "Lid"})
    rows = user.page("$filter=Number eq 'N-7'")["value"]
    assert [(row["Version"], row["Name"]) for row in rows] == [("A.1", "Lid"), ("B.1", "Lid")]
    assert versions(user) == []


def test_what_is_checked_out_is_not_revised(server: httpx.Client, user: User) -> None:
    user.check_out()
    given = {"document": DOCUMENT, "user": "jdoe", "do": "revise"}
    assert server.post("/_control/wrs/act", json=given).status_code == 400


def test_old_revisions_are_deleted_with_their_document(server: httpx.Client, user: User) -> None:
    old = user.find()["ID"]
    act(server, "revise")
    server.delete(f"/_control/documents/{DOCUMENT}").raise_for_status()
    assert code(user.get(f"/Windchill/servlet/odata/v6/DocMgmt/Documents('{old}')")) == (404, "ENTITY_NOT_FOUND")
    assert versions(user) == []


def test_the_other_dialect_shows_the_latest_revision_alone(server: httpx.Client, user: User) -> None:
    act(server, "revise")
    assert [server.get(f"/documents/{key}").status_code for key in (DOCUMENT, OLD)] == [200, 404]
