"""Windchill's hook: who may wake the daemon, how often, and what happens to the body."""

import asyncio

import pytest
from httpx import AsyncClient

from reconciler.web import application
from reconciler.web.limits import Bucket
from tests.web.conftest import SECRET, Daemon

HOOK = f"/hooks/windchill/{SECRET}"


async def test_the_right_secret_wakes_and_the_body_does_not_matter(daemon: Daemon, client: AsyncClient) -> None:
    for number, body in enumerate(
        [b"", b'{"Number":"0000012345"}', b"\xff\x00 not JSON", b"x" * application.HOOK_BODY_BYTES_MAX]
    ):
        reply = await client.post(HOOK, content=body)
        assert (reply.status_code, reply.content) == (202, b"")
        assert daemon.wakes == number + 1


@pytest.mark.parametrize(
    "secret", [SECRET[:-1], SECRET + "x", SECRET.upper(), "x", "%00", "%ff%fe", "ünïcode", SECRET + "/", "x" * 5000]
)
async def test_a_wrong_secret_looks_like_any_unknown_path(daemon: Daemon, client: AsyncClient, secret: str) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "OPTIONS", "FOO"):
        reply, unknown = [await client.request(method, path) for path in (f"/hooks/windchill/{secret}", "/nope")]
        assert reply.status_code == 404
        assert (reply.content, {**reply.headers, "date": ""}) == (unknown.content, {**unknown.headers, "date": ""})
    assert daemon.wakes == 0


@pytest.mark.parametrize("secret", ["", SECRET])
async def test_without_a_configured_secret_there_is_no_hook(daemon: Daemon, secret: str) -> None:
    daemon.hook_secret = ""
    async with daemon.served() as client:
        assert (await client.post(f"/hooks/windchill/{secret}")).status_code == 404
    assert daemon.wakes == 0


async def test_wrong_secrets_spend_nothing_of_the_rate(daemon: Daemon, client: AsyncClient) -> None:
    for _ in range(3 * application.HOOK_BURST):
        assert (await client.post("/hooks/windchill/wrong")).status_code == 404
    assert (await client.post(HOOK)).status_code == 202


async def test_calls_above_the_rate_limit_get_a_retry_after(daemon: Daemon, client: AsyncClient) -> None:
    for _ in range(application.HOOK_BURST):
        assert (await client.post(HOOK)).status_code == 202
    reply = await client.post(HOOK)
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "1")
    assert reply.headers["content-type"] == "application/problem+json"
    assert daemon.wakes == application.HOOK_BURST
    await daemon.clock.advance(1)
    assert (await client.post(HOOK)).status_code == 202
    assert (await client.post(HOOK)).status_code == 429


@pytest.mark.parametrize("declared", [True, False])
async def test_an_oversized_body_is_refused_and_wakes_nothing(
    daemon: Daemon, client: AsyncClient, declared: bool
) -> None:
    async def pieces() -> object:
        for _ in range(application.HOOK_BODY_BYTES_MAX // 1024 + 1):
            yield b"x" * 1024

    content = b"x" * (application.HOOK_BODY_BYTES_MAX + 1) if declared else pieces()
    reply = await client.post(HOOK, content=content)
    assert reply.status_code == 413
    assert reply.headers["connection"] == "close"
    assert daemon.wakes == 0


async def test_a_caller_that_hangs_up_halfway_wakes_nothing(daemon: Daemon, client: AsyncClient) -> None:
    _, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(f"POST {HOOK} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf".encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await client.get("/livez")).status_code == 200
    assert daemon.wakes == 0


def test_a_bucket_gives_its_burst_and_then_one_each_period() -> None:
    bucket = Bucket(3, 2.0)
    assert [bucket.wait_s(100.0) for _ in range(4)] == [0, 0, 0, 2.0]
    assert bucket.wait_s(101.0) == 1.0
    assert [bucket.wait_s(102.0), bucket.wait_s(102.0)] == [0, 2.0]
    assert [bucket.wait_s(1000.0) for _ in range(4)] == [0, 0, 0, 2.0]
