"""One CAP server for all tests of this folder. Each test makes documents of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import brokers
from tests.odata import cap
from tests.odata.people import Person

if TYPE_CHECKING:
    from collections.abc import Iterator

_ABSENT: list[str] = []


@pytest.fixture(scope="session")
def server() -> Iterator[cap.Cap]:
    """In CI a missing server is a failure: a green run must mean that something other than ours was spoken to."""
    try:
        cap.modules()
    except cap.Unavailable as error:
        if brokers.must_be_apache():
            pytest.fail(f"CI needs SAP's CAP: {error}")
        _ABSENT.append(str(error))
        pytest.skip(f"no OData server of somebody else's: {error}")
    with cap.Cap() as running:
        yield running


@pytest.fixture(scope="session")
def user(server: cap.Cap) -> Iterator[Person]:
    person = Person(server.url, "jdoe")
    yield person
    person.http.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say after the last test what the tests did without."""
    if _ABSENT:
        terminalreporter.write_line(
            f"missing: SAP's CAP ({_ABSENT[0]}); the dialect wrs was tested against our own simulator alone",
            yellow=True,
            bold=True,
        )
