"""A store that gets full or damaged, at work or at rest: it is said, nothing is lost, and a rebuilt one goes on."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from reconciler import app
from reconciler.adapters import files
from reconciler.adapters.sqlite import opening, path_of
from reconciler.errors import StoreDamagedError, StoreError, StoreFullError
from reconciler.model.document import Status
from tests.e2e.test_restart import started, until, write_config, writes
from tests.e2e.world import World, event
from tests.patience import HANG_S

KEYS = [f"{number:010d}" for number in range(1, 81)]
PAGE = 4096


def ran(path: Path, *command: str, size_max: int | None = None) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own; `size_max` is how large a file may become under it."""

    def limited() -> None:
        if size_max is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size_max, size_max))

    told = [sys.executable, "-m", "reconciler", *command, "-c", str(path)]
    return subprocess.run(told, capture_output=True, text=True, timeout=HANG_S, check=False, preexec_fn=limited)


def wait_for_writes(world: World, count: int) -> None:
    give_up_s = time.monotonic() + HANG_S
    while writes(world) < count:
        assert time.monotonic() < give_up_s, f"waited in vain for {count} writes"
        time.sleep(0.01)


def errors(ended: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in ended.stderr.splitlines() if line.startswith("error: ")]


async def dies(world: World, act: Callable[[app.Daemon], Awaitable[None]]) -> StoreError:
    """Run a daemon to its bitter end; return the one thing that all of its tasks say."""
    async with app.daemon(world.config) as daemon:
        task = asyncio.create_task(daemon.run(asyncio.Event()))
        await act(daemon)
        done, _ = await asyncio.wait([task], timeout=HANG_S)
        assert done, "it goes on as if nothing were the matter"
        ended = task.exception()
    assert ended is not None, "it ended as if nothing were the matter"
    first, *others = leaves(ended)
    assert isinstance(first, StoreError)
    assert {str(other) for other in others} <= {str(first)}
    return first


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


async def agreed(world: World) -> None:
    """Documents that are agreed, some of them with a user's own edit that was yielded to."""
    await world.settle(*(event(key, {"title": "one", "owner": "akim"}) for key in KEYS))
    for key in KEYS[:10]:
        world.simulated.edit({"owner": "by hand"}, key)
    await world.settle(*(event(key, {"title": "two"}) for key in KEYS))


async def everything_is_as_wanted(world: World, title: str) -> None:
    """It converges; no one's edit was overwritten, and no write was made that changes nothing."""
    summary = await world.converge()
    assert (summary.settled, summary.counts[Status.SYNCED]) == (True, len(KEYS))
    for key in KEYS:
        assert world.simulated.document(key)["title"] == title
    for key in KEYS[:10]:
        assert world.simulated.document(key)["owner"] == "by hand"


def scribble(path: Path, begin: int = PAGE) -> None:
    """Overwrite a file that SQLite may have open: in another process, since a close here would drop SQLite's locks."""
    script = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(int(sys.argv[2])); f.write(b'U' * int(sys.argv[3]))"
    size = path.stat().st_size - begin
    subprocess.run([sys.executable, "-c", script, str(path), str(begin), str(size)], check=True)


# -------------------------------------------------------------------------------------------------------------- at work


@pytest.mark.parametrize(
    ("pragma", "kind", "why"),
    [("max_page_count = 1", StoreFullError, "free some space"), ("query_only = ON", StoreError, "writable")],
)
async def test_a_store_that_takes_no_more_in_mid_work_ends_the_daemon_and_loses_nothing(
    world: World, pragma: str, kind: type[StoreError], why: str
) -> None:
    await agreed(world)
    world.simulated.faults(slow=1.0, slow_ms=20)
    before = writes(world)

    async def fill(daemon: app.Daemon) -> None:
        await world.append(*(event(key, {"title": "three", "attributes.Note": "x" * 3000}) for key in KEYS))
        await asyncio.to_thread(wait_for_writes, world, before + 10)
        await daemon.store._database._connection.execute_fetchall(f"PRAGMA {pragma}")
        await world.append(*(event(key, {"title": "four", "attributes.Note": "y" * 9000}) for key in KEYS))

    died = await dies(world, fill)
    assert isinstance(died, kind)
    assert why in str(died)
    world.simulated.faults(slow=0)
    await everything_is_as_wanted(world, "four")


@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize("suffix", ["", "-wal"])
async def test_bytes_overwritten_under_a_running_daemon_end_it_and_a_rebuilt_store_goes_on(
    world: World, tmp_path: Path, suffix: str, newer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await agreed(world)
    before = writes(world)
    world.simulated.faults(slow=1.0, slow_ms=20)
    # A store as small as this one would stay in SQLite's cache for good, and never be read again.
    monkeypatch.setattr(opening, "_OWNER", opening._OWNER.replace("cache_size = -98304", "cache_size = 5"))

    async def damage(daemon: app.Daemon) -> None:
        await world.append(*(event(key, {"title": "three"}) for key in KEYS))
        await asyncio.to_thread(wait_for_writes, world, before + 10)
        scribble(files.beside(path_of(world.config.store.url), suffix), 0 if suffix else PAGE)
        if newer:
            await world.append(*(event(key, {"title": "four"}) for key in KEYS))

    assert isinstance(await dies(world, damage), StoreDamagedError)
    monkeypatch.undo()
    world.simulated.faults(slow=0)
    await rebuilt(world, tmp_path)
    if not newer:
        await everything_is_as_wanted(world, "three")
        return
    # What was under way or not yet published when the store was lost, no log tells of. So it may have been someone
    # else's: held, never overwritten.
    summary = await world.converge()
    assert summary.counts[Status.SYNCED] + summary.counts[Status.HELD] == len(KEYS)
    titles = [world.simulated.document(key)["title"] for key in KEYS]
    assert (titles.count("four"), titles.count("three")) == (summary.counts[Status.SYNCED], summary.counts[Status.HELD])


async def test_a_store_removed_under_a_running_daemon_ends_it(world: World, tmp_path: Path) -> None:
    await agreed(world)

    async def remove(daemon: app.Daemon) -> None:
        path_of(world.config.store.url).unlink()
        await world.append(event(KEYS[0], {"title": "two", "attributes.CostCenter": "1"}))

    assert "removed or exchanged while in use" in str(await dies(world, remove))
    await rebuilt(world, tmp_path)
    await everything_is_as_wanted(world, "two")


async def test_a_disk_that_fails_ends_the_process_with_one_line_and_exit_code_1(world: World, tmp_path: Path) -> None:
    await agreed(world)
    path, size = write_config(world, tmp_path), path_of(world.config.store.url).stat().st_size
    await world.append(*(event(key, {"title": "three", "attributes.Note": "x" * 9000}) for key in KEYS))
    ended = await asyncio.to_thread(ran, path, "run", "--once", size_max=size)
    assert ended.returncode == 1, ended.stderr
    (said,) = errors(ended)
    assert "disk I/O error; check its disk" in said
    await everything_is_as_wanted(world, "three")


# -------------------------------------------------------------------------------------------------------------- at rest


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 // PAGE * PAGE)


@pytest.mark.parametrize("harm", [scribble, truncate, lambda path: path.write_bytes(b"")])
async def test_a_store_damaged_at_rest_is_refused_before_anything_is_done_and_rebuilt(
    world: World, tmp_path: Path, harm: Callable[[Path], object]
) -> None:
    await agreed(world)
    harm(path_of(world.config.store.url))
    await world.append(*(event(key, {"title": "three"}) for key in KEYS[:5]))
    before = writes(world)
    await refused(world, tmp_path)
    assert writes(world) == before
    await rebuilt(world, tmp_path)
    assert (await world.converge()).settled
    assert writes(world) == before + 5  # what is new, and nothing else
    assert [world.simulated.document(key)["owner"] for key in KEYS[:10]] == ["by hand"] * 10


async def test_a_killed_daemons_write_ahead_log_is_missed_and_a_rebuilt_store_goes_on(
    world: World, tmp_path: Path
) -> None:
    await agreed(world)
    path, before = write_config(world, tmp_path), writes(world)
    world.simulated.faults(slow=1.0, slow_ms=20)
    await world.append(*(event(key, {"title": "three"}) for key in KEYS))
    with started(path) as child:
        await until(lambda: writes(world) >= before + 20, "20 writes were made", child, path)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    world.simulated.faults(slow=0)
    files.beside(path_of(world.config.store.url), "-wal").unlink()
    await refused(world, tmp_path)
    await rebuilt(world, tmp_path)
    await everything_is_as_wanted(world, "three")


async def refused(world: World, folder: Path) -> None:
    path = write_config(world, folder)
    for _ in range(2):
        ended = await asyncio.to_thread(ran, path, "run", "--once")
        assert ended.returncode == 1
        (said,) = errors(ended)
        assert "reconciler rebuild" in said


async def rebuilt(world: World, folder: Path) -> None:
    path = write_config(world, folder)
    ended = await asyncio.to_thread(ran, path, "rebuild")
    assert ended.returncode == 0, ended.stderr
    assert "Next: start the reconciler" in ended.stdout
