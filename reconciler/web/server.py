"""
The HTTP server: uvicorn on a socket, in the daemon's own event loop.

The socket listens before anything slow starts, so that a port in use is reported at once; early connections wait. The
server ignores signals: uvicorn would handle them, and raise them again after a clean stop.

Protection against slow and greedy clients: the head of a request must arrive within `HEAD_S_MAX` and fit into
`HEAD_BYTES_MAX`; the application limits time and bodies; a client that reads nothing for `UNREAD_S_MAX` is
disconnected; `limits` chooses which connection is closed if there are too many.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from reconciler.errors import ConfigError
from reconciler.web import limits
from reconciler.web.application import HEAD_BYTES_MAX

_log = structlog.get_logger(__name__)

HEAD_S_MAX = 10.0
UNREAD_S_MAX = 30.0
_IDLE_S_MAX = 5
_STOP_S_MAX = 2


def listen(bind: str) -> socket.socket:
    """Return a listening socket for host:port; port 0 is any free one. Raises ConfigError."""
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, int(port)), family=family, backlog=limits.BACKLOG)
    except OSError as error:
        raise ConfigError(
            f'admin.bind: can\'t listen on {bind} ({_reason(error)}); choose another port, or "" for none'
        ) from error
    # Accepted sockets inherit this. asyncio does not set it on them, and without it the second packet of an answer
    # waits 40 ms for the client to acknowledge the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)


class AdminServer:
    """Serves until `stop`; owns the socket."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._server: _Server | None = None
        self._stopping = False
        host, port = listener.getsockname()[:2]
        self.address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def serve(self, app: ASGIApp) -> None:
        """Answer requests until stopped, then finish the current ones within a time limit."""
        self._server = server = _Server(_config(app))
        server.should_exit = self._stopping
        _log.info("listening", address=self.address)
        try:
            await server.serve(sockets=[self._listener])
        finally:
            server.drop()
            self.close()

    def stop(self) -> None:
        """Make `serve` return."""
        self._stopping = True
        if self._server is not None:
            self._server.should_exit = True

    def close(self) -> None:
        """Close the socket."""
        self._listener.close()


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        limits.Bounded(app),
        http=_Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
        server_header=False,
        access_log=False,  # addresses may contain secrets
        log_config=None,
        log_level="error",  # malformed requests are not logged
        backlog=limits.BACKLOG,
        timeout_keep_alive=_IDLE_S_MAX,
        timeout_graceful_shutdown=_STOP_S_MAX,
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
    )


class _State(ServerState):
    """State that the connections of one server share."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = limits.Waiting()
        self.connections_max = limits.connections_max()


class _Server(uvicorn.Server):
    """Uvicorn's server, without signal handling, and with `drop`."""

    servers: list[asyncio.base_events.Server]

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.server_state = _State()
        self.servers = []

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def drop(self) -> None:
        """Close everything that is still open; nothing is after an orderly stop."""
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()


class _Protocol(H11Protocol):
    """Uvicorn's protocol with limits on how long a client may keep the server waiting."""

    server_state: _State
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows the same way
        super().connection_made(transport)
        self._head: asyncio.TimerHandle | None = self.loop.call_later(HEAD_S_MAX, transport.abort)
        self._await_client()
        if len(self.connections) > self.server_state.connections_max:
            self.server_state.waiting.make_room(self.loop.time())

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        self._read()
        self.server_state.waiting.end(self.transport)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._in_time()
        self._await_client()

    def on_response_complete(self) -> None:
        self._in_time()
        self._head = self.loop.call_later(HEAD_S_MAX, self.transport.abort)
        super().on_response_complete()
        self._await_client()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD_S_MAX, self.transport.abort)
        self._await_client()

    def resume_writing(self) -> None:
        self._read()
        super().resume_writing()
        self._await_client()

    def shutdown(self) -> None:
        if self._unread is not None:  # a client that has not read by now may never do so
            self.transport.abort()
        super().shutdown()

    def _await_client(self) -> None:
        """Note whether the server is waiting for the client."""
        requested = self.cycle is not None
        if requested and self._unread is None and not (self.cycle.response_complete or self.cycle.more_body):
            self.server_state.waiting.end(self.transport)
        else:
            self.server_state.waiting.begin(self.transport)

    def _read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _in_time(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None
