import pytest
from httpx import Client

from tests.simulator.conftest import DOCUMENT, Fetch, Switch, edit, patch, tag, truth
from tests.simulator.wrs import User, act, code, message, steps


def test_a_cycle_makes_one_iteration_that_both_dialects_show(server: Client, user: User, history: Fetch) -> None:
    before = user.find()
    copy = user.check_out(before["ID"], note="to work on it")
    assert copy["ID"] != before["ID"]
    assert user.patch(copy["ID"], {"Title": "New", "Note": "x", "Weight": 2.5}).status_code == 204
    held = {
        "CheckoutState": "Checked out",
        "CheckOutStatus": "Checked out by you",
        "WorkInProgressState": {"Value": "c/o", "Display": "Checked out"},
    }
    assert user.find() == before | held
    made = user.check_in(copy["ID"], note="done")
    assert (made["ID"], made["Version"], made["Title"]) == (copy["ID"], "A.2", "New")
    assert (made["CheckoutState"], user.find()["ID"]) == ("Checked in", made["ID"])
    document = truth(server)
    assert (document["title"], document["attributes"]["Note"], document["attributes"]["Weight"]) == ("New", "x", 2.5)
    (entry,) = history()
    assert (entry.way, entry.guard, entry.before, entry.who) == ("CheckIn", "v1.1.1", "v1.1.1", "integration")
    assert set(entry.changes) == {"title", "attributes.Note", "attributes.Weight"}
    old = user.read(before["ID"])
    assert (old["Latest"], old["Title"], old["Version"]) == (False, before["Title"], "A.1")


def test_every_step_is_kept_with_its_note(server: Client, user: User) -> None:
    copy = user.check_out(note="to work on it")["ID"]
    user.check_in(copy, note="done")
    act(server, "checkout", "undo", note="a look")
    shown = [(step["event"], step["user"], step["note"]) for step in steps(server, document=DOCUMENT)]
    assert shown == [
        *(("CheckOut", "integration", "to work on it"), ("CheckIn", "integration", "done")),
        *(("CheckOut", "jdoe", "a look"), ("UndoCheckOut", "jdoe", None)),
    ]
    assert [step["sequence"] for step in steps(server, user="jdoe", after="3")] == [4]
    assert steps(server)[1]["working_copy"] == copy


def test_a_working_copy_is_seen_by_its_holder_alone(server: Client, user: User, rival: User) -> None:
    copy = rival.check_out()
    rival.patch(copy["ID"], {"Title": "unfinished"})
    seen = rival.read(copy["ID"])
    assert (seen["Title"], seen["CheckoutState"], seen["ModifiedBy"]) == ("unfinished", "Working copy", "jdoe")
    assert seen["WorkInProgressState"]["Value"] == "wrk"
    assert user.status(copy["ID"]) == 404
    original = user.find()
    assert (original["Title"] != "unfinished", original["CheckOutStatus"]) == (True, "Checked out by jdoe")
    assert truth(server)["title"] == original["Title"]


def test_working_copies_are_listed_to_their_holder_where_the_server_does_so(
    user: User, rival: User, switch: Switch
) -> None:
    copy = rival.check_out()
    query = f"$filter=Number eq '{DOCUMENT}'"
    assert len(rival.page(query)["value"]) == 1
    switch(working_copies_listed=True)
    assert [row["ID"] for row in rival.page(query)["value"]][1:] == [copy["ID"]]
    assert len(user.page(query)["value"]) == 1


@pytest.mark.parametrize("status", [400, 409, 423, 500])
def test_a_document_checked_out_by_another_user_is_refused(
    server: Client, user: User, switch: Switch, status: int
) -> None:
    switch(checkout_conflict=status)
    act(server, "checkout")
    reply = user.act(user.find()["ID"], "CheckOut")
    assert (reply.status_code, message(reply)) == (status, "The object is checked out by jdoe.")


def test_a_document_checked_out_by_another_user_may_come_back_as_it_is(server: Client, user: User) -> None:
    act(server, "checkout")
    before = user.find()["ID"]
    reply = user.act(before, "CheckOut")
    assert (reply.status_code, reply.json()["ID"]) == (200, before)
    assert user.act(before, "CheckIn").status_code == 400
    assert [step["user"] for step in steps(server)] == ["jdoe"]


def test_a_lock_without_a_working_copy_counts_as_well(server: Client, user: User) -> None:
    server.post("/_control/lock", json={"document": DOCUMENT, "user": "akim"}).raise_for_status()
    assert user.act(user.find()["ID"], "CheckOut").json()["CheckOutStatus"] == "Checked out by akim"
    server.post("/_control/unlock", json={"document": DOCUMENT}).raise_for_status()
    assert user.check_out()["CheckoutState"] == "Working copy"


def test_checking_out_again_gives_the_working_copy_or_a_refusal(user: User, switch: Switch) -> None:
    before = user.find()["ID"]
    copy = user.check_out(before)
    for asked in (before, copy["ID"]):
        reply = user.act(asked, "CheckOut")
        assert (reply.status_code, reply.json()["ID"]) == (200, copy["ID"])
    switch(checkout_again=400)
    assert code(user.act(before, "CheckOut")) == (400, "CHECKED_OUT")


@pytest.mark.parametrize("status", [400, 404])
def test_an_old_iteration_can_not_be_checked_out(server: Client, user: User, switch: Switch, status: int) -> None:
    switch(stale_checkout=status)
    old = user.find()["ID"]
    edit(server, {"title": "newer"})
    assert code(user.act(old, "CheckOut")) == (status, "STALE_ITERATION")


def test_an_old_iteration_may_lead_to_the_latest_one(server: Client, user: User, switch: Switch) -> None:
    switch(stale_checkout="latest")
    old = user.find()["ID"]
    edit(server, {"title": "newer"})
    assert user.check_out(old)["Title"] == "newer"


def test_undo_leaves_nothing_behind(server: Client, user: User, history: Fetch) -> None:
    before = user.find()
    copy = user.check_out()["ID"]
    user.patch(copy, {"Title": "unwanted"})
    assert user.act(copy, "UndoCheckOut").json()["ID"] == before["ID"]
    assert user.find() == before
    assert (user.status(copy), user.act(copy, "UndoCheckOut").status_code, history()) == (404, 404, [])
    assert user.act(before["ID"], "UndoCheckOut").status_code == 400
    assert patch(server, {"title": "free again"}, tag(server)).status_code == 200


def test_only_administrators_undo_what_others_have_checked_out(server: Client, user: User, switch: Switch) -> None:
    there = act(server, "checkout")
    for asked in (there["latest"], there["working_copy"]):
        assert user.act(asked, "UndoCheckOut").status_code in (400, 404)
    switch(administrators=["integration"])
    assert user.act(there["latest"], "UndoCheckOut").status_code == 200
    assert (user.find()["CheckoutState"], user.status(there["working_copy"])) == ("Checked in", 404)
    last = steps(server)[-1]
    assert (last["event"], last["user"], last["holder"]) == ("UndoCheckOut", "integration", "jdoe")


def test_administrators_neither_change_nor_check_in_what_others_have_checked_out(
    server: Client, user: User, switch: Switch
) -> None:
    switch(administrators=["integration"])
    copy = act(server, "checkout")["working_copy"]
    assert user.status(copy) == 200
    assert user.patch(copy, {"Title": "T"}).status_code == 403
    assert user.act(copy, "CheckIn").status_code == 400
    assert user.act(copy, "CheckOut").status_code == 409


@pytest.mark.parametrize("form", ["id", "entity"])
def test_replies_show_the_entity_or_its_id(user: User, switch: Switch, form: str) -> None:
    switch(checkout_reply=form, checkin_reply=form)
    made = user.act(user.find()["ID"], "CheckOut").json()
    done = user.check_in(made["ID"])
    assert ["Title" in reply for reply in (made, done)] == [form == "entity"] * 2
    assert user.read(done["ID"])["Version"] == "A.2"


def test_the_new_iteration_may_get_an_id_of_its_own(user: User, switch: Switch) -> None:
    switch(checkin_id="fresh")
    copy = user.check_out()["ID"]
    made = user.check_in(copy)["ID"]
    assert made != copy
    assert (user.status(copy), user.find()["ID"]) == (404, made)


def test_a_check_in_can_keep_the_document_checked_out(server: Client, user: User) -> None:
    copy = user.check_out()["ID"]
    user.check_in(copy, KeepCheckedOut=True)
    entity = user.find()
    assert (entity["Version"], entity["CheckOutStatus"]) == ("A.2", "Checked out by you")
    (kept,) = server.get("/_control/wrs/working-copies").json()["items"]
    assert (kept["holder"], kept["id"] not in (copy, entity["ID"])) == ("integration", True)
    assert steps(server)[-1]["kept"]
    user.check_in(kept["id"])
    assert user.find()["Version"] == "A.3"


def test_each_check_in_makes_an_iteration_even_of_nothing(user: User, history: Fetch) -> None:
    user.check_in(user.check_out()["ID"])
    (entry,) = history()
    assert (entry.changes, user.find()["Version"]) == ({}, "A.2")


def test_an_ordinary_iteration_can_not_be_checked_in(user: User) -> None:
    assert user.act(user.find()["ID"], "CheckIn").status_code == 400


def test_a_write_through_the_other_dialect_is_an_iteration_here(server: Client, user: User) -> None:
    before = user.find()
    patch(server, {"title": "Elsewhere"}, tag(server))
    after = user.find()
    assert (after["Title"], after["Version"]) == ("Elsewhere", "A.2")
    assert after["ID"] != before["ID"]


def test_what_is_checked_out_here_is_locked_there(server: Client, rival: User) -> None:
    copy = rival.check_out()
    assert patch(server, {"title": "Elsewhere"}).status_code == 423
    rival.act(copy["ID"], "UndoCheckOut")
    assert patch(server, {"title": "Elsewhere"}).status_code == 200


def test_a_person_does_it_all_at_once(server: Client, history: Fetch) -> None:
    there = act(server, "checkout", "edit", "checkin", set={"title": "by hand"}, note="mine")
    assert (there["iterations"], there["working_copy"], there["locked_by"]) == (2, None, None)
    (entry,) = history()
    assert (entry.who, entry.kind, entry.way, set(entry.changes)) == ("jdoe", "control", "CheckIn", {"title"})


def test_a_person_is_refused_like_any_user(server: Client) -> None:
    act(server, "checkout")
    for who, do in (("akim", "checkout"), ("akim", "checkin"), ("jdoe", "sleep"), ("jdoe", None)):
        given = {"document": DOCUMENT, "user": who} | ({"do": do} if do else {})
        assert server.post("/_control/wrs/act", json=given).status_code == 400
    unknown = {"document": "X", "user": "jdoe", "do": "checkout"}
    assert server.post("/_control/wrs/act", json=unknown).status_code == 404
