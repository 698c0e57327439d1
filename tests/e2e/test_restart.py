"""The program as the operating system sees it: killed in mid-work, stopped by a signal, started again."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from reconciler import factory
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.counters import Counters
from reconciler.adapters.sqlite import path_of
from reconciler.flows import replay
from reconciler.flows.ingest import Ingest
from reconciler.flows.recovery import Bases
from reconciler.model.document import Status
from tests.checks import check_audit, opened, projection
from tests.e2e.world import ME, World, agreed_in, event, values_of
from tests.patience import HANG_S

KEYS = [f"{number:010d}" for number in range(1, 121)]


def write_config(world: World, folder: Path) -> Path:
    config = world.config
    path = folder / "reconciler.toml"
    path.write_text(
        f"""
        [log]
        brokers = {json.dumps(list(config.log.brokers))}
        topic = "{config.log.topic}"
        decisions_topic = "{config.log.decisions_topic}"
        outcomes_topic = "{config.log.outcomes_topic}"
        dead_letter_topic = "{config.log.dead_letter_topic}"
        group = "test"
        [store]
        url = "{config.store.url}"
        [windchill]
        base_url = "{config.windchill.base_url}"
        in_flight_max = 4
        [retry]
        backoff_base_s = 0.05
        backoff_max_s = 0.5
        [resync]
        interval_s = 0
        [admin]
        bind = ""
        """
    )
    return path


@contextmanager
def started(path: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The program in a process of its own; it is killed if the test has not ended it."""
    errors = path.with_name("stderr.log")
    with errors.open("ab") as stderr:
        command = [sys.executable, "-m", "reconciler", "run", "-c", str(path), *options]
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


async def ended(child: subprocess.Popen[bytes], path: Path) -> int:
    try:
        return await asyncio.to_thread(child.wait, HANG_S)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"it did not end; it said: {path.with_name('stderr.log').read_text()[-2000:]}") from None


async def until(true: Callable[[], bool], what: str, child: subprocess.Popen[bytes], path: Path) -> None:
    give_up_s = asyncio.get_running_loop().time() + HANG_S
    while not await asyncio.to_thread(true):
        said = path.with_name("stderr.log").read_text()[-2000:]
        assert child.poll() is None, f"it ended by itself while waiting until {what}: {said}"
        assert asyncio.get_running_loop().time() < give_up_s, f"waited in vain until {what}: {said}"
        await asyncio.sleep(0.02)


async def replayed(world: World, folder: Path) -> bytes:
    """The projection of a fresh fold of the whole log."""
    clock = SystemClock()
    log = factory.make_log(world.config, clock)
    async with opened(folder / "replayed.db", owner=True) as store:
        ingest = Ingest(
            log, store, clock, Counters(), options=factory.decoding(world.config), dead_letter_topic="none",
            batch_max=1000, offer=lambda due: None, wake=asyncio.Event(),
        )  # fmt: skip
        await replay.replay(log, ingest, Bases(store, clock))
        await log.close()
        return await projection(store)


def writes(world: World) -> int:
    return len([entry for entry in world.simulated.whole_history() if entry.who == ME])


async def test_a_kill_in_mid_work_loses_nothing_and_repeats_nothing(world: World, tmp_path: Path) -> None:
    path = write_config(world, tmp_path)
    # Known before the rivals come: of a document first seen after someone's edit no one could tell whose value counts.
    await world.settle(*(event(key, {"title": "known", "attributes.CostCenter": "0"}) for key in KEYS))
    world.simulated.faults(slow=0.5, slow_ms=20, lost_reply=0.03, unavailable=0.03, retry_after_s=0)
    world.simulated.rivals(per_second=20, documents=KEYS, fields=["owner"])
    last: dict[str, str] = {}
    for number in range(3):
        given = [event(key, {"title": f"title {number}", "attributes.CostCenter": f"{number}"}) for key in KEYS]
        await world.append(*given)
        last |= {one["subject"]: one["id"] for one in given}
        if number < 2:
            before = writes(world)
            with started(path) as child:
                await until(lambda: writes(world) >= before + 25, "25 writes were made", child, path)  # noqa: B023 - waited for right here
                os.kill(child.pid, signal.SIGKILL)
                assert await ended(child, path) == -signal.SIGKILL
    with started(path, "--once") as child:
        assert await ended(child, path) == 0, path.with_name("stderr.log").read_text()[-2000:]
    await world.check_history()
    for key in KEYS:
        shown = world.simulated.document(key)
        assert (shown["title"], shown["attributes"]["CostCenter"]) == ("title 2", "2")
    async with opened(path_of(world.config.store.url)) as store:
        assert {status for status, count in (await store.counts()).items() if count} == {Status.SYNCED}
        await check_audit(store)
        assert await projection(store) == await replayed(world, tmp_path)
        stored = await store.documents(KEYS)
    told = await world.told()
    for key, base in told.items():
        assert {agreed["stamp"]["id"] for agreed in base.values()} == {last[key]}
    assert values_of(told) == agreed_in(stored)
    assert set(told) == set(KEYS)


async def test_an_empty_store_is_rebuilt_at_start_and_nothing_is_written(world: World, tmp_path: Path) -> None:
    keys = KEYS[:20]
    await world.settle(*(event(key, {"title": "one", "owner": "akim"}) for key in keys))
    for key in keys[:5]:
        world.simulated.edit({"owner": "by hand"}, key)
    await world.settle(*(event(key, {"title": "two"}) for key in keys))
    before, config = writes(world), world.config
    world.config = attrs.evolve(config, store=attrs.evolve(config.store, url=f"sqlite:///{tmp_path}/empty.db"))
    assert (await world.converge()).settled
    assert writes(world) == before
    assert [world.simulated.document(key)["owner"] for key in keys[:5]] == ["by hand"] * 5


async def test_sigterm_ends_in_order_with_nothing_half_done(world: World, tmp_path: Path) -> None:
    path = write_config(world, tmp_path)
    world.simulated.faults(slow=1.0, slow_ms=30)
    await world.append(*(event(key, {"title": "one"}) for key in KEYS))
    with started(path) as child:
        await until(lambda: writes(world) >= 10, "10 writes were made", child, path)
        child.send_signal(signal.SIGTERM)
        assert await ended(child, path) == 0, path.with_name("stderr.log").read_text()[-2000:]
    made = writes(world)
    assert 10 <= made < len(KEYS), "it stopped in mid-work"
    async with opened(path_of(world.config.store.url)) as store:
        rows = await store.documents(KEYS)
        assert not [row.key for row in rows.values() if row.agreement.intent is not None]
        assert len([row for row in rows.values() if row.status is Status.SYNCED]) == made
        assert await store.waiting(1) == []
    assert len(await world.outcomes()) == made
    assert (await world.converge()).settled
