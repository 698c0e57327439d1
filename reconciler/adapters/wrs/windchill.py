"""The dialect as the flows see it: reading, the list of changes, and writing under a lock, over one service."""

from collections.abc import Mapping, Sequence

from reconciler.adapters.http import HttpClient
from reconciler.adapters.wrs.checkout import CheckOuts
from reconciler.adapters.wrs.options import WrsOptions
from reconciler.adapters.wrs.reading import Reader
from reconciler.adapters.wrs.service import Service
from reconciler.adapters.wrs.writing import Writer
from reconciler.model.answer import ReadAnswer, ReleaseAnswer, Trouble, WriteAnswer
from reconciler.model.snapshot import Sighting, Snapshot, Token
from reconciler.model.value import Json
from reconciler.ports import Clock, Journal


class WrsWindchill:
    """A Windchill behind its own REST services. Closes its client."""

    def __init__(self, client: HttpClient, options: WrsOptions, clock: Clock) -> None:
        self.service = Service(client, options, clock)
        self.reader = Reader(self.service, clock)
        self._locks = CheckOuts(self.service, self.reader, clock)
        self._writer = Writer(self.service, self.reader, self._locks)

    @property
    def locks(self) -> bool:
        """Whether a write may leave a check-out of ours behind."""
        return self.service.options.lock != "etag"

    async def read(self, key: str, known: Snapshot | None = None) -> ReadAnswer:
        """Read the latest iteration of a document."""
        return await self.reader.read(key, known)

    async def write(
        self, snapshot: Snapshot, fields: Mapping[str, Json], *, token: Token, journal: Journal
    ) -> WriteAnswer:
        """Write `fields`, all of one portion, under the guard that this server has."""
        return await self._writer.write(snapshot, fields, token=token, journal=journal)

    async def release(self, key: str, lock: str | None, mark: str) -> ReleaseAnswer:
        """Give up a check-out of ours that a write has perhaps left behind; no other is ever touched."""
        return await self._locks.release(key, lock, mark)

    async def changed(self, since_us: int) -> Sequence[Sighting] | Trouble:
        """Return every document modified since then, with the tokens that reading them would give."""
        return await self.reader.changed(since_us)

    async def close(self) -> None:
        """Close connections."""
        await self.service.close()
