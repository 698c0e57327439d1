"""From where on everything is signed, in the store."""

from reconciler.adapters.sqlite import noting, queries
from reconciler.adapters.sqlite.damage import Lines
from reconciler.adapters.sqlite.database import Database
from reconciler.model import codec
from reconciler.model.event import Outgoing
from reconciler.model.signing import Noted

_noted_line = Lines(Noted)


class Sealing:
    """The part of `ports.Ledger` that is about signatures."""

    _database: Database

    async def signing(self) -> Noted | None:
        """See `ports.Ledger`."""
        found = await self._database.read(queries.SIGNING)
        return _noted_line.decode(found[0]) if found else None

    async def note_signing(self, noted: Noted, announcement: Outgoing) -> None:
        """See `ports.Ledger`."""
        await self._database.write(noting.NOTE.call, codec.encode(noted), codec.encode(announcement))
