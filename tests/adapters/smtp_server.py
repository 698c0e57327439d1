"""A real SMTP server on loopback that keeps what it is given, with or without TLS and a password."""

import asyncio
import contextlib
import email
import ssl
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import default
from functools import partial
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.brokers.certificates import Signed
from tests.patience import HANG_S


class Inbox:
    """What the server has accepted, and how it answers: `refuses` by recipient, `answer` to a message."""

    def __init__(self) -> None:
        self.port = 0
        self.got: list[tuple[list[str], EmailMessage]] = []
        self.refuses: dict[str, str] = {}
        self.answer = "250 OK"
        self.tries = 0
        self.signed_in: list[bytes] = []

    async def handle_RCPT(  # noqa: N802  aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refuses:
            return self.refuses[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802  likewise
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        self.tries += 1
        if self.answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            made: Any = email.message_from_bytes(envelope.content, policy=default)
            self.got.append((list(envelope.rcpt_tos), made))
        return self.answer

    def authenticates(self, *given: Any) -> AuthResult:
        said = given[-1]
        assert isinstance(said, LoginPassword)
        self.signed_in.append(said.login)
        return AuthResult(success=said.password == b"right", handled=False)


@contextlib.contextmanager
def inbox(shown: Signed | None = None) -> Iterator[Inbox]:
    """Serve on a port of its own; with a certificate it wants STARTTLS and a password before anything else."""
    made, loop, ready = Inbox(), asyncio.new_event_loop(), threading.Event()
    more: dict[str, Any] = {}
    if shown is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(shown.certificate, shown.key)
        more = {"tls_context": context, "require_starttls": True, "auth_required": True}
        more["authenticator"] = made.authenticates

    def serve() -> None:
        asyncio.set_event_loop(loop)
        made_for_each = partial(SMTP, made, loop=loop, hostname="localhost", **more)
        server = loop.run_until_complete(loop.create_server(made_for_each, "127.0.0.1", 0))
        made.port = server.sockets[0].getsockname()[1]
        ready.set()
        loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(HANG_S)
    try:
        yield made
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(HANG_S)
