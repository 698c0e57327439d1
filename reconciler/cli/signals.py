"""Signals: what the system tells the daemon. Where there is no SIGHUP, as on Windows, nothing listens for one."""

import asyncio
import contextlib
import signal
from collections.abc import Callable


def stop_on(stop: asyncio.Event) -> None:
    """Let the first SIGTERM or SIGINT ask for a stop in good order, and leave the second to the system: it ends us."""
    numbers = (signal.SIGTERM, signal.SIGINT)

    def first() -> None:
        stop.set()
        for number in numbers:
            with contextlib.suppress(NotImplementedError):
                asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in numbers:
        _listen(number, first)


def ask_on_hangup(asked: asyncio.Event) -> None:
    """Let SIGHUP ask for the policy to be read again, as long as we run."""
    number: int | None = getattr(signal, "SIGHUP", None)
    if number is not None:
        _listen(number, asked.set)


def _listen(number: int, react: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, react)
    except NotImplementedError:  # Windows' loop: Python's own handler has to hand it over
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(react))
