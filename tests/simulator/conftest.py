"""One simulated Windchill for all tests of this folder, as new for each of them."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from reconciler.simulator.history import Entry, from_json
from reconciler.simulator.server import Simulator
from reconciler.simulator.settings import Settings
from tests.simulator.wrs import User

Behave = Callable[..., object]
Switch = Callable[..., object]
Script = Callable[..., None]
Fetch = Callable[[], list[Entry]]

DOCUMENT = "0000000001"
PATH = f"/documents/{DOCUMENT}"
MERGE_PATCH = "application/merge-patch+json"


@pytest.fixture(scope="session")
def simulator() -> Iterator[Simulator]:
    with Simulator(Settings(port=0, documents=30)) as running:
        yield running


@pytest.fixture(scope="session")
def client(simulator: Simulator) -> Iterator[httpx.Client]:
    """One for all tests: making a client takes longer than most tests do."""
    with httpx.Client(base_url=simulator.url, headers={"Accept-Encoding": "identity"}) as made:
        yield made


@pytest.fixture
def server(client: httpx.Client) -> httpx.Client:
    client.post("/_control/reset").raise_for_status()
    return client


def _setting(what: str) -> Any:
    """A fixture that sets switches of the server, the rest at their defaults."""

    @pytest.fixture
    def setting(server: httpx.Client) -> Behave:
        return lambda **given: server.put(f"/_control/{what}", json=given).raise_for_status()

    return setting


behave, switch = _setting("behaviour"), _setting("wrs")


@pytest.fixture
def user(server: httpx.Client) -> User:
    return User(server).nonce()


@pytest.fixture
def rival(server: httpx.Client) -> User:
    return User(server, "jdoe").nonce()


@pytest.fixture
def script(server: httpx.Client) -> Script:
    def add_script(*faults: Any, document: str | None = DOCUMENT, method: str | None = "PATCH") -> None:
        given = {"document": document, "method": method, "faults": list(faults)}
        server.post("/_control/script", json=given).raise_for_status()

    return add_script


@pytest.fixture
def history(server: httpx.Client) -> Fetch:
    def fetch() -> list[Entry]:
        return [from_json(shown) for shown in server.get("/_control/history").raise_for_status().json()["items"]]

    return fetch


def patch(
    server: httpx.Client,
    changes: dict[str, Any],
    if_match: str | None = None,
    path: str = PATH,
    timeout: float | httpx.Timeout = 10,
    **headers: str,
) -> httpx.Response:
    """A merge patch, guarded or not; header names with underscores."""
    given = {"Content-Type": MERGE_PATCH} | {name.replace("_", "-"): value for name, value in headers.items()}
    if if_match is not None:
        given["If-Match"] = if_match
    return server.patch(path, json=changes, headers=given, timeout=timeout)


def edit(server: httpx.Client, changes: dict[str, Any], user: str = "jdoe", document: str = DOCUMENT) -> None:
    """A person's edit in the GUI."""
    given = {"document": document, "user": user, "set": changes}
    server.post("/_control/edit", json=given).raise_for_status()


def tag(server: httpx.Client) -> str:
    """The document's entity tag as its readers see it."""
    return server.get(PATH).headers["ETag"]


def truth(server: httpx.Client, document: str = DOCUMENT) -> dict[str, Any]:
    """The document as it is."""
    return server.get(f"/_control/documents/{document}").raise_for_status().json()["document"]
