"""Reading: from a number to the latest iteration, and what it shows. (Signatures first; see `Reader`.)"""

from collections.abc import Mapping

from reconciler.adapters.wrs.metadata import Schema
from reconciler.adapters.wrs.service import Service
from reconciler.model.answer import ReadAnswer, Trouble
from reconciler.model.snapshot import Snapshot, Token
from reconciler.model.value import Json


class Reader:
    """Reads documents of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def read(self, key: str, known: Snapshot | None = None) -> ReadAnswer:
        """Read the latest iteration of a document; with `known`, perhaps `Unchanged`."""
        raise NotImplementedError

    async def iteration(self, key: str, id: str) -> Snapshot | Trouble:
        """Read one iteration by its ID, whatever it is: a working copy, or no longer the latest."""
        raise NotImplementedError

    async def entity(self, id: str) -> "dict[str, Json] | Trouble":
        """Read one iteration by its ID, as it came."""
        raise NotImplementedError

    def snapshot(self, key: str, entity: Mapping[str, Json], schema: Schema, header: Token | None = None) -> Snapshot:
        """Return what an entity shows as a snapshot; `header` is the reply's ETag, if it had one."""
        raise NotImplementedError


def is_working_copy(entity: Mapping[str, Json]) -> bool:
    """Whether an entity says that it is somebody's working copy, not an iteration that others see."""
    raise NotImplementedError


def is_checked_out(entity: Mapping[str, Json]) -> bool:
    """Whether an entity says that it is checked out by somebody: the iteration that the working copy was made of."""
    raise NotImplementedError
