"""The simulated Windchill as the tests of the HTTP adapters steer it: its control API, and clients made for it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpx

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.credentials import Auth
from reconciler.adapters.documents import DocumentsWindchill
from reconciler.adapters.http import HttpClient, HttpOptions
from reconciler.ports import Clock
from reconciler.simulator.history import Entry, from_json
from reconciler.simulator.server import Simulator
from reconciler.simulator.settings import Settings
from tests import defaults

DOCUMENT = "0000000001"


class Simulated:
    """A running simulator."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._control = httpx.Client(base_url=f"{url}/_control")

    def reset(self) -> None:
        self._post("/reset", {})

    def behave(self, **behaviour: Any) -> None:
        self._control.patch("/behaviour", json=behaviour).raise_for_status()

    def switch(self, **switches: Any) -> None:
        """How it plays Windchill REST Services."""
        self._control.patch("/wrs", json=switches).raise_for_status()

    def faults(self, **faults: Any) -> None:
        self._control.patch("/faults", json=faults).raise_for_status()

    def script(self, method: str | None, *steps: Any, document: str | None = DOCUMENT, path: str = "") -> None:
        self._post("/script", {"document": document, "method": method, "path": path, "faults": list(steps)})

    def unscript(self) -> None:
        self._control.delete("/script").raise_for_status()

    def edit(self, fields: dict[str, Any], document: str = DOCUMENT) -> None:
        self._post("/edit", {"document": document, "user": "jdoe", "set": fields})

    def make(self, document: dict[str, Any]) -> None:
        self._post("/documents", document)

    def lock(self, user: str, document: str = DOCUMENT) -> None:
        self._post("/lock", {"document": document, "user": user})

    def condition(self, status: int | None, document: str = DOCUMENT) -> None:
        self._post("/condition", {"document": document, "status": status})

    def expire_nonces(self) -> None:
        self._post("/wrs/expire-nonces", {})

    def expire_tokens(self) -> None:
        self._post("/expire-tokens", {})

    def forget_requests(self) -> None:
        self._post("/reset-stats", {})

    def requests(self) -> dict[str, dict[str, int]]:
        """Method → status → how often."""
        return dict(self._control.get("/stats").json()["requests"])

    def crowding(self) -> dict[str, int]:
        """The most requests at once, and how many writes came during another one on their document."""
        return dict(self._control.get("/stats").raise_for_status().json()["crowding"])

    def document(self, key: str = DOCUMENT) -> dict[str, Any]:
        return dict(self._control.get("/documents/" + key).raise_for_status().json()["document"])

    def history(self, document: str = DOCUMENT) -> list[Entry]:
        shown = self._control.get("/history", params={"document": document}).raise_for_status().json()
        return [from_json(entry) for entry in shown["items"]]

    def whole_history(self) -> list[Entry]:
        """Every accepted write on every document."""
        found: list[Entry] = []
        while True:
            after = {"after": found[-1].sequence if found else 0}
            shown = self._control.get("/history", params=after).raise_for_status().json()
            assert not shown["forgotten"], "a history with gaps proves nothing"
            found += [from_json(entry) for entry in shown["items"]]
            if not shown["items"]:
                return found

    def rivals(self, **rivals: Any) -> None:
        self._control.patch("/rivals", json=rivals).raise_for_status()

    def unlock(self, document: str = DOCUMENT) -> None:
        self._post("/unlock", {"document": document})

    def close(self) -> None:
        self._control.close()

    def _post(self, path: str, given: dict[str, Any]) -> None:
        self._control.post(path, json=given).raise_for_status()


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object], tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """A server on loopback of whatever kind; gives its address."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextmanager
def simulating(documents: int, **settings: Any) -> Iterator[Simulated]:
    """A simulator with so many documents."""
    with Simulator(Settings(port=0, documents=documents, **settings)) as running:
        steering = Simulated(running.url)
        yield steering
        steering.close()


def windchill(
    url: str, *, auth: Auth | None = None, http: HttpOptions | None = None, clock: Clock | None = None, **options: Any
) -> DocumentsWindchill:
    """The adapter over a real socket."""
    client = HttpClient(http or defaults.http(timeout_s=30), clock or SystemClock(), auth)
    return DocumentsWindchill(client, defaults.documents(base_url=url, **options))
