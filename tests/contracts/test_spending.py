"""The write budget: what the one in memory and the one that replicas share have in common."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from reconciler.adapters.clock import SystemClock
from reconciler.core.scheduling.limiter import WriteBudget
from reconciler.flows.budget import OwnBudget
from reconciler.ports import Spending

HOUR_S = 3600.0
Make = Callable[[int, float], tuple[Spending, Spending]]


@pytest.fixture(params=["own", "postgres"])
async def spending(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Makes the budget twice, as two replicas have it; a process that is alone has it once."""
    clock = SystemClock()
    if request.param == "own":

        def own(documents_max: int, window_s: float) -> tuple[Spending, Spending]:
            budget = OwnBudget(WriteBudget(documents_max, window_s), clock)
            return budget, budget

        yield own
        return
    url = request.getfixturevalue("postgres_url")
    from reconciler.adapters import postgres

    async with AsyncExitStack() as stack:
        stores = [await postgres.open_store(postgres.Address(url), clock, owner=False) for _ in range(2)]
        for store in stores:
            stack.push_async_callback(store.close)
        yield lambda *limits: (stores[0].shared.spending(*limits), stores[1].shared.spending(*limits))


async def test_so_many_documents_are_let_through_and_the_next_is_told_how_long_to_wait(spending: Make) -> None:
    one, other = spending(2, HOUR_S)
    assert await one.wait_s("a") == 0
    assert await other.wait_s("b") == 0
    assert 0 < await one.wait_s("c") <= HOUR_S
    assert 0 < await other.wait_s("c") <= HOUR_S


async def test_a_document_counts_once_however_often_it_is_written(spending: Make) -> None:
    one, other = spending(2, HOUR_S)
    assert [await side.wait_s(key) for key in ("a", "b\x00é", "a", "b\x00é") for side in (one, other)] == [0.0] * 8
    assert await one.wait_s("c") > 0
    assert await other.wait_s("a") == 0, "it was let through"


async def test_there_is_room_again_after_the_wait(spending: Make) -> None:
    one, other = spending(1, 0.2)
    assert await one.wait_s("a") == 0
    await asyncio.sleep(await other.wait_s("b") + 0.05)
    assert await other.wait_s("b") == 0


async def test_two_who_ask_at_once_never_get_more_than_there_is_together(spending: Make) -> None:
    sides = spending(20, HOUR_S)
    waits = await asyncio.gather(*(sides[number % 2].wait_s(f"d{number}") for number in range(60)))
    assert waits.count(0.0) == 20
