"""
One request from bytes to bytes: a raw ASGI application, because every benchmark runs through it.

In order: faults of the request, credentials, the dialect's answer (one step, nothing awaited), faults of the reply.
Rivals and other requests run only between these.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, NamedTuple, Protocol

from reconciler.simulator import credentials, faults
from reconciler.simulator.faults import Met
from reconciler.simulator.messages import JSON, Reply, Request, problem
from reconciler.simulator.world import World
from reconciler.simulator.wrs import people

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CONTROL = "/_control"
_TOKENS = "/oauth/token"
_BODY_MAX = 16 * 1024 * 1024
_PIECE = 64 * 1024
_DRIP_BYTES = 50
_SLOW_MS_DEFAULT = 500.0
_BODILESS = (204, 304)


class Dialect(Protocol):
    """How documents are shown and written over HTTP. A module with these four functions is one."""

    def serves(self, path: str) -> bool:
        """Whether a path below the base path belongs to this dialect."""

    def target(self, world: World, request: Request) -> str | None:
        """The key of the document that the request is about; None for lists and other requests."""

    def guarded(self, request: Request) -> bool:
        """Whether the request must notice a rival's edit right before it."""

    def answer(self, world: World, request: Request, user: str) -> Reply:
        """Carry out the request in one step, so that nothing else happens to the documents meanwhile."""


class Connection(NamedTuple):
    """What ASGI gives for one request."""

    scope: Scope
    receive: Receive
    send: Send


class Application:
    """The simulated server, as uvicorn calls it."""

    def __init__(self, world: World, dialects: Sequence[Dialect], control: App) -> None:
        self._world = world
        self._dialects = dialects
        self._control = control
        self._base = world.settings.base_path.rstrip("/")
        self._under_way: list[tuple[bool, str | None]] = []  # requests: whether to write, and which document

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path == CONTROL or path.startswith(CONTROL + "/"):
            await self._control(scope, receive, send)
            return
        request = await _request(scope, receive, path.removeprefix(self._base) if self._base else path)
        method = request.method
        requests = self._world.statistics.requests
        dialect = self._dialect(path, request)
        if isinstance(dialect, Reply):
            requests[method, dialect.status] += 1
            await _send(send, dialect)
            return
        key = dialect.target(self._world, request)
        under_way = method != "GET", key
        self._crowds(*under_way)
        try:
            met = self._world.faults.met(key, method, request.path)
            if met is None:
                reply = self._answer(dialect, request)
                requests[method, reply.status] += 1
                await _send(send, reply)
            else:
                await self._faulty(dialect, request, met, Connection(scope, receive, send))
        finally:
            self._under_way.remove(under_way)

    def _crowds(self, writes: bool, key: str | None) -> None:
        """Count how many are under way at once, and a write that comes during another one on its document."""
        crowding = self._world.statistics.crowding
        crowding["overlaps"] += writes and key is not None and (writes, key) in self._under_way
        self._under_way.append((writes, key))
        crowding["in_flight"] = max(crowding["in_flight"], len(self._under_way))

    def _dialect(self, path: str, request: Request) -> Dialect | Reply:
        """The dialect that answers, or the reply if no dialect does."""
        if len(request.body) > _BODY_MAX:
            return problem(413, "Content Too Large", f"At most {_BODY_MAX} bytes")
        if path.startswith(self._base):
            for dialect in self._dialects:
                if dialect.serves(request.path):
                    return dialect
        if path == _TOKENS and request.method == "POST":
            world = self._world
            return world.credentials.issue(request, world.documents.behaviour, world.clock().timestamp())
        return problem(404, "Not Found", "Nothing is served here")

    def _answer(self, dialect: Dialect, request: Request) -> Reply:
        world = self._world
        user = world.credentials.user(request, world.documents.behaviour, world.clock().timestamp())
        reply = user if isinstance(user, Reply) else dialect.answer(world, request, user)
        if reply.cause:
            world.statistics.causes[reply.cause] += 1
        return reply

    async def _faulty(self, dialect: Dialect, request: Request, met: Met, connection: Connection) -> None:
        world, names, send = self._world, met.names, connection.send
        settings = world.faults.settings
        world.statistics.faults.update(names if met.canned is None else ("canned",))
        if "slow" in names:
            documents = world.documents
            await asyncio.sleep((settings.slow_ms or _SLOW_MS_DEFAULT) / 1000)
            if world.documents is not documents:
                # The world was reset meanwhile; this request must not reach into the next test.
                await _drop(connection, reset=True)
                return
        reply = None if "dropped_request" in names else self._answer_through(dialect, request, met)
        if reply is None or "lost_reply" in names:
            world.statistics.requests[request.method, 0] += 1
            await _drop(connection, reset=settings.drop_with == "reset")
            return
        world.statistics.requests[request.method, reply.status] += 1
        if "cut_reply" in names:
            await _send_half(send, reply)
            await _drop(connection, reset=settings.drop_with == "reset")
        elif "too_large" in names:
            await _send_large(send, settings.too_large_bytes, declared=settings.too_large_declared)
        elif "drip" in names:
            await _send_dripping(send, reply, settings.drip_ms / 1000)
        else:
            await _send(send, reply)

    def _answer_through(self, dialect: Dialect, request: Request, met: Met) -> Reply:
        """The reply of a server behind a faulty front end."""
        world = self._world
        refused = faults.in_front(met, world.faults.settings, world.clock())
        if refused is not None:
            return refused
        if "expired_token" in met.names:
            world.credentials.revoke(request)
            return credentials.refusal(request, world.documents.behaviour)
        key = dialect.target(world, request)
        if "version_conflict" in met.names and key is not None and dialect.guarded(request):
            world.rivals.edit(world.documents, key)
        if met.act is not None and not met.act.after:
            people.perform(world.wrs, met.act.given)
        reply = self._answer(dialect, request)
        if met.act is not None and met.act.after:
            people.perform(world.wrs, met.act.given)
        return faults.spoiled(met, reply)


async def _request(scope: Scope, receive: Receive, path: str) -> Request:
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers[name] = headers[name] + b", " + value if name in headers else value
    body = b""
    if b"content-length" in headers or b"transfer-encoding" in headers:
        more = True
        while more and len(body) <= _BODY_MAX:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
    return Request(scope["method"], path, scope["query_string"], headers, body)


async def _send(send: Send, reply: Reply) -> None:
    headers = reply.headers
    if reply.status not in _BODILESS:
        headers = [*headers, (b"content-length", b"%d" % len(reply.body))]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def _send_half(send: Send, reply: Reply) -> None:
    """Send all headers and half the body."""
    headers = [*reply.headers, (b"content-length", b"%d" % max(2, len(reply.body)))]
    status = 200 if reply.status in _BODILESS else reply.status
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body[: len(reply.body) // 2], "more_body": True})


async def _send_dripping(send: Send, reply: Reply, pause_s: float) -> None:
    if reply.status in _BODILESS:
        await asyncio.sleep(pause_s)
        await _send(send, reply)
        return
    headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body))]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    for start in range(0, len(reply.body), _DRIP_BYTES):
        await send({"type": "http.response.body", "body": reply.body[start : start + _DRIP_BYTES], "more_body": True})
        await asyncio.sleep(pause_s)
    await send({"type": "http.response.body", "body": b""})


async def _send_large(send: Send, size: int, *, declared: bool) -> None:
    """Send valid JSON of `size` bytes in pieces, so that flow control stops it when the client stops reading."""
    first, last = b'{"padding":"', b'"}'
    headers = [JSON, (b"content-length", b"%d" % (max(size, len(first) + len(last))))] if declared else [JSON]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": first, "more_body": True})
    left = max(0, size - len(first) - len(last))
    while left:
        piece = min(left, _PIECE)
        await send({"type": "http.response.body", "body": b"x" * piece, "more_body": True})
        left -= piece
    await send({"type": "http.response.body", "body": last})


async def _drop(connection: Connection, *, reset: bool) -> None:
    """Close the connection without sending another byte."""
    transport: asyncio.Transport = connection.scope["state"]["transport"]
    if reset:
        transport.abort()
    else:
        transport.close()
    # Returning before the server has noticed would make it send a 500.
    while (await connection.receive())["type"] != "http.disconnect":
        pass
