"""The OpenAPI document, generated from the endpoints."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from reconciler import __version__
from reconciler.web import access, inputs, responses, sessions, signin
from reconciler.web.endpoint import Call, Endpoint
from reconciler.web.principal import Role
from reconciler.web.services import Services

PATH = "/api/v1/openapi.json"
_REFERENCE = "#/components/schemas/{name}"
_PROBLEMS = (400, 401, 403, 421, 431, 500, 503)  # possible on every endpoint
_DESCRIPTION = """\
The reconciler's commands as an API. Errors are problem details (RFC 9457). Lists are paged: pass `next` of one page as
`after` of the following one; the value has no other meaning. A path parameter is one percent-encoded segment, including
slashes. Within v1, members may be added, but none is renamed, removed or redefined.
"""

_SECURE = sessions.Cookie(sessions.COOKIE, secure=True, same_site="Strict").full_name
_SCHEMES: Mapping[str, Mapping[str, str]] = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token from `reconciler token`, or a JWT of the identity provider. Not needed without "
        "admin.tokens_file and admin.oidc_issuer.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": sessions.COOKIE,
        "description": f"Set by {signin.PATH}; named {_SECURE} if admin.external_url is https.",
    },
    "csrf": {
        "type": "apiKey",
        "in": "header",
        "name": access.CSRF_HEADER,
        "description": "From `meta name=csrf` of the session's pages; sent with the cookie to change something.",
    },
}


def with_document(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """Return the endpoints, and one that serves their document."""

    @functools.cache
    def text() -> bytes:
        return msgspec.json.encode(document(endpoints))

    async def show(_: Services, __: Call) -> Response:
        return Response(text(), media_type="application/json")

    return (*endpoints, Endpoint(path=PATH, role=Role.VIEWER, handler=show))


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """Return the OpenAPI document of the endpoints that have an answer type."""
    described = [endpoint for endpoint in endpoints if endpoint.answer is not None]
    named = [responses.Problem, *(endpoint.answer for endpoint in described if endpoint.answer is not None)]
    _, schemas = msgspec.json.schema_components(named, ref_template=_REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in described:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Windchill metadata reconciler",
            "version": __version__,
            "description": " ".join(_DESCRIPTION.split()),
        },
        "servers": [{"url": "/", "description": "[admin] bind"}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "responses": {
                str(status): {
                    "description": responses.title(status),
                    "content": {responses.PROBLEM: {"schema": {"$ref": _REFERENCE.format(name="Problem")}}},
                }
                for status in sorted({*_PROBLEMS, *(one for endpoint in described for one in _problems(endpoint))})
            },
            "securitySchemes": _SCHEMES,
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    assert endpoint.role is not None
    assert endpoint.answer is not None
    answer = {"schema": {"$ref": _REFERENCE.format(name=endpoint.answer.__name__)}}
    found: dict[str, Any] = {
        str(endpoint.status): {
            "description": responses.title(endpoint.status),
            "content": {"application/json": answer},
        }
    }
    for status in sorted({*_PROBLEMS, *_problems(endpoint)}):
        found[str(status)] = {"$ref": f"#/components/responses/{status}"}
    bodies = {media_type: {"schema": schema} for media_type, schema in _bodies(endpoint).items()}
    return {
        "operationId": getattr(endpoint.handler, "__name__", endpoint.path),
        "summary": (endpoint.handler.__doc__ or "").strip(),
        "security": _security(endpoint, endpoint.role.name.lower()),
        "parameters": [*_path_parameters(endpoint.path), *_query_parameters(endpoint)],
        **({"requestBody": {"required": True, "content": bodies}} if bodies else {}),
        "responses": found,
    }


def _bodies(endpoint: Endpoint) -> Mapping[str, Mapping[str, Any]]:
    return endpoint.bodies if endpoint.body is None else inputs.described(endpoint.body)


def _security(endpoint: Endpoint, role: str) -> list[dict[str, list[str]]]:
    """Return what an endpoint requires: a token, or a session with a CSRF token if it changes something."""
    mark: dict[str, list[str]] = {} if endpoint.method in access.SAFE else {"csrf": []}
    producer = [{"token": ["producer"]}] if endpoint.producers else []
    return [*producer, {"token": [role]}, {"session": [role], **mark}]


def _problems(endpoint: Endpoint) -> tuple[int, ...]:
    return (*endpoint.problems, *((404,) if "{" in endpoint.path else ()))


def _path_parameters(path: str) -> list[dict[str, Any]]:
    names = [segment[1:-1] for segment in path.split("/") if segment.startswith("{")]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    _, schemas = msgspec.json.schema_components([endpoint.query], ref_template=_REFERENCE)
    found = []
    for name, schema in schemas[endpoint.query.__name__]["properties"].items():
        about = {"description": schema["description"]} if "description" in schema else {}
        found.append({"name": name, "in": "query", **about, "schema": _inline(schema, schemas)})
    return found


def _inline(schema: Any, schemas: Mapping[str, Any]) -> Any:
    """Return a parameter's schema without references, description and null."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        some = [_inline(one, schemas) for one in schema["anyOf"] if one != {"type": "null"}]
        return some[0] if len(some) == 1 else {"anyOf": some}
    return {name: said for name, said in schema.items() if name not in ("description", "title") and said is not None}
