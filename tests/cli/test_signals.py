"""Signals on a system that lacks some of them."""

import asyncio
import os
import signal

import pytest

from reconciler.cli.commands.run import ask_on_hangup, stop_on
from tests.patience import HANG_S


@pytest.fixture(autouse=True)
def _own_signals() -> object:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


async def test_without_a_loop_that_takes_signals_the_first_still_asks_for_a_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise NotImplementedError

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "add_signal_handler", refuse)
    monkeypatch.setattr(loop, "remove_signal_handler", refuse)
    stop = asyncio.Event()
    stop_on(stop)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(stop.wait(), HANG_S)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def test_where_there_is_no_hangup_nothing_listens_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGHUP)
    monkeypatch.delattr(signal, "SIGHUP")
    ask_on_hangup(asyncio.Event())
    assert signal.getsignal(1) is before
