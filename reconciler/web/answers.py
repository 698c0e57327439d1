"""Answers: the shapes that every route's replies have in common."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from starlette.responses import Response


def json(content: Mapping[str, Any], status: int = 200) -> Response:
    """Return a JSON object."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def problem(status: int, detail: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as RFC 9457 has it, with the status's own words for its title."""
    content: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    if detail:
        content["detail"] = detail
    return Response(orjson.dumps(content), status, headers, "application/problem+json")
