"""Worlds that are checked when their test is over."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.flows.world import World

MakeWorld = Callable[..., World]


@pytest.fixture
async def make_world() -> AsyncIterator[MakeWorld]:
    """Makes worlds; what must hold after every test is checked of each."""
    made: list[World] = []

    def make(*args: Any, **given: Any) -> World:
        made.append(World(*args, **given))
        return made[-1]

    yield make
    for world in made:
        await world.check()


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    return make_world()
