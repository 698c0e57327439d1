"""The server on its socket: addresses, limits, and shutdown."""

import asyncio
import signal
import socket

import httpx
import pytest

from reconciler.errors import ConfigError
from reconciler.web import application, server
from tests.patience import HANG_S
from tests.web.conftest import Daemon


async def said(client: httpx.AsyncClient, sent: bytes, drip: bytes = b"") -> bytes:
    """Send bytes, then `drip` again and again; return all that comes until the server closes the connection."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(sent)
    ended = asyncio.create_task(reader.read())
    try:
        async with asyncio.timeout(HANG_S):
            while not ended.done():
                writer.write(drip)
                await asyncio.wait([ended], timeout=0.02)
        return ended.result()
    except ConnectionError:
        return b""
    finally:
        ended.cancel()
        writer.close()


def test_a_port_that_is_taken_is_one_line_that_says_what_to_do() -> None:
    with server.listen("127.0.0.1:0") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            server.listen(f"127.0.0.1:{port}")
    assert str(caught.value) == (
        f'admin.bind: can\'t listen on 127.0.0.1:{port} (address already in use); choose another port, or "" for none'
    )


def test_no_answer_waits_for_the_client_to_acknowledge_its_first_packet() -> None:
    with server.listen("127.0.0.1:0") as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.parametrize(
    ("bind", "begins"),
    [("127.0.0.1:0", "http://127.0.0.1:"), ("localhost:0", "http://127.0.0.1:"), ("[::1]:0", "http://[::1]:")],
)
async def test_the_address_is_the_one_that_answers(bind: str, begins: str, daemon: Daemon) -> None:
    if "::1" in bind and not socket.has_ipv6:
        pytest.skip("no IPv6 on this machine")
    try:
        listener = server.listen(bind)
    except ConfigError as error:
        pytest.skip(f"no such address on this machine: {error}")
    with listener:
        address = server.AdminServer(listener).address
    assert address.startswith(begins)
    assert int(address.rpartition(":")[2]) > 0


async def test_a_head_that_is_not_whole_in_time_ends_the_connection(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_S_MAX", 0.1)
    assert await said(client, b"") == b""
    assert await said(client, b"GET /livez HTTP/1.1\r\nhost: x\r\n") == b""


async def test_a_client_that_drips_does_not_win_time(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_S_MAX", 0.3)
    assert await said(client, b"GET /livez HTTP/1.1\r\n", drip=b"x: y\r\n") == b""


async def test_a_body_that_never_comes_does_not_keep_the_connection(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_S_MAX", 0.1)
    answer = await said(client, b"POST /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 405 ")
    answer = await said(client, b"GET /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n", drip=b"x")
    assert answer.startswith(b"HTTP/1.1 200 ") or not answer


async def test_one_connection_serves_many_requests(client: httpx.AsyncClient) -> None:
    sent = (
        b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n" * 20 + b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    assert (await said(client, sent)).count(b"HTTP/1.1 200 ") == 21


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_head_that_is_too_large_is_refused(client: httpx.AsyncClient, at_once: bool) -> None:
    much = b"y" * server.HEAD_BYTES_MAX
    for begin, end in (
        (b"GET /livez HTTP/1.1\r\nhost: x\r\nx: ", b"\r\n\r\n"),
        (b"GET /", b" HTTP/1.1\r\nhost: x\r\n\r\n"),
        (b"GET /livez?", b" HTTP/1.1\r\nhost: x\r\n\r\n"),
    ):
        ending = b"connection: close\r\n\r\n"
        answer = await said(client, begin + much + end[:-2] + ending if at_once else begin + 20 * much)
        assert answer.startswith(b"HTTP/1.1 431 " if at_once else b"HTTP/1.1 400 ") or (not at_once and not answer)
        assert (await client.get("/livez")).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"not HTTP at all\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n\r\n",  # no host
        b"POST /livez HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n",  # TLS
    ],
    ids=["no-http", "no-host", "two-lengths", "tls"],
)
async def test_malformed_requests_are_refused(client: httpx.AsyncClient, sent: bytes) -> None:
    assert (await said(client, sent)).startswith(b"HTTP/1.1 400 ")
    assert (await client.get("/livez")).status_code == 200


async def test_a_stop_does_not_wait_for_idle_connections(daemon: Daemon) -> None:
    async with daemon.served() as client:
        await client.get("/livez")
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(b"GET /livez HTTP/1.1\r\n")
    # `served` fails unless the server has ended in time.
    assert await asyncio.wait_for(reader.read(), HANG_S) == b""
    writer.close()
    with pytest.raises(httpx.ConnectError):
        await httpx.AsyncClient().get(f"{client.base_url}/livez")


async def test_a_cancelled_server_lets_go_of_its_connections_and_its_port(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HEAD_S_MAX", 1000.0)  # an idle connection is not ended anyway
    admin = server.AdminServer(server.listen("127.0.0.1:0"))
    task = asyncio.create_task(admin.serve(application.application(daemon.services)))
    reader, writer = await asyncio.open_connection(*admin.address.removeprefix("http://").split(":"))
    writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await asyncio.wait_for(reader.readuntil(b"}"), HANG_S)).startswith(b"HTTP/1.1 200 ")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await asyncio.wait_for(reader.read(), HANG_S) == b""
    writer.close()
    server.listen(admin.address.removeprefix("http://")).close()


async def test_a_stop_before_the_start_ends_it_at_once(daemon: Daemon) -> None:
    admin = server.AdminServer(server.listen("127.0.0.1:0"))
    admin.stop()
    await asyncio.wait_for(admin.serve(application.application(daemon.services)), HANG_S)


async def test_signals_are_left_to_the_program(daemon: Daemon) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    async with daemon.served() as client:
        assert (await client.get("/livez")).status_code == 200
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


async def test_a_stop_does_not_wait_for_an_answer_that_does_not_come(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "REQUEST_S_MAX", 1000.0)
    daemon.hold = asyncio.Event()
    async with daemon.served() as client:  # which fails unless the server ends in time
        scrape = asyncio.create_task(client.get("/metrics"))
        assert (await client.get("/livez")).status_code == 200
    with pytest.raises(httpx.HTTPError):
        (await scrape).raise_for_status()
