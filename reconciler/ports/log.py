"""The event log: what is read from it and appended to it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from reconciler.model.event import Outgoing, Record
from reconciler.model.stamp import NO_ANCHORS, Anchor, Partition


class EventLog(Protocol):
    """The change log, and the topics beside it. Positions are *next* offsets."""

    async def open(
        self,
        positions: Mapping[Partition, int],
        *,
        accept_truncation: bool = False,
        anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
    ) -> None:
        """
        Take all partitions of the topic and go to `positions`; a partition not named starts at offset 0.

        Raises LogTruncatedError when the log does not hold what comes next: a position outside of it, a beginning that
        is gone, or another record in the place of an anchor, which was read before. With `accept_truncation`, a
        person's choice, reading starts there with the oldest record there is.
        """
        ...

    async def fetch(self, records_max: int, timeout_s: float) -> Sequence[Record]:
        """Return the next records, in order within each partition; empty when none came within the time."""
        ...

    async def positions(self) -> Mapping[Partition, int]:
        """Return where the next fetch will read, per partition: past gaps that hold no record."""
        ...

    async def ends(self) -> Mapping[Partition, int]:
        """Return, of every partition of the change topic, the offset that the next record appended would get."""
        ...

    async def append(self, records: Sequence[Outgoing]) -> Mapping[Partition, int]:
        """
        Append records durably (all replicas); return when every one is acknowledged.

        Returns, of each partition that got any, the offset after the last of them; nothing where that is not known.
        """
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...
