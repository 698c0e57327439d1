"""Endpoints: one address and method each, with all that a caller may have to know of it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

import attrs
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from reconciler.web.principal import Principal, Role
from reconciler.web.sessions import Session
from reconciler.web.sources import Sources

LIMIT_MAX = 500


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may stand behind the question mark: nothing. Anything that is not a member is refused by name."""


class Page(Query, frozen=True, kw_only=True):
    """Which part of a list."""

    limit: Annotated[
        int, msgspec.Meta(ge=1, le=LIMIT_MAX, description="How many, at most; fewer where values are large.")
    ] = 50
    after: Annotated[str, msgspec.Meta(description="`next` of the page before.")] = ""


@attrs.frozen
class Asked:
    """A request, taken apart."""

    path: Mapping[str, str]
    query: Any  # of the endpoint's own type
    who: Principal
    request: Request
    csrf: str = attrs.field(default="", repr=False)  # what every form of the answer carries as its field `csrf`
    session: Session | None = attrs.field(default=None, repr=False)


Call = Callable[[Sources, Asked], Awaitable[msgspec.Struct | Response]]


@attrs.frozen(kw_only=True)
class Endpoint:
    """
    One address and method. `role` is the least that is needed; `None`: open to everybody.

    Whoever may append events of some source may ask `producers` too, whatever their role.

    `path` has names in braces, each for one segment, which may hold any character in percent-encoding. What has an
    `answer` stands in the OpenAPI document. A `page` is for a browser: its refusals are pages too, not problems. To
    what is `linked`, pages of other sites may lead by a link; to all else only ours, and programs.
    """

    path: str
    role: Role | None
    call: Call
    summary: str = ""
    method: str = "GET"
    query: type[Query] = Query
    answer: type[msgspec.Struct] | None = None
    status: int = 200
    bodies: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)  # media type → schema of what may be sent
    problems: tuple[int, ...] = ()  # beyond those that every endpoint has
    producers: bool = False
    page: bool = False
    linked: bool = False
