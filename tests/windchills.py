"""Reading and writing one document, as the tests of every adapter do it."""

from collections.abc import Mapping

from reconciler.model.answer import WriteAnswer
from reconciler.model.snapshot import Snapshot
from reconciler.model.value import Json
from reconciler.ports import Windchill
from tests.checks import expect
from tests.fakes.journal import MemoryJournal


async def seen(windchill: Windchill, key: str, known: Snapshot | None = None) -> Snapshot:
    """What a read shows; it must show the document, and a token."""
    shown = expect(Snapshot, await windchill.read(key, known))
    assert shown.token is not None
    return shown


async def write_on(
    windchill: Windchill, shown: Snapshot, fields: Mapping[str, Json], journal: MemoryJournal | None = None
) -> WriteAnswer:
    """Write to a document on what a read showed; what a lock shows is then decided to need no other change."""
    assert shown.token is not None
    return await windchill.write(shown, fields, token=shown.token, journal=journal or MemoryJournal())
