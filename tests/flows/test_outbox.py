"""Outbox: in order, at least once, and the same bytes when it is twice."""

import asyncio
from collections.abc import Sequence

import pytest

from reconciler.errors import StoreError
from reconciler.flows.outbox import Publisher
from tests.flows.world import OUTCOMES, World


def publisher(world: World) -> Publisher:
    return Publisher(world.store, world.log, world.clock, world.woken)


async def two_outcomes(world: World) -> list[bytes | None]:
    for title in ("Cover", "Lid"):
        await world.emit_and_settle({"title": title})
    return [record.value for record in world.store.outbox.values()]


async def test_outcomes_are_published_in_the_order_in_which_they_came_about(world: World) -> None:
    waiting = await two_outcomes(world)
    assert await publisher(world).publish() == 2
    assert [record.value for record in world.broker.records(OUTCOMES)] == waiting
    assert world.store.outbox == {}


async def test_a_crash_between_publishing_and_forgetting_publishes_the_same_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = await two_outcomes(world)

    async def dies(numbers: Sequence[int], positions: object) -> None:
        raise StoreError("gone")

    with monkeypatch.context() as broken:
        broken.setattr(world.store, "published", dies)
        with pytest.raises(StoreError):
            await publisher(world).publish()
    await publisher(world).publish()
    assert [record.value for record in world.broker.records(OUTCOMES)] == waiting * 2


async def test_while_the_log_is_away_messages_wait_and_go_out_when_it_is_back(world: World) -> None:
    waiting = await two_outcomes(world)
    loop = publisher(world)
    world.broker.down = True
    task = asyncio.ensure_future(loop.run())
    await world.clock.advance(100)
    assert len(world.store.outbox) == 2
    world.broker.down = False
    await world.clock.advance(30)
    assert [record.value for record in world.broker.records(OUTCOMES)] == waiting
    loop.stop()
    await world.clock.advance(0)
    assert task.done()


async def test_a_stop_does_not_wait_for_a_log_that_is_away(world: World) -> None:
    await two_outcomes(world)
    loop = publisher(world)
    world.broker.down = True
    task = asyncio.ensure_future(loop.run())
    await world.clock.advance(100)
    loop.stop()
    await world.clock.advance(0)
    assert task.done()
    assert len(world.store.outbox) == 2
