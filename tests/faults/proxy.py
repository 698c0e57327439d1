"""
A network that fails on purpose: TCP proxies on loopback, between a client and the server that it is to reach.

What lives here: faults of connections, whoever speaks over them. What never does: a server's own answers.

`HttpProxy` knows where a request and its reply begin, so each of its faults strikes at a named moment of one exchange.
`StreamProxy` knows bytes only: it slows them down, holds them back or cuts them off, for protocols of any kind.
"""

import asyncio
import contextlib
import enum
import random
import re
import socket
import struct
from collections import Counter, deque
from collections.abc import Iterable
from types import TracebackType
from typing import NoReturn, Self

import attrs

HOST = "127.0.0.1"
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER with no time to linger: closing sends RST instead of FIN
_CHUNK = 64 * 1024
_LOOK_S = 0.01
_LENGTH = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)


class Fault(enum.StrEnum):
    """What happens to one exchange, in the order of its life. RST ends a connection unless something else is said."""

    RESET_ON_CONNECT = enum.auto()
    RESET_IN_HEAD = enum.auto()
    """After the request line; the server has seen no more either."""
    RESET_IN_BODY = enum.auto()
    """After half of the request's body."""
    RESET_BEFORE_SERVER = enum.auto()
    """We have the whole request; the server has nothing of it."""
    SWALLOWED = enum.auto()
    """Half-open: the request goes nowhere, and nothing comes back for as long as the client cares to wait."""
    DRIPPING_REQUEST = enum.auto()
    """The request reaches the server piece by piece."""
    DELAYED = enum.auto()
    RESET_BEFORE_REPLY = enum.auto()
    """The server has answered, and no one hears of it."""
    SWALLOWED_REPLY = enum.auto()
    """Half-open: the server has answered, and its words go nowhere."""
    RESET_AFTER_HEADERS = enum.auto()
    RESET_IN_REPLY = enum.auto()
    """In the middle of the reply's body."""
    CLOSED_IN_REPLY = enum.auto()
    """The same with FIN: an orderly end, too early."""
    DRIPPING_REPLY = enum.auto()
    CLOSED_WHEN_IDLE = enum.auto()
    """The exchange succeeds; the connection it came over is then closed, as servers do with idle ones."""


NEVER_SERVED = frozenset(Fault.__members__[name] for name in (
    "RESET_ON_CONNECT", "RESET_IN_HEAD", "RESET_IN_BODY", "RESET_BEFORE_SERVER", "SWALLOWED"
))  # fmt: skip
"""The server has carried nothing out. Apart from a refused connection, no client can know."""


class Over(Exception):
    """The connection ends here."""


@attrs.define(eq=False)
class Stream:
    """One end of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, content: bytes) -> None:
        self.writer.write(content)
        await self.writer.drain()

    async def drip(self, content: bytes, size: int, pause_s: float) -> None:
        for start in range(0, len(content), size):
            await self.send(content[start : start + size])
            await asyncio.sleep(pause_s)

    def reset(self) -> None:
        """End it with RST; whatever has not been sent is forgotten."""
        with contextlib.suppress(OSError):
            self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.writer.transport.abort()

    async def close(self) -> None:
        """End it with FIN, if it has not ended yet."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


class Proxy:
    """
    Listens on a port of its own and connects each client to `target`, which may be set later.

    `async with` opens and closes it. In between `shut` refuses connections, and `open` takes them again on that port.
    """

    def __init__(self, target: tuple[str, int] = (HOST, 0), port: int = 0) -> None:
        self.target = target
        self.port = port
        self.connections = 0
        """How many have come so far, those included that were reset at once."""
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams: set[Stream] = set()

    async def open(self) -> None:
        """Take connections."""
        self._listener = await asyncio.start_server(self._accept, HOST, self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    def shut(self) -> None:
        """Refuse connections from now on. Those that there are go on."""
        if self._listener is not None:
            self._listener.close()
        self._listener = None

    def cut(self) -> None:
        """Reset every connection that there is."""
        for stream in tuple(self._streams):
            stream.reset()

    async def idle(self) -> None:
        """Return when no connection is left, and both ends have had the time to notice."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(_LOOK_S)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        client, server = Stream(reader, writer), None
        self.connections += 1
        try:
            if self._admits():
                server = Stream(*await asyncio.open_connection(*self.target))
                self._streams |= {client, server}
                await self._relay(client, server)
            else:
                client.reset()
        # Cancelled at the end of a test; asyncio would log that as an error of ours.
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError, Over):
            client.reset()
            if server is not None:
                server.reset()
        finally:
            for stream in filter(None, (client, server)):
                await stream.close()
                self._streams.discard(stream)
            self._tasks.discard(task)

    def _admits(self) -> bool:
        return True

    async def _relay(self, client: Stream, server: Stream) -> None:
        raise NotImplementedError


# ---------------------------------------------------------------------------------------------------------------- HTTP


@attrs.frozen
class Message:
    """A request or a reply."""

    head: bytes
    """Up to the empty line, which is part of it."""
    body: bytes

    @property
    def method(self) -> str:
        return self.head.split(b" ", 2)[0].decode()

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    @property
    def whole(self) -> bytes:
        return self.head + self.body


class HttpProxy(Proxy):
    """Between an HTTP client and its server. Exchanges are faultless until `plan` or `at_random` say otherwise."""

    def __init__(self, url: str, *, pause_s: float = 0.05, piece_bytes: int = 16) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        super().__init__((host, int(port)))
        self.pause_s = pause_s
        """Between two pieces that drip, and the length of a delay."""
        self.piece_bytes = piece_bytes
        self.asked: Counter[str] = Counter()
        """How many whole requests have come from clients, by method."""
        self.met: list[tuple[str, Fault]] = []
        """Every fault that has struck: the request's method, or `connect`."""
        self._planned: deque[Fault | None] = deque()
        self._haunted: dict[str, Fault] = {}
        self._chance, self._share = random.Random(0), 0.0
        self._kinds: tuple[Fault, ...] = ()
        self._drawn: deque[Fault | None] = deque()

    @property
    def url(self) -> str:
        """What a client is to be told."""
        return f"http://{HOST}:{self.port}"

    def plan(self, *faults: Fault | None) -> None:
        """Let the next requests meet these faults, one each; None is none."""
        self._planned.extend(faults)

    def haunt(self, fault: Fault, *paths: str) -> None:
        """Let every request for one of these paths meet the fault."""
        self._haunted |= dict.fromkeys(paths, fault)

    def at_random(self, seed: int, share: float, faults: Iterable[Fault] = tuple(Fault)) -> None:
        """From now on let this share of all exchanges meet a fault, each kind as often as any other."""
        self._chance, self._share, self._kinds = random.Random(seed), share, tuple(faults)

    def heal(self) -> None:
        """Let nothing happen any more; whoever is being kept waiting learns of it by a reset."""
        self._planned.clear()
        self._haunted.clear()
        self._share = 0.0
        self.cut()

    def _admits(self) -> bool:
        fault = self._next()
        if fault is not None:
            self.met.append(("connect", fault))
        return fault is None

    async def _relay(self, client: Stream, server: Stream) -> None:
        while True:
            request = await _message(client)
            self.asked[request.method] += 1
            fault = self._next(request)
            if fault is not None:
                self.met.append((request.method, fault))
            await self._ask(fault, request, client, server)
            reply = await _message(server)
            if not await self._answer(fault, reply, client):
                return

    def _next(self, request: Message | None = None) -> Fault | None:
        """The fault that a request meets. Without one, a client is connecting: then there is only one that strikes."""
        if request is not None and request.path in self._haunted:
            return self._haunted[request.path]
        coming = self._planned
        if not coming and self._chance.random() < self._share:
            coming = self._drawn = self._drawn or deque(self._chance.sample(self._kinds, len(self._kinds)))
        if not coming or (request is None and coming[0] is not Fault.RESET_ON_CONNECT):
            return None
        return coming.popleft()

    async def _ask(self, fault: Fault | None, request: Message, client: Stream, server: Stream) -> None:
        """Bring the server a request, or a part of it."""
        match fault:
            case Fault.RESET_IN_HEAD:
                await server.send(request.head[: request.head.index(b"\r\n") + 2])
                raise Over
            case Fault.RESET_IN_BODY:
                await server.send(request.head + request.body[: len(request.body) // 2])
                raise Over
            case Fault.RESET_ON_CONNECT | Fault.RESET_BEFORE_SERVER:  # on connect: of a connection used before
                raise Over
            case Fault.SWALLOWED:
                await _swallow(client)
            case Fault.DRIPPING_REQUEST:
                await server.drip(request.whole, self.piece_bytes, self.pause_s)
            case Fault.DELAYED:
                await asyncio.sleep(self.pause_s)
                await server.send(request.whole)
            case _:
                await server.send(request.whole)

    async def _answer(self, fault: Fault | None, reply: Message, client: Stream) -> bool:
        """Bring the client a reply, or a part of it; return whether the connection goes on."""
        half = reply.head + reply.body[: len(reply.body) // 2]
        match fault:
            case Fault.RESET_BEFORE_REPLY:
                raise Over
            case Fault.SWALLOWED_REPLY:
                await _swallow(client)
            case Fault.RESET_AFTER_HEADERS:
                await client.send(reply.head)
                raise Over
            case Fault.RESET_IN_REPLY:
                await client.send(half)
                raise Over
            case Fault.CLOSED_IN_REPLY:
                await client.send(half)
                return False
            case Fault.DRIPPING_REPLY:
                await client.drip(reply.whole, self.piece_bytes, self.pause_s)
            case _:
                await client.send(reply.whole)
        return fault is not Fault.CLOSED_WHEN_IDLE


async def _message(stream: Stream) -> Message:
    """Read one message. Only the framing that both ends use here is understood: a length, or no body."""
    head = await stream.reader.readuntil(b"\r\n\r\n")
    found = _LENGTH.search(head)
    bodiless = head.startswith((b"HTTP/1.1 204", b"HTTP/1.1 304"))
    length = 0 if found is None or bodiless else int(found[1])
    return Message(head, await stream.reader.readexactly(length))


async def _swallow(client: Stream) -> NoReturn:
    """Say nothing until the client gives up."""
    while await client.reader.read(_CHUNK):
        pass
    raise Over


# -------------------------------------------------------------------------------------------------------- any protocol


class StreamProxy(Proxy):
    """Between two that speak whatever they like."""

    def __init__(self, target: tuple[str, int] = (HOST, 0), port: int = 0) -> None:
        super().__init__(target, port)
        self.delay_s = 0.0
        """Before each piece, in both directions."""
        self.piece_bytes = _CHUNK
        """The largest piece; small ones with a delay drip."""
        self._flows = asyncio.Event()
        self._flows.set()

    def hold(self) -> None:
        """Half-open: accept everything, pass on nothing."""
        self._flows.clear()

    def release(self) -> None:
        """Let bytes pass again, those first that were held."""
        self._flows.set()

    async def _relay(self, client: Stream, server: Stream) -> None:
        await asyncio.gather(self._pass(client, server), self._pass(server, client))

    async def _pass(self, giver: Stream, taker: Stream) -> None:
        while content := await giver.reader.read(self.piece_bytes):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self._flows.wait()
            await taker.send(content)
        raise Over
