"""Clients of each role, with a token, a session, or nothing."""

import re

import httpx

from reconciler.web import application, tokens
from reconciler.web.page import rendering
from reconciler.web.principal import Principal, Role

TOKENS = {role: f"rec_{role.name.lower()}" for role in Role}
SOURCES = {Role.PRODUCER: ("//erp/*",), Role.VIEWER: (), Role.OPERATOR: ("*",), Role.ADMIN: ("*",)}
LINES = "\n".join(
    tokens.line(Principal(f"{role.name.lower()}.jones", role, sources=SOURCES[role]), token)
    for role, token in TOKENS.items()
)
PEOPLE = [Role.VIEWER, Role.OPERATOR, Role.ADMIN]  # who signs in
PRODUCING = {endpoint.path for endpoint in application.ENDPOINTS if endpoint.producers}
ROUTES = [(endpoint.method, endpoint.path, endpoint.role) for endpoint in application.ENDPOINTS]
ROUTE_NAMES = [f"{method} {path}" for method, path, _ in ROUTES]
LINKED = {endpoint.path for endpoint in application.ENDPOINTS if endpoint.linked}
PAGES = {endpoint.path for endpoint in application.ENDPOINTS if endpoint.page}
COOKIE = "reconciler_session"
# What a browser sends when someone follows a link on another site.
FOLLOWED = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


def shown(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def may(role: Role, path: str, needed: Role | None) -> bool:
    """Whether a role is let in by a route."""
    return needed is None or role >= needed or (role is Role.PRODUCER and path in PRODUCING)


def address(path: str) -> str:
    """An address of a route, of something that is not there."""
    if path == "/static/{name}":
        return rendering.address("page.css")
    return re.sub(r"\{\w+\}", "nope", path)


async def asked(client: httpx.AsyncClient, method: str, path: str, **how: object) -> httpx.Response:
    """What a route answers."""
    return await client.request(method, address(path), **how)


async def signed_in(client: httpx.AsyncClient, role: Role) -> str:
    """Sign in by a token; the cookie is the client's then. Returns the CSRF token of the session's pages."""
    reply = await client.post("/signin", data={"token": TOKENS[role]})
    assert (reply.status_code, reply.headers["location"]) == (303, "/"), reply.text
    return csrf_in(await client.get("/"))


def csrf_in(reply: httpx.Response) -> str:
    found = re.search(r'<meta name="csrf" content="([A-Za-z0-9_-]+)">', reply.text)
    assert found is not None, reply.text
    return found[1]
