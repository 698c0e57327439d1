"""One simulated Windchill, as new for each test; and stores in files, closed when the test ends."""

from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest

from reconciler.adapters import sqlite
from tests.adapters.simulated import Simulated, simulating


@pytest.fixture(scope="session")
def running() -> Iterator[Simulated]:
    with simulating(documents=20) as steering:
        yield steering


@pytest.fixture
def server(running: Simulated) -> Simulated:
    running.reset()
    return running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


class Opens(Protocol):
    """Opens a store, as its owner unless told."""

    def __call__(self, path: Path, *, owner: bool = True) -> Awaitable[sqlite.SqliteStore]: ...


@pytest.fixture
async def opens() -> AsyncIterator[Opens]:
    async with AsyncExitStack() as opened:

        async def opens(path: Path, *, owner: bool = True) -> sqlite.SqliteStore:
            store = await sqlite.open_store(path, owner=owner)
            opened.push_async_callback(store.close)
            return store

        yield opens


@pytest.fixture
async def store(path: Path, opens: Opens) -> sqlite.SqliteStore:
    """A new store of ours."""
    return await opens(path)


@pytest.fixture
async def guest(path: Path, store: sqlite.SqliteStore, opens: Opens) -> sqlite.SqliteStore:
    """Another process at that store."""
    return await opens(path, owner=False)
