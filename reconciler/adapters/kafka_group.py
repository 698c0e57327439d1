"""
Our place in Kafka's consumer group: it shows others how far we have read, and divides partitions among replicas.

Rules:
1. The store owns the positions. What is committed here is for tools that show or act on lag (AKHQ, Burrow, KEDA), and
   is never read back. It passes the gaps that transaction markers leave, or lag would never end.
2. No record is fetched here: all partitions are paused. So the group and the fetching fail independently.
3. A rebalance only replaces the set of our partitions. Nothing waits in it, so it can't deadlock with a fetch.
4. Nothing here ends the program. A fault is logged once, and tried again until it is over.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition, errors
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from reconciler.adapters import kafka_client
from reconciler.adapters.kafka_client import KafkaOptions
from reconciler.model.stamp import Partition
from reconciler.ports import Clock

_log = structlog.get_logger()

COMMIT_S = 5.0  # between two commits
_POLL_S = 0.5  # between two signs of life of a member
_AGAIN_S = 5.0  # after a fault
_COMMIT_S_MAX = 10.0  # aiokafka tries a commit again for ever while the group's coordinator is away
_REBALANCE_S = 60.0  # for all members to join again; aiokafka takes the session's time, which is short
_BEAT_S = (
    0.5  # a member learns from the answer to a beat that others come or go; until it joins again, all of them wait
)
_POLL_S_MAX = 300.0  # without a sign of life a member is excluded


class KafkaGroup:
    """
    One client of a consumer group.

    With `divided` it is a member, and `assigned` holds what it is to read; `changed` is set with each change. Otherwise
    it only commits: a store with a single owner reads every partition, and must not wait after a crash until the
    session of the dead member ends.
    """

    def __init__(self, options: KafkaOptions, group: str, clock: Clock, *, divided: bool, session_s: float) -> None:
        self._options = options
        self._group = group
        self._clock = clock
        self._divided = divided
        self._session_s = session_s
        self._committed: Mapping[Partition, int] = {}
        self._commit_at_s = 0.0
        self._stopping = asyncio.Event()
        self._faulty = False
        self.assigned: frozenset[Partition] = frozenset()
        self.changed = asyncio.Event()

    async def run(self, positions: Callable[[], Mapping[Partition, int]]) -> None:
        """Be in the group, and commit the `positions` as they move, until `stop`."""
        while not self._stopping.is_set():
            consumer = self._make_consumer()
            try:
                await consumer.start()
                await self._stay(consumer, positions)
            except errors.KafkaError as error:
                self._fails(error)
                await self._clock.wait(self._stopping, _AGAIN_S)
            finally:
                self._assign(())
                await kafka_client.stop(consumer)  # which leaves the group

    def stop(self) -> None:
        """Commit once more, leave the group, and end `run`."""
        self._stopping.set()

    async def _stay(self, consumer: AIOKafkaConsumer, positions: Callable[[], Mapping[Partition, int]]) -> None:
        if self._divided:
            consumer.subscribe(list(self._options.topics), listener=_Listener(consumer, self._assign))
        self._committed = {}
        while True:
            if self._divided:  # a member is excluded if it does not ask for records
                await consumer.getmany(timeout_ms=0)
            await self._commit(consumer, positions())
            if self._stopping.is_set():
                return
            await self._clock.wait(self._stopping, _POLL_S)

    async def _commit(self, consumer: AIOKafkaConsumer, positions: Mapping[Partition, int]) -> None:
        """Commit positions that have moved, at most every `COMMIT_S`; those of a new assignment at once."""
        if self._divided:
            positions = {place: offset for place, offset in positions.items() if place in self.assigned}
        news = not positions.keys() <= self._committed.keys() or self._stopping.is_set()
        due = news or self._clock.monotonic_s() >= self._commit_at_s
        if not due or positions == self._committed or not positions:  # aiokafka refuses a commit of nothing
            return
        if not self._divided and positions.keys() != self._committed.keys():
            places = [TopicPartition(*place) for place in positions]
            consumer.assign(places)
            _pause(consumer, places)
        try:
            async with asyncio.timeout(_COMMIT_S_MAX):
                await consumer.commit({TopicPartition(*place): offset for place, offset in positions.items()})
        except errors.CommitFailedError:
            return  # a rebalance is under way: again after it
        except TimeoutError as error:
            raise errors.GroupCoordinatorNotAvailableError from error
        self._committed = positions
        self._commit_at_s = self._clock.monotonic_s() + COMMIT_S
        if self._faulty:
            self._faulty = False
            _log.info("the consumer group's coordinator answers again", group=self._group)

    def _assign(self, places: Iterable[Partition]) -> None:
        self.assigned = frozenset(places)
        self.changed.set()

    def _fails(self, error: errors.KafkaError) -> None:
        if self._faulty:
            return
        self._faulty = True
        advice = "it is tried again"
        if isinstance(error, errors.GroupAuthorizationFailedError):
            advice = f"allow this client READ on group {self._group}"
        said = "can't be in the consumer group" if self._divided else "tools that watch the consumer group see old lag"
        _log.warning(said, group=self._group, error=kafka_client.text(error), advice=advice)

    def _make_consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **kafka_client.connection(self._options),
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            # Each of aiokafka's sticky assignors shares its state among all consumers of a process.
            partition_assignment_strategy=(RoundRobinPartitionAssignor,),
            session_timeout_ms=int(self._session_s * 1000),
            heartbeat_interval_ms=int(_BEAT_S * 1000),
            rebalance_timeout_ms=int(_REBALANCE_S * 1000),
            max_poll_interval_ms=int(_POLL_S_MAX * 1000),
        )


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Takes an assignment over."""

    def __init__(self, consumer: AIOKafkaConsumer, assign: Callable[[Iterable[Partition]], None]) -> None:
        self._consumer = consumer
        self._assign = assign

    def on_partitions_revoked(self, _revoked: Iterable[TopicPartition]) -> None:
        self._assign(())

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        _pause(self._consumer, assigned)
        self._assign(Partition(*place) for place in assigned)


def _pause(consumer: AIOKafkaConsumer, assigned: Iterable[TopicPartition]) -> None:
    """Fetch nothing. Without the `seek`, aiokafka would look for a position to fetch from, and raise."""
    for place in assigned:
        consumer.seek(place, 0)
    consumer.pause(*assigned)
