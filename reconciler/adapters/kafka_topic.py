"""
A topic at the broker: its settings, appending to it, and whether it holds what comes next.

Its retention and timestamps are only read, never set. Never here: reading records (`kafka`).
"""

import asyncio
from collections.abc import Mapping, Sequence

import attrs
import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from reconciler.adapters import kafka_client
from reconciler.adapters.kafka_client import KafkaOptions
from reconciler.core.events import anchoring
from reconciler.errors import LogError, LogTruncatedError, RecordTooLargeError
from reconciler.model import limits
from reconciler.model.event import Outgoing
from reconciler.model.stamp import Anchor, Partition
from reconciler.ports import Clock

_log = structlog.get_logger()

_FOREVER = -1
_DAY_MS = 86_400_000
APPEND_TIME = "LogAppendTime"


@attrs.frozen
class Retention:
    """What a topic keeps; -1 means everything."""

    policy: str  # delete, compact, or both
    time_ms: int
    size_bytes: int

    @property
    def compacts(self) -> bool:
        """Whether it loses records because newer ones have the same key."""
        return "compact" in self.policy

    @property
    def expires(self) -> bool:
        """Whether it loses records that are older than `time_ms`."""
        return "delete" in self.policy and self.time_ms != _FOREVER

    @property
    def losses(self) -> list[str]:
        """What will be lost, in words; empty if nothing will."""
        said = []
        if self.compacts:
            said.append("it is compacted (cleanup.policy), and a newer event does not replace an older one")
        if self.expires:
            said.append(f"it keeps {self.time_ms / _DAY_MS:g} days (retention.ms)")
        if "delete" in self.policy and self.size_bytes != _FOREVER:
            said.append(f"it keeps {limits.size(self.size_bytes)} a partition (retention.bytes)")
        return said


@attrs.frozen
class Timestamps:
    """Whose clock stamps records, and how far it may be ahead of the broker's."""

    kind: str  # CreateTime or LogAppendTime
    ahead_ms_max: int  # for CreateTime only

    @property
    def by_broker(self) -> bool:
        """Whether the broker stamps each record when it is appended."""
        return self.kind == APPEND_TIME


@attrs.frozen
class Settings:
    """A topic's settings; `None` for those that the broker does not tell."""

    retention: Retention | None = None
    timestamps: Timestamps | None = None


async def settings(options: KafkaOptions, topic: str) -> Settings:
    """Ask the broker for a topic's settings."""
    admin = AIOKafkaAdminClient(**kafka_client.connection(options))
    try:
        await admin.start()
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    except (errors.KafkaError, ValueError):
        return Settings()
    finally:
        await admin.close()
    (resource,) = answer.resources
    found = {entry[0]: entry[1] for entry in resource[-1]}
    return Settings(_retention(found), _timestamps(found))


async def require_append_time(options: KafkaOptions, topic: str) -> None:
    """
    Raise LogError unless the broker stamps the records of a topic: `[log] order = "log"` ranks claims by that.

    A broker that does not tell its settings passes, with a warning.
    """
    told = (await settings(options, topic)).timestamps
    if told is None:
        _log.warning(
            "the broker does not tell whose clock stamps records; make sure that it is the broker's",
            topic=topic,
            command=setting(options, topic, f"message.timestamp.type={APPEND_TIME}"),
        )
    elif not told.by_broker:
        raise LogError(
            f'[log] order = "log" ranks claims by when the broker appends them, but {topic} keeps the'
            f" producers' own timestamps: {setting(options, topic, f'message.timestamp.type={APPEND_TIME}')}"
        )


def setting(options: KafkaOptions, topic: str, assignment: str) -> str:
    """Return the command that changes a setting of a topic."""
    servers = ",".join(options.brokers)
    return (
        f"kafka-configs --bootstrap-server {servers} --alter --entity-type topics --entity-name {topic}"
        f" --add-config {assignment}"
    )


def _retention(found: Mapping[str, str]) -> Retention | None:
    try:
        return Retention(found["cleanup.policy"], int(found["retention.ms"]), int(found["retention.bytes"]))
    except (KeyError, ValueError):  # we may not know, or the broker has no such settings
        return None


def _timestamps(found: Mapping[str, str]) -> Timestamps | None:
    # Before Kafka 3.6 one setting bounded both directions.
    ahead_ms = found.get("message.timestamp.after.max.ms") or found.get("message.timestamp.difference.max.ms")
    try:
        return Timestamps(found["message.timestamp.type"], int(ahead_ms or ""))
    except (KeyError, ValueError):
        return None


# ------------------------------------------------------------------------------------------------------------ appending


class KafkaAppender:
    """One producer, started when first needed. Appends are durable, one at a time, and limited in time."""

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        self._producer: AIOKafkaProducer | None = None
        self._appending = asyncio.Lock()

    async def append(self, records: Sequence[Outgoing]) -> dict[Partition, int]:
        """
        Append records and wait until all in-sync replicas have acknowledged them; return the offsets after them.

        Partitions are chosen by key as Kafka's own clients do. Raises RecordTooLargeError when a record is larger than
        `append_bytes_max` (then none was sent) or than its topic allows, and LogError when not all were acknowledged
        within `delivery_timeout_s`. Some may be in the log then: appending again may repeat them.
        """
        for record in records:
            self._check_size(record)
        async with self._appending:
            try:
                async with asyncio.timeout(self._options.delivery_timeout_s):
                    producer = await self._producing()
                    acknowledgements = [
                        await producer.send(record.topic, record.value, record.key, headers=list(record.headers))
                        for record in records
                    ]
                    places = await asyncio.gather(*acknowledgements)
            except (TimeoutError, errors.KafkaError) as error:
                # A producer that failed once may never recover (a lost sequence number), and would go on sending
                # records that the caller believes are not sent.
                failed, self._producer = self._producer, None
                if failed is not None:
                    await kafka_client.abandon(failed)
                if isinstance(error, errors.KafkaConnectionError):
                    refusal = await kafka_client.refusal(self._options)
                    if refusal is not None:
                        raise LogError(refusal.message) from error
                raise self._unappended(records, error) from error
        after: dict[Partition, int] = {}
        for place in places:
            partition = Partition(place.topic, place.partition)
            after[partition] = max(after.get(partition, 0), place.offset + 1)
        return after

    def _check_size(self, record: Outgoing) -> None:
        size, limit = _size(record), self._options.append_bytes_max
        if size > limit:
            raise RecordTooLargeError(
                f"a record for {record.topic} with key {record.key!r} has {size} bytes, and {limit} are allowed: raise"
                " [log] record_bytes_max together with the topic's max.message.bytes, or make the record smaller"
            )

    def _unappended(self, records: Sequence[Outgoing], error: Exception) -> LogError:
        options, topics = self._options, ", ".join(sorted({record.topic for record in records}))
        match error:
            case errors.KafkaConnectionError():
                return LogError(f"no broker answers at {', '.join(options.brokers)}: is Kafka running?")
            case TimeoutError():
                return LogError(
                    f"{topics}: not acknowledged within {options.delivery_timeout_s:g} s; is the broker up, does the"
                    " topic exist, and are enough replicas in sync?"
                )
            case errors.MessageSizeTooLargeError() | errors.RecordListTooLargeError():
                largest = max(_size(record) for record in records)
                return RecordTooLargeError(
                    f"{topics}: the broker refuses a record of up to {largest} bytes: raise the topic's"
                    " max.message.bytes"
                )
            case errors.TopicAuthorizationFailedError() | errors.ClusterAuthorizationFailedError():
                return LogError(f"{topics}: this client may not append; grant it WRITE (and IDEMPOTENT_WRITE)")
            case _:
                return LogError(f"{topics}: could not append: {kafka_client.text(error)}")

    async def _producing(self) -> AIOKafkaProducer:
        if self._producer is None:
            options = self._options
            producer = AIOKafkaProducer(
                **kafka_client.connection(options),
                acks="all",
                enable_idempotence=True,  # brokers recognise repeated sends
                compression_type=None if options.compression == "none" else options.compression,
                # Sizes are checked before anything is sent; aiokafka would notice halfway.
                max_request_size=2**31 - 1,
            )
            try:
                await producer.start()
            except BaseException:
                await kafka_client.abandon(producer)
                raise
            self._producer = producer
        return self._producer

    async def close(self) -> None:
        """Let go of the connections; what was not acknowledged is given up."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await kafka_client.abandon(producer)


def _size(record: Outgoing) -> int:
    headers = sum(len(name.encode()) + len(text or b"") for name, text in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


# --------------------------------------------------------------------------------------------------------------- places

PROBE_S_MAX = 5.0  # for asking a broker that may not answer; the caller of `fetch` has other work

WAY_OUT = (
    "Records are lost: restore the topic, or fold an archive and the rest with"
    " `replay --from ARCHIVE --from kafka`, or go on without them with `run --accept-truncation`"
)


async def replaced(
    consumer: AIOKafkaConsumer, anchors: Mapping[Partition, Anchor], clock: Clock
) -> dict[Partition, str]:
    """
    Read the last records again; return the faults of partitions that have others in their places.

    A place that no longer holds a record, by retention or compaction, proves nothing. The consumer stays at these
    places.
    """
    begins = await consumer.beginning_offsets([TopicPartition(*place) for place in anchors])
    ends = await consumer.end_offsets(list(begins))
    wanted = {
        TopicPartition(*place): anchor
        for place, anchor in anchors.items()
        if begins[TopicPartition(*place)] <= anchor.offset < ends[TopicPartition(*place)]
    }
    faults: dict[Partition, str] = {}
    give_up_s = clock.monotonic_s() + PROBE_S_MAX
    while wanted and clock.monotonic_s() < give_up_s:
        take(consumer, {Partition(*place): anchor.offset for place, anchor in wanted.items()})
        for place, records in (await consumer.getmany(timeout_ms=int(PROBE_S_MAX * 1000))).items():
            anchor = wanted.pop(place)
            if anchoring.replaced(anchor, records[0]):
                faults[Partition(*place)] = anchoring.fault(f"{place.topic}/{place.partition}", anchor)
    return faults


async def out_of_range(consumer: AIOKafkaConsumer, place: TopicPartition, offset: int) -> LogError:
    """Return the error to raise when a broker has refused an offset, with the offsets that the log has, if known."""
    name = f"{place.topic}/{place.partition}"
    try:
        begins, ends = await consumer.beginning_offsets([place]), await consumer.end_offsets([place])
    except errors.KafkaError:
        return LogTruncatedError(f"{name}: offset {offset} comes next, but the log no longer holds it. {WAY_OUT}")
    if begins[place] <= offset <= ends[place]:
        return LogError(f"{name}: the broker refused offset {offset} although it has it; try again")
    return LogTruncatedError(f"{outside(Partition(*place), offset, begins[place], ends[place])}. {WAY_OUT}")


def outside(partition: Partition, offset: int, begin: int, end: int) -> str:
    """Return the message that a partition lacks what comes next."""
    name = f"{partition.topic}/{partition.partition}"
    return f"{name}: offset {offset} comes next, but the log holds {begin} up to {end}"


def take(consumer: AIOKafkaConsumer, positions: Mapping[Partition, int]) -> None:
    """Assign exactly these partitions and seek at once, so that no fetch starts elsewhere."""
    consumer.assign([TopicPartition(*partition) for partition in positions])
    go_to(consumer, positions)


def go_to(consumer: AIOKafkaConsumer, positions: Mapping[Partition, int]) -> None:
    """Let the next fetch read there."""
    for partition, offset in positions.items():
        consumer.seek(TopicPartition(*partition), offset)
