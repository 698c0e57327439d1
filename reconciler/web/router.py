"""
Router: finds the endpoint of a request, checks access, and decodes path, query and body.

Paths are matched segment by segment in their raw form, because a document's key may contain percent-encoded slashes and
must not be split into two segments.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from reconciler.web import inputs, responses, signin
from reconciler.web.endpoint import Call, Endpoint, Query
from reconciler.web.responses import HttpError
from reconciler.web.services import Services

_AT = re.compile(r" - at `\$\.(\w+)`$")
_PARAMETERS_MAX = 50


class Router:
    """Routes requests to endpoints."""

    def __init__(self, endpoints: Iterable[Endpoint], services: Services) -> None:
        self._services = services
        self._access = services.access
        self._addresses: dict[tuple[str, ...], dict[str, Endpoint]] = {}
        for endpoint in endpoints:
            methods = self._addresses.setdefault(tuple(endpoint.path.split("/")), {})
            assert endpoint.method not in methods, endpoint
            methods[endpoint.method] = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        methods, names = self._find(request.scope["raw_path"])
        request.state.page = any(endpoint.page for endpoint in methods.values())  # its errors are pages too
        endpoint = methods.get("GET" if request.method == "HEAD" else request.method)
        if endpoint is None:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(_allowed(methods)))})
        try:
            admitted = await self._access.admit(
                request, endpoint.role, linked=endpoint.linked, producers=endpoint.producers
            )
        except HttpError as refused:
            if refused.status == 401 and endpoint.page:
                return _to_sign_in(request)
            raise
        query = _query(request.scope["query_string"], endpoint.query)
        body = endpoint.body and await inputs.given(request, endpoint.body, endpoint.body_bytes_max)
        call = Call(_texts(names), query, admitted.who, request, admitted.csrf, admitted.session, body)
        answer = await endpoint.handler(self._services, call)
        return answer if isinstance(answer, Response) else responses.shaped(answer, endpoint.status)

    def _find(self, raw_path: bytes) -> tuple[Mapping[str, Endpoint], Mapping[str, bytes]]:
        segments = raw_path.split(b"/")
        for template, methods in self._addresses.items():
            if len(template) != len(segments):
                continue
            names = {name[1:-1]: given for name, given in zip(template, segments, strict=True) if name.startswith("{")}
            fixed = (given == name.encode() for name, given in zip(template, segments, strict=True) if name[:1] != "{")
            if all(fixed) and all(names.values()):
                return methods, names
        raise HTTPException(404)


def _to_sign_in(request: Request) -> Response:
    """Redirect to the sign-in page, which leads back to the page requested; a POST is not repeated."""
    if request.method not in ("GET", "HEAD"):
        return RedirectResponse(signin.PATH, 303)
    path, query = request.scope["raw_path"].decode("latin-1"), request.scope["query_string"].decode("latin-1")
    return RedirectResponse(signin.address(path, query), 303)


def _allowed(methods: Iterable[str]) -> set[str]:
    return {*methods, *(["HEAD"] if "GET" in methods else [])}


def _texts(names: Mapping[str, bytes]) -> dict[str, str]:
    try:
        return {name: unquote_to_bytes(given).decode() for name, given in names.items()}
    except UnicodeDecodeError as error:
        raise HTTPException(404) from error  # no name of ours is like this


def _query(query_string: bytes, wanted: type[Query]) -> Query:
    """Return the decoded query parameters; raises HttpError naming the wrong one."""
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_PARAMETERS_MAX
        )
    except ValueError as error:
        raise HttpError(400, "the query string must be percent-encoded UTF-8") from error
    known = [field.encode_name for field in msgspec.structs.fields(wanted)]
    given: dict[str, Any] = {}
    for name, text in pairs:
        if name not in known and not wanted.__struct_config__.forbid_unknown_fields:
            continue
        if name not in known:
            raise HttpError(400, f"{name}: unknown query parameter; known: {', '.join(known) or 'none'}")
        if name in given:
            raise HttpError(400, f"{name}: given twice")
        given[name] = text
    try:
        return msgspec.convert(given, wanted, strict=False)
    except msgspec.ValidationError as error:
        said = str(error)
        at = _AT.search(said)
        raise HttpError(400, f"{at[1]}: {said[: at.start()]}" if at else said) from error
