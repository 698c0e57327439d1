"""
The simulated Windchill as a running server: sockets, signals, tasks.

`serve` runs it in this process, `Simulator` in one of its own, for demos and tests. When it listens, it prints one line
on stdout: `listening http://127.0.0.1:PORT`.
"""

import asyncio
import contextlib
import gc
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Self

import attrs
import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from reconciler.simulator import control, documents_dialect
from reconciler.simulator.asgi import Application
from reconciler.simulator.settings import Settings
from reconciler.simulator.world import World
from reconciler.simulator.wrs import dialect as wrs_dialect

__all__ = ["Settings", "serve"]

_STEP_S_MIN, _STEP_S_MAX = 0.002, 0.05  # between two steps of the rivals
_KEEP_ALIVE_S = 75
"""Longer than clients keep idle connections: closing one while a request is on its way would be an unwanted fault."""


def serve(settings: Settings) -> None:
    """Serve until SIGTERM, SIGINT, or (if set) the end of stdin; OSError if the port is taken."""
    world = World(settings, lambda: datetime.now(UTC))
    app = Application(world, (documents_dialect, wrs_dialect), control.application(world))
    listener = socket.create_server((settings.host, settings.port))
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
        access_log=False,
        server_header=False,
        log_level="warning",
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,
    )
    # The documents live on: keep the garbage collector from traversing them again and again.
    gc.freeze()
    uvloop_or_asyncio = config.get_loop_factory()
    with asyncio.Runner(loop_factory=uvloop_or_asyncio) as runner:
        runner.run(_run(_Server(config, settings.host), world, listener))


async def _run(server: "_Server", world: World, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    if world.settings.until_stdin_closes:
        # A daemon thread, because the event loop can't read plain files and terminals.
        at_end = partial(loop.call_soon_threadsafe, server.stop)
        threading.Thread(target=_await_stdin, args=(at_end,), daemon=True).start()
    async with asyncio.TaskGroup() as tasks:
        editing = tasks.create_task(_let_rivals_edit(world))
        await server.serve(sockets=[listener])
        editing.cancel()


async def _let_rivals_edit(world: World) -> None:
    """Make the rivals' edits at the rate in force, until cancelled."""
    loop = asyncio.get_running_loop()
    before = loop.time()
    while True:
        rate = world.rivals.settings.per_second
        await asyncio.sleep(min(max(1 / rate, _STEP_S_MIN), _STEP_S_MAX) if rate else _STEP_S_MAX)
        now = loop.time()
        world.rivals.step(world.documents, now - before)
        before = now


def _await_stdin(at_end: Callable[[], object]) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    with contextlib.suppress(RuntimeError):  # the loop is closed already
        at_end()


class _Server(uvicorn.Server):
    """Uvicorn's server, which prints where it listens and leaves signals to us."""

    def __init__(self, config: uvicorn.Config, host: str) -> None:
        super().__init__(config)
        self._host = host

    def stop(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets
        host = f"[{self._host}]" if ":" in self._host else self._host
        print(f"listening http://{host}:{sockets[0].getsockname()[1]}", flush=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Uvicorn's own would raise the signal again after a clean stop and kill the program.
        yield


class _Protocol(HttpToolsProtocol):
    """Uvicorn's protocol, which lets the application drop the connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows the same way
        super().connection_made(transport)
        self.app_state = {"transport": transport}


# ------------------------------------------------------------------------------------------------- a process of its own


_START_S_MAX = 30.0
_STOP_S_MAX = 5.0


class Simulator:
    """
    Starts the simulator as a process, knows its URL, and stops it. A context manager.

    The child also stops by itself when its stdin closes, so it never outlives the program that started it.
    """

    url: str

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start it and return its URL once it listens; RuntimeError when it does not."""
        assert self._child is None, "started already"
        settings = attrs.asdict(attrs.evolve(self._settings, until_stdin_closes=True))
        given = orjson.dumps(settings, default=str).decode()
        # A session of its own, so that Ctrl-C reaches only the program that started it, which then ends it.
        self._child = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "reconciler.simulator", given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        said = _first_line(self._child, _START_S_MAX)
        word, _, url = said.partition(" ")
        if word != "listening":
            self.stop()
            raise RuntimeError(f"the simulated Windchill did not start; it said {said!r}, and on stderr why")
        self.url = url
        return url

    def stop(self) -> int:
        """Stop it and return its exit status. Stopping twice does nothing."""
        child, self._child = self._child, None
        if child is None:
            return 0
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        child.terminate()
        try:
            status = child.wait(_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            child.kill()
            status = child.wait()
        child.stdout.close()
        return status

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _first_line(child: subprocess.Popen[bytes], timeout_s: float) -> str:
    """The child's first line; empty if it ends or prints nothing in time."""
    assert child.stdout is not None
    said: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    stdout = child.stdout
    threading.Thread(target=lambda: said.put(stdout.readline()), daemon=True).start()
    try:
        return said.get(timeout=timeout_s).decode().strip()
    except queue.Empty:
        return ""
