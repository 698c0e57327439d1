"""
Appending to Kafka: durable, bounded in time, all partitions of any topic.

Never here: reading (`kafka`).
"""

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer, errors

from reconciler.adapters import kafka_client
from reconciler.adapters.kafka_client import KafkaOptions
from reconciler.errors import LogError, RecordTooLargeError
from reconciler.model.event import Outgoing
from reconciler.model.stamp import Partition


class KafkaAppender:
    """One producer, started when first needed; appends wait for one another."""

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        self._producer: AIOKafkaProducer | None = None
        self._appending = asyncio.Lock()

    async def append(self, records: Sequence[Outgoing]) -> dict[Partition, int]:
        """
        Append records durably; return when every one is acknowledged by all in-sync replicas, with the offsets after.

        Partitions are chosen by key as Kafka's own clients do. Raises RecordTooLargeError when a record is larger than
        `append_bytes_max` (then none was sent) or than its topic takes, and LogError when not all were acknowledged
        within `delivery_timeout_s`. Then some may have been: appending again may repeat them.
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
                # A producer that failed once may never recover (a lost sequence number), and would go on sending what
                # the caller has been told is not sent.
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
                f"a record for {record.topic} with key {record.key!r} has {size} bytes, and {limit} are the most: raise"
                " [log] record_bytes_max together with the topic's max.message.bytes, or make the record smaller"
            )

    def _unappended(self, records: Sequence[Outgoing], error: Exception) -> LogError:
        options, topics = self._options, ", ".join(sorted({record.topic for record in records}))
        match error:
            case errors.KafkaConnectionError():
                return LogError(f"no broker answers at {', '.join(options.brokers)}: is Kafka running?")
            case TimeoutError():
                return LogError(
                    f"{topics}: not acknowledged within {options.delivery_timeout_s:g} s; is the broker up, is the"
                    " topic there, and are enough replicas in sync?"
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
                enable_idempotence=options.idempotent,
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
