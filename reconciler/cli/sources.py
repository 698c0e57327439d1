"""Sources: the logs that replay and export read, each from its beginning to the end it has when opened."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import attrs

from reconciler.config import Config
from reconciler.model.event import Outgoing, Record
from reconciler.model.stamp import NO_ANCHORS, Anchor, Partition
from reconciler.ports import EventLog

BATCH = 5_000
_FETCH_S = 1.0

Tell = Callable[[int, int | None], None]


def in_file(config: Config, path: Path) -> Config:
    """Return the configuration with a file as its log."""
    return attrs.evolve(config, log=attrs.evolve(config.log, kind="file", path=str(path)))


def in_kafka(config: Config) -> Config:
    """Return the configuration with Kafka as its log."""
    return attrs.evolve(config, log=attrs.evolve(config.log, kind="kafka"))


class Source:
    """
    The configured log, read to its end once; it tells a progress bar how far it is. Satisfies `ports.EventLog`.

    It begins where the log begins now: whoever reads it asks `positions` whether that is early enough.
    """

    def __init__(self, config: Config, tell: Tell) -> None:
        from reconciler import parts
        from reconciler.adapters.clock import SystemClock

        self._log: EventLog = parts.make_log(config, SystemClock(), grows=False)
        self._tell = tell
        self.begins: dict[Partition, int] = {}  # partitions whose beginning is gone, once `records` has begun
        self._begins = 0
        self._total: int | None = None
        self._read = 0

    async def open(
        self,
        positions: Mapping[Partition, int],
        *,
        accept_truncation: bool = False,
        anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
    ) -> None:
        """See `ports.EventLog`."""
        await self._log.open(positions, accept_truncation=accept_truncation, anchors=anchors)
        self._begins = sum((await self._log.positions()).values())

    async def fetch(self, records_max: int, timeout_s: float) -> Sequence[Record]:
        """See `ports.EventLog`."""
        records = await self._log.fetch(records_max, timeout_s)
        self._read += len(records)
        self._tell(self._read, self._total)
        return records

    async def positions(self) -> Mapping[Partition, int]:
        """See `ports.EventLog`."""
        return await self._log.positions()

    async def ends(self) -> Mapping[Partition, int]:
        """See `ports.EventLog`."""
        ends = await self._log.ends()
        self._total = sum(ends.values()) - self._begins
        return ends

    async def append(self, records: Sequence[Outgoing]) -> Mapping[Partition, int]:
        """See `ports.EventLog`."""
        return await self._log.append(records)

    async def close(self) -> None:
        """See `ports.EventLog`."""
        await self._log.close()

    async def records(self) -> AsyncIterator[Record]:
        """Yield every record that is left, up to the end that the log has now."""
        await self.open({}, accept_truncation=True)
        self.begins = {place: begin for place, begin in (await self.positions()).items() if begin}
        ends = dict(await self.ends())
        while True:
            batch = await self.fetch(BATCH, _FETCH_S)
            for record in batch:
                if record.offset < ends.get(Partition(record.topic, record.partition), 0):
                    yield record
            if not batch:
                reached = await self.positions()  # past gaps that hold no record
                if all(reached.get(place, 0) >= end for place, end in ends.items()):
                    return
