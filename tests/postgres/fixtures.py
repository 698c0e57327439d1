"""Fixtures for tests that need PostgreSQL; `pytest_plugins` in tests/conftest.py names this module."""

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import absences, postgres


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest) -> Iterator[postgres.Server]:
    """A PostgreSQL with a migrated template, started once a session."""
    if absent := postgres.missing():
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI needs PostgreSQL, and there is {absent}", pytrace=False)
        absences.note(request.config, f"PostgreSQL ({absent}): the store on it was not tested")
        pytest.skip(f"there is {absent}")
    from reconciler.adapters.clock import SystemClock
    from reconciler.adapters.postgres import Address, migrate_store

    with postgres.running() as server:
        server.sql(f"CREATE DATABASE {postgres.TEMPLATE}")
        address = Address(server.url(postgres.TEMPLATE))
        with ThreadPoolExecutor() as thread:  # the first test to ask has an event loop already
            thread.submit(lambda: asyncio.run(migrate_store(address, SystemClock()))).result()
        yield server


@pytest.fixture
def postgres_url(postgres_server: postgres.Server) -> str:
    """The URL of an empty store."""
    return postgres_server.new()
