"""
An event loop without a machine under it: time jumps to the next timer when nothing is ready.

There is no selector and no thread, so the order of callbacks depends on nothing but the program and the seed. What
would run on a thread runs in one go at a seeded later moment, which is all that a thread promises.

Several processes may share the loop. Each runs in a context of its own, which all that it starts inherits: so its tasks
are known, and while it is stopped (SIGSTOP) its callbacks are kept back until it goes on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any

_THREAD_S_MAX = 0.002
_TURNS_MAX = 100_000  # of the loop without any time between them; a busy world makes some hundreds


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class Process:
    """What runs in one context; `stopped` keeps back its callbacks."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._kept: list[asyncio.Handle] = []
        self.stopped = False
        self.tasks: dict[asyncio.Task[Any], None] = {}  # in the order in which they began
        self.context = Context()
        self.context.run(PROCESS.set, self)

    def keep(self, handle: asyncio.Handle) -> None:
        """Keep back a callback that is due."""
        self._kept.append(handle)

    def go_on(self) -> None:
        """Run what was kept back, and all that comes."""
        self.stopped = False
        kept, self._kept = self._kept, []
        self._loop.ready(kept)


class _Held:
    """A callback of a process, which may be stopped when it is due."""

    __slots__ = ("_callback", "_process", "handle")
    handle: asyncio.Handle

    def __init__(self, process: Process, callback: Callable[..., object]) -> None:
        self._process = process
        self._callback = callback

    def __call__(self, *args: Any) -> None:
        if self._process.stopped:
            self._process.keep(self.handle)
        else:
            self._callback(*args)


class Deadlock(Exception):
    """Nothing is ready, no timer runs, and someone still waits."""


class Standstill(Exception):
    """Something is always ready, and time does not move: someone goes round in circles."""


class _Jump:
    """Stands where the selector would: instead of waiting for sockets it moves time."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._moved_s = 0.0
        self._turns = 0

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Deadlock
        if timeout > 0:
            self._loop.jump()
        self._turns += 1
        if self._loop.time() > self._moved_s:
            self._moved_s, self._turns = self._loop.time(), 0
        if self._turns > _TURNS_MAX:
            raise Standstill(f"{_TURNS_MAX} turns at {self._moved_s} s")
        return []


class SimLoop(asyncio.BaseEventLoop):
    """`rng` is drawn from for the moments at which work on threads is done; `stops`: processes may be stopped."""

    def __init__(self, rng: random.Random, *, stops: bool = False) -> None:
        super().__init__()
        self._selector = _Jump(self)
        self._virtual_s = 0.0
        self._rng = rng
        self.stops = stops

    def time(self) -> float:
        return self._virtual_s

    def jump(self) -> None:
        """Let time pass until the next timer."""
        self._virtual_s = max(self._virtual_s, self._scheduled[0].when())

    def ready(self, handles: list[asyncio.Handle]) -> None:
        """Run these callbacks now, unless they are cancelled before it is their turn."""
        self._ready.extend(handles)

    def create_task(  # type: ignore[override]  # it takes any coroutine
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        task = super().create_task(coro, name=name, context=context)
        process = _process(context)
        if process is not None:
            process.tasks[task] = None
            task.add_done_callback(process.tasks.pop, context=process.context)
        return task

    def call_soon(  # type: ignore[override]  # the types of `args` are not tied to `callback`'s here
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        held = self._held(callback, context)
        handle = super().call_soon(held, *args, context=context)
        if isinstance(held, _Held):
            held.handle = handle
        return handle

    def call_at(  # type: ignore[override]  # ditto
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        held = self._held(callback, context)
        handle = super().call_at(when, held, *args, context=context)
        if isinstance(held, _Held):
            held.handle = handle
        return handle

    def _held(self, callback: Callable[..., object], context: Context | None) -> Callable[..., object]:
        process = _process(context) if self.stops else None
        return callback if process is None else _Held(process, callback)

    def run_in_executor(  # type: ignore[override]  # what it returns is not tied to `func`'s type here
        self, executor: Any, func: Any, *args: Any
    ) -> asyncio.Future[Any]:
        future = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:  # noqa: BLE001  whatever a thread raises goes to who waits for it
                future.set_exception(error)

        self.call_later(self._rng.uniform(0, _THREAD_S_MAX), work)
        return future

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list, "nothing outside can happen"

    def _write_to_self(self) -> None:
        pass


def _process(context: Context | None) -> Process | None:
    return PROCESS.get() if context is None else context.get(PROCESS)
