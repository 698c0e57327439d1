"""Every store there is, for the suites that each must pass."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reconciler.adapters import sqlite
from reconciler.ports import Store
from tests.fakes.memory_store import MemoryStore


@pytest.fixture(params=["sqlite", "memory"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened: Store
    opened = MemoryStore() if request.param == "memory" else await sqlite.open_store(tmp_path / "s.db", owner=True)
    yield opened
    await opened.close()
