"""How an endpoint of the control API becomes a route: JSON in, JSON out, mistakes as 400 and 404."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from reconciler.simulator.validation import T, chosen

Shown = Callable[[Request], Awaitable[object]]
"""An endpoint returns what to show; ValueError and TypeError become 400, KeyError 404."""


def route(path: str, methods: str, endpoint: Shown) -> Route:
    """The route of an endpoint; methods are separated by spaces."""

    async def call(request: Request) -> Response:
        try:
            status, shown = 200, await endpoint(request)
        except KeyError as missing:
            status, shown = 404, {"error": "Not Found", "message": f"no {missing.args[0]}"}
        except (ValueError, TypeError) as mistake:
            status, shown = 400, {"error": "Bad Request", "message": str(mistake)}
        return Response(orjson.dumps(shown), status_code=status, media_type="application/json")

    return Route(path, call, methods=methods.split())


async def given_object(request: Request, needed: str = "", optional: str | None = None) -> dict[str, Any]:
    """The request's JSON object; ValueError when a needed member is missing, or one is neither needed nor optional."""
    given = orjson.loads(await request.body())
    if not isinstance(given, dict):
        raise TypeError("the body must be a JSON object")
    missing = set(needed.split()) - given.keys()
    unknown = set() if optional is None else given.keys() - {*needed.split(), *optional.split()}
    if missing or unknown:
        wanted = f"needed: {needed}" + (f"; optional: {optional}" if optional else "")
        raise ValueError(f"missing or unknown: {', '.join(sorted(missing | unknown))}; {wanted}")
    return given


async def steered(request: Request, current: T) -> T:
    """The settings after this request: PATCH changes some, PUT brings the rest back to their defaults, GET none."""
    if request.method == "GET":
        return current
    return chosen(current if request.method == "PATCH" else type(current)(), await given_object(request))
