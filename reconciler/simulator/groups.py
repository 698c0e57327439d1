"""
Makes consumer groups of several members work on the embedded broker, which without this serves groups of one.

Theory: after a group has formed, its leader sends how partitions are divided, and every member asks for its share, all
by the same request (SyncGroup). librdkafka's mock cluster answers a follower only if it asked before the leader spoke;
one that asks later gets InvalidRequest, and starts all over, for ever. So this passes every request on between clients
and broker, and holds the leader's back for a moment. Clients follow the addresses in a broker's answers; these are
replaced by ours, in place: both are loopback addresses and a port of four bytes.

What it can't change: a member joins, or is missed, only after about a session of the group.
"""

import asyncio
import contextlib
import struct
import threading
from collections.abc import Callable

_HELD_BACK_S = 0.3  # the followers' requests take a few milliseconds
_SYNC_GROUP, _VERSION_MAX = 14, 3  # later versions have another form; the mock cluster offers none
_HOST = b"127.0.0.1"


def of_leader(request: bytes) -> bool:
    """Tell whether a request, without its length, is the leader's that divides the partitions."""
    key, version = struct.unpack_from(">hh", request)
    if key != _SYNC_GROUP or version > _VERSION_MAX:
        return False
    place = _after_text(request, 8)  # key, version, correlation id; then the client's name
    place = _after_text(request, place) + 4  # the group, its generation
    place = _after_text(request, place)  # the member
    if version == _VERSION_MAX:
        place = _after_text(request, place)  # its static name
    (shares,) = struct.unpack_from(">i", request, place)
    return bool(shares > 0)


def _after_text(request: bytes, place: int) -> int:
    length: int = struct.unpack_from(">h", request, place)[0]
    return place + 2 + max(0, length)


class Front:
    """Stands in front of a broker on this machine; `start` gives the address that clients are to use."""

    def __init__(self, broker: str) -> None:
        self._port = int(broker.rpartition(":")[2])
        self._own = 0
        self._ready = threading.Event()

    def start(self) -> str:
        """Serve on a thread, as long as this process lives."""
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        self._ready.wait()
        return f"{_HOST.decode()}:{self._own}"

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._meet, _HOST.decode(), 0)
        self._own = server.sockets[0].getsockname()[1]
        self._ready.set()
        await server.serve_forever()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, to_broker = await asyncio.open_connection(_HOST.decode(), self._port)
        here, there = (_HOST + struct.pack(">i", port) for port in (self._own, self._port))
        ways = [
            asyncio.create_task(_pass(reader, to_broker, lambda request: request, _HELD_BACK_S)),
            asyncio.create_task(_pass(behind, writer, lambda answer: answer.replace(there, here), 0.0)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        for end in (to_broker, writer):
            end.close()


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, change: Callable[[bytes], bytes], held_back_s: float
) -> None:
    """Pass messages on until one side is gone."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            length = await reader.readexactly(4)
            message = await reader.readexactly(struct.unpack(">i", length)[0])
            if held_back_s and of_leader(message):
                await asyncio.sleep(held_back_s)
            writer.write(length + change(message))
            await writer.drain()
