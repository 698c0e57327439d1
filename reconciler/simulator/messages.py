"""Requests and replies as values."""

from typing import Any

import orjson
from attrs import frozen

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


def problem(status: int, error: str, message: str, *, cause: str = "", **more: Any) -> Reply:
    """A refusal in the shape of the documents dialect: `{"error": …, "message": …}`."""
    return Reply(status, [JSON], orjson.dumps({"error": error, "message": message, **more}), cause)
