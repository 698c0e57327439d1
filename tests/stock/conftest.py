"""The second server, as new for each test; worlds and programs over it, which are checked when they end."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.stock.server import Stock
from tests.stock.world import StockWorld

MakeWorld = Callable[..., Awaitable[StockWorld]]


@pytest.fixture
def stock() -> Iterator[Stock]:
    with Stock() as running:
        yield running


@pytest.fixture
async def make_world(stock: Stock) -> AsyncIterator[MakeWorld]:
    """Makes worlds; what must hold after every test is checked of each."""
    made: list[StockWorld] = []

    async def make(*args: Any, **options: Any) -> StockWorld:
        made.append(StockWorld(stock, *args, **options))
        return made[-1]

    yield make
    for world in made:
        await world.adapter.close()
        await world.check()


@pytest.fixture
async def world(make_world: MakeWorld) -> StockWorld:
    return await make_world()
