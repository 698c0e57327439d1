"""What CAP does by itself: the facts that the tests of the dialect `wrs` against it build on. Nothing of ours runs."""

import httpx
import pytest

from tests.odata.cap import Cap
from tests.odata.people import Person, path

STALE = 'W/"2020-01-01T00:00:00.000Z"'


def test_no_one_gets_in_without_credentials(server: Cap) -> None:
    refused = httpx.get(f"{server.url}/Documents")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Basic realm="Users"')


def test_a_document_has_the_same_weak_etag_in_its_header_its_body_and_in_lists(user: Person) -> None:
    made = user.make(Title="Pump")
    etag = made["@odata.etag"]
    assert etag == f'W/"{made["LastModified"]}"'
    read = user.http.get(path(made))
    assert (read.headers["etag"], read.json()["@odata.etag"]) == (etag, etag)
    (row,) = user.http.get(f"/Documents?$filter=Number eq '{made['Number']}'").json()["value"]
    assert row["@odata.etag"] == etag


def test_a_read_on_condition_is_answered_with_304(user: Person) -> None:
    made = user.make()
    assert user.http.get(path(made), headers={"If-None-Match": made["@odata.etag"]}).status_code == 304
    assert user.http.get(path(made), headers={"If-None-Match": STALE}).status_code == 200


def test_a_write_without_a_condition_is_refused_with_428_and_with_a_stale_one_with_412(user: Person) -> None:
    made = user.make(Title="Pump")
    assert user.patch(made, {"Title": "x"}).status_code == 428
    assert user.patch(made, {"Title": "x"}, STALE).status_code == 412
    assert user.read(made) == made


def test_a_write_on_the_right_condition_is_answered_with_the_document_and_its_new_etag(user: Person) -> None:
    made = user.make(Title="Pump", Pages=3)
    written = user.patch(made, {"Title": "x", "Pages": None}, made["@odata.etag"])
    assert (written.status_code, written.json()["Title"], written.json()["Pages"]) == (200, "x", None)
    assert written.headers["etag"] != made["@odata.etag"]
    assert user.read(made) == written.json()


def test_a_read_only_property_is_dropped_without_a_word(user: Person) -> None:
    made = user.make()
    written = user.patch(made, {"Approver": "me"}, made["@odata.etag"])
    assert (written.status_code, written.json()["Approver"]) == (200, None)


@pytest.mark.parametrize(
    ("fields", "target", "said"),
    [
        ({"Nope": 1}, None, 'Property "Nope" does not exist in Docs.Documents'),
        ({"Pages": "three"}, "Pages", "Value three is not a valid Integer"),
        ({"Weight": 1.23456}, "Weight", "Value 1.23456 is not a valid Decimal(9,3)"),
        ({"Category": "x"}, "Category", 'Value "x" is invalid according to enum declaration {DRAWING, MANUAL}'),
        ({"Number": None}, "Number", "Value is required"),
    ],
)
def test_what_can_not_be_written_is_refused_with_400_and_named_in_its_own_member(
    user: Person, fields: dict[str, object], target: str | None, said: str
) -> None:
    made = user.make()
    refused = user.patch(made, fields, made["@odata.etag"])
    error = refused.json()["error"]
    assert (refused.status_code, error.get("target"), error["message"]) == (400, target, said)


def test_what_is_not_there_is_404(user: Person) -> None:
    for where in ("/Documents('none')", "/Nothing"):
        refused = user.http.get(where)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "404")


def test_pages_have_25_rows_whatever_is_preferred_and_the_next_link_is_relative(user: Person) -> None:
    for _ in range(26):
        user.make()
    page = user.http.get("/Documents?$select=ID", headers={"Prefer": "odata.maxpagesize=10"}).json()
    assert len(page["value"]) == 25
    assert page["@odata.nextLink"] == "Documents?%24select=ID&%24skiptoken=25"
    assert len(user.http.get("/Documents?$select=ID&$top=5").json()["value"]) == 5


def test_the_metadata_calls_what_can_not_be_written_computed(user: Person) -> None:
    metadata = user.http.get("/$metadata")
    assert metadata.headers["content-type"].startswith("application/xml")
    assert '<Property Name="Weight" Type="Edm.Decimal" Precision="9" Scale="3"/>' in metadata.text
    after = metadata.text.partition('<Annotations Target="Docs.Documents/Approver">')[2]
    assert after.lstrip().startswith('<Annotation Term="Core.Computed" Bool="true"/>')
