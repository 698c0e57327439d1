"""Fixtures for tests that need PostgreSQL; `pytest_plugins` in tests/conftest.py names this module."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any

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
    with migrated() as server:
        yield server


@contextmanager
def migrated() -> Iterator[postgres.Server]:
    """A PostgreSQL with a migrated template."""
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


@asynccontextmanager
async def owners(url: str) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """Opens stores on one database, as an owner unless told otherwise, and closes them."""
    from reconciler.adapters.clock import SystemClock
    from reconciler.adapters.postgres import Address, PostgresStore, Terms, open_store

    opened: list[PostgresStore] = []
    calm = Terms(evict_s=600)  # nobody beats by itself while a test runs

    async def open_(*, owner: bool = True, terms: Terms = calm, **address: Any) -> PostgresStore:
        store = await open_store(Address(url, **address), SystemClock(), owner=owner, terms=terms)
        opened.append(store)
        return store

    yield open_
    for store in opened:
        await store.close()


@pytest.fixture
async def shares(postgres_url: str) -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """Opens stores on one database of PostgreSQL."""
    async with owners(postgres_url) as open_:
        yield open_
