"""Records are handed on once their schemas are known; until then it is as if the broker had no more."""

from collections.abc import Collection

import attrs
import pytest

from reconciler.adapters.framed_log import AGAIN_S, FramedLog
from reconciler.core.events import framing
from reconciler.errors import LogError
from reconciler.model.event import Outgoing, Record
from reconciler.model.stamp import Partition
from tests.fakes.memory_log import MemoryBroker, MemoryLog
from tests.fakes.virtual_clock import VirtualClock

ONE, TWO = Partition("t", 0), Partition("t", 1)


@attrs.define
class Registry:
    """A registry that answers or does not."""

    known: set[int] = attrs.field(factory=set)
    away: str | None = None
    asked: int = 0

    def lacks(self, number: int) -> bool:
        return number not in self.known

    def knows(self, number: int) -> bool:
        return number in self.known

    async def learn(self, numbers: Collection[int]) -> str | None:
        self.asked += 1
        if self.away is None:
            self.known.update(numbers)
        return self.away


def numbers(record: Record) -> list[int]:
    number = framing.schema_id(record.value)
    return [] if number is None else [number]


class World:
    def __init__(self, patience_s: float | None = None) -> None:
        self.clock = VirtualClock()
        self.broker = MemoryBroker(self.clock, t=2)
        self.registry = Registry()
        inner = MemoryLog(self.broker, "t")
        self.log = FramedLog(inner, self.registry, numbers, self.clock, patience_s)

    def put(self, partition: int, *values: bytes) -> None:
        for value in values:
            self.broker.put(Outgoing("t", b"k", value), partition)

    async def fetch(self) -> list[tuple[int, int]]:
        return [(one.partition, one.offset) for one in await self.log.fetch(100, 0)]


def framed(number: int) -> bytes:
    return b"\0" + number.to_bytes(4, "big") + b"\x02"


async def test_a_partition_waits_from_its_first_record_without_a_schema_and_others_go_on() -> None:
    world = World()
    await world.log.open({})
    world.registry.away = "the registry is away"
    world.put(0, b"{}", framed(7), b"{}")
    world.put(1, b"{}")
    assert sorted(await world.fetch()) == [(0, 0), (1, 0)]
    assert await world.log.positions() == {ONE: 1, TWO: 1}
    assert world.log.waits_for == "the registry is away"
    world.put(1, b"{}")
    world.put(0, b"{}")
    assert await world.fetch() == [(1, 1)]
    assert (await world.log.positions(), world.registry.asked) == ({ONE: 1, TWO: 2}, 1)
    world.registry.away = None
    await world.clock.advance(AGAIN_S)
    assert await world.fetch() == [(0, 1), (0, 2), (0, 3)]
    assert (await world.log.positions(), world.log.waits_for) == ({ONE: 4, TWO: 2}, "")


async def test_no_more_is_fetched_once_enough_is_held() -> None:
    world = World()
    await world.log.open({})
    world.registry.away = "away"
    world.put(0, *[framed(7)] * 3_000)
    for _ in range(20):
        await world.fetch()
    world.put(1, b"{}")
    assert await world.fetch() == []
    assert await world.log.positions() == {ONE: 0, TWO: 0}
    world.registry.away = None
    await world.clock.advance(AGAIN_S)
    found = []
    for _ in range(40):
        found += await world.fetch()
    assert sorted(found) == [*((0, at) for at in range(3_000)), (1, 0)]


async def test_a_command_gives_up_and_says_why() -> None:
    world = World(patience_s=30)
    await world.log.open({})
    world.registry.away = "the registry is away"
    world.put(0, framed(7))
    assert await world.fetch() == []
    await world.clock.advance(30)
    with pytest.raises(LogError, match="the registry is away"):
        await world.fetch()


async def test_who_shares_the_log_anew_reads_again_what_was_held() -> None:
    world = World()
    await world.log.open({})
    world.registry.away = "away"
    world.put(0, framed(7))
    assert await world.fetch() == []
    await world.log.share([ONE], {ONE: 0})
    world.registry.away = None
    assert await world.fetch() == [(0, 0)]
