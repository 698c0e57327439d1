"""From a number to what its latest iteration shows. Real sockets, answers of every kind."""

import asyncio
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.adapters.wrs import lookup, reading, tokens
from reconciler.adapters.wrs.windchill import WrsWindchill
from reconciler.model import instant
from reconciler.model.answer import Broken, Failed, NotAvailable, Refused, Throttled, Unauthorised, Unchanged
from reconciler.model.policy import Normaliser
from reconciler.model.snapshot import Sighting, Snapshot, Token
from tests.adapters.wrs.odata import LOGIN, METADATA, PLAIN, Answer, Asked, OData, error, row, rows, windchill
from tests.checks import expect
from tests.fakes.journal import MemoryJournal
from tests.windchills import write_on

KEY = "0000000001"
HTML = {"content-type": "text/html"}
XML = {"content-type": "application/xml"}
WORKING = {"WorkInProgressState": {"Value": "wrk", "Display": "In Arbeit"}}
_LITERAL = re.compile(r"Number eq '((?:[^']|'')*)'")


def holding(*held: dict[str, Any]) -> Any:
    """Answer filters on numbers and reads by ID from these rows; 404 for an ID that is none of theirs."""

    def respond(asked: Asked) -> Answer:
        if "$filter" in asked.query:
            wanted = {found.replace("''", "'") for found in _LITERAL.findall(asked.query["$filter"])}
            return rows(*(entity for entity in held if entity["Number"] in wanted))
        named = asked.path.partition("('")[2].removesuffix("')")
        found = next((entity for entity in held if entity["ID"] == named), None)
        return error(404, "ENTITY_NOT_FOUND") if found is None else Answer(body=found)

    return respond


SOFT = {"@odata.type": "#PTC.DocMgmt.Specification", "CostCenter": 4711, "Weight": 1.5}


async def test_what_a_list_leaves_out_does_not_pass_for_cleared(odata: OData, documents: WrsWindchill) -> None:
    whole = row(**SOFT)
    short = {name: value for name, value in whole.items() if name != "CostCenter"}
    odata.respond = lambda asked: rows(short) if "$filter" in asked.query else Answer(body=whole)
    for _ in range(2):
        assert (await seen(documents)).value("CostCenter") == 4711
    assert len(odata.documents) == 4


async def test_a_list_that_shows_what_a_read_by_id_does_is_enough(odata: OData, documents: WrsWindchill) -> None:
    odata.respond = holding(row(**SOFT))  # some of its type's properties are shown by neither
    for _ in range(3):
        assert (await seen(documents)).value("CostCenter") == 4711
    assert len(odata.documents) == 4


async def seen(documents: WrsWindchill, key: str = KEY, known: Snapshot | None = None) -> Snapshot:
    return expect(Snapshot, await documents.read(key, known))


async def at_once(documents: WrsWindchill, keys: list[str]) -> list[Any]:
    """Read all these documents, started at the same time on a service whose metadata is known."""
    await documents.service.schema()
    return await asyncio.gather(*(documents.read(key) for key in keys))


def filters(odata: OData) -> list[str]:
    return [asked.query["$filter"] for asked in odata.documents if "$filter" in asked.query]


# ----------------------------------------------------------------------------------------------------------- snapshots


async def test_a_document_is_shown_with_what_its_type_says(odata: OData, documents: WrsWindchill) -> None:
    odata.respond = holding(
        row(
            **{"@odata.type": "#PTC.DocMgmt.Specification", "CostCenter": "4711", "Description": None},
            **{"Description@PTC.AccessException": "(Secured information)"},
        )
    )
    found = await seen(documents)
    assert found.key == KEY
    assert found.body == {"Number": KEY, "Name": "Bracket", "State": "INWORK", "CostCenter": 4711}
    assert found.unreadable == {"Description"}
    assert found.modified_at == "2026-08-19T12:16:48.000000Z"
    assert found.modified_by == "Demo User"
    assert found.type == "PTC.DocMgmt.Specification"
    assert found.later_portions == (("Name", "Number", "Organization"), ("State",))
    assert {"Number", "ID", "VersionID", "ModifiedBy", "LastModified", "CheckoutState"} <= {*found.read_only}
    assert not {"Name", "State", "CostCenter", "Description"} & {*found.read_only}
    assert found.type_normalisers["CostCenter"] == (Normaliser.NUMBER,)


async def test_only_what_the_server_has_actions_for_is_written_apart(odata: OData, documents: WrsWindchill) -> None:
    odata.metadata = Answer(body=METADATA.replace('"UpdateCommonProperties"', '"Other"'), headers=XML)
    odata.respond = holding(row())
    assert (await seen(documents)).later_portions == (("State",),)


async def test_the_latest_iteration_is_asked_for_in_every_way_there_is(odata: OData, documents: WrsWindchill) -> None:
    odata.respond = holding(row())
    await seen(documents)
    (asked,) = odata.documents
    assert asked.query["$filter"] == f"(Number eq '{KEY}') and Latest eq true"
    assert asked.query["ptc.search.latestversion"] == "true"
    assert asked.headers["accept-encoding"] == "identity"


async def test_a_property_that_cannot_be_filtered_on_is_not(odata: OData, documents: WrsWindchill) -> None:
    changed = METADATA.replace('Name="Latest" Type="Edm.Boolean">', 'Name="Latest" Type="Edm.Boolean">'
                               '<Annotation Term="PTC.NonFilterable"/>')  # fmt: skip
    odata.metadata = Answer(body=changed, headers=XML)
    odata.respond = holding(row(id=100, Latest=False, Name="Old"), row(id=101, Name="New"))
    assert (await seen(documents)).body["Name"] == "New"
    assert filters(odata) == [f"Number eq '{KEY}'"]


async def test_a_server_that_cannot_be_asked_for_the_latest_is_asked_without_from_then_on(
    odata: OData, documents: WrsWindchill
) -> None:
    held = holding(row(id=100, Latest=False, Name="Old"), row(id=101, Name="New"), row("2", id=2))
    odata.respond = lambda asked: error(400, "NO") if "Latest" in asked.query["$filter"] else held(asked)
    first, second = await at_once(documents, [KEY, "2"])
    assert first.body["Name"] == "New"
    assert isinstance(second, Snapshot)
    odata.asked.clear()
    assert isinstance(await documents.read("3"), NotAvailable)
    assert len(await at_once(documents, [KEY, "2"])) == 2
    assert isinstance(await documents.changed(0), list)
    assert len(filters(odata)) == 3
    assert not any("Latest" in found for found in filters(odata))


async def test_a_key_that_is_refused_is_no_reason_to_ask_for_old_iterations(
    odata: OData, documents: WrsWindchill
) -> None:
    odata.respond = lambda asked: error(400, "BAD_KEY", "what?")
    assert await documents.read("bad") == NotAvailable(400, "BAD_KEY: what?")
    odata.respond = holding(row())
    await seen(documents)
    assert "Latest eq true" in filters(odata)[-1]


async def test_navigations_are_read_along_and_shown_with_a_slash(odata: OData) -> None:
    odata.respond = holding(row(Context={"Name": "Demo"}, Folder=None))
    async with windchill(odata.url, expand=("Context", "Folder")) as documents:
        found = await seen(documents)
        assert isinstance(await documents.read(KEY, found), Unchanged)
    assert found.body["Context/Name"] == "Demo"
    assert [asked.query["$expand"] for asked in odata.documents] == ["Context,Folder"] * 2


# ---------------------------------------------------------------------------------------------------------- iterations


async def test_a_remembered_iteration_is_read_directly_and_unchanged_if_it_is(
    odata: OData, documents: WrsWindchill
) -> None:
    odata.respond = holding(row())
    known = await seen(documents)
    assert await documents.read(KEY, known) == Unchanged()
    assert len(filters(odata)) == 1
    assert odata.documents[-1].path.endswith("Documents('OR:wt.doc.WTDocument:100')")


async def test_what_was_changed_in_place_is_seen(odata: OData, documents: WrsWindchill) -> None:
    odata.respond = holding(row())
    known = await seen(documents)
    for change in (
        {"Name": "Other"},
        {"LastModified": "2026-08-19T12:16:49Z"},
        {"@odata.type": "#PTC.DocMgmt.Specification"},
    ):
        odata.respond = holding(row(**change))
        assert (await seen(documents, known=known)).token != known.token
    odata.respond = holding(row(**{"Name@PTC.AccessException": "(Secured)"}) | {"Name": None})
    assert (await seen(documents, known=known)).unreadable == {"Name"}
    odata.respond = holding(row(**{"Title": None, "Title@PTC.AccessException": "(Secured)"}))
    assert (await seen(documents, known=known)).unreadable == {"Title"}


async def test_the_same_moment_in_another_offset_and_bookkeeping_are_no_change(
    odata: OData, documents: WrsWindchill
) -> None:
    odata.respond = holding(row())
    known = await seen(documents)
    odata.respond = holding(row(LastModified="2026-08-19T12:16:48Z", CheckoutState="Checked out", ModifiedBy="Else"))
    assert await documents.read(KEY, known) == Unchanged()


@pytest.mark.parametrize(
    "old",
    [row(id=100, Latest=False), row(id=100, Latest=None), row(id=100, **WORKING), row("another number", id=100), None],
)
async def test_a_stale_iteration_is_resolved_again(odata: OData, documents: WrsWindchill, old: Any) -> None:
    odata.respond = holding(row(id=100))
    known = await seen(documents)
    new = row(id=101, Name="New")
    odata.respond = holding(*([] if old is None else [old]), new)
    found = await seen(documents, known=known)
    assert found.body["Name"] == "New"
    assert len(filters(odata)) == 2


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_an_iteration_that_is_gone_is_resolved_again(odata: OData, documents: WrsWindchill, status: int) -> None:
    odata.respond = holding(row())
    known = await seen(documents)
    whole = holding(row())
    odata.respond = lambda asked: whole(asked) if "$filter" in asked.query else error(status, "GONE")
    assert await documents.read(KEY, known) == Unchanged()


async def test_a_forbidden_iteration_is_not_looked_for_elsewhere(odata: OData, documents: WrsWindchill) -> None:
    odata.respond = holding(row())
    known = await seen(documents)
    odata.respond = lambda asked: error(403, "FORBIDDEN", "not yours")
    assert await documents.read(KEY, known) == NotAvailable(403, "FORBIDDEN: not yours", forbidden=True)


async def test_a_service_whose_iterations_don_t_say_whether_they_are_the_latest_is_always_asked_by_number(
    odata: OData, documents: WrsWindchill
) -> None:
    odata.metadata = Answer(body=METADATA.replace('Name="Latest"', 'Name="Newest"'), headers=XML)
    odata.respond = holding(row())
    known = await seen(documents)
    assert await documents.read(KEY, known) == Unchanged()
    assert filters(odata) == [f"Number eq '{KEY}'"] * 2


async def test_a_token_of_another_dialect_is_no_obstacle(odata: OData, documents: WrsWindchill) -> None:
    odata.respond = holding(row())
    await seen(documents, known=Snapshot(KEY, {}, Token('"v1.2"')))


async def test_one_iteration_can_be_read_whatever_it_is(odata: OData, documents: WrsWindchill) -> None:
    odata.respond = holding(row(id=101, Latest=False, **WORKING, Name="Draft"))
    found = expect(Snapshot, await documents.reader.iteration(KEY, "OR:wt.doc.WTDocument:101"))
    assert found.body["Name"] == "Draft"
    assert isinstance(await documents.reader.iteration(KEY, "OR:wt.doc.WTDocument:102"), NotAvailable)


# ---------------------------------------------------------------------------------------------------------- which row


@pytest.mark.parametrize(
    "copy",
    [
        WORKING,
        {"CheckoutState": "Working copy"},
        {"CheckOutStatus": {"Value": "wrk", "Display": "Arbeitskopie"}},
        {"WorkInProgressState": {"Value": "wrk-p", "Display": "private"}},
    ],
)
async def test_working_copies_are_skipped_our_own_too(
    odata: OData, documents: WrsWindchill, copy: dict[str, Any]
) -> None:
    original = row(id=100, WorkInProgressState={"Value": "c/o", "Display": "Ausgecheckt"})
    odata.respond = holding(row(id=101, Name="Draft", **copy), original)
    assert (await seen(documents)).body["Name"] == "Bracket"
    odata.respond = holding(row(id=101, **copy))
    answer = expect(NotAvailable, await documents.read(KEY))
    assert answer.status == 404
    assert "working copy" in answer.message


@pytest.mark.parametrize(
    "listed",
    [[], [row(Latest=False)], [row("abc"), row(f"{KEY} ", id=2), row(id=3) | {"Number": None}]],
    ids=["none", "an old iteration", "other numbers"],
)
async def test_a_number_that_no_one_has_is_not_there(odata: OData, documents: WrsWindchill, listed: list[Any]) -> None:
    odata.respond = lambda asked: rows(*listed)
    assert await documents.read(KEY) == NotAvailable(404, f"there is no document with Number {KEY}", absent=True)


async def test_two_documents_with_one_number_are_left_to_a_person(odata: OData, documents: WrsWindchill) -> None:
    odata.respond = holding(row(id=100), row(id=200))
    answer = expect(NotAvailable, await documents.read(KEY))
    assert "2 documents have the number" in answer.message
    assert "WTDocument:100" in answer.message
    odata.respond = holding(row(id=100), row(id=100))  # a page that moved while it was read
    await seen(documents)


@pytest.mark.parametrize("key", ["", "\ud800"])
async def test_a_key_that_cannot_be_said_is_not_asked_for(odata: OData, documents: WrsWindchill, key: str) -> None:
    answer = expect(NotAvailable, await documents.read(key))
    assert answer.status == 404
    assert not odata.documents


@pytest.mark.parametrize(
    "key", ["O'Brien", "''", "a' or Number ne 'b", "a/b?c#d%e&f+g h", "ü漢", "x" * 512, ".", "$it"]
)
async def test_any_other_key_is_asked_for_as_it_is(odata: OData, documents: WrsWindchill, key: str) -> None:
    odata.respond = holding(row(key), row("b", id=2))
    assert (await seen(documents, key)).body["Number"] == key


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_no_key_gets_out_of_its_quotes(keys: list[str]) -> None:
    condition = " or ".join(f"Number eq {lookup.literal(key)}" for key in keys)
    assert [found.replace("''", "'") for found in _LITERAL.findall(condition)] == keys
    assert _LITERAL.sub("", condition) == " or ".join("" for _ in keys)


# ------------------------------------------------------------------------------------------------------------- etags


@pytest.mark.parametrize("etag", ['"5"', 'W/"5"', 'W/"a \\" b"', "5"])
async def test_an_etag_that_the_list_shows_is_the_token_byte_for_byte(
    odata: OData, documents: WrsWindchill, etag: str
) -> None:
    odata.respond = holding(row(**{"@odata.etag": etag}))
    found = await seen(documents)
    assert found.token is not None
    place = tokens.place(found.token)
    assert place is not None
    assert place.etag == etag
    assert isinstance(await documents.read(KEY, found), Unchanged)
    assert "if-none-match" not in odata.documents[-1].headers  # an old iteration keeps its ETag


@pytest.mark.parametrize("etag", ["*", " ", "", 'W/"a"\r\nx: y', 5])
async def test_an_etag_that_guards_nothing_is_none(odata: OData, documents: WrsWindchill, etag: Any) -> None:
    odata.respond = holding(row(**{"@odata.etag": etag}))
    found = await seen(documents)
    assert found.token is not None
    assert "#" in found.token


async def test_where_only_headers_show_etags_and_checking_out_guards_a_list_gives_the_same_token(
    odata: OData, documents: WrsWindchill
) -> None:
    held = holding(row())
    odata.respond = lambda asked: (
        held(asked) if "$filter" in asked.query else Answer(body=row(), headers={"etag": 'W/"7"'})
    )
    known = await seen(documents)
    assert await documents.read(KEY, known) == Unchanged()
    found = expect(Snapshot, await documents.reader.iteration(KEY, "OR:wt.doc.WTDocument:100"))
    assert found.token == 'OR:wt.doc.WTDocument:100 W/"7"'


async def test_where_etags_guard_alone_a_header_gives_the_token_and_nothing_else_does(odata: OData) -> None:
    held = holding(row())
    headers = {"etag": 'W/"7"'}
    odata.respond = lambda asked: held(asked) if "$filter" in asked.query else Answer(body=row(), headers=headers)
    async with windchill(odata.url, lock="etag", etag_proven=True) as documents:
        known = await seen(documents)
        assert known.token == 'OR:wt.doc.WTDocument:100 W/"7"'
        assert await documents.read(KEY, known) == Unchanged()
        headers.clear()
        assert (await seen(documents)).token is None


async def test_checking_out_can_be_told_to_look_at_no_etag(odata: OData) -> None:
    odata.respond = holding(row(**{"@odata.etag": '"5"'}))
    async with windchill(odata.url, lock="checkout") as documents:
        found = await seen(documents)
    assert found.token is not None
    assert "#" in found.token


PLAIN_ROW = {"ID": "6fa2-11", "Number": KEY, "Description": "d", "State": "open", "@odata.etag": 'W/"1"'}


async def test_a_plain_service_is_read_conditionally_by_its_key(odata: OData) -> None:
    odata.metadata = Answer(body=PLAIN, headers=XML)

    def respond(asked: Asked) -> Answer:
        if "$filter" in asked.query:
            return rows(PLAIN_ROW)
        unchanged = asked.headers.get("if-none-match") == 'W/"1"'
        return Answer(304) if unchanged else Answer(body=PLAIN_ROW)

    odata.respond = respond
    async with windchill(odata.url, service="") as documents:
        known = await seen(documents)
        assert known.body == {"Number": KEY, "Description": "d", "State": "open"}
        assert known.token == '6fa2-11 W/"1"'
        assert known.later_portions == ()
        assert await documents.read(KEY, known) == Unchanged()
        assert await documents.read(KEY, Snapshot(KEY, {}, Token('6fa2-11 W/"0"'))) == known
    first, second, _ = odata.documents
    assert "ptc.search.latestversion" not in first.query
    assert (second.path, second.headers["if-none-match"]) == ("/Documents(6fa2-11)", 'W/"1"')


# ----------------------------------------------------------------------------------------------------- what is no data


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(200, LOGIN, HTML), Broken),
        (Answer(200, LOGIN), Broken),
        (Answer(200, row(), HTML), Broken),
        (Answer(200, "[]"), Broken),
        (Answer(200, ""), Broken),
        (Answer(204), Broken),
        (Answer(304), Broken),
        (Answer(302, headers={"location": "http://127.0.0.1:9/sso"}), Broken),
        (error(405, "NO"), Broken),
        (error(500, "OOPS"), Failed),
        (error(429, "SLOW"), Throttled),
        (Answer(401, LOGIN, HTML), Unauthorised),
    ],
)
async def test_what_the_protocol_does_not_promise_is_never_a_document(
    odata: OData, documents: WrsWindchill, answer: Answer, expected: type
) -> None:
    odata.respond = holding(row())
    known = await seen(documents)
    odata.respond = lambda asked: answer
    for read in (await documents.read(KEY), await documents.read(KEY, known)):
        assert isinstance(read, expected), read
        assert not isinstance(read, Unchanged)


async def test_an_entity_without_an_id_is_no_document(odata: OData, documents: WrsWindchill) -> None:
    odata.respond = lambda asked: rows(row() | {"ID": None})
    assert isinstance(await documents.read(KEY), NotAvailable)
    odata.respond = lambda asked: Answer(body=row() | {"ID": None})
    assert isinstance(await documents.reader.iteration(KEY, "x"), Broken)


async def test_a_service_that_is_not_there_is_no_news_about_a_document(odata: OData, documents: WrsWindchill) -> None:
    odata.respond = lambda asked: Answer(404, "no such domain", HTML)
    assert isinstance(await documents.read(KEY), Failed)
    odata.metadata = Answer(404, "no such domain", HTML)
    async with windchill(odata.url) as fresh:
        assert isinstance(await fresh.read(KEY), Failed)


# ------------------------------------------------------------------------------------------------------------- batches


async def test_first_reads_at_the_same_time_share_a_request(odata: OData, documents: WrsWindchill) -> None:
    keys = [f"{number:010}" for number in range(1, 21)]
    odata.respond = holding(*(row(key, id=int(key)) for key in keys[:-1]))
    answers = await at_once(documents, keys)
    assert [answer.key for answer in answers[:-1]] == keys[:-1]
    assert [answer.body["Number"] for answer in answers[:-1]] == keys[:-1]
    assert answers[-1] == NotAvailable(404, f"there is no document with Number {keys[-1]}", absent=True)
    assert len(filters(odata)) == 1


async def test_two_who_ask_for_one_document_both_get_it(odata: OData, documents: WrsWindchill) -> None:
    odata.respond = holding(row())
    answers = await at_once(documents, [KEY, KEY])
    assert [answer.body["Name"] for answer in answers] == ["Bracket"] * 2
    assert len(filters(odata)) == 1


async def test_a_batch_is_bounded_in_keys_and_in_length(odata: OData, documents: WrsWindchill) -> None:
    keys = [f"{number:010}" for number in range(120)] + [f"{number:0300}" for number in range(40)]
    odata.respond = holding(*(row(key, id=place) for place, key in enumerate(keys)))
    answers = await at_once(documents, keys)
    assert [answer.key for answer in answers] == keys
    assert max(found.count(" eq '") for found in filters(odata)) <= lookup.KEYS_MAX
    assert max(len(asked.raw.partition("?")[2]) for asked in odata.documents) <= lookup.QUERY_CHARACTERS_MAX
    assert len(filters(odata)) < 20


@pytest.mark.parametrize("status", [400, 403, 404, 414, 500, 501])
async def test_a_refused_batch_falls_back_to_single_reads_and_one_bad_key_spoils_no_other(
    odata: OData, documents: WrsWindchill, status: int
) -> None:
    keys = ["a", "bad", "c"]
    held = holding(row("a", id=1), row("c", id=3))
    odata.respond = lambda asked: error(status, "REFUSED") if "'bad'" in asked.query["$filter"] else held(asked)
    first, bad, third = await at_once(documents, keys)
    assert isinstance(first, Snapshot)
    assert isinstance(third, Snapshot)
    assert isinstance(bad, NotAvailable if status in (400, 414) else Failed)
    sizes = sorted(found.count(" eq '") for found in filters(odata))
    assert sizes == ([1, 1, 1, 1, 3] if isinstance(bad, NotAvailable) else [1, 1, 1, 3])


async def test_batches_get_smaller_when_refused_and_larger_again(odata: OData, documents: WrsWindchill) -> None:
    keys = [f"{number:010}" for number in range(40)]
    held = holding(*(row(key, id=int(key)) for key in keys))

    def at_most_two(asked: Asked) -> Answer:
        return error(400, "TOO_MANY") if asked.query["$filter"].count(" eq '") > 2 else held(asked)

    odata.respond = at_most_two
    for _ in range(8):
        answers = await at_once(documents, keys)
        assert all(isinstance(answer, Snapshot) for answer in answers)
    odata.asked.clear()
    odata.respond = held
    await at_once(documents, keys)
    sizes = [found.count(" eq '") for found in filters(odata)]
    assert sizes[0] <= 3
    assert sizes[:-1] == list(range(sizes[0], sizes[0] + len(sizes) - 1))


@pytest.mark.parametrize(
    ("answer", "expected"), [(error(503, "BUSY"), Throttled), (Answer(401, LOGIN, HTML), Unauthorised)]
)
async def test_what_concerns_everyone_is_everyone_s_answer(
    odata: OData, documents: WrsWindchill, answer: Answer, expected: type
) -> None:
    odata.respond = lambda asked: answer
    answers = await at_once(documents, [f"{number}" for number in range(5)])
    assert [type(answer) for answer in answers] == [expected] * 5
    assert len(odata.documents) == 1


async def test_a_reader_that_is_cancelled_at_the_front_leaves_the_others_their_answers(
    odata: OData, documents: WrsWindchill
) -> None:
    held = holding(*(row(f"{number}", id=number) for number in range(4)))
    arrived = asyncio.Event()

    async def slow_at_first(asked: Asked) -> Answer:
        if not arrived.is_set():
            arrived.set()
            await asyncio.sleep(30)
        return held(asked)

    odata.respond = slow_at_first
    reads = [asyncio.create_task(documents.read(f"{number}")) for number in range(4)]
    await arrived.wait()
    reads[0].cancel()
    answers = await asyncio.gather(*reads[1:])
    assert [getattr(answer, "key", answer) for answer in answers] == ["1", "2", "3"]
    with pytest.raises(asyncio.CancelledError):
        await reads[0]
    await seen(documents, "0")


# ------------------------------------------------------------------------------------------------------------- changes


def us(text: str) -> int:
    return instant.to_us(instant.canonical(text))


async def changes(documents: WrsWindchill, since: str = "2026-08-19T12:00:00Z") -> list[Sighting]:
    found = await documents.changed(us(since))
    assert isinstance(found, list), found
    return found


async def test_a_change_is_seen_with_the_token_that_reading_gives(odata: OData, documents: WrsWindchill) -> None:
    odata.respond = lambda asked: rows(row(), row("2", id=2, **{"@odata.etag": 'W/"9"'}))
    found = await changes(documents)
    odata.respond = holding(row(), row("2", id=2, **{"@odata.etag": 'W/"9"'}))
    assert found == [Sighting(key, (await seen(documents, key)).token) for key in (KEY, "2")]


async def test_a_page_that_moved_working_copies_and_old_iterations_make_no_further_sightings(
    odata: OData, documents: WrsWindchill
) -> None:
    def respond(asked: Asked) -> Answer:
        if "$skiptoken" in asked.query:
            return rows(row(), row("3", id=3) | {"Number": None})
        return rows(row(), row("9", id=9, Latest=False), row("2", id=2, **WORKING), next_link="Documents?$skiptoken=1")

    odata.respond = respond
    assert [sighting.key for sighting in await changes(documents)] == [KEY]
    assert [asked.headers["prefer"] for asked in odata.documents] == ["odata.maxpagesize=200"] * 2


async def test_where_filters_look_at_the_date_alone_a_day_begins_as_late_as_anywhere(
    odata: OData, documents: WrsWindchill
) -> None:
    odata.respond = lambda asked: rows(
        row("before", id=1, LastModified="2026-08-19T01:59:59Z"),
        row("within", id=2, LastModified="2026-08-19T02:00:00Z"),
        row("unknown", id=3, LastModified=None),
    )
    found = await changes(documents, "2026-08-19T02:00:00.700000Z")
    assert [sighting.key for sighting in found] == ["within", "unknown"]
    assert filters(odata) == ["(LastModified ge 2026-08-18T14:00:00Z) and Latest eq true"]
    assert "ptc.search.allowFilterOnTime" not in odata.documents[0].query


async def test_where_filters_honour_the_time_of_day_they_are_asked_to(odata: OData) -> None:
    odata.respond = lambda asked: rows(row())
    async with windchill(odata.url, time_filters="time", page_size=7) as documents:
        await changes(documents, "2026-08-19T02:00:00.700000Z")
    (asked,) = odata.documents
    assert asked.query["$filter"] == "(LastModified ge 2026-08-19T02:00:00Z) and Latest eq true"
    assert asked.query["ptc.search.allowFilterOnTime"] == "true"
    assert asked.headers["prefer"] == "odata.maxpagesize=7"


@pytest.mark.parametrize(
    "metadata",
    [
        METADATA.replace('Name="LastModified"', 'Name="Modified"'),
        METADATA.replace('Bool="true"/>', 'Bool="true"/><Annotation Term="PTC.NonFilterable"/>'),
    ],
)
async def test_a_server_that_cannot_be_asked_by_time_is_not_asked(
    odata: OData, documents: WrsWindchill, metadata: str
) -> None:
    odata.metadata = Answer(body=metadata, headers=XML)
    found = expect(Broken, await documents.changed(0))
    assert "poll_s = 0" in found.message
    assert not odata.documents


async def test_half_a_list_is_no_list(odata: OData, documents: WrsWindchill) -> None:
    odata.respond = lambda asked: (
        error(500, "OOPS") if "$skiptoken" in asked.query else rows(row(), next_link="Documents?$skiptoken=1")
    )
    assert isinstance(await documents.changed(0), Failed)


async def test_where_etags_are_in_headers_alone_a_sighting_still_says_that_something_changed(odata: OData) -> None:
    odata.respond = lambda asked: rows(row())
    async with windchill(odata.url, lock="etag", etag_proven=True) as documents:
        before = await changes(documents)
        odata.respond = lambda asked: rows(row(Name="Other"))
        assert await changes(documents) != before


async def test_a_new_revision_in_the_list_of_changes_is_read_though_the_old_one_calls_itself_the_latest(
    odata: OData, documents: WrsWindchill
) -> None:
    held = [row(id=100, Title="A")]
    odata.respond = lambda asked: (
        rows(held[-1]) if "$filter" in asked.query else Answer(body=next(r for r in held if r["ID"] in asked.path))
    )
    known = await seen(documents)
    held.append(row(id=200, Title="B"))  # and `Latest` of the old one stays true
    await documents.changed(0)
    assert (await seen(documents, known=known)).value("Title") == "B"


def revised(odata: OData) -> list[Asked]:
    """Let a revision B lie beside A, both of which call themselves the latest; return the writes that are asked for."""
    held = {"100": row(id=100, Title="A"), "200": row(id=200, Title="B")}
    writes: list[Asked] = []

    def respond(asked: Asked) -> Answer:
        if "$filter" in asked.query:
            return rows(held["200"])
        if asked.method != "GET":
            writes.append(asked)
            return error(423, "LOCKED", "enough has been seen")
        if asked.path.endswith("GetValidStateTransitions()"):
            return Answer(body={"Items": [{"Value": "RELEASED", "Display": "Released"}]})
        return Answer(body=next(found for number, found in held.items() if number in asked.path))

    odata.respond = respond
    return writes


async def old_revision(odata: OData) -> Snapshot:
    """What another process has read before there was another revision."""
    async with windchill(odata.url) as former:
        odata.respond = holding(row(id=100, Title="A"))
        return await seen(former)


async def test_a_new_revision_of_which_no_one_told_is_read_though_the_old_one_calls_itself_the_latest(
    odata: OData, documents: WrsWindchill
) -> None:
    known = await old_revision(odata)
    revised(odata)
    assert (await seen(documents, known=known)).value("Title") == "B"


@pytest.mark.parametrize("fields", [{"Title": "C"}, {"State": "RELEASED"}, {"Name": "Lid"}], ids=str)
async def test_a_new_revision_of_which_no_one_told_is_written_and_not_the_old_one(
    odata: OData, documents: WrsWindchill, fields: dict[str, Any]
) -> None:
    known = await old_revision(odata)
    writes = revised(odata)
    await write_on(documents, known, fields, MemoryJournal(fields))
    assert writes
    assert all("WTDocument:200" in asked.path for asked in writes), writes


async def test_read_only_is_no_word_against_what_there_is_an_action_for(odata: OData, documents: WrsWindchill) -> None:
    said = METADATA.replace("PTC.UpdateableViaAction", "PTC.ReadOnly")
    odata.metadata = Answer(body=said, headers=XML)
    writes = revised(odata)
    known = await seen(documents)
    fields: dict[str, Any] = {"State": "RELEASED"}
    await write_on(documents, known, fields, MemoryJournal(fields))
    assert [asked.path.rpartition(".")[2] for asked in writes] == ["SetState"]
    odata.metadata = Answer(body=said.replace('"SetState"', '"Promote"'), headers=XML)
    async with windchill(odata.url) as without:
        answer = await write_on(without, known, fields, MemoryJournal(fields))
    assert answer == Refused(0, "State is read-only", ("State",))


async def test_what_a_list_has_shown_counts_for_some_minutes_only(
    odata: OData, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with windchill(odata.url) as documents:
        odata.respond = holding(row(id=100, Title="A"))
        known = await seen(documents)
        revised(odata)
        monkeypatch.setattr(reading, "_VOUCHED_S", 0.0)
        assert (await seen(documents, known=known)).value("Title") == "B"


async def test_a_list_of_changes_that_is_too_long_gives_what_was_read_of_it(
    odata: OData, documents: WrsWindchill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_PAGES_MAX", 3)
    pages = iter(range(1000))

    def respond(asked: Asked) -> Answer:
        number = next(pages)
        return rows(row(f"{number:010d}", 100 + number), next_link=f"Documents?$skiptoken={number}")

    odata.respond = respond
    listed = await documents.changed(0)
    assert isinstance(listed, list)
    assert [sighting.key for sighting in listed] == ["0000000000", "0000000001", "0000000002"]
