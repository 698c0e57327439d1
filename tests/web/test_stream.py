"""The event stream on real sockets: what is told, to how many, and what ends it. Time passes only as a test lets it."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from reconciler.errors import StoreError
from reconciler.web import application, server, tokens, watching
from reconciler.web.principal import Principal, Role
from tests.web.test_server import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.web.conftest import Daemon

PATH = "/api/v1/stream"


class Listener:
    """One client of the stream; everything it was told so far."""

    def __init__(self, reply: httpx.Response) -> None:
        self.reply = reply
        self._lines = reply.aiter_lines()

    async def event(self) -> tuple[str, Any]:
        """The next event, or ("comment", None)."""
        name = ""
        async with asyncio.timeout(PATIENCE_S):
            async for line in self._lines:
                if line == ":":
                    return "comment", None
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                if line.startswith("data: "):
                    return name, json.loads(line.removeprefix("data: "))
        raise EOFError

    async def ended(self) -> bool:
        """Whether the stream ends in good order, whatever is told before."""
        while True:
            try:
                await self.event()
            except EOFError:
                return True


@asynccontextmanager
async def listening(client: httpx.AsyncClient, **more: Any) -> AsyncIterator[Listener]:
    async with client.stream("GET", PATH, timeout=PATIENCE_S, **more) as reply:
        yield Listener(reply)


@asynccontextmanager
async def greeted(client: httpx.AsyncClient, **more: Any) -> AsyncIterator[Listener]:
    """A listener that has been told how everything stands."""
    async with listening(client, **more) as listener:
        assert [(await listener.event())[0] for _ in range(2)] == ["status", "audit"]
        yield listener


@pytest.fixture
def looks(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the store was asked how many documents stand where."""
    asked: list[float] = []
    counts = daemon.world.store.counts

    async def counted() -> Any:
        asked.append(daemon.clock.monotonic_s())
        return await counts()

    monkeypatch.setattr(daemon.world.store, "counts", counted)
    return asked


async def size_until_end(from_: socket.socket) -> int:
    """How many bytes come before the connection ends, whichever way."""
    size = 0
    try:
        while got := await asyncio.wait_for(asyncio.get_running_loop().sock_recv(from_, 65536), PATIENCE_S):
            size += len(got)
    except ConnectionError:
        pass
    return size


async def pass_s(daemon: Daemon, seconds: float) -> None:
    """Let time pass, and sockets have their turns."""
    for _ in range(round(seconds * 2)):
        await daemon.clock.advance(0.5)
        await asyncio.sleep(0.005)


async def test_who_comes_is_told_at_once_how_everything_stands(daemon: Daemon, client: httpx.AsyncClient) -> None:
    await daemon.world.emit({"title": "Cover"})
    await daemon.world.settle()
    async with listening(client) as listener:
        assert listener.reply.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert listener.reply.headers["cache-control"] == "no-store"
        assert "content-length" not in listener.reply.headers
        assert await listener.event() == ("status", (await client.get("/api/v1/status")).json())
        assert await listener.event() == ("audit", {"newest": len(daemon.world.store.chain)})


async def test_two_listeners_are_told_the_same_by_one_look_a_second(
    daemon: Daemon, client: httpx.AsyncClient, looks: list[float]
) -> None:
    async with greeted(client) as one, greeted(client) as other:
        await daemon.world.emit({"title": "Cover"})
        await daemon.world.settle()
        await pass_s(daemon, 3)
        told = [[await listener.event() for _ in range(2)] for listener in (one, other)]
        assert told[0] == told[1]
        assert [name for name, _ in told[0]] == ["status", "audit"]
        assert told[0][0][1]["documents"]["synced"] == 1
    assert all(later - earlier >= 1 for earlier, later in pairwise(looks))


async def test_nobody_looks_while_nobody_listens(daemon: Daemon, client: httpx.AsyncClient, looks: list[float]) -> None:
    await pass_s(daemon, 5)
    assert looks == []
    async with greeted(client):
        pass
    await pass_s(daemon, 3)  # it is noticed that the listener is gone
    seen = len(looks)
    await pass_s(daemon, 10)
    assert len(looks) == seen


async def test_that_time_passes_is_no_change_but_something_is_said_now_and_then(
    daemon: Daemon, client: httpx.AsyncClient
) -> None:
    await daemon.world.emit({"title": "Cover"})  # it is pending, for longer with every second
    async with greeted(client) as listener:
        await pass_s(daemon, 15)
        assert (await listener.event())[0] == "comment"
        await daemon.world.settle()
        await pass_s(daemon, 2)
        assert (await listener.event())[0] == "status"


async def test_a_stream_goes_on_after_the_time_that_a_request_has(
    daemon: Daemon, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "REQUEST_S_MAX", 0.05)
    async with greeted(client) as listener:
        await asyncio.sleep(0.2)
        await daemon.world.emit({"title": "Cover"})
        await pass_s(daemon, 2)
        assert (await listener.event())[0] == "status"


async def test_a_token_that_was_taken_out_ends_the_stream_within_a_minute(daemon: Daemon) -> None:
    one, other = (tokens.line(Principal(name, Role.VIEWER), f"rec_{name}") for name in ("jdoe", "boss"))
    daemon.tokens = f"{one}\n{other}\n"
    async with daemon.served() as client:
        assert (await client.get(PATH)).status_code == 401
        jdoe, boss = ({"authorization": f"Bearer rec_{name}"} for name in ("jdoe", "boss"))
        async with greeted(client, headers=jdoe) as taken_out, greeted(client, headers=boss) as left:
            daemon.tokens = f"{other}\n"
            await pass_s(daemon, 60)
            assert await taken_out.ended()
            assert (await left.event())[0] == "comment"
        assert (await client.get(PATH, headers=jdoe)).status_code == 401


async def test_streams_end_at_once_when_the_daemon_stops(daemon: Daemon, client: httpx.AsyncClient) -> None:
    async with greeted(client) as one, greeted(client) as other:
        daemon.stopping.set()
        assert await one.ended()
        assert await other.ended()
    reply = await client.get(PATH)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")


async def test_a_stop_of_the_server_does_not_wait_for_its_grace(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_STOP_S_MAX", 1000)
    async with daemon.served() as client, greeted(client) as listener:
        daemon.stopping.set()
        assert await listener.ended()
    # `served` fails unless the server has ended in time.


async def test_streams_are_limited_and_who_leaves_makes_room(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "STREAMS_MAX", 2)
    async with daemon.served() as client:
        async with greeted(client), greeted(client):
            refused = await client.get(PATH)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
            assert (await client.get("/api/v1/status")).status_code == 200
        await pass_s(daemon, 2)
        async with greeted(client):
            pass


async def test_head_has_no_body_and_takes_no_place(
    daemon: Daemon, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "STREAMS_MAX", 1)
    for _ in range(3):
        reply = await client.head(PATH)
        assert (reply.status_code, reply.content) == (200, b"")
        assert reply.headers["content-type"].startswith("text/event-stream")


async def test_a_store_that_fails_is_a_problem_at_first_and_later_the_end(
    daemon: Daemon, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails() -> Any:
        raise StoreError("can't count documents: the disk is full")

    async with greeted(client) as listener:
        monkeypatch.setattr(daemon.world.store, "counts", fails)
        await pass_s(daemon, 2)
        assert await listener.ended()
    reply = await client.get(PATH)
    assert reply.status_code == 503
    assert "the disk is full" in reply.json()["detail"]


async def test_a_slow_reader_gets_the_newest_state_and_nothing_of_what_lay_between(daemon: Daemon) -> None:
    """Straight at the application: how much a kernel takes for a client that does not read is its own affair."""
    sent: list[bytes] = []
    reads, begun = asyncio.Event(), asyncio.Event()
    reads.set()

    async def send(message: Any) -> None:
        begun.set()
        await reads.wait()
        sent.append(message.get("body", b""))

    async def receive() -> Any:
        await asyncio.Event().wait()

    headers = [(b"host", b"localhost")]
    scope = {"type": "http", "method": "GET", "path": PATH, "raw_path": PATH.encode(), "query_string": b""}
    app = application.application(daemon.sources)
    task: asyncio.Task[None] = asyncio.create_task(
        app({**scope, "headers": headers, "root_path": "", "scheme": "http"}, receive, send)
    )
    await begun.wait()
    await pass_s(daemon, 1)
    before = len(sent)
    reads.clear()
    for number in range(20):
        await daemon.world.emit({"title": "Cover"}, key=f"d{number}")
        await pass_s(daemon, 1)
    reads.set()
    await pass_s(daemon, 1)
    told = [json.loads(text.split(b"data: ")[1].split(b"\n")[0]) for text in sent[before:] if b"event: status" in text]
    assert [status["documents"]["pending"] for status in told] == [20]
    daemon.stopping.set()
    await asyncio.wait_for(task, PATIENCE_S)


async def test_who_reads_nothing_at_all_is_let_go_and_keeps_nobody_else_waiting(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "UNREAD_S_MAX", 0.2)
    monkeypatch.setattr(watching, "STREAMS_MAX", 2)
    daemon.settings = [("log", "topic", "x" * 1_000_000, "default")] * 8
    async with daemon.served() as client, greeted(client) as listener:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            await asyncio.get_running_loop().sock_connect(deaf, (client.base_url.host, client.base_url.port))
            deaf.send(b"GET /api/v1/config HTTP/1.1\r\nhost: localhost\r\n\r\n")  # more than any buffer takes
            await daemon.world.emit({"title": "Cover"})
            await pass_s(daemon, 2)
            assert (await listener.event())[0] == "status"
            await asyncio.sleep(0.5)
            assert await size_until_end(deaf) < 8_000_000
