"""The dialect `wrs` with `lock = "etag"` against a server that is not ours: SAP's CAP. People use plain HTTP."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec import structs

from reconciler.adapters.wrs.windchill import WrsWindchill
from reconciler.model import instant
from reconciler.model.answer import (
    NotAvailable,
    Refused,
    Released,
    Unauthorised,
    Unchanged,
    VersionConflict,
    WriteAnswer,
    Written,
)
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import Json
from tests.checks import expect
from tests.odata.adapter import adapter, seen
from tests.odata.cap import Cap
from tests.odata.people import JSON, Person
from tests.windchills import write_on

FULL: dict[str, Json] = {
    "Title": "Pump",
    "Description": "For water",
    "State": "INWORK",
    "Category": "DRAWING",
    "Pages": 3,
    "Weight": 1.25,
    "Controlled": True,
    "EffectiveFrom": "2026-01-02T03:04:05Z",
}
MANY = 60


@pytest.fixture
async def windchill(server: Cap) -> AsyncIterator[WrsWindchill]:
    made = adapter(server.url)
    yield made
    await made.close()


@pytest.fixture(scope="module")
def many(user: Person) -> list[JSON]:
    """More documents than fit on a page of CAP's, or into one request of ours."""
    return [user.make(Title=f"Title {number}") for number in range(MANY)]


async def write(windchill: WrsWindchill, document: JSON, fields: dict[str, Json]) -> WriteAnswer:
    return await write_on(windchill, await seen(windchill, document), fields)


# ------------------------------------------------------------------------------------------------------------- reading


async def test_a_read_shows_the_fields_by_their_types_and_who_modified_them_when(
    windchill: WrsWindchill, user: Person
) -> None:
    made = user.make(**FULL)
    snapshot = await seen(windchill, made)
    shown = FULL | {"Number": made["Number"], "Approver": None, "EffectiveFrom": "2026-01-02T03:04:05.000000Z"}
    assert snapshot.body == shown
    assert repr(snapshot.body["Weight"]) == "1.25"
    assert (snapshot.modified_by, snapshot.modified_at) == ("jdoe", instant.canonical(made["LastModified"]))


async def test_a_document_that_has_not_changed_is_unchanged(windchill: WrsWindchill, user: Person) -> None:
    made = user.make(**FULL)
    known = await seen(windchill, made)
    assert await windchill.read(made["Number"], known) == Unchanged()


async def test_a_changed_document_is_shown_with_another_token(windchill: WrsWindchill, user: Person) -> None:
    made = user.make(**FULL)
    known = await seen(windchill, made)
    user.edit(made, Title="Edited")
    snapshot = expect(Snapshot, await windchill.read(made["Number"], known))
    assert snapshot.body["Title"] == "Edited"
    assert snapshot.token != known.token


async def test_a_missing_document_is_not_available(windchill: WrsWindchill) -> None:
    answer = expect(NotAvailable, await windchill.read("no such number"))
    assert answer.status == 404


async def test_a_document_that_was_deleted_is_not_available_to_read_or_write(
    windchill: WrsWindchill, user: Person
) -> None:
    made = user.make(**FULL)
    known = await seen(windchill, made)
    user.delete(made)
    for answer in (await windchill.read(made["Number"], known), await write_on(windchill, known, {"Title": "x"})):
        assert isinstance(answer, NotAvailable | VersionConflict), answer
    assert isinstance(await windchill.read(made["Number"]), NotAvailable)


@pytest.mark.parametrize(
    "number",
    ["a/b", "a b", "50%", "a%2Fb", "a?b#c", "Ä–𝄞", "a+b&c=d", "it's", '"', "a;b", "..", "*", "a\\b", "a,b", "null"],
)
async def test_a_number_may_hold_any_character(windchill: WrsWindchill, user: Person, number: str) -> None:
    made = user.make(Number=number)
    assert isinstance(await write(windchill, made, {"Title": "found"}), Written)
    assert user.read(made)["Title"] == "found"


async def test_an_id_may_hold_any_character_that_a_segment_can(windchill: WrsWindchill, user: Person) -> None:
    made = user.make(ID="VR:a'b c%d+Ä")
    assert isinstance(await write(windchill, made, {"Title": "found"}), Written)
    assert (await seen(windchill, made)).body["Title"] == "found"


@pytest.mark.parametrize(("entity_set", "more"), [("Sheets", {"ID": 7}), ("Parts", {})])
async def test_an_entity_may_be_known_by_an_integer_or_by_its_number_alone(
    server: Cap, user: Person, entity_set: str, more: JSON
) -> None:
    made = {"Number": "0/7", "Title": "Pump", **more}
    user.http.post(f"/{entity_set}", json=made).raise_for_status()
    windchill = adapter(server.url, entity_set=entity_set)
    assert isinstance(await write(windchill, made, {"Title": "Valve"}), Written)
    snapshot = await seen(windchill, made)
    assert snapshot.body == {"Number": "0/7", "Title": "Valve"}
    assert await windchill.read("0/7", snapshot) == Unchanged()
    stale = structs.replace(snapshot, token=Token(str(snapshot.token).replace("20", "19", 1)))
    expect(VersionConflict, await write_on(windchill, stale, {"Title": "x"}))
    await windchill.close()


async def test_two_documents_of_one_number_are_neither(windchill: WrsWindchill, user: Person) -> None:
    made = user.make(Number="twice")
    user.make(Number="twice")
    answer = expect(NotAvailable, await windchill.read(made["Number"]))
    assert "2 documents" in answer.message


async def test_first_reads_of_many_documents_are_all_right(windchill: WrsWindchill, many: list[JSON]) -> None:
    shown = await asyncio.gather(*(seen(windchill, document) for document in many))
    assert [snapshot.body["Title"] for snapshot in shown] == [document["Title"] for document in many]


async def test_wrong_credentials_are_called_so(server: Cap, user: Person) -> None:
    made = user.make()
    stranger = adapter(server.url, password="wrong")
    assert isinstance(await stranger.read(made["Number"]), Unauthorised)
    await stranger.close()


# ------------------------------------------------------------------------------------------------------------- writing


async def test_a_write_changes_its_fields_and_no_others(windchill: WrsWindchill, user: Person) -> None:
    made = user.make(**FULL)
    assert isinstance(await write(windchill, made, {"Title": "Valve", "State": "RELEASED"}), Written)
    now = user.read(made)
    ours = {"Title": "Valve", "State": "RELEASED", "ModifiedBy": "integration"}
    moved = ("@odata.etag", "LastModified")
    assert {name: now[name] for name in now if name not in moved} == (
        {name: made[name] for name in made if name not in moved} | ours
    )


async def test_the_answer_to_a_write_shows_what_a_read_shows_and_its_token_guards_the_next(
    windchill: WrsWindchill, user: Person
) -> None:
    made = user.make(**FULL)
    answer = await write(windchill, made, {"Title": "Valve", "EffectiveFrom": "2026-05-06T07:08:09.5+02:00"})
    now = await seen(windchill, made)
    assert answer == Written(now, now.token)
    expect(Written, await write_on(windchill, now, {"Title": "Tap"}))
    assert user.read(made)["Title"] == "Tap"


async def test_a_write_to_a_document_changed_since_is_a_version_conflict(windchill: WrsWindchill, user: Person) -> None:
    made = user.make(**FULL)
    snapshot = await seen(windchill, made)
    edited = user.edit(made, Title="Edited")
    answer = expect(VersionConflict, await write_on(windchill, snapshot, {"State": "RELEASED"}))
    assert answer.status == 412
    assert user.read(made) == edited


async def test_of_many_writes_on_one_reading_one_is_written(windchill: WrsWindchill, user: Person) -> None:
    made = user.make(**FULL)
    snapshot = await seen(windchill, made)
    answers = await asyncio.gather(
        *(write_on(windchill, snapshot, {"Title": f"Title {number}"}) for number in range(10))
    )
    written = [number for number, answer in enumerate(answers) if isinstance(answer, Written)]
    assert [user.read(made)["Title"]] == [f"Title {number}" for number in written]
    assert sum(isinstance(answer, VersionConflict) for answer in answers) == 9


async def test_null_clears_fields_of_every_type(windchill: WrsWindchill, user: Person) -> None:
    made = user.make(**FULL)
    assert isinstance(await write(windchill, made, dict.fromkeys(FULL)), Written)
    now = user.read(made)
    assert {name: now[name] for name in FULL} == dict.fromkeys(FULL)


@pytest.mark.parametrize(
    ("field", "wanted", "stored"),
    [
        ("Title", "ü–𝄞 '\\\n\u2028\"", "ü–𝄞 '\\\n\u2028\""),
        ("Title", "", ""),
        ("Description", "x" * 2000, "x" * 2000),
        ("Pages", 2_147_483_647, 2_147_483_647),
        ("Pages", "-7", -7),
        ("Weight", 0.001, 0.001),
        ("Weight", 123456.789, 123456.789),
        ("Weight", "2.50", 2.5),
        ("Controlled", False, False),
        ("EffectiveFrom", "2026-05-06T07:08:09+02:00", "2026-05-06T05:08:09Z"),
        ("EffectiveFrom", "2026-05-06T07:08:09.000000Z", "2026-05-06T07:08:09Z"),
        ("Category", "MANUAL", "MANUAL"),
    ],
)
async def test_a_value_is_stored_as_its_type_has_it(
    windchill: WrsWindchill, user: Person, field: str, wanted: Json, stored: object
) -> None:
    made = user.make(**FULL)
    assert isinstance(await write(windchill, made, {field: wanted}), Written)
    assert repr(user.read(made)[field]) == repr(stored)


@pytest.mark.parametrize(
    ("fields", "blamed"),
    [
        ({"Nope": "x", "Title": "y"}, ("Nope",)),
        ({"Approver": "me"}, ("Approver",)),
        ({"Number": "other"}, ("Number",)),
        ({"ModifiedBy": "me"}, ("ModifiedBy",)),
        ({"Pages": "three", "Title": "y"}, ("Pages",)),
        ({"Pages": 2**31}, ("Pages",)),
        ({"Controlled": "true"}, ("Controlled",)),
        ({"EffectiveFrom": "tomorrow"}, ("EffectiveFrom",)),
        # These the metadata does not tell, or we don't ask it: the server refuses.
        ({"Title": "y", "Category": "OTHER"}, ("Category",)),
        ({"Title": "x" * 201, "State": "y"}, ("Title",)),
        ({"Title": "y", "Weight": 1.23456}, ("Weight",)),
        ({"Category": "OTHER", "Title": "x" * 201, "State": "y"}, ("Category", "Title")),
    ],
)
async def test_what_can_not_be_written_is_refused_by_its_name_and_nothing_is_written(
    windchill: WrsWindchill, user: Person, fields: dict[str, Json], blamed: tuple[str, ...]
) -> None:
    made = user.make(**FULL)
    answer = expect(Refused, await write(windchill, made, fields))
    assert answer.fields == blamed
    assert user.read(made) == made


@pytest.mark.parametrize("lock", ["auto", "checkout"])
async def test_without_proof_and_without_check_out_nothing_is_written(server: Cap, user: Person, lock: str) -> None:
    made = user.make(**FULL)
    careful = adapter(server.url, lock=lock, etag_proven=False)
    snapshot = expect(Snapshot, await careful.read(made["Number"]))
    if snapshot.token is not None:
        answer = await write_on(careful, snapshot, {"Title": "x"})
        assert isinstance(answer, NotAvailable | Refused), answer
    assert user.read(made) == made
    await careful.close()


async def test_automatically_the_etag_guards_where_nothing_can_be_checked_out(server: Cap, user: Person) -> None:
    made = user.make(**FULL)
    windchill = adapter(server.url, lock="auto")
    assert isinstance(await write(windchill, made, {"Title": "Valve"}), Written)
    snapshot = await seen(windchill, made)
    user.edit(made, Title="Edited")
    expect(VersionConflict, await write_on(windchill, snapshot, {"Title": "x"}))
    await windchill.close()


async def test_there_is_no_lock_to_give_up(windchill: WrsWindchill, user: Person) -> None:
    made = user.make(**FULL)
    assert await windchill.release(made["Number"], None, "rec-test-1") == Released()
    assert user.read(made) == made


# ------------------------------------------------------------------------------------------------------ list of changes


@pytest.mark.parametrize("time_filters", ["date", "time"])
async def test_the_list_of_changes_has_all_that_changed_since_with_the_tokens_of_reads(
    server: Cap, user: Person, many: list[JSON], time_filters: str
) -> None:
    windchill = adapter(server.url, time_filters=time_filters)
    user.edit(many[0], Title="Title 0")
    sightings = await windchill.changed(instant.to_us(instant.canonical(many[0]["LastModified"])))
    assert isinstance(sightings, list), sightings
    tokens = {sighting.key: sighting.token for sighting in sightings}
    assert len(tokens) == len(sightings)
    shown = await asyncio.gather(*(seen(windchill, document) for document in many))
    assert [tokens.get(snapshot.key) for snapshot in shown] == [snapshot.token for snapshot in shown]
    await windchill.close()


@pytest.mark.parametrize("time_filters", ["date", "time"])
async def test_nothing_has_changed_since_a_moment_to_come(server: Cap, user: Person, time_filters: str) -> None:
    windchill = adapter(server.url, time_filters=time_filters)
    made_us = instant.to_us(instant.canonical(user.make()["LastModified"]))
    assert await windchill.changed(made_us + 3_600_000_000) == []
    await windchill.close()
