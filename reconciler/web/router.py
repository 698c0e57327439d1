"""
Router: from a request to its endpoint, and to who asks.

Paths are matched segment by segment as they came over the wire: a document's key may hold slashes, question marks and
whatever else, in percent-encoding, and must not be taken for two segments.
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

from reconciler.web import answers, signin
from reconciler.web.answers import HttpError
from reconciler.web.endpoint import Asked, Endpoint, Query
from reconciler.web.sources import Sources

_AT = re.compile(r" - at `\$\.(\w+)`$")
_PARAMETERS_MAX = 50


class Router:
    """An application of endpoints."""

    def __init__(self, endpoints: Iterable[Endpoint], sources: Sources) -> None:
        self._sources = sources
        self._door = sources.door
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
        request.state.page = any(endpoint.page for endpoint in methods.values())  # so that a refusal is one as well
        endpoint = methods.get("GET" if request.method == "HEAD" else request.method)
        if endpoint is None:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(_allowed(methods)))})
        try:
            admitted = await self._door.admit(
                request, endpoint.role, linked=endpoint.linked, producers=endpoint.producers
            )
        except HttpError as refused:
            if refused.status == 401 and endpoint.page:
                return _to_sign_in(request)
            raise
        query = _query(request.scope["query_string"], endpoint.query)
        asked = Asked(_texts(names), query, admitted.who, request, admitted.csrf, admitted.session)
        answer = await endpoint.call(self._sources, asked)
        return answer if isinstance(answer, Response) else answers.shaped(answer, endpoint.status)

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
    """Send a person to the sign-in page, and from there to what they wanted to see; an action is not kept."""
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
        raise HTTPException(404) from error  # nothing of ours has such a name


def _query(query_string: bytes, wanted: type[Query]) -> Query:
    """Return the parameters as their type has them; raises HttpError naming the one that is wrong."""
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_PARAMETERS_MAX
        )
    except ValueError as error:
        raise HttpError(400, "the query can't be read: it must be UTF-8 in percent-encoding") from error
    known = [field.encode_name for field in msgspec.structs.fields(wanted)]
    given: dict[str, Any] = {}
    for name, text in pairs:
        if name not in known and not wanted.__struct_config__.forbid_unknown_fields:
            continue
        if name not in known:
            raise HttpError(400, f"{name}: unknown query parameter; known are {', '.join(known) or 'none'}")
        if name in given:
            raise HttpError(400, f"{name}: is given twice")
        given[name] = text
    try:
        return msgspec.convert(given, wanted, strict=False)
    except msgspec.ValidationError as error:
        said = str(error)
        at = _AT.search(said)
        raise HttpError(400, f"{at[1]}: {said[: at.start()]}" if at else said) from error
