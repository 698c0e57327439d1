"""The dialect `documents`: what readers get."""

from email.utils import parsedate_to_datetime

import httpx
import pytest

from tests.simulator.conftest import DOCUMENT, PATH, Behave, edit, patch, tag, truth


def test_a_document_comes_with_its_quoted_tag_and_its_last_modification(server: httpx.Client) -> None:
    reply = server.get(PATH)
    assert reply.status_code == 200
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["ETag"] == '"v1.1.1"'
    document = reply.json()
    assert document["id"] == DOCUMENT
    assert {"status", "owner", "title", "attributes", "modifiedBy", "modifiedOn"} < document.keys()
    assert {"CostCenter", "Note", "Project", "Weight", "Keywords"} == document["attributes"].keys()
    assert parsedate_to_datetime(reply.headers["Last-Modified"]).strftime("%FT%TZ") == document["modifiedOn"]


def test_an_unchanged_document_is_not_sent_again(server: httpx.Client) -> None:
    reply = server.get(PATH, headers={"If-None-Match": tag(server)})
    assert (reply.status_code, reply.content) == (304, b"")
    assert reply.headers["ETag"] == tag(server)


def test_a_changed_document_is_sent_with_its_new_tag(server: httpx.Client) -> None:
    known = tag(server)
    edit(server, {"owner": "someone"})
    reply = server.get(PATH, headers={"If-None-Match": known})
    assert (reply.status_code, reply.json()["owner"], reply.json()["modifiedBy"]) == (200, "someone", "jdoe")
    assert reply.headers["ETag"] != known


def test_the_date_of_modification_is_a_condition_too(server: httpx.Client) -> None:
    since = server.get(PATH).headers["Last-Modified"]
    assert server.get(PATH, headers={"If-Modified-Since": since}).status_code == 304
    edit(server, {"owner": "someone"})
    assert server.get(PATH, headers={"If-Modified-Since": since}).status_code == 200


def test_the_date_is_ignored_beside_a_tag_and_when_it_is_none(server: httpx.Client) -> None:
    since = server.get(PATH).headers["Last-Modified"]
    both = {"If-None-Match": '"v0"', "If-Modified-Since": since}
    assert server.get(PATH, headers=both).status_code == 200
    assert server.get(PATH, headers={"If-Modified-Since": "yesterday"}).status_code == 200


def test_keys_may_hold_slashes_spaces_and_letters_of_any_script(server: httpx.Client) -> None:
    server.post("/_control/documents", json={"id": "DOC/1 ü", "owner": "a"}).raise_for_status()
    path = "/documents/DOC%2F1%20%C3%BC"
    assert server.get(path).json()["owner"] == "a"
    assert patch(server, {"owner": "b"}, path=path).json()["owner"] == "b"


@pytest.mark.parametrize("path", ["/documents/unknown", "/documents", "/document", "/"])
def test_missing_documents_and_paths_are_not_found(server: httpx.Client, path: str) -> None:
    assert server.get(path).status_code == 404


def test_other_methods_are_named_as_not_allowed(server: httpx.Client) -> None:
    reply = server.delete(PATH)
    assert (reply.status_code, reply.headers["Allow"]) == (405, "GET, PATCH, PUT")


@pytest.mark.parametrize(
    ("mode", "encoding", "expected"),
    [
        ("strong", "gzip", '"v1.1.1"'),
        ("weak", "gzip", 'W/"v1.1.1"'),
        ("gzip", "gzip", '"v1.1.1-gzip"'),
        ("gzip", "gzip;q=0", '"v1.1.1"'),
        ("gzip", "identity", '"v1.1.1"'),
        ("absent", "gzip", None),
    ],
)
def test_tags_are_dressed_as_the_server_likes(
    server: httpx.Client, behave: Behave, mode: str, encoding: str, expected: str | None
) -> None:
    behave(etag=mode)
    reply = server.get(PATH, headers={"Accept-Encoding": encoding})
    assert reply.headers.get("ETag") == expected
    assert reply.json() == truth(server)
    if expected is not None:
        known = {"Accept-Encoding": encoding, "If-None-Match": expected}
        assert server.get(PATH, headers=known).status_code == 304


def test_times_come_in_microseconds_where_the_server_has_them(server: httpx.Client, behave: Behave) -> None:
    behave(modified_on_precision="microseconds")
    edit(server, {"owner": "someone"})
    assert len(truth(server)["modifiedOn"]) == len("2026-11-22T10:00:00.000000Z")
