"""
The change log in Kafka.

Rules:
1. The store owns the positions. Nothing that is committed to Kafka is read (`kafka_group` commits, for others to see),
   and every partition has its position before its first fetch. Where the log can't go on from a position, it stops
   instead of jumping; only a person may decide to go on with the rest.
2. A fetch that fails has taken nothing: aiokafka moves its positions before it raises, so they are put back.
3. Only committed transactions are read: what a producer aborted never was an event.

Of a log that several replicas read together, each holds only its share (`share`); the partitions of others stay
assigned and paused, so that their ends are known.

The last offsets of a partition may hold no record (transaction markers, compaction). aiokafka moves its position past
them, so a reader is at the end when `positions` has reached `ends`.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition, errors

from reconciler.adapters import kafka_client, kafka_topic
from reconciler.adapters.kafka_client import KafkaOptions
from reconciler.core.events import anchoring
from reconciler.errors import LogError, LogTruncatedError
from reconciler.model.event import Outgoing, Record
from reconciler.model.stamp import NO_ANCHORS, Anchor, Partition
from reconciler.ports import Clock

_log = structlog.get_logger()

CONNECT_PAUSE_S = 0.5  # between attempts to reach any broker at all


class KafkaLog:
    """The `EventLog` port on topics of Kafka, partitions assigned by hand. Any number of appenders."""

    def __init__(self, options: KafkaOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._consumer: AIOKafkaConsumer | None = None
        self._positions: dict[Partition, int] = {}  # after the last fetch
        self._shared = False  # whether others read the partitions that have no position here
        self._anchors: dict[Partition, Anchor] = {}  # given to `open`
        self._last: dict[Partition, Record] = {}  # the last records fetched
        self._appender = kafka_topic.KafkaAppender(options)
        self._check_at_s = 0.0
        self._stuck_at: dict[Partition, int] | None = None  # positions at the last check that found a fault
        self._away = False
        self._refusal: kafka_client.Refusal | None = None  # of the last attempt to connect

    # ------------------------------------------------------------------------------------------------------- reading

    async def open(
        self,
        positions: Mapping[Partition, int],
        *,
        accept_truncation: bool = False,
        anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
    ) -> None:
        """
        Take all partitions and go to `positions`; a partition that is not named starts at offset 0.

        Positions of other topics are ignored. Raises LogError when no broker answers or a topic does not exist within
        `connect_timeout_s`, and LogTruncatedError when a partition lacks what comes next or has another record than an
        anchor says; with `accept_truncation` that partition is read from its oldest record on.
        """
        assert self._consumer is None, "open once"
        stored = {place: offset for place, offset in positions.items() if place.topic in self._options.topics}
        consumer = await self._connect(self._options.connect_timeout_s)
        try:
            if self._options.append_time:
                for topic in self._options.topics:
                    await kafka_topic.require_append_time(self._options, topic)
            read = {place: anchors[place] for place in stored.keys() & anchors.keys()}
            starts = await self._starts(consumer, self._known(consumer), stored, read, accept_truncation)
        except errors.KafkaError as error:
            await kafka_client.stop(consumer)
            raise LogError(f"{self._named}: the broker did not tell its offsets: {kafka_client.text(error)}") from error
        except BaseException:
            await kafka_client.stop(consumer)
            raise
        self._consumer, self._positions, self._away = consumer, starts, False
        self._take(consumer)
        self._anchors = {place: anchor for place, anchor in read.items() if starts.get(place) == stored[place]}
        self._check_at_s = self._clock.monotonic_s() + self._options.stall_check_s

    async def share(
        self,
        places: Collection[Partition],
        positions: Mapping[Partition, int],
        anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
    ) -> None:
        """
        Read only these partitions from here on, from `positions`; what was fetched of others is dropped.

        Raises as `open` does, if the log can't go on from there.
        """
        consumer = self._opened()
        asked = [TopicPartition(*place) for place in sorted(places)]
        stored = {place: positions[place] for place in positions.keys() & set(places)}
        read = {place: anchors[place] for place in stored.keys() & anchors.keys()}
        try:
            starts = await self._starts(consumer, asked, stored, read, accept_truncation=False)
        except errors.KafkaError as error:
            raise LogError(f"{self._named}: the broker did not tell its offsets: {kafka_client.text(error)}") from error
        finally:
            self._take(consumer)  # looking at anchors has moved it
        self._positions, self._anchors, self._shared, self._stuck_at = starts, read, True, None
        self._last = {place: self._last[place] for place in self._last.keys() & starts.keys()}
        self._take(consumer)

    async def fetch(self, records_max: int, timeout_s: float) -> Sequence[Record]:
        """
        Return the next records, in order within each partition; none if none came within `timeout_s`.

        Also none while the broker is down, which is logged once; checking that may take some seconds more. Raises
        LogTruncatedError when the log no longer holds what comes next, LogError when it can't be read.
        """
        consumer = self._opened()
        await self._take_new_partitions(consumer)
        before = self._positions
        try:
            # No partitions named means all of them; naming them would only make aiokafka search the list.
            batches = await consumer.getmany(timeout_ms=int(timeout_s * 1000), max_records=records_max)
        except Exception as error:
            # aiokafka has lost what it had already taken from other partitions.
            kafka_topic.go_to(consumer, self._positions)
            raise await self._explained(consumer, error) from error
        self._positions = {place: await consumer.position(TopicPartition(*place)) for place in self._positions}
        if not batches:
            await self._watch(consumer)
            return ()
        if self._away and not await self._require_same(consumer):
            self._positions = before
            self._take(consumer)
            return ()
        self._has_answered()
        self._stuck_at = None
        self._check_at_s = self._clock.monotonic_s() + self._options.stall_check_s
        self._last.update((Partition(*place), records[-1]) for place, records in batches.items())
        if len(batches) == 1:
            (records,) = batches.values()
            return records  # type: ignore[no-any-return]  # aiokafka is untyped; its records satisfy `Record`
        return list(chain.from_iterable(batches.values()))

    async def positions(self) -> Mapping[Partition, int]:
        self._opened()
        return dict(self._positions)

    async def ends(self) -> Mapping[Partition, int]:
        """
        Return the offset after the last readable one of every partition.

        The next record gets it, or a transaction that is still open begins there. Waits for a broker that is away,
        which is logged once; who can't wait sets a time limit. Raises LogError when the broker refuses to tell.
        """
        while True:
            consumer = self._opened()
            try:
                return await self._ends(consumer)
            except errors.KafkaTimeoutError as error:
                self._is_away(error)
            except errors.KafkaError as error:
                raise LogError(f"{self._named}: the broker did not tell its end: {kafka_client.text(error)}") from error
            await self._clock.sleep(CONNECT_PAUSE_S)
            await self._renew(consumer)

    async def append(self, records: Sequence[Outgoing]) -> Mapping[Partition, int]:
        return await self._appender.append(records)

    async def close(self) -> None:
        """Close the connections; appends that are not acknowledged are given up."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await kafka_client.stop(consumer)
        await self._appender.close()

    @property
    def _named(self) -> str:
        return ", ".join(self._options.topics)

    def _opened(self) -> AIOKafkaConsumer:
        assert self._consumer is not None, "open first"
        return self._consumer

    async def _connect(self, timeout_s: float) -> AIOKafkaConsumer:
        """Return a started consumer that knows the topics and has no partitions assigned."""
        options, consumer, missing = self._options, None, self._named
        try:
            async with asyncio.timeout(timeout_s):
                consumer = await self._reach()
                # Asking for an offset makes aiokafka look the topic up until it exists, and makes some brokers create
                # it; there is no public call for that.
                for missing in options.topics:
                    await consumer.beginning_offsets([TopicPartition(missing, 0)])
                return consumer
        except BaseException as error:
            if consumer is not None:
                await kafka_client.stop(consumer)
            if not isinstance(error, TimeoutError | errors.KafkaError):
                raise
            if consumer is None:
                raise LogError(
                    f"no broker answers at {', '.join(options.brokers)}: is Kafka running?"
                    if self._refusal is None
                    else self._refusal.message
                ) from error
            raise LogError(
                f"topic {missing} can't be read at {', '.join(options.brokers)}: create it (this broker does not"
                " by itself), or allow this client to read it"
            ) from error

    async def _reach(self) -> AIOKafkaConsumer:
        """Try until a broker answers; the caller sets the time limit."""
        while True:
            consumer = self._make_consumer()
            try:
                await consumer.start()
                return consumer
            except errors.KafkaConnectionError:
                await kafka_client.stop(consumer)
                self._refusal = await kafka_client.refusal(self._options)
                if self._refusal is not None and self._refusal.final:
                    raise LogError(self._refusal.message) from None
                if not self._away:
                    self._away = True
                    _log.warning("no broker answers yet", brokers=self._options.brokers)
            except BaseException:
                await kafka_client.stop(consumer)
                raise
            await self._clock.sleep(CONNECT_PAUSE_S)

    def _make_consumer(self) -> AIOKafkaConsumer:
        options = self._options
        return AIOKafkaConsumer(
            **kafka_client.connection(options),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            fetch_max_wait_ms=int(options.fetch_wait_s * 1000),
            fetch_max_bytes=options.fetch_bytes,
            max_partition_fetch_bytes=options.partition_fetch_bytes,
        )

    async def _starts(
        self,
        consumer: AIOKafkaConsumer,
        places: Sequence[TopicPartition],
        stored: Mapping[Partition, int],
        anchors: Mapping[Partition, Anchor],
        accept_truncation: bool,
    ) -> dict[Partition, int]:
        """Return where to begin in each partition, after checking that the log holds what comes next."""
        begins, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        starts = {Partition(*place): stored.get(Partition(*place), 0) for place in places}
        faults = [
            f"{place.topic}/{place.partition} is gone, and offset {offset} comes next: the topic has"
            f" {len(_of(place.topic, starts))} partitions"
            for place, offset in sorted(stored.items())
            if place not in starts
        ]
        for place, offset in starts.items():
            begin, end = begins[TopicPartition(*place)], ends[TopicPartition(*place)]
            if not begin <= offset <= end:
                faults.append(kafka_topic.outside(place, offset, begin, end))
                starts[place] = begin
        held = {place: anchor for place, anchor in anchors.items() if starts.get(place) == stored[place]}
        for place, fault in (await kafka_topic.replaced(consumer, held, self._clock)).items():
            faults.append(fault)
            starts[place] = begins[TopicPartition(*place)]
        if faults and not accept_truncation:
            raise LogTruncatedError(f"{faults[0]}. {kafka_topic.WAY_OUT}")
        for fault in faults:
            _log.warning("going on although events may be lost, as --accept-truncation asks", fault=fault)
        return starts

    def _known(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        return [
            TopicPartition(topic, number)
            for topic in self._options.topics
            for number in sorted(consumer.partitions_for_topic(topic) or ())
        ]

    async def _take_new_partitions(self, consumer: AIOKafkaConsumer) -> None:
        """Take partitions that were added to a topic; aiokafka looks for them every `metadata_age_s`."""
        if self._shared:  # the group finds them, and tells who takes them
            return
        grown = False
        for topic in self._options.topics:
            known, had = consumer.partitions_for_topic(topic), len(_of(topic, self._positions))
            if known is not None and len(known) < had:
                raise LogTruncatedError(f"{topic} has {len(known)} partitions, and had more. {kafka_topic.WAY_OUT}")
            grown |= known is not None and len(known) > had
        if not grown:
            return
        new = [place for place in self._known(consumer) if Partition(*place) not in self._positions]
        try:
            begins = await consumer.beginning_offsets(new)
        except errors.KafkaTimeoutError:
            return  # the next fetch tries again
        except errors.KafkaError as error:
            raise LogError(f"{self._named}: no offsets of new partitions: {kafka_client.text(error)}") from error
        for place, begin in begins.items():
            if begin:
                raise LogTruncatedError(
                    f"{kafka_topic.outside(Partition(*place), 0, begin, begin)}. {kafka_topic.WAY_OUT}"
                )
        self._positions = self._positions | {Partition(*place): 0 for place in begins}
        self._take(consumer)
        _log.info("partitions were added", partitions=[f"{place.topic}/{place.partition}" for place in new])

    def _take(self, consumer: AIOKafkaConsumer) -> None:
        """Read from our positions on; the partitions of others stay assigned, and paused."""
        others = {place for place in map(Partition._make, self._known(consumer)) if place not in self._positions}
        kafka_topic.take(consumer, self._positions | dict.fromkeys(others, 0))
        consumer.pause(*(TopicPartition(*place) for place in others))

    async def _ends(self, consumer: AIOKafkaConsumer) -> dict[Partition, int]:
        ends = await consumer.end_offsets(self._known(consumer))
        return {Partition(*place): offset for place, offset in ends.items()}

    async def _explained(self, consumer: AIOKafkaConsumer, error: Exception) -> LogError:
        """Return the error to raise for one of aiokafka's `getmany`."""
        match error:
            case errors.OffsetOutOfRangeError():
                ((place, offset),) = error.args[0].items()
                return await kafka_topic.out_of_range(consumer, place, offset)
            case errors.TopicAuthorizationFailedError():
                topic = error.args[0] if error.args else self._named
                return LogError(f"topic {topic}: this client may not read it; grant it READ and DESCRIBE")
            case errors.UnsupportedCodecError():
                extra = "pip install 'windchill-reconciler[compression]'"
                return LogError(f"{self._named}: what is read is compressed: {extra}")
            case errors.RecordTooLargeError():
                limit = self._options.partition_fetch_bytes
                return LogError(f"{self._named}: a record is larger than partition_fetch_bytes = {limit}; raise it")
            case _:
                return LogError(f"{self._named} can't be read: {kafka_client.text(error)}")

    # ------------------------------------------------------------------------------------------------------ watchdog

    async def _watch(self, consumer: AIOKafkaConsumer) -> None:
        """
        Replace a client that is stuck.

        aiokafka was seen to stall after broker restarts, its fetching task can die unnoticed, and it never returns to
        the configured addresses when all brokers have moved. All show in the same way: two checks in a row find
        records to read and positions that have not moved, or get no answer.
        """
        now_s = self._clock.monotonic_s()
        if now_s < self._check_at_s:
            return
        self._check_at_s = now_s + self._options.stall_check_s
        try:
            async with asyncio.timeout(kafka_topic.PROBE_S_MAX):
                ends = await self._ends(consumer)
        except (TimeoutError, errors.KafkaError) as error:
            self._is_away(error)
        else:
            self._has_answered()
            if all(offset >= ends.get(place, 0) for place, offset in self._positions.items()):
                self._stuck_at = None
                return
        if self._stuck_at != self._positions:
            self._stuck_at = self._positions
            return
        await self._renew(consumer)

    def _is_away(self, error: BaseException) -> None:
        if not self._away:
            self._away = True
            _log.warning("no broker answers", brokers=self._options.brokers, error=kafka_client.text(error))

    def _has_answered(self) -> None:
        if self._away:
            self._away = False
            _log.info("the broker answers again", brokers=self._options.brokers)

    async def _require_same(self, consumer: AIOKafkaConsumer) -> bool:
        """
        Raise LogTruncatedError if another topic has replaced this one while the broker was down.

        Afterwards the consumer is where it was; records that it had buffered are fetched again. Returns False if the
        broker is too slow to tell.
        """
        anchors = self._anchors | {place: anchoring.of(record) for place, record in self._last.items()}
        known = {place: anchor for place, anchor in anchors.items() if place in self._positions}
        try:
            faults = await kafka_topic.replaced(consumer, known, self._clock)
        except errors.KafkaTimeoutError:
            return False
        except errors.KafkaError as error:
            raise LogError(f"{self._named} can't be read: {kafka_client.text(error)}") from error
        self._take(consumer)
        for fault in faults.values():
            raise LogTruncatedError(f"{fault}. {kafka_topic.WAY_OUT}")
        return True

    async def _renew(self, old: AIOKafkaConsumer) -> None:
        try:
            fresh = await self._connect(kafka_topic.PROBE_S_MAX)
        except LogError:
            return  # still down; the next check tries again
        try:
            same = await self._require_same(fresh)
        except BaseException:
            await kafka_client.stop(fresh)
            raise
        if not same:
            await kafka_client.stop(fresh)
            return
        self._consumer, self._stuck_at = fresh, None
        self._has_answered()
        _log.warning("a stalled client was replaced", topics=self._options.topics)
        await kafka_client.stop(old)


def _of(topic: str, places: Iterable[Partition]) -> list[Partition]:
    return [place for place in places if place.topic == topic]
