"""Reading the simulated Windchill REST Services, whose authors have seen none of the adapter, in each of its moods."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from msgspec import structs

from reconciler.adapters.replies import Reply
from reconciler.adapters.wrs.metadata import Kind, Schema
from reconciler.adapters.wrs.windchill import WrsWindchill
from reconciler.model import instant
from reconciler.model.answer import Broken, Failed, NotAvailable, Unchanged
from reconciler.model.snapshot import Sighting, Snapshot
from tests.adapters.simulated import Simulated, simulating
from tests.adapters.wrs.odata import windchill
from tests.adapters.wrs.world import Person
from tests.checks import expect

DOCUMENTS = 60
KEYS = [f"{number:010}" for number in range(1, DOCUMENTS + 1)]
KEY = KEYS[0]


@pytest.fixture(scope="module")
def running() -> Iterator[Simulated]:
    with simulating(DOCUMENTS) as steering:
        yield steering


def audited(server: Simulated) -> tuple[int, int]:
    """How many writes came with a wrong nonce, and how many nonces were given."""
    log = server._control.get("/wrs/audit").raise_for_status().json()
    return len(log["items"]), log["issued"]


@pytest.fixture
async def documents(server: Simulated) -> AsyncIterator[WrsWindchill]:
    async with windchill(server.url) as made:
        yield made


async def seen(documents: WrsWindchill, key: str = KEY, known: Snapshot | None = None) -> Snapshot:
    return expect(Snapshot, await documents.read(key, known))


async def everything(documents: WrsWindchill) -> list[Snapshot]:
    assert isinstance(await documents.service.schema(), Schema)
    found = await asyncio.gather(*(documents.read(key) for key in KEYS))
    return [snapshot for snapshot in found if isinstance(snapshot, Snapshot)]


async def changes(documents: WrsWindchill, since_us: int = 0) -> list[Sighting]:
    found = await documents.changed(since_us)
    assert isinstance(found, list), found
    return found


async def posted(documents: WrsWindchill, path: str) -> int:
    reply = expect(Reply, await documents.service.post(path, {"CheckOutNote": "x"}))
    return reply.status


MOODS = {
    "stock": {},
    "weak etags in bodies": {"etags": "weak", "etag_in": "body"},
    "strong etags in both": {"etags": "strong", "etag_in": "both"},
    "weak etags in headers": {"etags": "weak", "etag_in": "header"},
    "working copies listed": {"working_copies_listed": True},
    "small pages": {"page_size_max": 7},
    "another place": {"utc_offset_minutes": -480},
}


@pytest.mark.parametrize("mood", MOODS.values(), ids=MOODS)
async def test_lists_batches_and_single_reads_show_the_same_documents(server: Simulated, mood: dict[str, Any]) -> None:
    server.switch(**mood)
    async with windchill(server.url) as documents:
        found = await everything(documents)
        assert [snapshot.key for snapshot in found] == KEYS
        again = await asyncio.gather(*(documents.read(snapshot.key, snapshot) for snapshot in found))
        assert again == [Unchanged()] * DOCUMENTS
        assert {s.key: s.token for s in await changes(documents)} == {s.key: s.token for s in found}


async def test_first_reads_cost_a_page_not_a_request_each(server: Simulated, documents: WrsWindchill) -> None:
    assert isinstance(await documents.service.schema(), Schema)
    server.forget_requests()
    await everything(documents)
    assert sum(server.requests()["GET"].values()) == 2


async def test_types_and_values_are_understood(server: Simulated, documents: WrsWindchill) -> None:
    server.edit({"attributes": {"Weight": 2.5, "Quantity": 7, "Classification": "INTERNAL", "Keywords": ["a", "b"]}})
    found = await seen(documents)
    assert found.type == "PTC.DocMgmt.Specification"
    assert found.body["Number"] == KEY
    assert found.body["Classification"] == "INTERNAL"
    assert (found.body["Weight"], found.body["Quantity"], found.body["Keywords"]) == (2.5, 7, ["a", "b"])
    assert found.later_portions == (("Name", "Number", "Organization"), ("State",))
    assert found.modified_by == "jdoe"
    schema = expect(Schema, await documents.service.schema())
    assert schema.action("CheckOut") == "PTC.DocMgmt.CheckOut"
    assert {"CheckIn", "UndoCheckOut", "SetState", "UpdateCommonProperties"} <= schema.actions.keys()
    assert "GetValidStateTransitions" in schema.functions
    specification = schema.type("#PTC.DocMgmt.Specification")
    assert specification is not None
    assert specification.properties["State"].paired
    assert specification.properties["LegacyID"].read_only
    assert specification.properties["Quantity"].kind is Kind.INTEGER


async def test_secured_values_are_unreadable_in_lists_and_alone(server: Simulated, documents: WrsWindchill) -> None:
    server.switch(secured={"*": ["FolderName", "Keywords"]})
    found = await seen(documents)
    assert found.unreadable == {"FolderName", "Keywords"}
    assert not {"FolderName", "Keywords"} & found.body.keys()
    assert await documents.read(KEY, found) == Unchanged()


async def test_what_people_check_in_is_found_and_what_they_are_working_on_is_not(
    server: Simulated, documents: WrsWindchill
) -> None:
    server.switch(working_copies_listed=True)
    known = await seen(documents)
    us = Person(server, "integration")
    us.does("checkout", "edit", document=KEY, set={"title": "Draft"})
    working = await documents.read(KEY, known)
    assert isinstance(working, Snapshot), "our own check-out must not pass for nothing new"
    assert working.locked_by_us
    assert structs.replace(working, locked_by_us=False) == known
    assert (await seen(documents)).token == known.token
    assert [s.token for s in await changes(documents) if s.key == KEY] == [known.token]
    us.does("checkin", document=KEY)
    found = await seen(documents, known=known)
    assert found.body["Title"] == "Draft"
    assert found.token != known.token
    assert await documents.read(KEY, found) == Unchanged()


@pytest.mark.parametrize("time_filters", ["date", "time"])
@pytest.mark.parametrize("offset", [-720, -480, 0, 120, 840])
async def test_no_change_is_missed_wherever_a_server_is(server: Simulated, time_filters: str, offset: int) -> None:
    server.switch(utc_offset_minutes=offset)
    async with windchill(server.url, time_filters=time_filters) as documents:
        before = await seen(documents)
        assert before.modified_at is not None
        since_us = instant.to_us(before.modified_at) + 1
        server.edit({"title": "Changed"})
        after = await seen(documents, known=before)
        assert after.modified_at is not None
        assert Sighting(KEY, after.token) in await changes(documents, max(since_us, instant.to_us(after.modified_at)))
        assert await changes(documents, instant.to_us(after.modified_at) + 3_600_000_000) == []


async def test_expired_nonces_cost_the_writes_that_begin_together_one_entry_in_the_audit_log(
    server: Simulated, documents: WrsWindchill
) -> None:
    found = (await everything(documents))[:6]
    paths = [
        documents.service.action(str(snapshot.token).partition("#")[0], "PTC.DocMgmt.CheckOut") for snapshot in found
    ]
    assert [await posted(documents, path) for path in paths[:3]] == [200] * 3
    assert audited(server) == (0, 1)
    server.expire_nonces()
    assert await asyncio.gather(*(posted(documents, path) for path in paths[3:])) == [200] * 3
    assert audited(server) == (1, 2)


async def test_a_next_page_of_another_server_is_not_read(server: Simulated, documents: WrsWindchill) -> None:
    server.switch(page_size_max=7, next_link_base="http://evil.example")
    assert isinstance(await documents.changed(0), Broken)


async def test_a_version_that_the_server_lacks_is_no_news_about_a_document(server: Simulated) -> None:
    server.switch(versions=["v5"])
    async with windchill(server.url) as documents:
        assert isinstance(await documents.read(KEY), Failed)


async def test_a_number_with_a_quote_finds_its_document_alone(server: Simulated, documents: WrsWindchill) -> None:
    server.make({"id": "O'Brien-1", "title": "quoted"})
    assert (await seen(documents, "O'Brien-1")).body["Title"] == "quoted"
    assert isinstance(await documents.read("O''Brien-1"), NotAvailable)
    assert isinstance(await documents.read("x' or Number ne 'y"), NotAvailable)


async def test_navigations_are_read_along(server: Simulated) -> None:
    async with windchill(server.url, expand=("Context", "Folder")) as documents:
        found = await seen(documents)
        assert found.body["Context/Name"] == "Demo Product"
        assert await documents.read(KEY, found) == Unchanged()
        assert Sighting(KEY, found.token) in await changes(documents)


async def test_documents_that_have_not_moved_are_read_once_where_lists_leave_attributes_out(
    server: Simulated, documents: WrsWindchill
) -> None:
    server.switch(lists_show="common")

    async def polled() -> list[str]:
        """One poll, and what it wakes: each document whose token is not the one that was read last."""
        sighted = await documents.changed(0)
        assert isinstance(sighted, list)
        moved = [one.key for one in sighted if one.token != known.get(one.key)]
        for key in moved:
            found = expect(Snapshot, await documents.read(key))
            assert found.token is not None
            known[key] = found.token
        return moved

    known: dict[str, str] = {}
    assert len(await polled()) == DOCUMENTS
    for _ in range(3):
        assert await polled() == [], "unchanged documents were read again"
    server.edit({"attributes.CostCenter": "4711"}, KEY)
    assert await polled() == [KEY]
    assert await polled() == []
    Person(server).does("setstate", document=KEY, state="RELEASED")
    assert await polled() == [KEY]
    assert await polled() == []
