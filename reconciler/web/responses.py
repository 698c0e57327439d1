"""Responses: JSON, and errors as problem details (RFC 9457)."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
import orjson
from msgspec import UNSET, Meta, UnsetType
from starlette.responses import Response

from reconciler.views.shape import Shape

PROBLEM = "application/problem+json"
_TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}  # RFC 9110's; Python has its older ones up to 3.12


class RefusedEvent(Shape, frozen=True, kw_only=True):
    """An event that can't be used; `number` is its index in the request."""

    number: int
    reason: str


class Problem(Shape, frozen=True, kw_only=True):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str | UnsetType = UNSET
    errors: list[RefusedEvent] | UnsetType = UNSET
    preview: Annotated[Any | UnsetType, Meta(description="With 409: what a decision would do now.")] = UNSET


class HttpError(Exception):
    """An error that is answered as a problem; `more` are further members of the problem."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers
        self.more = more


def title(status: int) -> str:
    """Return the standard phrase for a status."""
    return _TITLES.get(status, HTTPStatus(status).phrase)


def json(content: Mapping[str, Any], status: int = 200) -> Response:
    """Return a JSON object."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def shaped(content: msgspec.Struct, status: int = 200) -> Response:
    """Return a shape as JSON."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def problem(status: int, detail: str = "", headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """Return an error as a problem; its title is the standard phrase for the status."""
    content: dict[str, Any] = {"type": "about:blank", "title": title(status), "status": status}
    if detail:
        content["detail"] = detail
    return Response(msgspec.json.encode(content | more), status, headers, PROBLEM)
