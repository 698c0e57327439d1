"""Drift: the list of changes wakes up what has moved, and nothing else."""

import asyncio
from collections.abc import Sequence

import attrs
import pytest

from reconciler.flows.drift import Drift
from reconciler.model.answer import Failed, NotAvailable, Trouble
from reconciler.model.document import Lane, Status
from reconciler.model.snapshot import Sighting, Token
from tests.flows.conftest import MakeWorld
from tests.flows.world import KEY, World
from tests.patience import HANG_S


@attrs.define
class Listed:
    """A list of changes: every document as it is now, whatever was asked for."""

    world: World
    asked: list[int] = attrs.field(factory=list)
    trouble: Trouble | None = None
    others: int = 0

    async def changed(self, since_us: int) -> Sequence[Sighting] | Trouble:
        self.asked.append(since_us)
        if self.trouble is not None:
            return self.trouble
        strangers = [Sighting(f"X{number}", Token("x")) for number in range(self.others)]
        shown = await self.world.snapshot()
        assert shown.token is not None
        return [*strangers, Sighting(KEY, shown.token)]


@attrs.define
class Watched:
    world: World
    listed: Listed
    drift: Drift


@pytest.fixture
async def watched(make_world: MakeWorld) -> Watched:
    world = make_world()
    listed = Listed(world)
    return Watched(
        world,
        listed,
        Drift(
            listed,
            world.gate,
            world.store,
            world.clock,
            offer=world.offered.append,
            woken=world.woken,
            poll_s=60,
            overlap_s=120,
        ),
    )


async def settled(world: World) -> None:
    await world.emit_and_settle({"owner": "akim"})
    world.offered.clear()


async def test_an_edit_is_found_by_its_token_and_compared_at_once(watched: Watched) -> None:
    world = watched.world
    await settled(world)
    await world.edit({"title": "Lid"})
    assert await watched.drift.look() == 1
    document = world.document()
    assert (document.lane, document.due_us) == (Lane.RESYNC, world.clock.now_us())
    assert [due.key for due in world.offered] == [KEY]


async def test_our_own_writes_and_what_no_one_manages_wake_no_one(watched: Watched) -> None:
    await settled(watched.world)
    watched.listed.others = 1200
    assert await watched.drift.look() == 0
    assert not watched.world.offered


async def test_a_document_that_comes_to_exist_is_not_left_waiting(watched: Watched) -> None:
    world = watched.world
    world.windchill.script_reads(NotAvailable(404, "there is no such document", absent=True))
    await world.emit_and_attempt({"owner": "akim"})
    assert world.document().status is Status.ABSENT
    assert await watched.drift.look() == 1
    await world.settle()
    assert world.live()["owner"] == "akim"


async def test_a_document_with_troubles_of_its_own_keeps_its_wait(watched: Watched) -> None:
    world = watched.world
    await settled(world)
    await world.emit({"owner": "lchen"})
    world.windchill.script_writes(Failed("down"))
    await world.attempt()
    await world.edit({"title": "Lid"})
    due_us = world.document().due_us
    assert await watched.drift.look() == 0
    assert world.document().due_us == due_us


async def test_each_look_reaches_back_before_the_last_one_and_a_failed_one_counts_for_nothing(watched: Watched) -> None:
    began_us = watched.world.clock.now_us()
    await settled(watched.world)
    watched.listed.trouble = Failed("down")
    await watched.drift.look()
    watched.listed.trouble = None
    await watched.drift.look()
    looked_us = watched.world.clock.now_us()
    await watched.world.clock.advance(60)
    await watched.drift.look()
    assert watched.listed.asked == [began_us - 120_000_000] * 2 + [looked_us - 120_000_000]


async def test_it_looks_every_interval_and_when_it_is_woken_but_not_at_every_knock(watched: Watched) -> None:
    clock, listed = watched.world.clock, watched.listed
    task = asyncio.create_task(watched.drift.run())
    await clock.advance(59)
    assert not listed.asked
    await clock.advance(1)
    assert len(listed.asked) == 1
    for _ in range(100):
        watched.world.woken.set()
        await clock.advance(0.1)
    assert 3 <= len(listed.asked) <= 6
    watched.drift.stop()
    await clock.advance(0)
    await asyncio.wait_for(task, HANG_S)
