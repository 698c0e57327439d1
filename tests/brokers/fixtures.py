"""Fixtures for tests that need a broker; `pytest_plugins` in tests/conftest.py names this module."""

import contextlib
import itertools
import uuid
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests import absences, brokers
from tests.brokers import apache

MakeTopic = Callable[..., Awaitable[str]]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch Kafka's jars before the first test if any test needs them: a test's time limit is too short for that."""
    wanted = any("broker" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted and not session.config.option.collectonly and apache.missing() is None:
        # If they cannot be had, the fixture decides what that means.
        with contextlib.suppress(apache.Unavailable):
            apache.jars()


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> Iterator[brokers.Server]:
    """The broker that tests run against, started once a session: `.brokers`, `.name`."""
    server = brokers.choose()
    server.start()
    if not isinstance(server, apache.Apache):
        absent = apache.missing() or "no way to get its jars"
        absences.note(request.config, f"Apache Kafka ({absent}); the Kafka tests ran against {server.name}")
    yield server
    server.stop()


def topic_factory(server: brokers.Server) -> MakeTopic:
    """A coroutine function `(partitions=1, name="topic") -> str` that makes a topic no one else uses."""
    run, numbers = uuid.uuid4().hex[:8], itertools.count(1)

    async def make(partitions: int = 1, name: str = "topic") -> str:
        unique = f"{name}-{run}-{next(numbers)}"
        await server.create_topic(unique, partitions)
        return unique

    return make


@pytest.fixture
def topic(broker: brokers.Server) -> MakeTopic:
    """Makes topics: `name = await topic(partitions=3)`."""
    return topic_factory(broker)
