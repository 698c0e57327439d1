"""How pages are served, before any browser: their policy, their files, and what is said when there is none."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from reconciler.errors import StoreError
from reconciler.web.page import assets, rendering

if TYPE_CHECKING:
    import httpx

    from tests.web.conftest import Daemon

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


async def test_a_page_allows_itself_nothing_from_elsewhere_and_nothing_inline(client: httpx.AsyncClient) -> None:
    reply = await client.get("/")
    assert reply.headers["content-security-policy"] == rendering.POLICY
    assert "unsafe" not in rendering.POLICY
    assert not re.search(r"<style|style=|<script(?! src=\"/static/)| on\w+=", reply.text)


@pytest.mark.parametrize("name", ["page.css", "page.js", "icon.svg"])
async def test_a_file_of_the_page_may_be_kept_for_good(client: httpx.AsyncClient, name: str) -> None:
    reply = await client.get(assets.address(name))
    assert reply.status_code == 200
    assert reply.headers["content-type"].split(";")[0] in ("text/css", "text/javascript", "image/svg+xml")
    assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
    again = await client.get(assets.address(name), headers={"if-none-match": reply.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_a_file_of_another_version_is_not_there(client: httpx.AsyncClient) -> None:
    for name in ("page.css", "page.0000000000000000.css", "..%2Frendering.py", "%2e%2e%2frendering.py"):
        assert (await client.get(f"/static/{name}")).status_code == 404


async def test_an_address_that_is_none_is_a_page_for_a_browser_and_a_problem_for_a_program(
    client: httpx.AsyncClient,
) -> None:
    for path in ("/nope", "/static", "/documents/a/b/c"):
        assert (await client.get(path)).headers["content-type"] == "application/problem+json"
        shown = await client.get(path, headers=BROWSER)
        assert (shown.status_code, shown.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert "<h1>Not Found</h1>" in shown.text
    api = await client.get("/api/v1/nope", headers=BROWSER)
    assert api.headers["content-type"] == "application/problem+json"


async def test_what_a_page_refuses_is_said_in_a_page_and_escaped(client: httpx.AsyncClient) -> None:
    reply = await client.get("/", params={"<script>": "1"})
    assert reply.status_code == 400
    assert "&lt;script&gt;: unknown query parameter" in reply.text
    assert (await client.put("/")).status_code == 405


async def test_a_store_that_is_busy_is_said_in_a_page(
    daemon: Daemon, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy() -> None:
        raise StoreError("can't count documents: the store is busy")

    monkeypatch.setattr(daemon.world.store, "counts", busy)
    reply = await client.get("/")
    assert (reply.status_code, reply.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert "the store is busy" in reply.text
