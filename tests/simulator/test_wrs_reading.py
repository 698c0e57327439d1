from typing import Any
from xml.etree import ElementTree as ET

import httpx
import pytest

from tests.simulator.conftest import DOCUMENT, Switch, edit
from tests.simulator.wrs import DOCUMENTS, DOMAIN, ODATA, User, act, code, message

EDM = "{http://docs.oasis-open.org/odata/ns/edm}"
DRAWING = "0000000003"


def metadata(user: User) -> ET.Element:
    reply = user.get(f"{DOMAIN}/$metadata")
    assert reply.headers["Content-Type"] == "application/xml"
    return ET.fromstring(reply.content)


def properties(user: User, type_: str) -> dict[str, tuple[str, set[str]]]:
    """Name → its type, and the terms it is annotated with."""
    found = metadata(user).find(f".//{EDM}EntityType[@Name='{type_}']")
    assert found is not None
    return {
        one.get("Name", ""): (one.get("Type", ""), {term.get("Term", "") for term in one.iter(f"{EDM}Annotation")})
        for one in found.iter(f"{EDM}Property")
    }


def test_metadata_says_what_can_be_done_with_each_property(user: User) -> None:
    document = properties(user, "Document")
    assert document["Title"] == ("Edm.String", set())
    assert document["State"] == ("PTC.EnumType", {"PTC.UpdateableViaAction"})
    assert document["Number"] == ("Edm.String", {"PTC.UpdateableViaAction"})
    assert document["LastModified"] == ("Edm.DateTimeOffset", {"PTC.ReadOnly"})
    assert document["FolderName"] == ("Edm.String", {"PTC.ReadOnly", "PTC.NonFilterable"})


def test_subtypes_have_soft_attributes_of_every_kind(user: User, switch: Switch) -> None:
    switch(soft_attributes={"Extra": "Edm.Int64"})
    for type_ in ("Specification", "Drawing"):
        soft = properties(user, type_)
        assert {kind for kind, _ in soft.values()} == {
            "Edm.String", "Edm.Int64", "Edm.Double", "Edm.Boolean", "Edm.DateTimeOffset", "PTC.EnumType",
            "Collection(Edm.String)",
        }  # fmt: skip
        assert soft["LegacyID"] == ("Edm.String", {"PTC.ReadOnly"})
        assert soft["Extra"] == ("Edm.Int64", set())
    assert "SheetSize" not in properties(user, "Specification")


def test_metadata_has_the_actions_that_are_there(user: User, switch: Switch) -> None:
    def bound() -> set[str | None]:
        found = metadata(user)
        return {one.get("Name") for kind in ("Action", "Function") for one in found.iter(f"{EDM}{kind}")}

    everything = {
        "CheckOut", "CheckIn", "UndoCheckOut", "SetState", "UpdateCommonProperties", "GetValidStateTransitions",
    }  # fmt: skip
    assert bound() == everything
    switch(actions=["CheckOut", "CheckIn", "UndoCheckOut"])
    assert bound() == {"CheckOut", "CheckIn", "UndoCheckOut"}
    assert properties(user, "Document")["State"] == ("PTC.EnumType", {"PTC.ReadOnly"})
    assert user.act(user.find()["ID"], "SetState", State={}).status_code == 501


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{ODATA}/DocMgmt/Documents", 200),
        (f"{ODATA}/v5/DocMgmt/Documents", 200),
        ("/Windchill/oauth/servlet/odata/v6/DocMgmt/Documents", 200),
        (f"{ODATA}/v9/DocMgmt/Documents", 404),
        (f"{ODATA}/v6/ProdMgmt/Parts", 404),
        (f"{DOMAIN}/Parts", 501),
        (f"{DOCUMENTS}('OR:wt.doc.WTDocument:1')", 404),
        (f"{DOCUMENTS}('nonsense')", 404),
    ],
)
def test_services_are_where_they_belong(user: User, path: str, status: int) -> None:
    assert user.get(path).status_code == status


def test_an_entity_shows_the_document(server: httpx.Client, user: User) -> None:
    edit(server, {"status": "RELEASED", "title": "T", "description": "D", "owner": "akim", "attributes": {
        "Note": "n", "Weight": 2.5, "Keywords": ["a"], "Quantity": 7, "ExportControlled": True,
        "ReviewDue": "2026-03-01T10:00:00Z", "Classification": "INTERNAL",
    }})  # fmt: skip
    entity = user.find()
    assert entity["@odata.type"] == "#PTC.DocMgmt.Specification"
    shown = {
        "Number": DOCUMENT, "Name": DOCUMENT, "Title": "T", "Description": "D", "Owner": "akim", "Note": "n",
        "Weight": 2.5, "Keywords": ["a"], "Quantity": 7, "ExportControlled": True, "LegacyID": None,
        "ReviewDue": "2026-03-01T12:00:00+02:00", "Version": "A.2", "Latest": True, "ModifiedBy": "jdoe",
        "State": {"Value": "RELEASED", "Display": "Released"}, "CheckOutStatus": None, "CheckoutState": "Checked in",
        "Classification": {"Value": "INTERNAL", "Display": "Internal"},
    }  # fmt: skip
    assert {name: entity[name] for name in shown} == shown
    whole = user.read(entity["ID"])
    assert whole.pop("@odata.context").endswith(f"{DOMAIN}/$metadata#Documents/$entity")
    assert whole == entity


def test_instants_are_whole_seconds_at_the_servers_offset(user: User, switch: Switch) -> None:
    before = user.find()["LastModified"]
    assert before.endswith("+02:00")
    switch(utc_offset_minutes=-90)
    assert user.find()["LastModified"].endswith("-01:30")


def test_people_are_shown_by_their_names(server: httpx.Client, user: User, switch: Switch) -> None:
    switch(display_names={"jdoe": "Doe, Jane"})
    act(server, "checkout", "edit", "checkin", set={"title": "x"})
    act(server, "checkout")
    entity = user.find()
    assert (entity["ModifiedBy"], entity["CheckOutStatus"]) == ("Doe, Jane", "Checked out by Doe, Jane")
    switch(holder_shown=False)
    assert user.find()["CheckOutStatus"] == "Checked out"


def test_old_iterations_stay_readable_and_are_listed_by_default(server: httpx.Client, user: User) -> None:
    first = user.find()["ID"]
    edit(server, {"title": "second"})
    rows = user.page(f"$filter=Number eq '{DOCUMENT}'")["value"]
    assert [(row["Version"], row["Latest"]) for row in rows] == [("A.1", False), ("A.2", True)]
    assert (rows[0]["ID"], user.read(first)["Latest"]) == (first, False)
    assert user.numbers(f"Number eq '{DOCUMENT}' and Latest eq true") == ["1"]
    assert len(user.page(f"$filter=Number eq '{DOCUMENT}'&ptc.search.latestversion=true")["value"]) == 1
    assert len({row["VersionID"] for row in rows} | {row["MasterID"] for row in rows}) == 2


def test_a_branch_leads_to_the_latest_iteration_where_the_server_knows_it(
    server: httpx.Client, user: User, switch: Switch
) -> None:
    branch = user.find()["VersionID"]
    edit(server, {"title": "second"})
    assert user.read(branch)["Version"] == "A.2"
    switch(vr_keys=False)
    assert user.status(branch) == 404


def test_select_and_expand(user: User) -> None:
    row = user.page("$select=ID,Title&$expand=Context,Folder")["value"][0]
    assert set(row) == {"@odata.type", "ID", "Title", "Context", "Folder"}
    assert (row["Context"]["Name"], row["Folder"]["Name"]) == ("Demo Product", "Engineering")
    whole = user.get(f"{DOCUMENTS}('{row['ID']}')?$expand=Context").json()
    assert (whole["Context"]["Name"], "Folder" in whole) == ("Demo Product", False)


def test_pages_of_25_are_followed_by_their_links(user: User) -> None:
    page = user.page("$filter=Latest eq true")
    assert len(page["value"]) == 25
    last = user.get(page["@odata.nextLink"]).json()
    assert (len(last["value"]), "@odata.nextLink" in last) == (5, False)
    assert [row["Number"] for row in page["value"] + last["value"]] == [f"{number:010d}" for number in range(1, 31)]


def test_the_page_size_is_a_preference_up_to_a_limit(user: User, switch: Switch) -> None:
    reply = user.get(DOCUMENTS, Prefer="odata.maxpagesize=7")
    assert (len(reply.json()["value"]), reply.headers["Preference-Applied"]) == (7, "odata.maxpagesize=7")
    switch(page_size_max=4)
    assert len(user.page("", Prefer="odata.maxpagesize=7")["value"]) == 4


def test_a_next_link_can_lead_elsewhere(user: User, switch: Switch) -> None:
    switch(next_link_base="https://elsewhere.example")
    assert user.page()["@odata.nextLink"].startswith(f"https://elsewhere.example{DOCUMENTS}?")


def test_filters_on_instants_count_days_unless_asked_for_the_time(server: httpx.Client, user: User) -> None:
    for number, moment in (("X1", "2027-05-03T21:59:00Z"), ("X2", "2027-05-03T22:01:00Z")):
        made = {"id": number, "attributes": {"ReviewDue": moment}}
        server.post("/_control/documents", json=made).raise_for_status()
    # At the server's offset the second one is of the next day already.
    noon = "ReviewDue ge 2027-05-03T12:00:00Z"
    late = "ReviewDue gt 2027-05-03T21:59:30Z"
    assert user.numbers(noon) == ["X1", "X2"]
    assert user.numbers("ReviewDue ge 2027-05-03T21:59:30Z") == ["X1", "X2"]
    assert user.numbers("ReviewDue ge 2027-05-03T21:59:30Z", "&ptc.search.allowFilterOnTime=true") == ["X2"]
    assert user.numbers(late) == ["X2"]
    assert user.numbers("ReviewDue gt 2027-05-03T12:00:00Z", "&ptc.search.allowFilterOnTime=true") == ["X1", "X2"]
    assert user.numbers("ReviewDue eq 2027-05-03T00:00:00Z") == ["X1"]
    assert user.numbers("ReviewDue eq 2027-05-03T22:30:00Z") == ["X2"]
    assert user.numbers("ReviewDue lt 2027-05-04") == ["X1"]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("$filter=Titel eq 'x'", "Titel"),
        ("$filter=Keywords eq 'x'", "Keywords"),
        ("$filter=FolderName eq 'x'", "FolderName"),
        ("$filter=State eq 'INWORK'", "State"),
        ("$filter=Title/Value eq 'x'", "Title/Value"),
        ("$filter=Weight eq 'x'", "Weight"),
        ("$filter=Latest eq 'x'", "Latest"),
        ("$filter=Weight eq Latest", "Latest"),
        ("$filter=Title eq", "filter"),
        ("$select=Titel", "Titel"),
        ("$expand=Content", "Content"),
        ("$skiptoken=few", "$skiptoken"),
        ("$top=3", "$top"),
        ("ptc.search.latestversion=maybe", "latestversion"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused_by_name(user: User, query: str, named: str) -> None:
    reply = user.get(f"{DOCUMENTS}?{query}")
    assert reply.status_code == 400
    assert named in message(reply)


def test_secured_properties_are_nulls_that_say_so(user: User, switch: Switch) -> None:
    title = user.find()["Title"]
    switch(secured={DOCUMENT: ["Title"], "*": ["FolderName"]})
    entity = user.find()
    assert (entity["Title"], entity["Title@PTC.AccessException"]) == (None, "(Secured information)")
    assert entity["FolderName@PTC.AccessException"] == "(Secured information)"
    other = user.find(DRAWING)
    assert other["Title"] is not None
    assert "FolderName@PTC.AccessException" in other
    assert user.numbers(f"Title eq '{title}' and Number eq '{DOCUMENT}'") == []


def test_documents_that_may_not_be_read_are_not_listed(server: httpx.Client, user: User) -> None:
    identity = user.find()["ID"]
    server.post("/_control/condition", json={"document": DOCUMENT, "status": 403}).raise_for_status()
    assert user.status(identity) == 403
    assert user.numbers(f"Number eq '{DOCUMENT}'") == []


def test_deleted_documents_take_their_iterations_with_them(server: httpx.Client, user: User) -> None:
    first = user.find()["ID"]
    edit(server, {"title": "second"})
    second = act(server, "checkout")
    server.delete(f"/_control/documents/{DOCUMENT}").raise_for_status()
    assert [user.status(found) for found in (first, second["latest"], second["working_copy"])] == [404, 404, 404]
    assert user.page(f"$filter=Number eq '{DOCUMENT}'")["value"] == []
    server.post("/_control/documents", json={"id": DOCUMENT}).raise_for_status()
    assert user.find()["CheckOutStatus"] is None


def test_nothing_is_made_or_deleted_here(user: User) -> None:
    made = user.server.post(DOCUMENTS, json={"Number": "X"}, headers=user.headers)
    gone = user.server.delete(f"{DOCUMENTS}('{user.find()['ID']}')", headers=user.headers)
    assert [code(made), code(gone)] == [(501, "NOT_IMPLEMENTED")] * 2


@pytest.mark.parametrize("given", [{"etags": "medium"}, {"unknown": 1}, {"checkout_conflict": 418}, {"actions": ["X"]}])
def test_a_mistaken_switch_is_refused(server: httpx.Client, given: dict[str, Any]) -> None:
    assert server.put("/_control/wrs", json=given).status_code == 400
