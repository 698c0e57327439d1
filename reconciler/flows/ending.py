"""Ending: how a run ends, and waiting for its tasks, but not for longer than a stop allows."""

import asyncio
from collections.abc import Sequence
from typing import Any

import attrs

from reconciler.model.document import Status
from reconciler.model.standing import WriteStop


@attrs.frozen
class Summary:
    """How a run ended."""

    counts: dict[Status, int]
    dead_letters: int
    maintenance: bool
    stop: WriteStop | None = None  # of all writes

    @property
    def settled(self) -> bool:
        """Whether every document is synced and every event was usable."""
        return not self.dead_letters and all(not n for status, n in self.counts.items() if status is not Status.SYNCED)


async def ended(tasks: Sequence[asyncio.Task[Any]], within_s: float | None) -> None:
    """Wait until all of these have ended; cancel those that have not within the time, `None` for any time."""
    _, late = await asyncio.wait(tasks, timeout=within_s)
    for task in late:
        task.cancel()
    await asyncio.wait(tasks)
