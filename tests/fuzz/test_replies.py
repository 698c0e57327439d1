"""Replies under fire, in memory: whatever a server says, the questions asked of it have plain answers, and soon."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.adapters import credentials, documents, refusals, replies
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.credentials import Grant
from reconciler.adapters.documents import DocumentsWindchill, Inexpressible
from reconciler.adapters.http import HttpClient
from reconciler.adapters.replies import Reply
from reconciler.model import answer, codec, instant
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import MISSING, same
from tests import defaults
from tests.fuzz import mutating

FIELDS = ["status", "owner", "attributes.Note", "attributes.CostCenter", "title"]
REPLIES = mutating.seeds("replies/*")
HEADERS = [b"content-type", b"etag", b"retry-after", b"last-modified", b"date", b"location", b"content-encoding"]
HEADER_VALUES = [b"application/json", b"text/html", b"application/problem+json; charset=x", b'"1"', b"*", b'W/"1"', b""]
HEADER_VALUES += [b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sun, 06 Nov 99999 08:49:37 GMT", b"1 Jan 1 0:0:0 +9999999999999"]
HEADER_VALUES += [b"0", b"-1", b"1.5", b"1e9", b"999999999", b"9" * 5000, "١".encode(), b"\xb2", b"\xff", b"gzip, br"]
STATUSES = [*range(199, 209), 226, 300, 301, 302, 304, 307, *range(400, 432), 451, *range(500, 512), 599, 999]
MEMBERS = ["id", "modifiedOn", "modifiedBy", "type", "error", "message", "code", "title", "detail", "errors", "field"]
MEMBERS += ["fields", "lockedBy", "holder", "checked_out_by", "error_description", "access_token", "expires_in"]
MEMBERS += ["status"]
PROSE = [b"checked out by ", b"locked by jdoe", b"version mismatch", b"<title>", b"</title>", b"log-in", b"status"]
PROSE += [b"'", b"type=password", b"attributes.Note ", b" " * 999, b"locked to user ", b"<html>", b"<title", b"owner"]
PROSE += [b"\n", b"."]


def reply(number: int) -> Reply:
    """One reply, hostile in one way or another; the number fixes which."""
    chance = random.Random(number)
    headers = {name: chance.choice(HEADER_VALUES + mutating.TOKENS) for name in HEADERS if chance.random() < 0.5}
    headers[b"content-type"] = chance.choice([b"application/json", b"text/html", b"text/plain", b"\xff", b""])
    kind = chance.random()
    if kind < 0.6:
        body = mutating.as_json(mutating.changed(chance, {"id": "k", "status": "INWORK"}, MEMBERS), chance)
    elif kind < 0.9:
        body = b"".join(chance.choice(PROSE) * chance.choice((1, 1, 9, 2000)) for _ in range(chance.randrange(9)))
    else:
        body = chance.randbytes(chance.choice((0, 1, 300)))
    return Reply(chance.choice(STATUSES), headers, body[:65_536])


def client() -> HttpClient:
    return HttpClient(defaults.http(), SystemClock())


def check(reply: Reply) -> None:
    """Everything that holds for every reply."""
    with mutating.bounded():
        said = replies.said(reply)
        assert said == " ".join(said.split())
        assert replies.message(reply)
        assert 0 < len(replies.cut(replies.message(reply))) <= replies.MESSAGE_CHARACTERS_MAX
        tag, date = replies.token(reply), replies.last_modified(reply)
        assert tag is None or (tag.encode() == reply.headers[b"etag"] and tag.strip() not in ("", "*"))
        assert date is None or date.encode("latin-1") == reply.headers[b"last-modified"]
        wait_s = replies.retry_after_s(reply, 0)
        assert wait_s is None or 0 <= wait_s < 1e12
        replies.redirect(reply)
        refusals.is_version_conflict(said)
        refusals.is_lock(said)
        who = refusals.holder(reply)
        assert who is None or who.strip() == who != ""
        assert set(refusals.blamed(reply, FIELDS)) <= set(FIELDS)
        body = replies.json_object(reply)
    if body is not None:
        assert codec.encode(body)
    assert isinstance(credentials._granted(reply, 0.0, credentials.Grant(None)), credentials._Obtained | answer.Failed)
    check_dialect(reply)


def check_dialect(reply: Reply) -> None:
    """What the dialect makes of it is one of the answers, and a certain one only where the status says so."""
    windchill = DocumentsWindchill(client(), defaults.documents(base_url="http://127.0.0.1:9"))
    shown = windchill._shown("k", reply)
    if isinstance(shown, Snapshot):
        stored = codec.encode(shown)
        assert shown.modified_at is None or instant.from_us(instant.to_us(shown.modified_at)) == shown.modified_at
        assert codec.encode(shown.with_fields({"attributes.Note": "x"}, None))
        assert len(stored) < 2_000_000
    before = Snapshot("k", {"id": "k", "status": "INWORK"}, Token('"0"'))
    written = windchill._written(reply, before, {"status": "RELEASED"})
    check_answer(written, reply.status)


NOT_APPLIED = answer.VersionConflict | answer.Refused | answer.Locked | answer.NotAvailable | answer.Unauthorised
NOT_APPLIED |= answer.Throttled | answer.Failed | answer.Unguarded | answer.Broken


def check_answer(given_: answer.WriteAnswer, status: int) -> None:
    """A write that was sent counts as applied, or as not applied, only on the word of the server."""
    match given_:
        case answer.Written():
            assert status in (200, 201, 204, 205)
        case answer.Unknown():
            assert not 400 <= status < 500
        case _:
            assert isinstance(given_, NOT_APPLIED)
            assert 400 <= status < 500 or status in (501, 503)


numbers = st.integers(0, 2**64 - 1)


@given(numbers)
def test_no_hostile_reply_gets_past(number):
    check(reply(number))


@given(mutating.mutated(REPLIES), st.sampled_from(STATUSES))
def test_no_damaged_body_gets_past(text, status):
    head, _, body = text.partition(b"\r\n\r\n")
    kind = b"text/html" if b"html" in head.lower() else b"application/json"
    check(Reply(status, {b"content-type": kind, b"etag": b'"1"'}, body[:65_536]))


@given(numbers)
def test_no_reply_of_an_authorisation_server_gets_past(number):
    chance = random.Random(number)
    body = mutating.changed(chance, {"access_token": "t", "expires_in": 60}, ["access_token", "expires_in", "error"])
    status = chance.choice(STATUSES)
    given_ = Reply(status, {b"retry-after": chance.choice(HEADER_VALUES)}, mutating.as_json(body, chance))
    granted = credentials._granted(given_, 5.0, credentials.Grant(None))
    if isinstance(granted, credentials._Obtained):
        assert isinstance(granted.grant, Grant)
        assert granted.expires_s is None or granted.expires_s >= 5.0
        header = granted.grant.authorization or b""
        assert header.startswith(b"Bearer ")
        assert b"\n" not in header
        assert b"\r" not in header
    refused = credentials._refused(given_, status, SystemClock(), credentials.Grant(None, secret="secret"))
    assert isinstance(refused, answer.Throttled | answer.Unauthorised | answer.Failed)


# ------------------------------------------------------------------------------------------------------- merge patches

NAMES = ["a", "b", "", "a.b", ".", "..", "a.", ".a", "\0", "\u202e", "id", "x" * 300, "é", "__proto__"]


@given(numbers)
def test_a_patch_gives_the_fields_their_values_whatever_the_document_holds(number):
    chance = random.Random(number)
    body = {chance.choice(NAMES): mutating.values(chance) for _ in range(chance.randrange(5))}
    fields = {
        ".".join(chance.choice(NAMES[:3]) for _ in range(chance.randrange(1, 5))): mutating.values(chance)
        for _ in range(chance.randrange(1, 4))
    }
    snapshot = Snapshot("k", body, None)
    with mutating.bounded():
        patch = documents.build(snapshot, fields)
    if isinstance(patch, Inexpressible):
        assert set(patch.fields) <= set(fields)
        assert patch.fields
        return
    assert codec.encode(patch)
    got = merged(body, patch)
    assert same(bare(got), bare(snapshot.with_fields(fields, None).body))


def merged(target: object, patch: object) -> object:
    """RFC 7396 section 2, line by line."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def bare(value: object) -> object:
    """Without members that are null, which a merge patch can't tell from those that are not there."""
    if not isinstance(value, dict):
        return value
    return {name: bare(inner) for name, inner in value.items() if inner not in (None, MISSING)}


# --------------------------------------------------------------------------------------------------------------- finds

HTML = {b"content-type": b"text/html"}
JSON = {b"content-type": b"application/json"}


@pytest.mark.parametrize("page", [b"<title>" * 9362, b"<title" * 10_922, b"<title>x" * 8000, b"<title>log " * 5900])
def test_a_page_of_nothing_but_titles_is_read_at_once(page):
    with mutating.bounded():
        assert replies.said(Reply(200, HTML, page)).startswith("an HTML")


@pytest.mark.parametrize("text", [b"attributes.x " * 5000, b"a" * 65_000, b"'" * 65_000])
def test_a_long_refusal_of_many_fields_is_read_at_once(text):
    with mutating.bounded():
        assert refusals.blamed(Reply(400, {}, text), ["a" * number for number in range(2, 256)] * 4) == ()


@pytest.mark.parametrize("tag", [b"\xc2\xa0", b"*\xc2\xa0", b"\xe2\x80\x83*\xe2\x80\x83", b"\x1f", b"\x85"])
def test_an_etag_of_space_that_only_python_sees_is_no_token(tag):
    assert replies.token(Reply(200, {b"etag": tag}, b"")) is None


@pytest.mark.parametrize("seconds", [b"9" * 400, b"9" * 4299])
def test_a_token_that_is_good_for_longer_than_a_float_can_say_is_good_until_it_is_refused(seconds):
    reply = Reply(200, JSON, b'{"access_token":"t","expires_in":%s}' % seconds)
    granted = credentials._granted(reply, 0.0, credentials.Grant(None))
    assert isinstance(granted, credentials._Obtained)
    assert granted.expires_s is None


def test_a_document_nested_so_deeply_that_it_could_not_be_kept_is_no_document():
    depth = 500
    text = b'{"a":' * depth + b"1" + b"}" * depth
    assert replies.json_object(Reply(200, JSON, text)) is None
    assert replies.json_object(Reply(200, JSON, b'{"a":[%s]}' % b",".join([b"{}"] * 500))) is not None


def test_an_error_within_an_error_within_an_error_is_said_at_once():
    depth = 950
    assert replies.message(Reply(400, JSON, b'{"error":' * depth + b"1" + b"}" * depth))
