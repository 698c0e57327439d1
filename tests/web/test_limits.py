"""More clients than can be served, on real sockets: which are answered, and which are disconnected."""

import asyncio
import contextlib
import select
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from reconciler.web import limits, server
from reconciler.web.principal import Role
from tests.patience import HANG_S
from tests.web.conftest import Daemon
from tests.web.keys import LINES, TOKENS, shown

HEAD = b" HTTP/1.1\r\nhost: localhost\r\n"
KINDS = {
    "idle": b"",
    "a head that is not whole": b"GET /api/v1/status" + HEAD,
    "a body that is not whole": b"POST /signin" + HEAD
    + b"content-type: application/x-www-form-urlencoded\r\ncontent-length: 50\r\n\r\ntoken=",
    "a body for a probe": b"GET /livez" + HEAD + b"content-length: 50\r\n\r\nx",
    "kept open after a probe": b"GET /livez" + HEAD + b"\r\n",
    "kept open after a refusal": b"GET /api/v1/status" + HEAD + b"\r\n",
}  # fmt: skip


@asynccontextmanager
async def crowd_of(client: httpx.AsyncClient, count: int, sent: bytes) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """So many connections, each of which has sent that and is left open."""
    writers = []
    for _ in range(count):
        _, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(sent)
        writers.append(writer)
    await asyncio.sleep(0.05)
    try:
        yield writers
    finally:
        for writer in writers:
            writer.close()


async def asked(client: httpx.AsyncClient, path: str, **more: Any) -> httpx.Response:
    """Ask once, on a connection of its own, as a kubelet does."""
    return await client.get(path, timeout=HANG_S, headers={"connection": "close", **more})


@pytest.mark.parametrize("count", [120, 1000])
@pytest.mark.parametrize("kind", KINDS)
async def test_no_number_of_clients_that_do_nothing_keeps_anyone_out(daemon: Daemon, kind: str, count: int) -> None:
    daemon.tokens = LINES
    async with daemon.served() as client, crowd_of(client, count, KINDS[kind]):
        for _ in range(3):
            assert [(await asked(client, path)).status_code for path in ("/livez", "/readyz")] == [200, 200]
            assert (await asked(client, "/api/v1/status", **shown(TOKENS[Role.VIEWER]))).status_code == 200


async def test_a_probe_is_answered_while_connections_pour_in(daemon: Daemon) -> None:
    async with daemon.served() as client:
        host, port = client.base_url.host, client.base_url.port
        writers: list[asyncio.StreamWriter] = []

        async def pour() -> None:
            while True:
                opened = await asyncio.gather(*(asyncio.open_connection(host, port) for _ in range(100)))
                writers.extend(writer for _, writer in opened)
                for writer in writers[:-1000]:
                    writer.close()
                del writers[:-1000]

        pouring = asyncio.create_task(pour())
        try:
            for _ in range(10):
                assert (await asked(client, "/livez")).status_code == 200
        finally:
            pouring.cancel()
            await asyncio.gather(pouring, return_exceptions=True)
            for writer in writers:
                writer.close()


async def test_connections_with_a_request_in_progress_stay_open(daemon: Daemon) -> None:
    daemon.hold = asyncio.Event()
    async with daemon.served() as client:
        scrape = asyncio.create_task(client.get("/metrics", timeout=HANG_S))
        await asyncio.sleep(0.05)
        async with crowd_of(client, 1000, b""):
            daemon.hold.set()
            assert (await scrape).status_code == 200


async def test_the_longest_idle_connection_is_closed_first(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CONNECTIONS_MAX", 3)
    async with daemon.served() as client:
        host, port = client.base_url.host, client.base_url.port
        first, second, third = [await asyncio.open_connection(host, port) for _ in range(3)]
        second[1].write(b"GET /livez" + HEAD + b"\r\n")  # so that it waits since its answer only
        assert (await second[0].readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
        first[1].write(b"GET /livez HTTP/1.1\r\n")  # a drip wins no time
        fourth = await asyncio.open_connection(host, port)
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(first[0].read(), HANG_S) == b""
        first[1].close()
        for reader, writer in (second, third, fourth):
            writer.write(b"GET /livez" + HEAD + b"\r\n")
            assert (await asyncio.wait_for(reader.readuntil(b"}"), HANG_S)).startswith(b"HTTP/1.1 200 ")
            writer.close()


async def test_so_many_requests_are_worked_on_at_once_and_probes_beside_them(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REQUESTS_MAX", 3)
    daemon.hold = asyncio.Event()
    async with daemon.served() as client:
        held = [asyncio.create_task(client.get("/metrics", timeout=HANG_S)) for _ in range(3)]
        async with asyncio.timeout(HANG_S):
            while (refused := await client.get("/api/v1/openapi.json")).status_code != 503:  # noqa: ASYNC110  no event tells that they are there
                await asyncio.sleep(0.01)
        assert (refused.headers["retry-after"], refused.headers["content-type"]) == ("1", "application/problem+json")
        assert [(await client.get(path)).status_code for path in ("/livez", "/readyz")] == [200, 200]
        daemon.hold.set()
        assert [(await one).status_code for one in held] == [200] * 3
        assert (await client.get("/api/v1/status")).status_code == 200


async def test_an_unread_answer_takes_no_request_slot(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUESTS_MAX", 2)
    monkeypatch.setattr(server, "UNREAD_S_MAX", 1000.0)
    daemon.settings = [("log", "topic", "x" * 1_000_000, "default")] * 8
    async with daemon.served() as client, crowd_of(client, 4, b"GET /api/v1/config" + HEAD + b"\r\n"):
        async with asyncio.timeout(HANG_S):
            while (await asked(client, "/api/v1/status")).status_code != 200:
                pass


async def test_few_files_leave_room_for_the_daemons_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.resource, "getrlimit", lambda _: (256, 1024))
    assert limits.connections_max() == 128


async def test_a_client_that_reads_nothing_is_disconnected(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "UNREAD_S_MAX", 0.2)
    daemon.settings = [("log", "topic", "x" * 1_000_000, "default")] * 8  # more than any buffer takes
    async with daemon.served() as client:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            await asyncio.get_running_loop().sock_connect(deaf, (client.base_url.host, client.base_url.port))
            deaf.send(b"GET /api/v1/config" + HEAD + b"\r\n")
            async with asyncio.timeout(HANG_S):
                while not select.select([deaf], [], [], 0)[0]:  # noqa: ASYNC110  no event tells that the answer begins
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)  # on the server's own loop, so what it set to 0.2 s is over before
            assert await size_until_end(deaf) < 8_000_000


async def size_until_end(from_: socket.socket) -> int:
    """How many bytes come before the connection ends, whichever way."""
    size = 0
    with contextlib.suppress(ConnectionError):
        while got := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(from_, 65536), HANG_S):
            size += len(got)
    return size


def test_a_flood_does_not_push_out_new_connections() -> None:
    assert limits.CONNECTIONS_MAX - limits.REQUESTS_MAX > 3 * limits.BACKLOG
    assert server.limits is limits
