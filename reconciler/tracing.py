"""
Tracing: the Protocol by which the loops report their work, from event to PATCH.

An adapter knows the library; `NO_TRACING` takes its place where tracing is off. Nothing here may fail or wait, and
tracing that is off must cost nothing worth measuring.
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
        """Headers that tell the server the trace."""
        ...

    def answered(self, status: int) -> None:
        """Note the status of the answer; a request without one failed."""
        ...


class AttemptSpan(Protocol):
    """An attempt under way."""

    def ended(self, settlement: Settlement) -> Settlement:
        """Note the result; return the settlement, whose outcomes name the trace if the attempt had one cause."""
        ...


class Tracing(Protocol):
    """Follows work from the event to the PATCH."""

    @property
    def on(self) -> bool:
        """Whether tracing is on."""
        ...

    def note(self, records: Sequence[Record]) -> None:
        """Remember the traces of events."""
        ...

    def attempt(self, document: Document, lane: Lane) -> AbstractContextManager[AttemptSpan]:
        """Trace an attempt and the requests within it."""
        ...

    def request(self, method: str, url: str) -> AbstractContextManager[RequestSpan]:
        """Trace a request."""
        ...

    async def close(self) -> None:
        """Send the finished spans, within a time limit."""
        ...


class _NoSpan:
    headers: Sequence[tuple[bytes, bytes]] = ()

    def answered(self, status: int) -> None:
        pass

    def ended(self, settlement: Settlement) -> Settlement:
        return settlement


_NO_SPAN: Final = nullcontext(_NoSpan())


class _NoTracing:
    on: bool = False

    def note(self, records: Sequence[Record]) -> None:
        pass

    def attempt(self, document: Document, lane: Lane) -> AbstractContextManager[AttemptSpan]:  # noqa: ARG002  the port's
        return _NO_SPAN

    def request(self, method: str, url: str) -> AbstractContextManager[RequestSpan]:  # noqa: ARG002  the port's
        return _NO_SPAN

    async def close(self) -> None:
        pass


NO_TRACING: Final[Tracing] = _NoTracing()
