"""What the history proves of writes through the dialect `wrs`: planted losses are found, and nothing else is one."""

from httpx import Client

from reconciler.simulator.history import Entry, lost_updates, outside, stale_writes, unguarded
from tests.simulator.conftest import Fetch, Switch, edit, truth
from tests.simulator.wrs import DOCUMENTS, INREVIEW, RELEASED, User, act

OURS = "integration"


def lost(made: list[Entry]) -> list[str]:
    return [loss.field for loss in lost_updates(made, OURS)]


def check_out_unread(server: Client, user: User) -> str:
    """Check out the latest iteration, without a look at what a person has changed since it was read."""
    user.find()
    edit(server, {"title": "theirs"})
    return user.act(server.get("/_control/documents/0000000001").json()["latest"], "CheckOut").json()["ID"]


def test_who_reads_the_working_copy_before_changing_it_loses_nothing(
    server: Client, user: User, history: Fetch
) -> None:
    user.find()
    edit(server, {"title": "theirs"})
    copy = user.check_out(user.page("$filter=Number eq '0000000001' and Latest&$select=ID")["value"][0]["ID"])
    user.patch(copy["ID"], {"Title": "ours"})
    user.check_in(copy["ID"])
    assert (lost(history()), stale_writes(history(), OURS), unguarded(history())) == ([], [], [])


def test_who_does_not_look_under_the_lock_loses_what_happened_before_it(
    server: Client, user: User, history: Fetch
) -> None:
    copy = check_out_unread(server, user)
    user.patch(copy, {"Title": "ours"})
    user.read(copy)  # too late: what was written had been decided on before
    user.check_in(copy)
    assert lost(history()) == ["title"]
    assert [entry.way for entry in stale_writes(history(), OURS)] == ["CheckIn"]


def test_who_never_read_anything_writes_unguarded(server: Client, user: User, history: Fetch) -> None:
    there = server.get("/_control/documents/0000000001").json()
    copy = user.act(there["latest"], "CheckOut").json()["ID"]
    user.patch(copy, {"Title": "ours"})
    user.check_in(copy)
    assert [entry.way for entry in unguarded(history())] == ["CheckIn"]


def test_an_edit_that_ignores_the_lock_is_lost_to_its_holder(server: Client, user: User, history: Fetch) -> None:
    copy = user.check_out()["ID"]
    edit(server, {"title": "theirs"})
    user.patch(copy, {"Title": "ours"})
    user.check_in(copy)
    assert truth(server)["title"] == "ours"
    assert lost(history()) == ["title"]


def test_an_action_outside_loses_what_its_writer_had_not_seen(server: Client, user: User, history: Fetch) -> None:
    edit(server, {"status": "INWORK"})
    entity = user.find()["ID"]
    act(server, "setstate", state="RELEASED")
    act(server, "setstate", state="INWORK")
    user.act(entity, "SetState", State=INREVIEW).raise_for_status()
    assert lost(history()) == ["status", "status"]
    assert ([entry.way for entry in outside(history())], unguarded(history())) == (["SetState"], [])


def test_an_action_outside_that_knew_of_everything_loses_nothing(server: Client, user: User, history: Fetch) -> None:
    edit(server, {"status": "INWORK"})
    act(server, "setstate", state="RELEASED")
    act(server, "setstate", state="INWORK")
    user.act(user.find()["ID"], "SetState", State=INREVIEW).raise_for_status()
    assert lost(history()) == []
    stats = server.get("/_control/stats").json()["accepted_writes"]
    assert (stats["outside"], stats["unguarded"]) == (1, 0)


def test_a_list_that_shows_no_content_counts_as_nothing_seen(server: Client, user: User, history: Fetch) -> None:
    user.find()
    edit(server, {"status": "INREVIEW"})
    (row,) = user.page("$filter=Number eq '0000000001' and Latest&$select=ID,LastModified")["value"]
    user.act(row["ID"], "SetState", State=RELEASED).raise_for_status()
    assert lost(history()) == ["status"]


def test_a_look_at_the_working_copys_id_is_no_look_at_it(server: Client, user: User, history: Fetch) -> None:
    copy = check_out_unread(server, user)
    user.get(f"{DOCUMENTS}('{copy}')?$select=ID,LastModified").raise_for_status()
    user.patch(copy, {"Title": "ours"})
    user.check_in(copy)
    assert lost(history()) == ["title"]


def test_what_a_person_checks_in_by_hand_is_not_called_ours(server: Client, history: Fetch) -> None:
    act(server, "checkout", "edit", "checkin", set={"title": "theirs"})
    assert (unguarded(history()), outside(history()), lost(history())) == ([], [], [])


def test_old_iterations_in_a_list_do_not_hide_that_the_latest_was_seen(
    server: Client, user: User, history: Fetch
) -> None:
    edit(server, {"status": "INREVIEW"})
    rows = user.page("$filter=Number eq '0000000001'")["value"]
    assert [row["Latest"] for row in rows] == [False, True]
    user.read(rows[0]["ID"])
    user.act(rows[1]["ID"], "SetState", State=RELEASED).raise_for_status()
    assert lost(history()) == []


def test_an_administrators_look_is_not_the_holders(
    server: Client, user: User, rival: User, switch: Switch, history: Fetch
) -> None:
    switch(administrators=["jdoe"])
    copy = check_out_unread(server, user)
    rival.read(copy)
    user.patch(copy, {"Title": "ours"})
    user.check_in(copy)
    assert lost(history()) == ["title"]


def test_calls_are_counted_by_what_they_are(server: Client, user: User) -> None:
    server.post("/_control/reset-stats").raise_for_status()
    user.check_in(user.check_out()["ID"])
    user.get("/Windchill/servlet/odata/v6/DocMgmt/Documents('x')/Anything")
    user.get("/Windchill/servlet/odata/v6/DocMgmt/Anything")
    once = dict.fromkeys(("GET Documents", "GET Documents()", "POST CheckIn", "POST CheckOut"), 1)
    assert server.get("/_control/stats").json()["wrs_calls"] == {"GET ?": 2, **once}


def test_an_action_during_a_check_out_is_not_undone_by_the_check_in(
    server: Client, user: User, switch: Switch, history: Fetch
) -> None:
    switch(set_state_when_checked_out="accepted")
    edit(server, {"status": "INWORK"})
    copy = user.check_out()["ID"]
    act(server, "setstate", state="INREVIEW")
    user.patch(copy, {"Title": "ours"})
    act(server, "setstate", state="RELEASED")
    user.check_in(copy)
    document = truth(server)
    assert (document["status"], document["title"]) == ("RELEASED", "ours")
    assert (lost(history()), stale_writes(history(), OURS)) == ([], [])
