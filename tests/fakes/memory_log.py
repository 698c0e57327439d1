"""
A log in memory: the `EventLog` port for tests and simulations.

`MemoryBroker` is what stays when a process dies; a `MemoryLog` is one process's client of it. Offsets may hold no
record, as after compaction or a transaction.
"""

import asyncio
import bisect
import zlib
from collections.abc import Collection, Mapping, Sequence

from reconciler.core.events import anchoring
from reconciler.errors import LogError, LogTruncatedError, RecordTooLargeError
from reconciler.model.event import ChangeTopic, Outgoing, PlainRecord, Record
from reconciler.model.stamp import NO_ANCHORS, Anchor, Partition
from reconciler.ports import Clock


class MemoryBroker:
    """Topics of one or more partitions; topics that are not named at the start get one partition on first use."""

    def __init__(self, clock: Clock, **partitions: int) -> None:
        self.clock = clock
        self.down = False  # whether clients get no answer
        self.stamps = False  # LogAppendTime: whether a record's timestamp is the broker's
        self.record_bytes_max: int | None = None  # of a record's value
        self.read: tuple[ChangeTopic, ...] = ()  # for whoever asks what the change log is made of
        self.appended = asyncio.Event()
        self._topics = {topic: [_Partition() for _ in range(count)] for topic, count in partitions.items()}

    def partitions(self, topic: str) -> list[Partition]:
        return [Partition(topic, number) for number in range(len(self._partitions(topic)))]

    def put(self, record: Outgoing, partition: int | None = None, *, made_us: int | None = None) -> Partition:
        """
        Append one record, to the partition that its key stands for unless one is named.

        Where the producer's clock counts (CreateTime), `made_us` is what it says, if it is wrong.
        """
        partitions = self._partitions(record.topic)
        number = zlib.crc32(record.key or b"") % len(partitions) if partition is None else partition
        own = partitions[number]
        now_us = self.clock.now_us() if made_us is None or self.stamps else made_us
        key, value, headers, by = record.key, record.value, record.headers, int(self.stamps)
        own.records.append(PlainRecord(record.topic, number, own.end, now_us // 1000, key, value, headers, by))
        own.end += 1
        self.appended.set()
        return Partition(record.topic, number)

    def put_gap(self, partition: Partition, offsets: int = 1) -> None:
        """Append offsets that hold no record."""
        self.at(partition).end += offsets

    def forget_before(self, partition: Partition, offset: int) -> None:
        """Delete what retention would: offsets below `offset`."""
        own = self.at(partition)
        own.begin = max(own.begin, offset)
        own.records = [record for record in own.records if record.offset >= own.begin]

    def add_partition(self, topic: str) -> Partition:
        partitions = self._partitions(topic)
        partitions.append(_Partition())
        return Partition(topic, len(partitions) - 1)

    def records(self, topic: str) -> list[PlainRecord]:
        """Every record that a topic still holds, partition by partition."""
        return [record for partition in self._partitions(topic) for record in partition.records]

    def at(self, partition: Partition) -> "_Partition":
        return self._partitions(partition.topic)[partition.partition]

    def _partitions(self, topic: str) -> "list[_Partition]":
        return self._topics.setdefault(topic, [_Partition()])


class _Partition:
    def __init__(self) -> None:
        self.begin = 0
        self.end = 0
        self.records: list[PlainRecord] = []


class MemoryLog:
    def __init__(self, broker: MemoryBroker, *topics: str) -> None:
        self._broker = broker
        self._topics = topics
        self._positions: dict[Partition, int] = {}
        self._shared = False

    async def open(
        self,
        positions: Mapping[Partition, int],
        *,
        accept_truncation: bool = False,
        anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
    ) -> None:
        self._check_up()
        starts = {partition: positions.get(partition, 0) for partition in self._partitions()}
        for partition in positions:
            if partition.topic in self._topics and partition not in starts and not accept_truncation:
                raise LogTruncatedError(f"{partition} is gone")
        for partition, offset in starts.items():
            own = self._broker.at(partition)
            if not own.begin <= offset <= own.end:
                if not accept_truncation:
                    raise LogTruncatedError(
                        f"{partition}: offset {offset} comes next, but the log holds {own.begin} up to {own.end}"
                    )
                starts[partition] = own.begin
            anchor = anchors.get(partition)
            if anchor is not None and any(anchoring.replaced(anchor, record) for record in own.records):
                if not accept_truncation:
                    raise LogTruncatedError(anchoring.fault(f"{partition}", anchor))
                starts[partition] = own.begin
        self._positions = starts

    async def share(
        self,
        places: Collection[Partition],
        positions: Mapping[Partition, int],
        anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
    ) -> None:
        self._check_up()
        for partition in places:
            own, offset = self._broker.at(partition), positions.get(partition, 0)
            if not own.begin <= offset <= own.end:
                raise LogTruncatedError(f"{partition}: offset {offset} comes next, but the log begins at {own.begin}")
        self._positions = {partition: positions.get(partition, 0) for partition in places}
        self._shared = True

    async def fetch(self, records_max: int, timeout_s: float) -> Sequence[Record]:
        give_up_s = self._broker.clock.monotonic_s() + timeout_s
        while True:
            self._broker.appended.clear()
            if records := self._take(records_max):
                return records
            left_s = give_up_s - self._broker.clock.monotonic_s()
            if left_s <= 0:
                return ()
            await self._broker.clock.wait(self._broker.appended, left_s)

    async def positions(self) -> Mapping[Partition, int]:
        return dict(self._positions)

    async def ends(self) -> Mapping[Partition, int]:
        self._check_up()
        return {partition: self._broker.at(partition).end for partition in self._partitions()}

    async def append(self, records: Sequence[Outgoing]) -> Mapping[Partition, int]:
        self._check_up()
        limit = self._broker.record_bytes_max
        if limit is not None and any(len(record.value or b"") > limit for record in records):
            raise RecordTooLargeError(f"a record is larger than {limit} bytes")
        places = [self._broker.put(record) for record in records]
        return {place: self._broker.at(place).end for place in places}

    async def close(self) -> None:
        self._positions = {}

    def _take(self, records_max: int) -> list[Record]:
        """The next records of every partition in turn, as many as fit."""
        taken: list[Record] = []
        if self._broker.down:
            return taken
        for partition in self._in_order([*self._positions] if self._shared else self._partitions()):
            own = self._broker.at(partition)
            position = self._positions.setdefault(partition, own.begin)
            if position < own.begin:
                raise LogTruncatedError(f"{partition}: offset {position} comes next, but the log begins at {own.begin}")
            start = bisect.bisect_left(own.records, position, key=lambda record: record.offset)
            fitting = own.records[start : start + records_max - len(taken)]
            taken.extend(fitting)
            at_end = start + len(fitting) == len(own.records)
            self._positions[partition] = own.end if at_end else own.records[start + len(fitting)].offset
        return taken

    def _partitions(self) -> list[Partition]:
        return [partition for topic in self._topics for partition in self._broker.partitions(topic)]

    def _in_order(self, partitions: list[Partition]) -> list[Partition]:
        """The order in which partitions are asked for records; between them there is none."""
        return partitions

    def _check_up(self) -> None:
        if self._broker.down:
            raise LogError("no broker answers in memory: is it running?")
