"""Every store there is, for the suites that each must pass."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconciler.adapters import sqlite
from reconciler.adapters.clock import SystemClock
from reconciler.ports import OUTBOX_DUTIES, Store
from tests.fakes.memory_store import MemoryStore
from tests.fakes.shared_store import SharedMemory


@pytest.fixture(params=["sqlite", "memory", "shared memory", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened: Store
    if request.param == "memory":
        opened = MemoryStore()
    elif request.param == "shared memory":
        opened = one_of_several = SharedMemory().owner()
        assert one_of_several.slots is not None
        await one_of_several.slots.take_duties(frozenset(OUTBOX_DUTIES))
    elif request.param == "sqlite":
        opened = await sqlite.open_store(tmp_path / "s.db", owner=True)
    else:
        url = request.getfixturevalue("postgres_url")
        from reconciler.adapters import postgres

        opened = shared = await postgres.open_store(postgres.Address(url), SystemClock(), owner=True)
        assert shared.slots is not None
        await shared.slots.take_duties(frozenset(OUTBOX_DUTIES))
    yield opened
    await opened.close()
