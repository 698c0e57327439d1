"""
Tracing: what the loops tell of their work to whoever follows it from event to PATCH, as a Protocol.

Beside `ports`, and like there: an adapter knows the library, `NO_TRACING` stands for it where nobody follows. Nothing
here may fail, wait, or cost anything worth measuring while nobody does.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol

from reconciler.model.audit import Settlement
from reconciler.model.document import Document, Lane
from reconciler.model.event import Record


class RequestSpan(Protocol):
    """A request to Windchill on its way."""

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """What tells the server whose work it is part of."""
        ...

    def answered(self, status: int) -> None:
        """Note the status of the answer; a request of which none is noted came to nothing."""
        ...


class AttemptSpan(Protocol):
    """An attempt under way."""

    def ended(self, settlement: Settlement) -> Settlement:
        """Note what came of it; return the settlement, whose outcomes name the trace if the attempt had one cause."""
        ...


class Tracing(Protocol):
    """Follows work from the event to the PATCH."""

    @property
    def on(self) -> bool:
        """Whether anybody follows."""
        ...

    def note(self, records: Sequence[Record]) -> None:
        """Remember which events say what trace they belong to."""
        ...

    def attempt(self, document: Document, lane: Lane) -> AbstractContextManager[AttemptSpan]:
        """Follow an attempt; requests within it are part of it."""
        ...

    def request(self, method: str, url: str) -> AbstractContextManager[RequestSpan]:
        """Follow a request."""
        ...

    async def close(self) -> None:
        """Hand over what is known so far, within a bound."""
        ...


class _Nobody:
    """Nobody follows an attempt or a request."""

    headers: Sequence[tuple[bytes, bytes]] = ()

    def answered(self, status: int) -> None:
        """Do nothing."""

    def ended(self, settlement: Settlement) -> Settlement:
        """Return the settlement as it is."""
        return settlement


_NOBODY: Final = nullcontext(_Nobody())


class _NoTracing:
    """Nobody follows anything."""

    on: bool = False

    def note(self, records: Sequence[Record]) -> None:
        """Do nothing."""

    def attempt(self, document: Document, lane: Lane) -> AbstractContextManager[AttemptSpan]:  # noqa: ARG002  the port's
        """Return nobody."""
        return _NOBODY

    def request(self, method: str, url: str) -> AbstractContextManager[RequestSpan]:  # noqa: ARG002  the port's
        """Return nobody."""
        return _NOBODY

    async def close(self) -> None:
        """Do nothing."""


NO_TRACING: Final[Tracing] = _NoTracing()
