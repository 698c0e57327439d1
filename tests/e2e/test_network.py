"""Whatever the network to Windchill does, nothing is lost, nothing is written twice, and what can go on goes on."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from reconciler import app
from reconciler.core.scheduling.breaker import Breaker
from reconciler.model.document import Status
from tests.adapters.simulated import Simulated
from tests.e2e.conftest import MakeWorld
from tests.e2e.world import ME, agreed_in, event, values_of
from tests.faults.proxy import Fault, HttpProxy

KEYS = [f"{number:010d}" for number in range(1, 41)]
ROUNDS = 8


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the breaker, whose first cool-down is no setting, look again soon."""
    monkeypatch.setattr(app, "Breaker", partial(Breaker, cooldown_base_s=0.1))


@pytest.fixture
async def proxy(simulated: Simulated) -> AsyncIterator[HttpProxy]:
    async with HttpProxy(simulated.url, pause_s=0.01, piece_bytes=64) as between:
        yield between


@pytest.mark.parametrize(("seed", "method"), [(1, "patch"), (2, "put")])
async def test_every_fault_at_every_moment_costs_neither_events_nor_edits(
    make_world: MakeWorld, proxy: HttpProxy, seed: int, method: str
) -> None:
    world = await make_world(
        windchill={"base_url": proxy.url, "timeout_s": 1.0, "write_method": method, "retry_after_max_s": 1.0},
        resync={"interval_s": 1.0, "interval_factor_max": 1.0},
    )
    simulated = world.simulated
    first = {"status": "INWORK", "attributes.CostCenter": "first", "title": "first", "owner": "first"}
    await world.settle(*(event(key, first) for key in KEYS))
    simulated.rivals(per_second=20, documents=KEYS, fields=["owner", "title"])
    proxy.at_random(seed, 0.15)
    async with world.running() as running:
        for number in range(ROUNDS):
            given = {"status": ("INREVIEW", "RELEASED")[number % 2], "attributes.CostCenter": f"{number}"}
            given |= {"title": f"title {number}", "owner": "sgarcia"} if number % 2 else {}
            await world.append(*(event(key, given) for key in KEYS))
            before = len(await world.check_history())
            await running.until_folded()
            await running.until(
                lambda: len(simulated.whole_history()) > before + len(KEYS) // 2,  # noqa: B023  waited for right here
                "some of it is written",
            )
        simulated.rivals(per_second=0)
        proxy.heal()

        async def as_the_log_says() -> bool:
            shown = [await asyncio.to_thread(simulated.document, key) for key in KEYS]
            return all((one["status"], one["attributes"]["CostCenter"]) == ("RELEASED", "7") for one in shown)

        await running.until(as_the_log_says, "what only we write is what the last events say")
        await running.until_settled()
        await running.check()
        rows = await running.daemon.store.documents(KEYS)
    entries = await world.check_history()
    for key in KEYS:
        shown, held = simulated.document(key), {conflict.field for conflict in rows[key].agreement.held}
        assert rows[key].status in (Status.SYNCED, Status.HELD)
        for field, value in (("title", "title 7"), ("owner", "sgarcia")):
            writers = [entry.who for entry in entries if entry.document == key and field in entry.changes]
            assert shown[field] == value or field in held or writers[-1] != ME
    assert values_of(await world.told()) == agreed_in(rows)
    assert len([entry for entry in entries if entry.who == ME]) >= 3 * len(KEYS)
    assert {fault for _, fault in proxy.met} == set(Fault)


@pytest.mark.parametrize("fault", [Fault.SWALLOWED, Fault.SWALLOWED_REPLY, Fault.DRIPPING_REPLY])
async def test_documents_whose_requests_hang_do_not_keep_others_from_going_on(
    make_world: MakeWorld, proxy: HttpProxy, fault: Fault
) -> None:
    world = await make_world(
        windchill={"base_url": proxy.url, "timeout_s": 0.5, "in_flight_max": 4, "retry_after_max_s": 1.0}
    )
    stuck, others = KEYS[:10], KEYS[10:]
    proxy.pause_s = 10
    proxy.haunt(fault, *(f"/documents/{key}" for key in stuck))
    async with world.running() as running:
        await world.append(*(event(key, {"title": "one"}) for key in KEYS))
        for number in range(3):
            await world.append(*(event(key, {"attributes.CostCenter": f"{number}"}) for key in others))
            await running.until_folded()

            async def others_agree() -> bool:
                rows = await running.daemon.store.documents(others)
                return len(rows) == len(others) and all(row.status is Status.SYNCED for row in rows.values())

            await running.until(others_agree, "all that can be reached is synced")
        assert {row.status for row in (await running.daemon.store.documents(stuck)).values()} == {Status.PENDING}
        proxy.heal()
        await running.until_settled(90)
        await running.check()
    for key in KEYS:
        assert world.simulated.document(key)["title"] == "one"


async def test_a_windchill_that_can_not_be_reached_at_the_start_is_waited_for(
    make_world: MakeWorld, proxy: HttpProxy
) -> None:
    world = await make_world(windchill={"base_url": proxy.url, "retry_after_max_s": 1.0})
    proxy.shut()
    async with world.running() as running:
        await world.append(*(event(key, {"title": "one"}) for key in KEYS[:5]))
        await running.until_folded()

        async def tried() -> bool:
            rows = await running.daemon.store.documents(KEYS[:5])
            return all(row.agreement.failures for row in rows.values())

        await running.until(tried, "each was tried once")
        await proxy.open()
        await running.until_settled()
        await running.check()
    assert [world.simulated.document(key)["title"] for key in KEYS[:5]] == ["one"] * 5
