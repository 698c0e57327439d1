"""What the dialect `wrs` costs a server that is not ours, and what it makes of replies that get lost on the way."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from reconciler.adapters.counters import Counters
from reconciler.adapters.wrs.windchill import WrsWindchill
from reconciler.model.answer import Failed, Unchanged, Unknown, VersionConflict, Written
from reconciler.model.snapshot import Snapshot
from tests.checks import expect
from tests.faults.proxy import NEVER_SERVED, Fault, HttpProxy
from tests.odata import cap
from tests.odata.adapter import adapter, seen
from tests.odata.cap import Cap
from tests.odata.people import Person
from tests.windchills import write_on

CUT = [
    Fault.RESET_IN_BODY,
    Fault.RESET_BEFORE_SERVER,
    Fault.RESET_BEFORE_REPLY,
    Fault.RESET_AFTER_HEADERS,
    Fault.RESET_IN_REPLY,
    Fault.CLOSED_IN_REPLY,
]


@pytest.fixture
async def proxy(server: Cap) -> AsyncIterator[HttpProxy]:
    async with HttpProxy(server.url.removesuffix(cap.PATH)) as between:
        yield between


@pytest.fixture
async def windchill(proxy: HttpProxy) -> AsyncIterator[WrsWindchill]:
    made = adapter(proxy.url + cap.PATH)
    yield made
    await made.close()


async def test_a_document_costs_one_request_to_read_one_to_find_unchanged_and_one_to_write(
    server: Cap, user: Person
) -> None:
    counters = Counters()
    windchill = adapter(server.url, telemetry=counters)

    def asked() -> dict[tuple[str, str], float]:
        """Return how many requests there were since the last call, by method and status."""
        found = {
            (dict(labels)["method"], dict(labels)["status"]): count for (_, labels), count in counters.counts.items()
        }
        counters.counts.clear()
        return found

    made = user.make(Title="Pump")
    snapshot = await seen(windchill, made)
    assert asked() == {("GET", "200"): 2}  # the metadata, once for all documents, and this one
    assert await windchill.read(snapshot.key, snapshot) == Unchanged()
    assert asked() == {("GET", "304"): 1}
    answer = expect(Written, await write_on(windchill, snapshot, {"Title": "Valve", "Pages": 4}))
    assert answer.snapshot is not None
    assert asked() == {("PATCH", "200"): 1}
    assert await windchill.read(snapshot.key, answer.snapshot) == Unchanged()
    assert asked() == {("GET", "304"): 1}
    await windchill.close()


async def test_first_reads_at_one_time_share_a_request(windchill: WrsWindchill, proxy: HttpProxy, user: Person) -> None:
    first, *others = [user.make() for _ in range(21)]
    await seen(windchill, first)
    before = proxy.asked["GET"]
    await asyncio.gather(*(seen(windchill, document) for document in others))
    assert proxy.asked["GET"] == before + 1


@pytest.mark.parametrize("fault", CUT)
async def test_a_write_whose_answer_is_lost_is_unknown_and_its_guard_makes_another_harmless(
    windchill: WrsWindchill, proxy: HttpProxy, user: Person, fault: Fault
) -> None:
    made = user.make(Title="Pump")
    snapshot = await seen(windchill, made)
    proxy.plan(fault)
    answer = await write_on(windchill, snapshot, {"Title": "Valve"})
    assert isinstance(answer, Unknown), answer
    assert proxy.asked["PATCH"] == 1
    applied = fault not in NEVER_SERVED
    assert user.read(made)["Title"] == ("Valve" if applied else "Pump")
    again = await write_on(windchill, snapshot, {"Title": "Tap"})
    assert isinstance(again, VersionConflict if applied else Written), again


async def test_a_read_whose_answer_is_lost_has_failed_and_the_next_one_has_not(
    windchill: WrsWindchill, proxy: HttpProxy, user: Person
) -> None:
    made = user.make(Title="Pump")
    proxy.plan(Fault.CLOSED_IN_REPLY)
    assert isinstance(await windchill.read(made["Number"]), Failed)
    assert isinstance(await windchill.read(made["Number"]), Snapshot)
