"""Requests and replies as values, and what a dialect is. A dialect sees no sockets; sockets see no dialect."""

from typing import TYPE_CHECKING, Any, Protocol

import orjson
from attrs import frozen

if TYPE_CHECKING:
    from reconciler.simulator.world import World

Headers = list[tuple[bytes, bytes]]
JSON = (b"content-type", b"application/json")


@frozen
class Request:
    """One HTTP request with its whole body."""

    method: str
    path: str
    """Percent-decoded, below the base path: `/documents/0000000001`."""
    query: bytes
    headers: dict[bytes, bytes]
    """Names in lower case; repeated headers joined by commas (RFC 9110, 5.3)."""
    body: bytes


@frozen
class Reply:
    """One HTTP reply; `content-length` is added when it is sent."""

    status: int
    headers: Headers
    body: bytes = b""
    cause: str = ""
    """Why a request was refused, for the statistics: a status alone doesn't tell a lock from a version conflict."""


class Dialect(Protocol):
    """How documents are shown and written over HTTP. A module with these four functions is one."""

    def serves(self, path: str) -> bool:
        """Whether a path below the base path belongs to this dialect."""
        ...

    def target(self, world: "World", request: Request) -> str | None:
        """The key of the document that the request is about; None for lists and the like."""
        ...

    def guarded(self, request: Request) -> bool:
        """Whether it is bound to a version, or binds what follows: a rival's edit right before it must be noticed."""
        ...

    def answer(self, world: "World", request: Request, user: str) -> Reply:
        """Do what is asked, in one step: nothing else happens to the documents meanwhile."""
        ...


def problem(status: int, error: str, message: str, *, cause: str = "", **more: Any) -> Reply:
    """A refusal in the shape of the documents dialect: `{"error": …, "message": …}`."""
    return Reply(status, [JSON], orjson.dumps({"error": error, "message": message, **more}), cause)
