"""Places in a topic: whether it holds what comes next and what was read last, and how a client goes there."""

from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition, errors

from reconciler.core import anchoring
from reconciler.errors import LogError, LogTruncatedError
from reconciler.model.stamp import Anchor, Partition
from reconciler.ports import Clock

PROBE_S_MAX = 5.0  # for asking an unresponsive broker; the caller of `fetch` has other work

WAY_OUT = (
    "Records are lost: restore the topic, or fold an archive and what is left with"
    " `replay --from ARCHIVE --from kafka`, or go on without them with `run --accept-truncation`"
)


async def replaced(
    consumer: AIOKafkaConsumer, anchors: Mapping[Partition, Anchor], clock: Clock
) -> dict[Partition, str]:
    """
    Read back the records that were read last; return what is wrong where others stand in their places.

    A place that holds none any more, by retention or compaction, tells nothing. The consumer is left at these places.
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
    """Return what to raise when a broker has refused an offset, with what the log does hold if the broker says it."""
    name = f"{place.topic}/{place.partition}"
    try:
        begins, ends = await consumer.beginning_offsets([place]), await consumer.end_offsets([place])
    except errors.KafkaError:
        return LogTruncatedError(f"{name}: offset {offset} comes next, but the log no longer holds it. {WAY_OUT}")
    if begins[place] <= offset <= ends[place]:
        return LogError(f"{name}: the broker refused offset {offset}, though it has it; try again")
    return LogTruncatedError(f"{outside(Partition(*place), offset, begins[place], ends[place])}. {WAY_OUT}")


def outside(partition: Partition, offset: int, begin: int, end: int) -> str:
    """Say that a partition does not hold what comes next."""
    name = f"{partition.topic}/{partition.partition}"
    return f"{name}: offset {offset} comes next, but the log holds {begin} up to {end}"


def take(consumer: AIOKafkaConsumer, positions: Mapping[Partition, int]) -> None:
    """Assign exactly these partitions. Nothing is awaited before the seeks, so no fetch goes out from elsewhere."""
    consumer.assign([TopicPartition(*partition) for partition in positions])
    go_to(consumer, positions)


def go_to(consumer: AIOKafkaConsumer, positions: Mapping[Partition, int]) -> None:
    """Let the next fetch read there."""
    for partition, offset in positions.items():
        consumer.seek(TopicPartition(*partition), offset)
