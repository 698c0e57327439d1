"""One CAP server for all tests of this folder. Each test makes documents of its own."""

from collections.abc import Iterator

import pytest

from tests import absences, brokers
from tests.odata import cap
from tests.odata.people import Person


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[cap.Cap]:
    """In CI a missing server is a failure: a green run must mean that something other than ours was spoken to."""
    try:
        cap.modules()
    except cap.Unavailable as error:
        if brokers.must_be_apache():
            pytest.fail(f"CI needs SAP's CAP: {error}")
        without = f"SAP's CAP ({error}); the dialect wrs was tested against our own simulator alone"
        absences.note(request.config, without)
        pytest.skip(f"no OData server of someone else's: {error}")
    with cap.Cap() as running:
        yield running


@pytest.fixture(scope="session")
def user(server: cap.Cap) -> Iterator[Person]:
    person = Person(server.url, "jdoe")
    yield person
    person.http.close()
