"""The event loop of a command: uvloop, which remembers its TLS connections until they are closed."""

import asyncio
from typing import Any

import uvloop


class Loop(uvloop.Loop):
    """
    Knows each TLS connection that it opened.

    A Kafka client that was refused lets go of its own half closed, and then nobody else can end it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._secured: list[asyncio.Transport] = []

    async def create_connection(self, *args: Any, **options: Any) -> Any:
        """Open a connection as `asyncio.AbstractEventLoop.create_connection` does."""
        # uvloop's stub has the pair the wrong way round.
        opened: Any = await super().create_connection(*args, **options)
        if options.get("ssl") is not None:
            self._secured = [*filter(_is_open, self._secured), opened[0]]
        return opened

    async def cut_closed(self) -> None:
        """Cut each connection that was closed, and still waits for the other side's word."""
        for transport in filter(_is_open, self._secured):
            if transport.is_closing():
                transport.abort()


def _is_open(transport: asyncio.Transport) -> bool:
    return transport.get_extra_info("sockname") is not None
