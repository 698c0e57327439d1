"""The dialect as the flows see it: reading, the list of changes, and writing under a lock, over one service."""

from collections.abc import Sequence

from reconciler.adapters.http import HttpClient
from reconciler.adapters.wrs.options import WrsOptions
from reconciler.adapters.wrs.reading import Reader
from reconciler.adapters.wrs.service import Service
from reconciler.model.answer import ReadAnswer, Trouble
from reconciler.model.snapshot import Sighting, Snapshot
from reconciler.ports import Clock


class WrsWindchill:
    """A Windchill behind its own REST services. Closes its client."""

    def __init__(self, client: HttpClient, options: WrsOptions, clock: Clock) -> None:
        self.service = Service(client, options, clock)
        self.reader = Reader(self.service, clock)

    @property
    def locks(self) -> bool:
        """Whether a write may leave a check-out of ours behind."""
        return self.service.options.lock != "etag"

    async def read(self, key: str, known: Snapshot | None = None) -> ReadAnswer:
        """Read the latest iteration of a document."""
        return await self.reader.read(key, known)

    async def changed(self, since_us: int) -> Sequence[Sighting] | Trouble:
        """Return every document modified since then, with the tokens that reading them would give."""
        return await self.reader.changed(since_us)

    async def close(self) -> None:
        """Close connections."""
        await self.service.close()
