import pytest
from httpx import Client

from tests.simulator.conftest import DOCUMENT, Behave, Fetch, Switch, edit, truth
from tests.simulator.wrs import DOCUMENTS, INREVIEW, INWORK, RELEASED, User, act, code, message


@pytest.fixture
def copy(user: User) -> str:
    return user.check_out()["ID"]


def test_values_of_every_kind_are_taken_and_shown(server: Client, user: User, copy: str) -> None:
    given = {
        "Title": "T", "Description": "D", "Owner": "akim", "Quantity": 7, "Weight": 1.5, "ExportControlled": False,
        "ReviewDue": "2026-03-01T12:00:00+02:00", "Keywords": ["b", "a"],
        "Classification": {"Value": "PUBLIC", "Display": "Public"},
    }  # fmt: skip
    assert user.patch(copy, given).status_code == 204
    shown = user.check_in(copy)
    assert {name: shown[name] for name in given} == given
    document = truth(server)
    assert (document["title"], document["description"], document["owner"]) == ("T", "D", "akim")
    assert document["attributes"]["Classification"] == "PUBLIC"


def test_null_clears_and_what_is_left_out_stays(server: Client, user: User, copy: str) -> None:
    before = user.find()
    user.patch(copy, {"CostCenter": None, "Keywords": None})
    after = user.check_in(copy)
    assert (after["CostCenter"], after["Keywords"], after["Title"]) == (None, [], before["Title"])
    assert "CostCenter" not in truth(server)["attributes"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "x") for name in ("Titel", "LegacyID", "FolderName", "Name", "Number")),
        *(("SheetSize", {"Value": "A4"}), ("LastModified", "2026-03-01T12:00:00+02:00"), ("State", RELEASED)),
        *(("Classification", {"Value": "TOP", "Display": "Top"}), ("Classification", "PUBLIC"), ("Title", 3)),
        *(("Weight", "3"), ("Weight", True), ("Quantity", 1.5), ("Quantity", 2**63), ("ExportControlled", "true")),
        *(("ReviewDue", "tomorrow"), ("ReviewDue", "2026-03-01"), ("Keywords", "a"), ("Keywords", [1])),
    ],
)
def test_what_a_property_can_not_take_is_refused_by_name(user: User, copy: str, name: str, value: object) -> None:
    reply = user.patch(copy, {"Description": "also", name: value})
    assert reply.status_code == 400
    assert f"'{name}'" in message(reply)
    assert user.read(copy)["Description"] is None


def test_subtypes_take_their_own_attributes(user: User) -> None:
    copy = user.check_out(user.find("0000000003")["ID"])
    assert copy["@odata.type"] == "#PTC.DocMgmt.Drawing"
    assert user.patch(copy["ID"], {"SheetSize": {"Value": "A4"}}).status_code == 204
    assert user.read(copy["ID"])["SheetSize"] == {"Value": "A4", "Display": "A4 (210 × 297 mm)"}
    assert user.patch(copy["ID"], {"Quantity": 1}).status_code == 400


def test_secured_properties_are_not_written(user: User, copy: str, switch: Switch) -> None:
    switch(secured={DOCUMENT: ["Title"]})
    assert user.patch(copy, {"Title": None}).status_code == 403
    assert user.patch(copy, {"Note": "x"}).status_code == 204


def test_refused_fields_are_refused_here_too(user: User, copy: str, behave: Behave) -> None:
    behave(refused_fields={"attributes.Note": "is too long"})
    assert message(user.patch(copy, {"Note": "x"})) == "The property 'Note' is too long"


def test_a_patch_can_show_the_entity(user: User, copy: str, switch: Switch) -> None:
    switch(patch_reply="entity")
    reply = user.patch(copy, {"Title": "T"})
    assert (reply.status_code, reply.json()["Title"], reply.json()["ID"]) == (200, "T", copy)


def test_a_patch_without_check_out_is_refused_by_default(user: User) -> None:
    assert user.patch(user.find()["ID"], {"Title": "T"}).status_code == 400


def test_or_changes_the_iteration_in_place(server: Client, user: User, switch: Switch, history: Fetch) -> None:
    switch(patch_without_checkout="accepted")
    before = user.find()
    assert user.patch(before["ID"], {"Title": "T"}).status_code == 204
    after = user.find()
    assert (after["ID"], after["Title"], after["LastModified"] > before["LastModified"]) == (before["ID"], "T", True)
    (entry,) = history()
    assert (entry.way, entry.guard, entry.seen, entry.unguarded) == ("patch", None, entry.before, True)
    edit(server, {"title": "newer"})
    assert code(user.patch(before["ID"], {"Title": "T"})) == (400, "STALE_ITERATION")
    there = act(server, "checkout")
    assert code(user.patch(there["latest"], {"Title": "T"})) == (400, "CHECKED_OUT")


def test_a_state_moves_outside_check_out_and_leaves_the_iteration(server: Client, user: User, history: Fetch) -> None:
    edit(server, {"status": "INWORK"})
    before = user.find()
    reply = user.act(before["ID"], "SetState", State=INREVIEW)
    assert (reply.status_code, reply.json()["State"]) == (200, INREVIEW)
    after = user.find()
    assert (after["ID"], after["State"], truth(server)["status"]) == (before["ID"], INREVIEW, "INREVIEW")
    entry = history()[-1]
    assert (entry.way, entry.guard, entry.seen, entry.outside) == ("SetState", None, entry.before, True)


@pytest.mark.parametrize(
    "state",
    [
        *({"Value": "INREVIEW"}, {"Display": "In Review"}, "INREVIEW", None, RELEASED, INWORK),
        *({"Value": "INREVIEW", "Display": "Released"}, {"Value": "UNHEARD", "Display": "Unheard"}),
    ],
)
def test_a_state_needs_its_value_its_display_and_a_transition(
    server: Client, user: User, state: object, history: Fetch
) -> None:
    edit(server, {"status": "INWORK"})
    assert user.act(user.find()["ID"], "SetState", State=state).status_code == 400
    assert len(history()) == 1


def test_the_valid_transitions_can_be_asked_for(server: Client, user: User, switch: Switch) -> None:
    edit(server, {"status": "INREVIEW"})

    def allowed() -> list[dict[str, str]]:
        url = f"{DOCUMENTS}('{user.find()['ID']}')/PTC.DocMgmt.GetValidStateTransitions()"
        return user.get(url).json()[listed]

    listed = "Items"
    assert allowed() == [INWORK, RELEASED]
    for listed in ("value", "States", "Items"):
        switch(transitions_in=listed)
        assert allowed() == [INWORK, RELEASED]
    switch(transitions={"INREVIEW": []})
    assert allowed() == []
    switch(transitions={})
    assert {one["Value"] for one in allowed()} == {"INWORK", "RELEASED", "OBSOLETE"}


def test_a_state_does_not_move_under_a_check_out_unless_the_server_lets_it(
    server: Client, user: User, switch: Switch
) -> None:
    edit(server, {"status": "INWORK"})
    there = act(server, "checkout", "edit", set={"title": "mine"})
    assert code(user.act(there["latest"], "SetState", State=INREVIEW)) == (400, "CHECKED_OUT")
    switch(set_state_when_checked_out="accepted")
    assert user.act(there["latest"], "SetState", State=INREVIEW).status_code == 200
    act(server, "checkin")
    document = truth(server)
    assert (document["status"], document["title"]) == ("INREVIEW", "mine")


def test_an_organization_is_a_common_property(user: User) -> None:
    entity = user.find()["ID"]
    user.act(entity, "UpdateCommonProperties", Updates={"Organization": "Acme"}).raise_for_status()
    assert user.find()["Organization"] == "Acme"
    assert user.patch(user.check_out()["ID"], {"Organization": "x"}).status_code == 400


def test_name_and_number_change_in_place(server: Client, user: User, history: Fetch) -> None:
    before = user.find()
    reply = user.act(before["ID"], "UpdateCommonProperties", Updates={"Name": "A name", "Number": "N-1"})
    assert (reply.status_code, reply.json()["Name"], reply.json()["ID"]) == (200, "A name", before["ID"])
    assert user.find("N-1")["ID"] == before["ID"]
    assert user.page(f"$filter=Number eq '{DOCUMENT}'")["value"] == []
    document = truth(server)
    assert (document["id"], document["name"], document["number"]) == (DOCUMENT, "A name", "N-1")
    (entry,) = history()
    assert (entry.document, entry.way, set(entry.changes)) == (DOCUMENT, "UpdateCommonProperties", {"name", "number"})


@pytest.mark.parametrize(
    "updates", [{}, None, {"Title": "x"}, {"Name": ""}, {"Name": 3}, {"Number": "0000000002"}, {"Number": None}]
)
def test_common_properties_that_make_no_sense_are_refused(user: User, updates: object) -> None:
    assert user.act(user.find()["ID"], "UpdateCommonProperties", Updates=updates).status_code == 400


@pytest.mark.parametrize("who", ["integration", "jdoe"])
def test_common_properties_never_change_under_a_check_out(server: Client, user: User, who: str) -> None:
    there = act(server, "checkout", user=who)
    reply = user.act(there["latest"], "UpdateCommonProperties", Updates={"Name": "x"})
    assert code(reply) == (400, "CHECKED_OUT")


@pytest.mark.parametrize("moves", [True, False])
def test_actions_may_or_may_not_tell_when_they_were_done(
    server: Client, user: User, switch: Switch, moves: bool
) -> None:
    switch(set_state_moves_last_modified=moves, common_properties_move_last_modified=moves, transitions={})
    edit(server, {"status": "INWORK"}, document="0000000002")
    for number, action, body in (
        ("0000000001", "UpdateCommonProperties", {"Updates": {"Name": "x"}}),
        ("0000000004", "SetState", {"State": {"Value": "OBSOLETE", "Display": "Obsolete"}}),
    ):
        before = user.find(number)
        user.act(before["ID"], action, **body).raise_for_status()
        after = user.find(number)
        assert (after["LastModified"] > before["LastModified"]) is moves
        assert (after["ModifiedBy"] == "integration") is moves
        assert truth(server, number).keys() >= {"modifiedBy", "modifiedOn"}


@pytest.mark.parametrize(("form", "kind"), [("header", "weak"), ("body", "strong"), ("both", "weak")])
def test_entity_tags_are_shown_where_the_server_has_them(user: User, switch: Switch, form: str, kind: str) -> None:
    identity = user.find()["ID"]
    plain = user.get(f"{DOCUMENTS}('{identity}')")
    assert ("ETag" in plain.headers, "@odata.etag" in plain.json()) == (False, False)
    switch(etags=kind, etag_in=form)
    reply = user.get(f"{DOCUMENTS}('{identity}')")
    tags = {reply.headers.get("ETag"), reply.json().get("@odata.etag")} - {None}
    assert tags == {'W/"v1.1.1"' if kind == "weak" else '"v1.1.1"'}
    assert ("ETag" in reply.headers, "@odata.etag" in reply.json()) == (form != "body", form != "header")
    assert ("@odata.etag" in user.find()) is (form != "header")


@pytest.mark.parametrize(
    ("if_match", "stale", "missing"), [("ignored", 204, 204), ("enforced", 412, 204), ("required", 412, 428)]
)
def test_a_stale_tag_is_refused_or_ignored(server: Client, user: User, if_match: str, stale: int, missing: int) -> None:
    switches = {"etags": "weak", "if_match": if_match, "patch_without_checkout": "accepted"}
    server.put("/_control/wrs", json=switches).raise_for_status()
    edit(server, {"title": "newer"})
    entity = user.find()["ID"]
    assert user.patch(entity, {"Title": "T"}, If_Match='W/"v1.1.1"').status_code == stale
    assert user.patch(entity, {"Title": "T"}).status_code == missing
    current = user.get(f"{DOCUMENTS}('{entity}')").headers["ETag"]
    assert user.patch(entity, {"Title": "U"}, If_Match=current).status_code == 204


def test_a_tag_that_was_sent_is_the_guard_that_the_history_tells(
    server: Client, user: User, switch: Switch, history: Fetch
) -> None:
    switch(etags="weak", patch_without_checkout="accepted")
    edit(server, {"title": "newer"})
    entity = user.find()["ID"]
    user.patch(entity, {"Title": "T"}, If_Match='W/"v1.1.1"').raise_for_status()
    current = user.get(f"{DOCUMENTS}('{entity}')").headers["ETag"]
    user.patch(entity, {"Title": "U"}, If_Match=current).raise_for_status()
    assert [entry.guard == entry.before for entry in history()[1:]] == [False, True]


def test_an_unchanged_document_is_not_sent_again(user: User, switch: Switch) -> None:
    switch(etags="weak", patch_without_checkout="accepted")
    url = f"{DOCUMENTS}('{user.find()['ID']}')"
    tag = {"If-None-Match": user.get(url).headers["ETag"]}
    assert user.get(url, **tag).status_code == 304
    user.patch(user.find()["ID"], {"Title": "T"}).raise_for_status()
    assert user.get(url, **tag).status_code == 200


def test_the_tag_of_a_working_copy_follows_its_edits(user: User, copy: str, switch: Switch) -> None:
    switch(etags="strong", if_match="enforced")
    first = user.get(f"{DOCUMENTS}('{copy}')").headers["ETag"]
    assert user.patch(copy, {"Title": "T"}, If_Match=first).status_code == 204
    assert user.patch(copy, {"Title": "U"}, If_Match=first).status_code == 412


@pytest.mark.parametrize("body", [b"{", b"[]"])
def test_a_body_that_is_no_object_is_refused(user: User, copy: str, body: bytes) -> None:
    reply = user.server.patch(f"{DOCUMENTS}('{copy}')", content=body, headers=user.headers)
    assert reply.status_code == 400
