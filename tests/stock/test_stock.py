"""What the second server does, asked by a plain client: so that other tests may rely on it."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.stock.server import ACCOUNT, DISPLAY, Stock, drop

DOCS = "/v6/DocMgmt/Documents"


class Client(httpx.Client):
    """A client with one session, a nonce when it wants one, and the user's name as credentials."""

    def __init__(self, stock: Stock, user: str = ACCOUNT) -> None:
        super().__init__(base_url=stock.root, auth=(user, "secret"))

    def nonce(self) -> dict[str, str]:
        return {"CSRF_NONCE": self.get("/PTC/GetCSRFToken()").json()["NonceValue"]}

    def latest(self, number: str) -> dict[str, Any]:
        query = {"$filter": f"(Number eq '{number}') and Latest eq true", "ptc.search.latestversion": "true"}
        (row,) = self.get(DOCS, params=query).raise_for_status().json()["value"]
        return row

    def call(self, id: str, action: str, **body: Any) -> httpx.Response:
        return self.post(f"{DOCS}('{id}')/PTC.DocMgmt.{action}", json=body, headers=self.nonce())


@pytest.fixture
def client(stock: Stock) -> Iterator[Client]:
    stock.vault.make("D-1", CostCenter="4000")
    with Client(stock) as made:
        yield made


def test_a_check_out_a_change_and_a_check_in_make_one_iteration(stock: Stock, client: Client) -> None:
    row = client.latest("D-1")
    copy = client.call(row["ID"], "CheckOut", CheckOutNote="why").json()
    assert (copy["CheckoutState"], copy["Latest"], copy["Comments"]) == ("Working copy", False, "why")
    assert copy["ID"] != row["ID"]
    assert client.latest("D-1")["CheckOutStatus"] == f"Checked out by {DISPLAY}"
    again = client.call(row["ID"], "CheckOut", CheckOutNote="again")
    assert (again.status_code, again.json()["ID"], again.json()["Comments"]) == (200, copy["ID"], "why")
    path = f"{DOCS}('{copy['ID']}')"
    assert client.patch(path, json={"CostCenter": "4711"}, headers=client.nonce()).status_code == 204
    assert client.call(copy["ID"], "CheckIn", CheckInNote="done").json()["Version"] == "A.2"
    assert stock.vault.checked_out() == {}
    assert [(one.who, one.note) for one in stock.vault.history("D-1")] == [("mrossi", "created"), (ACCOUNT, "done")]
    assert stock.vault.current("D-1")["CostCenter"] == "4711"
    assert stock.security_log == []
    assert stock.sessions_opened == 1


def test_who_does_not_keep_the_session_opens_one_with_each_request_and_its_nonce_is_worth_nothing(stock: Stock) -> None:
    stock.vault.make("D-1")
    row = stock.vault.history("D-1")[-1]
    for _ in range(3):
        with Client(stock) as client:
            client.latest("D-1")
            nonce = client.nonce()
    with Client(stock) as other:
        refused = other.post(f"{DOCS}('{row.id}')/PTC.DocMgmt.CheckOut", json={}, headers=nonce)
    assert refused.json()["error"]["code"] == "INVALID_NONCE"
    assert (len(stock.security_log), stock.sessions_opened) == (1, 4)


def test_what_another_has_checked_out_is_theirs(stock: Stock, client: Client) -> None:
    copy = stock.vault.check_out("jdoe", "D-1")
    row = client.latest("D-1")
    assert "jdoe" in client.call(row["ID"], "CheckOut").json()["error"]["message"]
    stock.locked = "same"
    assert client.call(row["ID"], "CheckOut").json()["ID"] == row["ID"]
    assert client.call(copy.id, "CheckIn").status_code == 400
    assert client.call(copy.id, "UndoCheckOut").status_code == 400
    assert client.call(row["ID"], "SetState", State={"Value": "UNDERREVIEW", "Display": "In Prüfung"}).is_error
    assert stock.vault.checked_out() == {"D-1": "jdoe"}


@pytest.mark.parametrize("shape", ["Items", "value"])
def test_states_go_where_the_life_cycle_lets_them(stock: Stock, client: Client, shape: Any) -> None:
    stock.transitions = shape
    latest = client.latest("D-1")["ID"]
    told = client.get(f"{DOCS}('{latest}')/PTC.DocMgmt.GetValidStateTransitions()").json()[shape]
    assert [one["Value"] for one in told] == ["UNDERREVIEW", "CANCELLED"]
    assert client.call(latest, "SetState", State={"Value": "UNDERREVIEW", "Display": "UNDERREVIEW"}).status_code == 400
    assert client.call(latest, "SetState", State=told[0]).json()["State"]["Value"] == "UNDERREVIEW"
    assert stock.vault.done(who=ACCOUNT) == ["SetState"]


def test_a_revision_leaves_the_old_one_latest_of_its_own(stock: Stock, client: Client) -> None:
    old = client.latest("D-1")["ID"]
    stock.vault.revise("jdoe", "D-1")
    assert client.latest("D-1")["Version"] == "B.1"
    assert client.get(f"{DOCS}('{old}')").json()["Latest"] is True
    rows = client.get(DOCS, params={"$filter": "Number eq 'D-1' and Latest eq true"}).json()["value"]
    assert [row["Version"] for row in rows] == ["A.1", "B.1"]


def test_lists_have_pages_and_times_count_by_the_day_unless_they_are_asked_for(stock: Stock, client: Client) -> None:
    for number in range(60):
        stock.vault.make(f"E-{number}")
    stock.vault.edit("jdoe", "D-1", Owner="jdoe")
    first = client.get(DOCS, params={"$filter": "not (Number eq 'D-1' or Number eq 'D''1')"}).json()
    second = client.get(first["@odata.nextLink"], headers={"prefer": "odata.maxpagesize=50"}).json()
    assert (len(first["value"]), len(second["value"]), "@odata.nextLink" in second) == (25, 35, False)
    when = stock.vault.history("D-1")[-1].at.isoformat().replace("+", "%2B")
    since = f"{DOCS}?$filter=LastModified%20ge%20{when}"
    timed = client.get(f"{since}&ptc.search.allowFilterOnTime=true").json()["value"]
    assert [row["Number"] for row in timed] == ["D-1"]
    assert len(client.get(since).json()["value"]) >= 1


@pytest.mark.parametrize("columns", ["as checked out", "null", "secured"])
def test_a_working_copy_need_not_look_like_one(stock: Stock, client: Client, columns: Any) -> None:
    stock.columns, stock.holder, stock.note = columns, "hidden", "hidden"
    copy = client.call(client.latest("D-1")["ID"], "CheckOut").json()
    assert copy["CheckoutState"] == ("Checked out" if columns == "as checked out" else None)
    assert ("CheckoutState@PTC.AccessException" in copy) == (columns == "secured")
    assert not copy["CheckOutStatus"]
    assert copy["Comments"] is None
    assert client.latest("D-1")["CheckOutStatus"] == ""


def test_an_attribute_is_refused_by_the_name_that_the_server_likes(stock: Stock, client: Client) -> None:
    copy = client.call(client.latest("D-1")["ID"], "CheckOut").json()
    said = {"name": "CostCenter", "display": "Cost Centre (ERP)", "none": "change it"}
    for way, named in said.items():
        stock.refused["CostCenter"] = (403, way)
        reply = client.patch(f"{DOCS}('{copy['ID']}')", json={"CostCenter": "1"}, headers=client.nonce())
        assert (reply.status_code, named in reply.json()["error"]["message"]) == (403, True)
    assert stock.vault.current("D-1")["CostCenter"] == "4000"


def test_a_request_can_be_lost_before_it_is_carried_out_and_after(stock: Stock, client: Client) -> None:
    latest = client.latest("D-1")["ID"]
    stock.at("CheckOut", "before", drop)
    stock.at("CheckOut", "after", drop)
    for held in ({}, {"D-1": ACCOUNT}):
        with pytest.raises(httpx.TransportError):
            client.call(latest, "CheckOut")
        assert stock.vault.checked_out() == held
    assert stock.steps("D-1") == ["CheckOut", "CheckOut"]
