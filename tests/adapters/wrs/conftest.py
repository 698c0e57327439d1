"""Worlds of this dialect that are checked when they end; and a small OData service."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from reconciler.adapters.wrs.service import Service
from reconciler.adapters.wrs.windchill import WrsWindchill
from reconciler.simulator import history
from tests.adapters.simulated import Simulated
from tests.adapters.wrs.odata import LaterClock, OData, serving, windchill
from tests.adapters.wrs.world import ACCOUNT, ME, WrsWorld

MakeWorld = Callable[..., Awaitable[WrsWorld]]


@pytest.fixture
async def make_world(server: Simulated) -> AsyncIterator[MakeWorld]:
    """Makes worlds; what must hold after every test is checked of each."""
    made: list[WrsWorld] = []

    async def make(*args: Any, **options: Any) -> WrsWorld:
        world = WrsWorld(server, *args, **options)
        world.switch(display_names={ME: ACCOUNT})
        made.append(await world.opened())
        return world

    yield make
    for world in made:
        await world.adapter.close()
        await world.check()
        assert history.lost_updates(server.whole_history(), ME) == []


@pytest.fixture
async def world(make_world: MakeWorld) -> WrsWorld:
    return await make_world()


@pytest.fixture
def clock() -> LaterClock:
    return LaterClock()


@pytest.fixture
async def odata() -> AsyncIterator[OData]:
    async with serving() as service:
        yield service


@pytest.fixture
async def documents(odata: OData, clock: LaterClock) -> AsyncIterator[WrsWindchill]:
    """The adapter over the small OData service."""
    async with windchill(odata.url, clock=clock) as made:
        yield made


@pytest.fixture
def service(documents: WrsWindchill) -> Service:
    return documents.service
