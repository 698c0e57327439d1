"""The event log: reading and appending records, and who else reads it."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from reconciler.model.event import Outgoing, Record
from reconciler.model.stamp import NO_ANCHORS, Anchor, Partition


class EventLog(Protocol):
    """The change log and the topics beside it. Positions are *next* offsets."""

    async def open(
        self,
        positions: Mapping[Partition, int],
        *,
        accept_truncation: bool = False,
        anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
    ) -> None:
        """
        Take all partitions of the topic and go to `positions`; a partition not named starts at offset 0.

        Raises LogTruncatedError when the log lacks what comes next: a position lies outside of it, or another record
        is in the place of an anchor, the last one read. With `accept_truncation`, which a person chooses, that
        partition is read from its oldest record on.
        """

    async def fetch(self, records_max: int, timeout_s: float) -> Sequence[Record]:
        """Return the next records, in order within each partition; none if none came within the time."""

    async def positions(self) -> Mapping[Partition, int]:
        """Return where the next fetch reads in each partition, past gaps without records."""

    async def ends(self) -> Mapping[Partition, int]:
        """Return the offset that the next record would get in each partition of the change topic."""

    async def append(self, records: Sequence[Outgoing]) -> Mapping[Partition, int]:
        """
        Append records durably (to all replicas) and wait for every acknowledgement.

        Returns the offset after the last record in each partition that got any, where that is known.
        """

    async def close(self) -> None: ...


@runtime_checkable
class SharedLog(EventLog, Protocol):
    """A log that several may read together."""

    async def share(
        self,
        places: Collection[Partition],
        positions: Mapping[Partition, int],
        anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
    ) -> None:
        """
        Read only these partitions from here on, from `positions`: others read the rest.

        Raises LogTruncatedError as `open` does, and LogError if the log does not answer; then nothing changes.
        """


class ReaderGroup(Protocol):
    """The group of those who read the change log together, which others watch for lag."""

    assigned: frozenset[Partition]
    """What we are to read, if the group divides the log."""
    changed: asyncio.Event
    """Set when that has changed."""

    async def run(self, positions: Callable[[], Mapping[Partition, int]]) -> None:
        """Tell the group how far is read as it moves, until `stop`; nothing that goes wrong there ends it."""

    def stop(self) -> None:
        """Tell the last positions, and end `run`."""
