"""A journal that remembers what it was told."""

from collections.abc import Mapping, Sequence

from reconciler.model.answer import Refused
from reconciler.model.snapshot import Snapshot
from reconciler.model.value import Json


class MemoryJournal:
    """Satisfies `reconciler.ports.Journal`. `decides` is what a redraft comes to."""

    def __init__(self, decides: Mapping[str, Json] | None = None, note: str = "Reconciler: a test") -> None:
        self.note = note
        self.mark = "rec-test-1"
        self.locks: list[str] = []
        self.shown: list[Snapshot] = []
        self.refusals: list[Refused] = []
        self.decides: Mapping[str, Json] = decides or {}

    async def locked(self, lock: str) -> None:
        self.locks.append(lock)

    async def redraft(self, shown: Snapshot) -> Mapping[str, Json]:
        self.shown.append(shown)
        return self.decides

    async def refused(self, refusals: Sequence[Refused]) -> None:
        self.refusals.extend(refusals)
