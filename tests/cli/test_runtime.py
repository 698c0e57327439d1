"""What a command leaves behind when its event loop ends."""

import asyncio
import gc
import socket
import ssl
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.cli import runtime
from tests.brokers import certificates
from tests.patience import HANG_S


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[tuple[int, ssl.SSLContext]]:
    """A TLS server that greets and then neither reads nor answers: its port, and what a client needs to trust it."""
    if not certificates.available():
        pytest.skip("no openssl on PATH, which makes the certificates")
    authority = certificates.Authority(tmp_path / "authority")
    signed = authority.sign("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(signed.both)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        greeting = threading.Thread(target=_greet, args=(listening, context, over))
        greeting.start()
        yield listening.getsockname()[1], ssl.create_default_context(cafile=authority.certificate)
        over.set()
        greeting.join(HANG_S)


def _greet(listening: socket.socket, context: ssl.SSLContext, over: threading.Event) -> None:
    accepted, _ = listening.accept()
    with context.wrap_socket(accepted, server_side=True):
        over.wait(HANG_S)


def test_a_closed_connection_whose_other_end_does_not_answer_is_cut(silent: tuple[int, ssl.SSLContext]) -> None:
    port, trust = silent

    async def close_it() -> str:
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
        writer.close()
        return "done"

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert runtime.run(close_it()) == "done"
        gc.collect()
    assert [str(one.message) for one in said] == []


def test_a_cancellation_that_nobody_asked_for_ends_with_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    """A library may let one out; the process would end without a word."""

    async def let_out() -> None:
        raise asyncio.CancelledError

    assert runtime.ended(lambda: runtime.run(let_out())) == runtime.FAILED
    assert capsys.readouterr().err.startswith("error: unexpected CancelledError; please report it")
