"""
A small HTTPS server that asks for client certificates, and says in TLS's own words why it refuses one.

asyncio's servers hang up without an alert, so this one has threads; and it takes in what a refused client still sends,
because a connection that is closed with unread bytes in it is reset, and the alert with it.
"""

import contextlib
import socket
import ssl
import threading
from pathlib import Path
from typing import Any, Self, cast

from tests.brokers.certificates import Signed
from tests.patience import HANG_S

_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}"


class SecureServer:
    """`asks_for`: the authority whose clients are let in; None: all are. `clients`: the names of those served."""

    def __init__(
        self, shown: Signed, asks_for: Path | None = None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ) -> None:
        self.clients: list[str | None] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = self._context.maximum_version = version
        self.show(shown)
        if asks_for is not None:
            self._context.load_verify_locations(asks_for)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listening.getsockname()[1]}/"
        self._accepting = threading.Thread(target=self._accept)

    def show(self, shown: Signed) -> None:
        """Show this certificate to clients from now on."""
        self._context.load_cert_chain(shown.certificate, shown.key)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._accepting.join(HANG_S)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return  # closed
            connection.settimeout(HANG_S)
            self._serve(self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False))

    def _serve(self, secured: ssl.SSLSocket) -> None:
        try:
            secured.do_handshake()
        except ssl.SSLError:
            with socket.socket(fileno=secured.detach()) as refused, contextlib.suppress(OSError):  # it may be gone
                refused.settimeout(HANG_S)
                refused.shutdown(socket.SHUT_WR)
                while refused.recv(65_536):
                    pass
            return
        with secured:
            if secured.recv(65_536):
                self.clients.append(_name(secured))
                secured.sendall(_OK)


def _name(secured: ssl.SSLSocket) -> str | None:
    """The common name that the client's certificate gives."""
    subject = cast("Any", (secured.getpeercert() or {}).get("subject", ()))
    return next((value for ((name, value),) in subject if name == "commonName"), None)
