"""
Outbox: publishes the records that transactions left in the store, in order, at least once.

After a crash a record may be published twice; outcomes then carry the same id, and dead letters the same place.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import attrs
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
_IDLE_S = 5.0  # a message of another process is found within this time
_BACKOFF_S_MAX = 30.0


@attrs.define(eq=False, slots=False)
class Publisher:
    """
    The outbox loop. `wake` is set whenever a message is left; `sign` returns a record as it is published.

    `may`: whether nobody can have taken our place. Else a generation could be recovered without what we publish late.
    """

    _outbox: Outbox
    _log: EventLog
    _clock: Clock
    _wake: asyncio.Event
    _sign: Callable[[Outgoing], Outgoing] = lambda record: record
    _may: Callable[[], bool] = lambda: True
    _stopping: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

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
                if self._stopping.is_set():  # the messages wait in the store for the next start
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
        if messages and not self._may():
            return 0
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
        Publish one message, with less of it where it is too large for the log.

        An outcome gets digests instead of its large values. A dead letter loses its value, then its key and all headers
        but ours, so that it never blocks the messages behind it. The original stays in the store.
        """
        record = message.record
        try:
            return await self._append([record])
        except RecordTooLargeError:
            slim = outcomes.slimmed(record)
        try:
            return await self._append([slim or record])
        except RecordTooLargeError as error:
            _log.error("published without its value, which is too large", number=message.number, error=str(error))
        note = f"{len(record.value or b'')} bytes were left out; the state store has them"
        headers = (*record.headers, (outcomes.ERRORS + "value", note.encode()))
        try:
            return await self._append([record._replace(value=None, headers=headers)])
        except RecordTooLargeError:
            note = "key, value and headers were left out; the state store has them"
            ours = [(name, said) for name, said in record.headers if name.startswith(outcomes.ERRORS)]
            headers = (*ours, (outcomes.ERRORS + "value", note.encode()))
            return await self._append([record._replace(key=None, value=None, headers=headers)])
