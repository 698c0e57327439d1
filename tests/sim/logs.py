"""The change log of one life: a client of the world's broker that may find no one, tear its batches, or read again."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from reconciler.errors import LogError
from reconciler.model.event import Outgoing, Record
from reconciler.model.stamp import Partition
from tests.fakes.memory_log import MemoryBroker, MemoryLog
from tests.sim.world import Life

TOPIC, OUTCOMES, LETTERS = "changes", "outcomes", "dead-letters"
DECISIONS = "windchill.document.decisions"
LINE = "line"  # where only one source speaks, in some worlds
MIRRORS = ("a-mirror", "mirror")  # a copy of all that systems say; one name sorts before the original's
# What takes the place of the first topic, with all that it held: one after the other.
RENAMED = (("a-changes",), ("changes-2", "changes-3", "changes-4"))
# Whatever events may ever be read from.
EVENTS = frozenset((TOPIC, DECISIONS, LINE, *MIRRORS, *RENAMED[0], *RENAMED[1]))

_SLOW_S_MAX = 40.0  # longer than the daemon waits for a log that stalls


class SimLog(MemoryLog):
    """`ports.EventLog` over a `MemoryBroker`, each call an effect."""

    def __init__(self, broker: MemoryBroker, life: Life, *topics: str) -> None:
        super().__init__(broker, *(topics or read(broker)))
        self._life = life
        self._again: dict[Partition, int] = {}  # up to where records are read a second time

    async def open(self, positions: Mapping[Partition, int], **settings: Any) -> None:
        act = super().open
        await self._life.effect("log.open", lambda: act(positions, **settings))

    async def fetch(self, records_max: int, timeout_s: float) -> Sequence[Record]:
        await self._life.alive()
        world = self._life.world
        if world.strikes("fetch_rewound"):
            for place in list(self._positions):
                self._again.setdefault(place, self._positions[place])
                self._positions[place] -= 1 + world.rng("rewind").randrange(4)
        if world.strikes("fetch_slow"):
            await asyncio.sleep(world.rng("slow").uniform(0.1, _SLOW_S_MAX))
        # Not an effect while nothing comes: an idle daemon polls every second.
        records = await super().fetch(1 + world.rng("fetch").randrange(8), timeout_s)
        await self._life.alive()
        if records:
            await self._life.effect(f"log.fetched {len(records)}", _nothing)
        return records

    async def ends(self) -> Mapping[Partition, int]:
        return await self._life.effect("log.ends", super().ends)

    async def append(self, records: Sequence[Outgoing]) -> Mapping[Partition, int]:
        async def act() -> Mapping[Partition, int]:
            if self._life.world.strikes("append_slow"):
                await asyncio.sleep(self._life.world.rng("slow").uniform(0.1, _SLOW_S_MAX))
                await self._life.alive()
            self._check_up()
            if self._life.world.strikes("append_torn"):
                for record in records[: self._life.world.rng("torn").randrange(len(records) + 1)]:
                    self._broker.put(record)
                raise LogError("the broker went away in the middle of a batch")
            return await super(SimLog, self).append(records)

        return await self._life.effect(f"log.append {len(records)}", act)

    def _take(self, records_max: int) -> list[Record]:
        for place, reached in list(self._again.items()):  # what is read again may be gone by now, and nothing is lost
            begin = self._broker.at(place).begin
            self._positions[place] = max(self._positions[place], min(begin, reached))
            if self._positions[place] >= reached:
                del self._again[place]
        return super()._take(records_max)

    def _in_order(self, partitions: list[Partition]) -> list[Partition]:
        rng = self._life.world.rng("order of partitions")
        return rng.sample(partitions, len(partitions))

    async def close(self) -> None:
        await self._life.alive()


def read(broker: MemoryBroker) -> tuple[str, ...]:
    """Every topic that events are read from now."""
    return (*(one.name for one in broker.read), DECISIONS)


def places(broker: MemoryBroker) -> list[Partition]:
    """Every partition that events are read from now."""
    return [place for topic in read(broker) for place in broker.partitions(topic)]


async def _nothing() -> None:
    return
