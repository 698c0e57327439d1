"""
A log whose records need schemas: each is handed on once its schemas are known, so that decoding needs no I/O.

Theory of operation. While a schema can't be had, its record and all later ones of that partition are held here, and the
position stays before them: to whoever reads, it is as if the broker had no more. Other partitions go on, until as much
is held as may be; then nothing more is fetched. A daemon waits as long as it takes, and asks again every few seconds. A
command gives up.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain

import attrs
import structlog

from reconciler.adapters.schema_registry import Registry
from reconciler.errors import LogError
from reconciler.model.event import Outgoing, Record
from reconciler.model.limits import MIB
from reconciler.model.stamp import NO_ANCHORS, Anchor, Partition
from reconciler.ports import Clock, SharedLog

_log = structlog.get_logger(__name__)

AGAIN_S = 5.0  # between two questions to a registry that did not answer
_HELD_MAX = 1_000  # records; a topic that waits must not fill the memory
_HELD_BYTES_MAX = 16 * MIB


@attrs.define(eq=False, slots=False)
class FramedLog:
    """A log around another one; satisfies `ports.SharedLog`."""

    _inner: SharedLog
    _registry: Registry
    _numbers: Callable[[Record], Collection[int]]  # of the schemas that a record needs
    _clock: Clock
    _patience_s: float | None  # None: as long as it takes
    waits_for: str = attrs.field(init=False, default="")  # why records are held, if any are
    _held: dict[Partition, list[Record]] = attrs.field(init=False, factory=dict)
    _asked_s: float = attrs.field(init=False, default=0.0)  # when we asked last
    _since_s: float = attrs.field(init=False, default=0.0)  # when the wait began

    async def open(
        self,
        positions: Mapping[Partition, int],
        *,
        accept_truncation: bool = False,
        anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
    ) -> None:
        """See `ports.EventLog`."""
        await self._inner.open(positions, accept_truncation=accept_truncation, anchors=anchors)

    async def share(
        self,
        places: Collection[Partition],
        positions: Mapping[Partition, int],
        anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
    ) -> None:
        """See `ports.SharedLog`; what is held is fetched again by whoever has its partition now."""
        await self._inner.share(places, positions, anchors)
        self._held, self.waits_for = {}, ""

    async def fetch(self, records_max: int, timeout_s: float) -> Sequence[Record]:
        """
        Return the next records whose schemas are known.

        Raises LogError as the log does, and if a schema can't be had within our patience.
        """
        if self._is_full():
            await self._clock.sleep(timeout_s)
            records = self._waiting()
        else:
            records = [*self._waiting(), *await self._inner.fetch(records_max, timeout_s)]
        lacking = {number for record in records for number in self._numbers(record) if self._registry.lacks(number)}
        if lacking and (not self._held or self._clock.monotonic_s() - self._asked_s >= AGAIN_S):
            self._asked_s = self._clock.monotonic_s()
            self._tell(await self._registry.learn(sorted(lacking)))
            lacking = {number for number in lacking if not self._registry.knows(number)}
        return self._parted(records, lacking)

    async def positions(self) -> Mapping[Partition, int]:
        """See `ports.EventLog`; the position of a partition that waits is before its first held record."""
        held = {place: records[0].offset for place, records in self._held.items()}
        return {**await self._inner.positions(), **held}

    async def ends(self) -> Mapping[Partition, int]:
        """See `ports.EventLog`."""
        return await self._inner.ends()

    async def append(self, records: Sequence[Outgoing]) -> Mapping[Partition, int]:
        """See `ports.EventLog`."""
        return await self._inner.append(records)

    async def close(self) -> None:
        """See `ports.EventLog`."""
        await self._inner.close()

    def _waiting(self) -> list[Record]:
        return list(chain.from_iterable(self._held.values()))

    def _is_full(self) -> bool:
        held = self._waiting()
        return len(held) >= _HELD_MAX or sum(len(record.value or b"") for record in held) >= _HELD_BYTES_MAX

    def _parted(self, records: Sequence[Record], lacking: Collection[int]) -> Sequence[Record]:
        """Return what can be read now; hold each partition from its first record that can't."""
        self._held = {}
        if not lacking:
            return records
        ready: list[Record] = []
        for record in records:
            place = Partition(record.topic, record.partition)
            if place in self._held or any(number in lacking for number in self._numbers(record)):
                self._held.setdefault(place, []).append(record)
            else:
                ready.append(record)
        return ready

    def _tell(self, fault: str | None) -> None:
        """Log the beginning and the end of a wait. Raises LogError once it has lasted too long."""
        now_s = self._clock.monotonic_s()
        if fault is None:
            if self.waits_for:
                _log.info("schemas can be had again")
        elif not self.waits_for:
            self._since_s = now_s
            _log.warning("records wait for their schemas", reason=fault)
        self.waits_for = fault or ""
        if fault is not None and self._patience_s is not None and now_s - self._since_s >= self._patience_s:
            raise LogError(fault)
