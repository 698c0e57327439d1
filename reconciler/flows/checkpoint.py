"""
Checkpoints: from time to time the heads of all audit chains become a record of a chain of their own.

One head then proves all chains (`model/chain.py`), and the outcome log gets a copy of it: whoever can change the store
can't change that. A trail with one chain has one head, and needs no checkpoints.
"""

import asyncio
from collections.abc import Callable, Sequence

import attrs
import structlog

from reconciler.core.events import outcomes
from reconciler.flows import watchdog
from reconciler.model import chain, codec
from reconciler.model.chain import Checkpoint, Head
from reconciler.ports import Clock, Slots, Views

_log = structlog.get_logger(__name__)

EVERY_S = 60.0


@attrs.define(eq=False, slots=False, kw_only=True)
class Checkpoints:
    """The loop that makes them, while it is our duty (`mine`); `topic` and `source` are of outcomes."""

    slots: Slots
    views: Views
    clock: Clock
    topic: str
    source: str
    mine: Callable[[], bool]
    wake: Callable[[], None]  # of the outbox
    _stopping: asyncio.Event = attrs.field(init=False, factory=asyncio.Event)

    def stop(self) -> None:
        """End the loop."""
        self._stopping.set()

    async def run(self) -> None:
        """Make a checkpoint each minute, until stopped."""
        while not self._stopping.is_set():
            watchdog.beat()
            if self.mine():
                await self.make()
            await self.clock.wait(self._stopping, EVERY_S)

    async def note_lost(self, lost: Sequence[Head]) -> None:
        """Make a checkpoint that says which heads were announced, and are gone."""
        _log.warning("audit records are gone: the store does not have what was announced", heads=[*map(str, lost)])
        while await self.make(lost) is None:  # another one was appended at this moment
            await self.clock.sleep(0)

    async def make(self, lost: Sequence[Head] = ()) -> Head | None:
        """Make a checkpoint if a head has moved, or some are lost, and return its head."""
        found = {head.chain: head for head in await self.views.audit_heads() if head.records}
        before = found.pop(chain.CHECKPOINTS, chain.begin(chain.CHECKPOINTS))
        heads = tuple(str(found[number]) for number in sorted(found))
        if not lost and (len(heads) < 2 or heads == await self._heads(before)):
            return None
        made = Checkpoint(self.clock.now_us(), heads, tuple(map(str, lost)))
        text = codec.encode_checkpoint(made)
        head = chain.extend(before, text)
        announcement = outcomes.checkpoint(head, made, self.topic, self.source)
        if not await self.slots.add_checkpoint(head, text, announcement):
            return None
        self.wake()
        _log.info("audit checkpoint", head=str(head))
        return head

    async def _heads(self, head: Head) -> tuple[str, ...]:
        entry = await self.views.audit_entry(head.number) if head.records else None
        return () if entry is None else codec.decode_checkpoint(entry.record).heads
