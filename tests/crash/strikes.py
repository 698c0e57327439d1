"""
Where a process can be told to kill itself: at the n-th call of an effect, or in the middle of what SQLite writes. Or to
fall asleep there; also right before a request goes out, when it has looked for the last time whether it may, and right
before a statement goes to PostgreSQL, when the rows have been read.

A strike is SIGKILL, sent by the process to itself: no cleaning up, no last words but one line on stderr, so that the
kill can be told from one that came from outside.
"""

import asyncio
import itertools
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
import httpx

from reconciler import factory
from reconciler.adapters import http
from reconciler.adapters.credentials import Headers
from reconciler.adapters.replies import Exchange, Lost
from reconciler.adapters.sqlite import database, opening

STRUCK = "struck: "
MOMENTS = ("before", "during", "after")
# Effect → up to which of its calls a strike may wait. Some come once a document, some once a batch.
EFFECTS = {
    "store.fold": 6,
    "store.intend": 20,
    "store.settle": 20,
    "store.published": 5,
    "log.fetch": 6,
    "log.append": 5,
    "windchill.read": 8,
    "windchill.write": 20,
}
REQUEST = "request."  # and what is asked for: a method, or an action's name
CHANGE = "change."  # and what changes the store
STATEMENT, WAL, CHECKPOINT = "sqlite.statement", "sqlite.wal", "sqlite.checkpoint"
# In the middle of a write, counted in steps of SQLite's machine; while the log grows; while it moves into the database.
INSIDE = {STATEMENT: 150, WAL: 25, CHECKPOINT: 4}
_STEP_INSTRUCTIONS = 50
_LOOK_S = 0.0001


@attrs.frozen
class Strike:
    """One chosen point. `delay_s` counts from the beginning of the call, for the moment `during`."""

    effect: str
    moment: str
    number: int
    delay_s: float = 0.0
    sleeps: bool = False  # instead of dying, until someone wakes it

    @property
    def point(self) -> str:
        """What kills are counted by."""
        return f"{self.moment} {self.effect}"

    def come(self) -> None:
        if self.sleeps:
            os.kill(os.getpid(), signal.SIGSTOP)
            return
        os.write(2, f"{STRUCK}{self.point}, call {self.number}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)


def points() -> list[str]:
    """Every chosen point, by name."""
    called = [f"{moment} {effect}" for effect in EFFECTS for moment in MOMENTS]
    return called + [f"during {effect}" for effect in INSIDE]


def arm(strike: Strike, store: Path) -> None:
    """Let this process die there. Its ports are wrapped where the composition root gets them."""
    match strike.effect.partition(".")[0]:
        case "store":
            mock.patch.object(factory, "open_store", _wrapping_opened(factory.open_store, strike)).start()
        case "log":
            mock.patch.object(factory, "make_log", _wrapping(factory.make_log, strike)).start()
        case "windchill":
            mock.patch.object(factory, "make_windchill", _wrapping(factory.make_windchill, strike)).start()
        case "request":
            _arm_requests(strike)
        case "change":
            _arm_changes(strike)
        case _ if strike.effect == STATEMENT:
            _arm_statements(strike)
        case _:
            threading.Thread(target=_watch, args=(strike, store), daemon=True).start()


class Struck:
    """A port that kills the process at one call of one method."""

    def __init__(self, port: Any, strike: Strike) -> None:
        self._port = port
        self._strike = strike
        self._method = strike.effect.partition(".")[2]
        self._calls = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        return self._counted(found) if name == self._method else found

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self._calls += 1
            if self._calls != self._strike.number:
                return await method(*args, **kwargs)
            if self._strike.moment == "before":
                self._strike.come()
            if self._strike.moment == "during":
                asyncio.get_running_loop().call_later(self._strike.delay_s, self._strike.come)
            answer = await method(*args, **kwargs)
            if self._strike.moment != "before":
                self._strike.come()
            return answer

        return call


def _wrapping(make: Callable[..., Any], strike: Strike) -> Callable[..., Any]:
    return lambda *args, **kwargs: Struck(make(*args, **kwargs), strike)


def _wrapping_opened(make: Callable[..., Any], strike: Strike) -> Callable[..., Any]:
    async def opened(*args: Any, **kwargs: Any) -> Any:
        return Struck(await make(*args, **kwargs), strike)

    return opened


def _arm_requests(strike: Strike) -> None:
    """Sleep until someone wakes us, and then send the request as it was, though nobody waits for its answer."""
    send, wanted, calls = http.HttpClient._send, strike.effect.removeprefix(REQUEST), itertools.count(1)

    async def sent(self: http.HttpClient, method: str, url: str, headers: Headers, content: bytes) -> Exchange:
        if wanted not in (method, url.rpartition(".")[2]) or next(calls) != strike.number:
            return await send(self, method, url, headers, content)
        asleep_before(method, url, headers, content)
        return Lost("it came too late")

    def asleep_before(method: str, url: str, headers: Headers, content: bytes) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)
        httpx.request(method, url, headers=list(headers), content=content)  # before anything else is run

    mock.patch.object(http.HttpClient, "_send", sent).start()


def _arm_changes(strike: Strike) -> None:
    """Sleep between what is read for a change and the statement that stores it."""
    from reconciler.adapters.postgres.writing import Writer

    store, wanted, calls = Writer.store, strike.effect.removeprefix(CHANGE), itertools.count(1)

    async def stored(self: Writer, operation: str, change: Any) -> str:
        if operation == wanted and next(calls) == strike.number:
            strike.come()
        return await store(self, operation, change)

    mock.patch.object(Writer, "store", stored).start()


def _arm_statements(strike: Strike) -> None:
    """Die in the middle of a transaction: SQLite's machine carries out its statements step by step."""
    writing = threading.Event()
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += writing.is_set()
        if steps >= strike.number:
            strike.come()
        return 0

    as_owner, write = opening.as_owner, database.Database.write

    def opened(path: Path) -> sqlite3.Connection:
        connection = as_owner(path)
        connection.set_progress_handler(step, _STEP_INSTRUCTIONS)
        return connection

    async def written(self: database.Database, operation: str, work: Any) -> Any:
        writing.set()
        try:
            return await write(self, operation, work)
        finally:
            writing.clear()

    mock.patch.object(opening, "as_owner", opened).start()
    mock.patch.object(database.Database, "write", written).start()


def _watch(strike: Strike, store: Path) -> None:
    """Die when the file is seen to have changed for the n-th time: often before the commit has reached the disk."""
    path = store.with_name(store.name + "-wal") if strike.effect == WAL else store
    before, changes = _look(path), 0
    while changes < strike.number:
        now = _look(path)
        if now != before:
            before, changes = now, changes + 1
        time.sleep(_LOOK_S)
    strike.come()


def _look(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_size, found.st_mtime_ns
