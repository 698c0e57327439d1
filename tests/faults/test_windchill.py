"""What the adapter makes of a network that fails at each moment of an exchange. Real sockets on both sides."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest

from reconciler.adapters.documents import DocumentsWindchill
from reconciler.model.answer import (
    Failed,
    Locked,
    NotAvailable,
    Refused,
    Throttled,
    Unauthorised,
    Unguarded,
    Unknown,
    VersionConflict,
    Written,
)
from reconciler.model.snapshot import Snapshot, Token
from tests import defaults
from tests.adapters.simulated import DOCUMENT, Simulated, windchill
from tests.faults.proxy import NEVER_SERVED, Fault, HttpProxy
from tests.windchills import seen, write_on

METHODS = ("patch", "put")
SILENT = (Fault.SWALLOWED, Fault.SWALLOWED_REPLY)
SLOW = (Fault.DRIPPING_REQUEST, Fault.DELAYED, Fault.DRIPPING_REPLY)
CUT = [fault for fault in Fault if fault not in (*SILENT, *SLOW, Fault.CLOSED_WHEN_IDLE)]
DEADLINE_S = 0.3
"""Of calls that are to meet it. All others have as long as the test."""


@pytest.fixture
async def proxy(server: Simulated) -> AsyncIterator[HttpProxy]:
    async with HttpProxy(server.url, pause_s=0.001) as between:
        yield between


@asynccontextmanager
async def through(
    proxy: HttpProxy, write_method: str = "patch", timeout_s: float = 60.0
) -> AsyncIterator[DocumentsWindchill]:
    there = windchill(proxy.url, write_method=write_method, http=defaults.http(timeout_s=timeout_s))
    try:
        yield there
    finally:
        await there.close()


def hurry(there: DocumentsWindchill, timeout_s: float = DEADLINE_S) -> None:
    """Let no call take longer from now on; what came before had as long as a slow machine needs."""
    there._client._options = attrs.evolve(there._client._options, timeout_s=timeout_s)


def written(server: Simulated) -> bool:
    return [entry.who for entry in server.history()] == ["integration"]


# ------------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("fault", [*CUT, *SILENT])
@pytest.mark.parametrize("write_method", METHODS)
@pytest.mark.parametrize("connection", ["new", "used before"])
async def test_a_write_whose_answer_is_lost_is_unknown_and_sent_once(
    server: Simulated, proxy: HttpProxy, fault: Fault, write_method: str, connection: str
) -> None:
    async with through(proxy, write_method) as there:
        snapshot = await seen(there, DOCUMENT)
        if connection == "new":
            proxy.cut()
            await proxy.idle()
        proxy.plan(fault)
        hurry(there, DEADLINE_S if fault in SILENT else 60)
        answer = await write_on(there, snapshot, {"owner": "akim"})
    assert isinstance(answer, Unknown), answer
    await proxy.idle()  # the server has answered by then, though we may not have heard of it
    assert written(server) == (fault not in NEVER_SERVED)
    assert proxy.connections == (2 if connection == "new" else 1)
    assert proxy.asked[write_method.upper()] == (0 if fault is Fault.RESET_ON_CONNECT and connection == "new" else 1)


@pytest.mark.parametrize("fault", SLOW)
@pytest.mark.parametrize("write_method", METHODS)
async def test_a_slow_write_is_waited_for(server: Simulated, proxy: HttpProxy, fault: Fault, write_method: str) -> None:
    async with through(proxy, write_method) as there:
        snapshot = await seen(there, DOCUMENT)
        proxy.plan(fault)
        assert isinstance(await write_on(there, snapshot, {"owner": "akim"}), Written)
    assert proxy.met == [(write_method.upper(), fault)]
    assert written(server)


@pytest.mark.parametrize("fault", SLOW)
async def test_a_write_that_is_too_slow_is_unknown_at_the_deadline(
    server: Simulated, proxy: HttpProxy, fault: Fault
) -> None:
    proxy.pause_s, proxy.piece_bytes = 3600, 1
    async with through(proxy) as there:
        proxy.plan(None, fault)
        snapshot = await seen(there, DOCUMENT)
        hurry(there)
        assert isinstance(await write_on(there, snapshot, {"owner": "akim"}), Unknown)
    while fault is Fault.DRIPPING_REPLY and not written(server):  # noqa: ASYNC110  the server is another process
        await asyncio.sleep(0.01)
    assert written(server) == (fault is Fault.DRIPPING_REPLY)
    assert proxy.asked["PATCH"] == 1


@pytest.mark.parametrize("method", METHODS)
async def test_a_connection_that_was_closed_while_idle_is_not_written_to(
    server: Simulated, proxy: HttpProxy, method: str
) -> None:
    async with through(proxy, method) as there:
        for number in range(3):
            proxy.plan(Fault.CLOSED_WHEN_IDLE, Fault.CLOSED_WHEN_IDLE)
            snapshot = await seen(there, DOCUMENT)
            await proxy.idle()
            assert isinstance(await write_on(there, snapshot, {"owner": f"user{number}"}), Written)
            await proxy.idle()
    assert proxy.connections == 6


# ------------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("fault", [*CUT, *SILENT])
async def test_a_read_whose_answer_is_lost_has_failed(server: Simulated, proxy: HttpProxy, fault: Fault) -> None:
    async with through(proxy, timeout_s=DEADLINE_S if fault in SILENT else 60) as there:
        proxy.plan(fault, fault)  # aiohttp asks once more where the first connection broke
        assert isinstance(await there.read(DOCUMENT), Failed)
        hurry(there, 60)
        proxy.heal()
        await seen(there, DOCUMENT)
        assert len(proxy.met) <= 2


@pytest.mark.parametrize("fault", [Fault.RESET_BEFORE_SERVER, Fault.RESET_BEFORE_REPLY])
async def test_a_read_on_a_used_connection_that_breaks_is_asked_again(
    server: Simulated, proxy: HttpProxy, fault: Fault
) -> None:
    async with through(proxy) as there:
        await seen(there, DOCUMENT)
        proxy.plan(fault)
        await seen(there, DOCUMENT)
    assert (proxy.connections, proxy.asked["GET"]) == (2, 3)


@pytest.mark.parametrize("fault", SLOW)
async def test_a_slow_read_is_waited_for_up_to_the_deadline(server: Simulated, proxy: HttpProxy, fault: Fault) -> None:
    proxy.plan(fault, fault)
    async with through(proxy) as there:
        await seen(there, DOCUMENT)
    proxy.pause_s, proxy.piece_bytes = 10 * DEADLINE_S, 1
    async with through(proxy, timeout_s=DEADLINE_S) as there:
        assert isinstance(await there.read(DOCUMENT), Failed)


# --------------------------------------------------------------------------------------------- what can surely be known


async def test_a_server_that_refuses_connections_was_never_written_to(server: Simulated, proxy: HttpProxy) -> None:
    async with through(proxy) as there:
        proxy.plan(Fault.CLOSED_WHEN_IDLE)
        snapshot = await seen(there, DOCUMENT)
        await proxy.idle()
        proxy.shut()
        assert isinstance(await write_on(there, snapshot, {"owner": "akim"}), Failed)
        assert isinstance(await there.read(DOCUMENT), Failed)
        await proxy.open()
        assert isinstance(await write_on(there, snapshot, {"owner": "akim"}), Written)


@pytest.mark.parametrize("timeout_s", [DEADLINE_S, 60.0])
async def test_a_host_that_never_answers_a_connection_was_never_written_to(timeout_s: float) -> None:
    """As behind a firewall that drops packets; here a listener whose queue is full."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for taken in (first, second):
            taken.setblocking(False)
            taken.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        there = windchill(url, http=defaults.http(timeout_s=timeout_s, connect_timeout_s=0.3 if timeout_s > 1 else 10))
        snapshot = Snapshot(DOCUMENT, {"id": DOCUMENT}, Token('"1"'))
        assert isinstance(await write_on(there, snapshot, {"owner": "akim"}), Failed)
        assert isinstance(await there.read(DOCUMENT), Failed)
        await there.close()


def problem(status: int, said: str = "", headers: dict[str, str] | None = None) -> dict[str, Any]:
    body = json.dumps({"message": said, "padding": "x" * 2000})
    return {"status": status, "body": body, "headers": {"content-type": "application/json", **(headers or {})}}


REFUSED: dict[str, tuple[dict[str, Any], type]] = {
    "401": (problem(401), Unauthorised),
    "403": (problem(403), NotAvailable),
    "404": (problem(404), NotAvailable),
    "412": (problem(412), VersionConflict),
    "423": (problem(423), Locked),
    "428": (problem(428), Unguarded),
    "429": (problem(429, headers={"retry-after": "7"}), Throttled),
    "503": (problem(503, headers={"retry-after": "7"}), Throttled),
    "501": (problem(501), Refused),
}
UNSAID = {"400": problem(400), "409": problem(409), "422": problem(422)}


@pytest.mark.parametrize("fault", [Fault.RESET_AFTER_HEADERS, Fault.RESET_IN_REPLY, Fault.CLOSED_IN_REPLY])
@pytest.mark.parametrize(("reply", "kind"), REFUSED.values(), ids=REFUSED)
async def test_a_refusal_counts_by_its_status_though_its_text_breaks_off(
    server: Simulated, proxy: HttpProxy, fault: Fault, reply: dict[str, Any], kind: type
) -> None:
    async with through(proxy) as there:
        snapshot = await seen(there, DOCUMENT)
        server.script("PATCH", reply)
        proxy.plan(fault)
        answer = await write_on(there, snapshot, {"owner": "akim"})
    assert isinstance(answer, kind), answer
    if isinstance(answer, Throttled):
        assert answer.retry_after_s == 7


@pytest.mark.parametrize("fault", [Fault.RESET_AFTER_HEADERS, Fault.RESET_IN_REPLY, Fault.CLOSED_IN_REPLY])
@pytest.mark.parametrize("reply", UNSAID.values(), ids=UNSAID)
async def test_a_refusal_whose_text_matters_and_breaks_off_was_not_applied_and_blames_no_one(
    server: Simulated, proxy: HttpProxy, fault: Fault, reply: dict[str, Any]
) -> None:
    async with through(proxy) as there:
        snapshot = await seen(there, DOCUMENT)
        server.script("PATCH", reply)
        proxy.plan(fault)
        answer = await write_on(there, snapshot, {"owner": "akim"})
    assert isinstance(answer, Failed), answer
    assert not server.history()


async def test_a_refusal_whose_text_never_ends_counts_by_its_status(server: Simulated, proxy: HttpProxy) -> None:
    async with through(proxy, timeout_s=20 * DEADLINE_S) as there:
        snapshot = await seen(there, DOCUMENT)
        server.script("PATCH", problem(412))
        proxy.pause_s, proxy.piece_bytes = 60, 1000
        proxy.plan(Fault.DRIPPING_REPLY)
        answer = await write_on(there, snapshot, {"owner": "akim"})
    assert isinstance(answer, VersionConflict), answer


@pytest.mark.parametrize("status", [500, 502, 504])
async def test_a_server_error_whose_text_breaks_off_stays_unknown(
    server: Simulated, proxy: HttpProxy, status: int
) -> None:
    async with through(proxy) as there:
        snapshot = await seen(there, DOCUMENT)
        server.script("PATCH", problem(status))
        proxy.plan(Fault.RESET_IN_REPLY)
        assert isinstance(await write_on(there, snapshot, {"owner": "akim"}), Unknown)
