"""The daily loop: it prunes what is older than its days, rests between pieces, and outlives an archive that fails."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from reconciler.adapters.archive import FileArchive
from reconciler.adapters.counters import Counters
from reconciler.flows import retention
from reconciler.flows.retention import Days, Pruner, Retention
from tests.contracts.test_store import batch, record, settle, settlement
from tests.fakes.memory_store import MemoryStore
from tests.fakes.virtual_clock import VirtualClock
from tests.flows.test_notify import Bench
from tests.flows.world import World

DAY_US = 86_400_000_000


@pytest.fixture
async def store() -> MemoryStore:
    """A decision a day of ten days."""
    store, clock = MemoryStore(), VirtualClock()
    await store.fold(batch("d"))
    for ago in range(9, -1, -1):
        await settle(store, settlement(audit=(record(at_us=clock.now_us() - ago * DAY_US),)))
    return store


def made(store: MemoryStore, folder: Path, counters: Counters | None = None, **given: Any) -> Retention:
    clock = VirtualClock()
    pruner = Pruner(store=store, archive=FileArchive(folder), clock=clock, who="retention", role="daemon")
    settings: dict[str, Any] = {
        "days": Days(audit=5),
        "telemetry": counters or Counters(),
        "mine": lambda: True,
    } | given
    return Retention(pruner=pruner, **settings)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def finished(loop: Retention) -> bool:
    """Prune while time passes."""
    clock = loop.pruner.clock
    assert isinstance(clock, VirtualClock)
    pruning = asyncio.create_task(loop.prune())
    while not pruning.done():
        await clock.advance(1)
        await asyncio.sleep(0.001)  # a file is written on another thread
    return pruning.result()


async def test_what_is_older_than_its_days_is_archived(store: MemoryStore, tmp_path: Path) -> None:
    counters = Counters()
    assert await finished(made(store, tmp_path, counters))
    assert names(tmp_path) == ["audit-0-1-4.jsonl.zst"]
    assert counters.total("archived_total", kind="audit") == 4
    (told,) = await store.actions()
    assert (told.kind, told.who, told.role) == ("prune", "retention", "daemon")


async def test_a_piece_at_a_time_and_no_more_once_it_is_not_our_duty(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "RECORDS", 1)
    left = iter([True, False])
    assert not await finished(made(store, tmp_path, mine=lambda: next(left)))
    assert len(names(tmp_path)) == 2


async def test_an_archive_that_fails_leaves_all_in_the_store_and_is_told(store: MemoryStore, tmp_path: Path) -> None:
    counters = Counters()
    loop = made(store, tmp_path / "not mounted", counters)
    assert not await finished(loop)
    assert len(store.chain) == 10
    assert counters.gauges["retention_failing", ()] == 1
    (tmp_path / "not mounted").mkdir()
    assert await finished(loop)
    assert counters.gauges["retention_failing", ()] == 0


async def test_the_webhooks_walk_over_the_trail_begins_where_it_was_cut(make_world: Any, tmp_path: Path) -> None:
    world: World = make_world()
    bench = Bench(world, audit_s=300)
    for number in range(4):
        await world.emit_and_settle({"title": f"t{number}"})
    pruner = Pruner(store=world.store, archive=FileArchive(tmp_path), clock=world.clock, who="x", role="cli")
    assert [piece.count async for piece in pruner.run(retention.Limits(10**18))]
    await bench.start()
    await bench.pass_time(700)
    assert bench.webhook.types == []
    entry = world.store.chain[-1]
    world.store.chain[-1] = structs.replace(entry, link=bytes(32))
    await bench.pass_time(300)
    assert bench.webhook.types == ["audit.broken"]
    world.store.chain[-1] = entry
    await bench.die()
