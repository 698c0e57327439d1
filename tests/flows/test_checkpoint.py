"""Checkpoints: made by one replica while a head moves, chained, and announced."""

import asyncio
import json
from typing import Any

import attrs

from reconciler.flows.checkpoint import EVERY_S, Checkpoints
from reconciler.model import chain, codec
from reconciler.model.chain import Entry, Head
from tests.checks import check_outcomes
from tests.fakes.shared_slots import SharedSlots
from tests.fakes.virtual_clock import VirtualClock


@attrs.define
class Trail:
    """The heads of two chains, and the checkpoints of the slots."""

    shared: SharedSlots
    heads: dict[int, Head] = attrs.field(factory=lambda: {number: chain.begin(number) for number in (0, 1)})

    def grow(self, number: int) -> None:
        self.heads[number] = chain.extend(self.heads[number], b"{}")

    async def audit_heads(self) -> list[Head]:
        found = [*self.heads.values(), *(head for head, _, _ in self.shared.checkpoints[-1:])]
        await asyncio.sleep(0)
        return found

    async def audit_entry(self, number: int) -> Entry:
        head, text, _ = self.shared.checkpoints[number % chain.SPAN - 1]
        assert head.number == number
        return Entry(number, None, head.link, text)


def maker(trail: Trail, clock: VirtualClock, **options: Any) -> Checkpoints:
    settings: dict[str, Any] = {"mine": lambda: True, "wake": lambda: None} | options
    slots = trail.shared.enter()
    return Checkpoints(slots=slots, views=trail, clock=clock, topic="outcomes", source="//reconciler/x", **settings)


async def test_a_checkpoint_is_made_when_a_head_has_moved_and_names_all_heads() -> None:
    trail, clock = Trail(SharedSlots()), VirtualClock()
    one = maker(trail, clock)
    trail.grow(0)
    assert await one.make() is None, "one chain has one head"
    trail.grow(1)
    head = await one.make()
    assert head is not None
    assert await one.make() is None
    assert await maker(trail, clock).make() is None, "the replica that has the duty next"
    trail.grow(1)
    assert await maker(trail, clock).make() == trail.shared.checkpoints[1][0]
    before = chain.begin(chain.CHECKPOINTS)
    for made, text, announced in trail.shared.checkpoints:
        before = chain.extend(before, text)
        assert made == before
        outcome = json.loads(announced.value or b"")
        check_outcomes([outcome])
        assert outcome["data"] == {"head": str(made), "heads": list(codec.decode_checkpoint(text).heads)}
    assert codec.decode_checkpoint(text).heads == tuple(map(str, trail.heads.values()))


async def test_only_one_of_two_at_the_same_time_counts() -> None:
    trail, clock = Trail(SharedSlots()), VirtualClock()
    one, other = maker(trail, clock), maker(trail, clock)
    trail.grow(0)
    trail.grow(1)
    made = await asyncio.gather(one.make(), other.make())
    assert [head for head in made if head is not None] == [head for head, _, _ in trail.shared.checkpoints]
    assert len(trail.shared.checkpoints) == 1


async def test_only_who_has_the_duty_makes_them_once_a_minute() -> None:
    trail, clock, woken = Trail(SharedSlots()), VirtualClock(), list[int]()
    mine = [False]
    one = maker(trail, clock, mine=lambda: mine[0], wake=lambda: woken.append(1))
    trail.grow(0)
    trail.grow(1)
    running = asyncio.create_task(one.run())
    await clock.advance(2 * EVERY_S)
    assert trail.shared.checkpoints == []
    mine[0] = True
    for _ in range(3):
        await clock.advance(EVERY_S)
        trail.grow(1)
    assert len(trail.shared.checkpoints) == len(woken) == 3
    one.stop()
    await running
