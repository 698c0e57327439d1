"""What holds for every route and for unknown ones."""

import asyncio
import json

import httpx
import pytest

from reconciler.errors import StoreError
from reconciler.web import application
from reconciler.web.page import rendering
from tests.web.conftest import SECRET, Daemon

PATHS = ["/livez", "/readyz", "/metrics", f"/hooks/windchill/{SECRET}"]
SHOWN = [
    endpoint.path
    for endpoint in application.ENDPOINTS
    if "{" not in endpoint.path
    and endpoint.method == "GET"
    and not endpoint.path.startswith("/signin")  # which leads away where no one is asked
]
PAGES = {endpoint.path for endpoint in application.ENDPOINTS if endpoint.page}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO"]


def is_guarded(reply: httpx.Response) -> None:
    """Every answer carries the security headers and nothing that tells what serves."""
    headers = reply.headers
    assert headers["x-content-type-options"] == "nosniff"
    is_page = headers.get("content-type", "").startswith("text/html")
    assert headers["content-security-policy"] == (
        rendering.POLICY if is_page else "default-src 'none'; frame-ancestors 'none'"
    )
    assert headers["cache-control"] == "no-store"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == ("same-origin" if is_page else "no-referrer")
    assert "server" not in headers
    assert "x-powered-by" not in headers


def is_problem(reply: httpx.Response, status: int) -> None:
    assert reply.status_code == status
    if reply.request.url.path in PAGES:  # says it in a page
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        return
    assert reply.headers["content-type"] == "application/problem+json"
    if reply.request.method != "HEAD":
        said = json.loads(reply.content)
        assert said["status"] == status
        assert said["title"]


def test_the_walk_below_meets_every_route() -> None:
    assert {"/livez", "/readyz", "/metrics", "/api/v1/status"} <= set(SHOWN)


@pytest.mark.parametrize("path", sorted({*PATHS, *SHOWN} - {"/api/v1/events"}))
async def test_every_route_takes_its_methods_and_refuses_all_others(client: httpx.AsyncClient, path: str) -> None:
    taken = {endpoint.method for endpoint in application.ENDPOINTS if endpoint.path == path} or {"POST"}
    allowed = taken | ({"HEAD"} if "GET" in taken else set())
    for method in METHODS:
        reply = await client.request(method, path)
        is_guarded(reply)
        if method in allowed:  # what a browser could have sent is posted; only the hook takes that
            hook = path.startswith("/hooks")
            assert reply.status_code == ((202 if hook else 403) if method == "POST" else 200)
        else:
            is_problem(reply, 405)
            assert set(reply.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("path", SHOWN)
async def test_head_is_get_without_the_body(client: httpx.AsyncClient, path: str) -> None:
    got, head = await client.get(path), await client.head(path)
    assert got.content
    assert head.content == b""
    if "transfer-encoding" not in got.headers:  # what is streamed has no length beforehand
        assert head.headers["content-length"] == str(len(got.content))


async def test_an_unknown_route_is_a_problem_404(client: httpx.AsyncClient) -> None:
    for path in ("/nope", "/livez/", "/metrics/x", "//livez", "/hooks/windchill/", "/LIVEZ", "/livez%2f"):
        for method in METHODS:
            reply = await client.request(method, str(client.base_url).rstrip("/") + path)
            is_guarded(reply)
            is_problem(reply, 404)


async def test_a_fault_of_ours_tells_nothing_of_itself(daemon: Daemon, client: httpx.AsyncClient) -> None:
    daemon.trouble = RuntimeError("password is hunter2")
    reply = await client.get("/metrics")
    is_guarded(reply)
    is_problem(reply, 500)
    assert "hunter2" not in reply.text


async def test_a_failing_store_is_reported_to_the_scraper(daemon: Daemon, client: httpx.AsyncClient) -> None:
    daemon.trouble = StoreError("can't count documents: the disk is full")
    reply = await client.get("/metrics")
    is_problem(reply, 503)
    assert "the disk is full" in reply.json()["detail"]


async def test_an_answer_that_takes_too_long_is_given_up(
    daemon: Daemon, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as hurried:
        hurried.setattr(application, "REQUEST_S_MAX", 0.05)
        daemon.hold = asyncio.Event()
        reply = await client.get("/metrics")
    is_guarded(reply)
    is_problem(reply, 503)
    assert (await client.get("/livez")).status_code == 200
