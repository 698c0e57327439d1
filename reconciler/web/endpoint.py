"""Endpoints: an address and a method, with the role it needs, its parameters and its answer."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

import attrs
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from reconciler.web.principal import Principal, Role
from reconciler.web.services import Services
from reconciler.web.sessions import Session

LIMIT_MAX = 500


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Query parameters; unknown ones are refused by name."""


class Page(Query, frozen=True, kw_only=True):
    """Query parameters of a list."""

    limit: Annotated[
        int, msgspec.Meta(ge=1, le=LIMIT_MAX, description="The most items to return; fewer if values are large.")
    ] = 50
    after: Annotated[str, msgspec.Meta(description="`next` of the previous page.")] = ""


@attrs.frozen
class Call:
    """One request to an endpoint: who sends it, and its decoded path, query and body."""

    path: Mapping[str, str]
    query: Any  # of the endpoint's own type
    who: Principal
    request: Request
    csrf: str = attrs.field(default="", repr=False)  # the value of the field `csrf` in every form of the answer
    session: Session | None = attrs.field(default=None, repr=False)
    body: Any = None  # of the endpoint's own type


Handler = Callable[[Services, Call], Awaitable[msgspec.Struct | Response]]


@attrs.frozen(kw_only=True)
class Endpoint:
    """
    One address and method. `role` is the least role it needs; `None`: everyone may call it.

    With `producers`, anyone who may append events of some source may call it too, whatever their role. A name in braces
    in `path` matches one segment with any percent-encoded characters. The OpenAPI document lists endpoints that have an
    `answer`. A `page` is for browsers: its errors are pages, not problems. Other sites may link to `linked` endpoints;
    all others can be reached only from our own pages and from programs.
    """

    path: str
    role: Role | None
    handler: Handler
    method: str = "GET"
    query: type[Query] = Query
    answer: type[msgspec.Struct] | None = None
    status: int = 200
    body: type[msgspec.Struct] | None = None  # of the JSON object that may be sent
    body_bytes_max: int = 64 * 1024
    bodies: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)  # media type → schema of anything else
    problems: tuple[int, ...] = ()  # error statuses besides those of every endpoint
    producers: bool = False
    page: bool = False
    linked: bool = False
