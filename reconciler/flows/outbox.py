"""
Outbox: publishes what the transactions have left to be published, in order, at least once.

A crash between the log's acknowledgement and our forgetting publishes a message twice; outcomes carry the same id then,
and dead letters the same place.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from reconciler.core.events import outcomes
from reconciler.core.scheduling import backoff
from reconciler.errors import LogError, RecordTooLargeError
from reconciler.flows import watchdog
from reconciler.model.event import Outgoing
from reconciler.model.stamp import Partition
from reconciler.ports import Clock, EventLog, Outbox, OutboxMessage

_log = structlog.get_logger(__name__)

_BATCH = 500
_IDLE_S = 5.0  # a message written by another process is found within this
_BACKOFF_S_MAX = 30.0


class Publisher:
    """The outbox loop. `wake` is set by whoever leaves a message; `sign` returns a record as it is to be published."""

    def __init__(
        self,
        outbox: Outbox,
        log: EventLog,
        clock: Clock,
        wake: asyncio.Event,
        sign: Callable[[Outgoing], Outgoing] = lambda record: record,
    ) -> None:
        self._sign = sign
        self._outbox = outbox
        self._log = log
        self._clock = clock
        self._wake = wake
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End the loop once the outbox is empty, or the log can't be reached."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Publish until stopped."""
        failures = 0
        while True:
            watchdog.beat()
            self._wake.clear()
            try:
                published = await self.publish()
                failures = 0
            except LogError as error:
                failures += 1
                _log.warning("publishing failed", error=str(error), failures=failures)
                if self._stopping.is_set():  # nothing is lost: the messages wait in the store for the next start
                    return
                wait_s = backoff.delay_s(failures, 1.0, _BACKOFF_S_MAX, self._clock.chance())
                await self._clock.wait(self._stopping, wait_s)
                continue
            if published:
                continue
            if self._stopping.is_set():
                return
            await self._clock.wait(self._wake, _IDLE_S)

    async def publish(self) -> int:
        """Publish one batch; return how many messages went out. Raises LogError."""
        messages = await self._outbox.waiting(_BATCH)
        if messages:
            try:
                positions = dict(await self._append([message.record for message in messages]))
            except RecordTooLargeError:
                positions = {}
                for message in messages:
                    positions |= await self._publish_cut(message)
            await self._outbox.published([message.number for message in messages], positions)
        return len(messages)

    async def _append(self, records: Sequence[Outgoing]) -> Mapping[Partition, int]:
        return await self._log.append([self._sign(record) for record in records])

    async def _publish_cut(self, message: OutboxMessage) -> Mapping[Partition, int]:
        """
        Publish one message, with less of it where the log does not take it whole.

        An outcome gets digests in the place of its large values. A dead letter may have been refused for its very size,
        and is larger than its record by what is told of it: without its value, or with nothing but our own headers, it
        does not keep everything behind it from going out. The original stays in the store.
        """
        record = message.record
        try:
            return await self._append([record])
        except RecordTooLargeError:
            slim = outcomes.slimmed(record)
        try:
            return await self._append([slim or record])
        except RecordTooLargeError as error:
            _log.error("published without its value: too large", number=message.number, error=str(error))
        note = f"{len(record.value or b'')} bytes were left out; the state store has them"
        headers = (*record.headers, (outcomes.ERRORS + "value", note.encode()))
        try:
            return await self._append([record._replace(value=None, headers=headers)])
        except RecordTooLargeError:
            note = "key, value and headers were left out; the state store has them"
            ours = [(name, said) for name, said in record.headers if name.startswith(outcomes.ERRORS)]
            headers = (*ours, (outcomes.ERRORS + "value", note.encode()))
            return await self._append([record._replace(key=None, value=None, headers=headers)])
