# ruff: noqa: ASYNC240 - nothing else runs on these loops that a file could hold up
"""A store as a file: copying and replacing it, and finding every kind of damage before it is used."""

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from unittest.mock import ANY

import pytest

from reconciler.adapters import files, sqlite
from reconciler.adapters.archive import FileArchive
from reconciler.adapters.sqlite import backup, damage, locks, opening
from reconciler.adapters.sqlite.store import SqliteStore
from reconciler.errors import StoreDamagedError, StoreError, StoreFullError
from reconciler.flows.retention import Limits, Pruner
from reconciler.model.stamp import Partition
from reconciler.ports import store_admin
from tests.adapters.conftest import Opens
from tests.adapters.test_sqlite import KEYS, P0, batch, codec_value, one_round, settled
from tests.contracts.test_store import batch as store_batch
from tests.contracts.test_store import record, settlement
from tests.fakes.virtual_clock import VirtualClock

MANY = [f"d{n:04}" for n in range(2000)]
PAGE = 4096


def silent(done: int, total: int | None) -> None:
    """Told how far a copy is."""


async def made(path: Path, keys: list[str] = MANY, position: int = 1) -> Path:
    """A store that was closed properly."""
    store = await sqlite.open_store(path, owner=True)
    await store.fold(batch(keys, position, position))
    await store.close()
    return path


async def killed(path: Path, rounds: int = 3) -> Path:
    """A store as a killed owner leaves it, with commits that are in its write-ahead log only."""
    living = path.with_name("living.db")
    store = await sqlite.open_store(living, owner=True)
    for number in range(1, rounds + 1):
        await one_round(store, number)
    for suffix in ("", "-wal", "-shm", ".owner"):
        cloned(files.beside(living, suffix), files.beside(path, suffix))
    await store.close()
    return path


def cloned(path: Path, to: Path) -> None:
    """Copy a file that SQLite has open here: in another process, whose locks are its own."""
    subprocess.run(["cp", path, to], check=True)


def overwrite(path: Path, at: int, count: int, byte: bytes = b"\x55") -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(byte * count)


# ------------------------------------------------------------------------------------------------- recognised at start


async def refused(path: Path, why: str) -> None:
    """It is refused, as often as one tries, and nothing of it is changed by that."""
    files = {file: file.read_bytes() for file in path.parent.glob(f"{path.name}*") if file.suffix == ".db"}
    for _ in range(2):
        with pytest.raises(StoreDamagedError, match=why) as told:
            await sqlite.open_store(path, owner=True)
        assert "reconciler rebuild" in str(told.value)
        assert "\n" not in str(told.value)
    assert {file: file.read_bytes() for file in files} == files


def halve(path: Path, whole: int = 1) -> None:
    os.truncate(path, path.stat().st_size // 2 // whole * whole)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (lambda path: overwrite(path, PAGE * 20, PAGE * 3), "is damaged"),
        (lambda path: overwrite(path, 0, PAGE), "not a database"),
        (lambda path: halve(path, PAGE), "malformed"),
    ],
    ids=["overwritten pages", "an overwritten header", "a truncated file"],
)
async def test_damage_to_a_store_is_seen_at_start(path: Path, harm: Callable[[Path], None], why: str) -> None:
    harm(await made(path))
    await refused(path, why)


async def test_an_empty_file_is_refused_where_a_store_was(path: Path) -> None:
    await made(path)
    path.write_bytes(b"")
    await refused(path, "is empty, and was a store")
    assert path.stat().st_size == 0


async def test_an_empty_file_is_a_new_store_where_none_was(path: Path, opens: Opens) -> None:
    path.touch()
    locks.claim(path).close()  # a first start that ended before it had made anything
    store = await opens(path)
    assert await store.positions() == {}


async def test_a_store_that_was_removed_while_closed_starts_again(path: Path, opens: Opens) -> None:
    await made(path)
    path.unlink()
    store = await opens(path)
    assert await store.positions() == {}


@pytest.mark.parametrize("empty", [True, False])
async def test_a_write_ahead_log_without_its_store_is_refused(path: Path, empty: bool) -> None:
    await killed(path)
    path.unlink()
    if empty:
        path.touch()
    await refused(path, "its write-ahead log is not")
    assert path.with_name("state.db-wal").stat().st_size > 0


async def test_a_kill_leaves_a_whole_store(path: Path, opens: Opens) -> None:
    store = await opens(await killed(path))
    rows = await store.documents(KEYS)
    assert {codec_value(row.desired) for row in rows.values()} == {3}


@pytest.mark.parametrize(
    "harm",
    [Path.unlink, halve, lambda log: overwrite(log, log.stat().st_size // 2, 100), lambda log: overwrite(log, 0, 32)],
    ids=["lost", "truncated", "damaged in the middle", "damaged at its head"],
)
async def test_damage_to_a_write_ahead_log_is_seen_at_start(path: Path, harm: Callable[[Path], None]) -> None:
    harm((await killed(path)).with_name("state.db-wal"))
    await refused(path, "has lost commits")


async def test_what_a_checkpoint_has_saved_may_be_missing_from_the_log(path: Path, opens: Opens) -> None:
    await killed(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA wal_checkpoint(PASSIVE)")
        for suffix in ("", "-wal", "-shm"):
            cloned(files.beside(path, suffix), files.beside(path.with_name("saved.db"), suffix))
    saved = path.with_name("saved.db")
    shutil.copy(locks.owner_path(path), locks.owner_path(saved))
    saved.with_name("saved.db-wal").unlink()
    store = await opens(saved)
    assert {codec_value(row.desired) for row in (await store.documents(KEYS)).values()} == {3}


def test_a_later_generation_of_the_log_lacks_nothing_and_an_earlier_one_does() -> None:
    def went(salt: int, frames: int, backfilled: int = 0) -> opening.Extent:
        return opening.Extent(salt.to_bytes(4, "big") + b"rest", frames, backfilled)

    assert went(5, 10).lost_in(None)
    assert went(5, 10).lost_in(went(5, 9))
    assert went(5, 10).lost_in(went(4, 99))
    for salt in (5, 2**31 + 5):
        assert went(salt, 10).lost_in(opening.Extent(bytes(8), 0, 0))
    assert not went(5, 10).lost_in(went(5, 10))
    assert not went(5, 10).lost_in(went(6, 0))
    assert not went(2**32 - 1, 10).lost_in(went(0, 1))
    assert not went(5, 10, 10).lost_in(None)
    assert not went(5, 0).lost_in(went(4, 0))


OTHER_PROCESS = """\
import fcntl, sys
bytes_of = {"": (0x40000002, 510), "-shm": (128, 1)}  # what every reader holds: see "File Locking" and "WAL" of SQLite
for suffix, (start, count) in bytes_of.items():
    with open(sys.argv[1] + suffix, "r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, count, start)
        except BlockingIOError:
            continue
        print("no lock on", suffix or "the file")
"""


@pytest.mark.parametrize("state", [made, killed])
async def test_while_a_start_looks_at_the_store_another_process_finds_its_locks(
    path: Path, state: Callable[[Path], Awaitable[Path]], monkeypatch: pytest.MonkeyPatch, opens: Opens
) -> None:
    await state(path)
    said, sound = [], damage.require_sound

    def looking(connection: sqlite3.Connection, path: Path, *args: Sequence[str]) -> None:
        command = [sys.executable, "-c", OTHER_PROCESS, str(path)]
        said.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        sound(connection, path, *args)

    monkeypatch.setattr(damage, "require_sound", looking)
    await (await opens(path)).close()
    assert said == [""]


async def test_a_large_store_is_read_whole_only_if_it_was_not_closed(
    path: Path, monkeypatch: pytest.MonkeyPatch, opens: Opens
) -> None:
    monkeypatch.setattr(damage, "CHECKED_BYTES_MAX", 0)
    await made(path)
    overwrite(path, path.stat().st_size - PAGE * 3, PAGE * 3)
    store = await opens(path)
    assert await store.positions() == {P0: 1}
    with pytest.raises(StoreDamagedError, match="reconciler rebuild"):
        await store.list_documents(None, "", 5000)
    await store.close()
    await refused(path, "is damaged")  # the last owner met damage, so it did not note a good end


async def test_the_small_tables_of_a_large_store_are_always_checked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(damage, "CHECKED_BYTES_MAX", 0)
    await made(path)
    with closing(sqlite3.connect(path)) as looking:
        (page,) = looking.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'position'").fetchone()
    overwrite(path, PAGE * (page - 1), PAGE)
    await refused(path, "damaged")


# ------------------------------------------------------------------------------------------------------- while running


async def test_a_full_store_ends_every_call_with_one_line_and_keeps_what_was_there(
    path: Path, store: SqliteStore, opens: Opens
) -> None:
    await store.fold(batch(KEYS, 1, 1))
    await store._database._connection.execute_fetchall("PRAGMA max_page_count = 1")  # no more than there are now
    with pytest.raises(StoreFullError, match="free some space on its disk") as first:
        await store.fold(batch(MANY, 2, 2))
    others = await asyncio.gather(
        store.fold(batch(["a"], 3, 3)), store.settle(settled(KEYS[0])), store.positions(), return_exceptions=True
    )
    assert {str(other) for other in others} == {str(first.value)}
    await store.close()
    store = await opens(path)
    assert await store.positions() == {P0: 1}
    assert (await store.documents(MANY)) == {}
    await store.fold(batch(MANY, 2, 2))


async def test_an_answer_that_is_too_large_for_sqlite_ends_nothing_but_the_call(store: SqliteStore) -> None:
    await store.fold(batch(MANY))
    connection = store._database._connection
    await connection._execute(connection._conn.setlimit, sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
    with pytest.raises(StoreError, match="ask for fewer"):
        await store.list_documents(None, "", len(MANY))
    assert len(await store.list_documents(None, "", 10)) == 10


async def test_a_store_that_may_not_be_written_to_says_so(store: SqliteStore) -> None:
    await store._database._connection.execute_fetchall("PRAGMA query_only = ON")
    with pytest.raises(StoreError, match="make file and directory writable"):
        await store.fold(batch(KEYS))


@pytest.mark.parametrize("suffix", ["", "-wal", ".owner"])
async def test_a_file_removed_under_its_owner_ends_it(path: Path, suffix: str, store: SqliteStore) -> None:
    await store.fold(batch(KEYS))
    files.beside(path, suffix).unlink()
    with pytest.raises(StoreDamagedError, match="removed or exchanged while in use"):
        await store.fold(batch(KEYS, 2, 2))


async def test_a_row_that_does_not_decode_is_damage(path: Path, opens: Opens) -> None:
    await made(path, ["a"])
    with closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE desired SET desired = CAST('{\"fields\": 1' AS BLOB)")
        other.commit()
    store = await opens(path)
    for act in (store.documents(["a"]), store.list_documents(None, "", 9)):
        with pytest.raises(StoreDamagedError, match=r"row that can't be read .*reconciler rebuild"):
            await act


# ------------------------------------------------------------------------------------------------------------ snapshot


async def test_a_snapshot_is_the_store_at_one_moment_while_it_is_written_to(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: SqliteStore, opens: Opens
) -> None:
    monkeypatch.setattr(backup, "_SLICE_PAGES", 10)  # so that much is written between the first slice and the last
    await store.fold(batch(MANY))
    await one_round(store, 1)
    to, ended = tmp_path / "copy.db", asyncio.Event()

    async def copied() -> list[store_admin.Contents]:
        found = []
        for _ in range(5):
            found.append(await asyncio.to_thread(backup.snapshot, path, to, silent))
            copy = await opens(to, owner=False)
            rows = await copy.documents(KEYS)
            (number,) = {codec_value(row.desired) for row in rows.values()}
            assert await copy.positions() == found[-1].positions == {P0: number}
            assert {row.revision for row in rows.values()} == {number}
            await copy.close()
        ended.set()
        return found

    async def written() -> int:
        number = 1
        while not ended.is_set():
            number += 1
            await one_round(store, number)
        return number

    found, last = await asyncio.gather(copied(), written())
    positions = [contents.positions[P0] for contents in found]
    assert positions == sorted(positions)
    assert positions[0] < positions[-1] <= last
    assert {contents.documents for contents in found} == {len(MANY) + len(KEYS)}


async def test_a_snapshot_gets_on_however_much_is_written_meanwhile(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: SqliteStore
) -> None:
    monkeypatch.setattr(backup, "_SLICE_PAGES", 10)
    await store.fold(batch(MANY))
    loop, slices = asyncio.get_running_loop(), 0

    def written(done: int, total: int | None) -> None:
        nonlocal slices
        slices += 1
        assert slices <= 200, "it begins again whenever something is written"
        asyncio.run_coroutine_threadsafe(store.fold(batch(["x"], slices, 1 + slices)), loop).result(20)

    contents = await asyncio.to_thread(backup.snapshot, path, tmp_path / "copy.db", written)
    assert slices > 5
    assert (contents.documents, contents.positions) == (len(MANY), {P0: 1})


async def test_a_snapshot_is_one_file_and_a_store(path: Path, tmp_path: Path, opens: Opens) -> None:
    to = tmp_path / "elsewhere" / "copy.db"
    to.parent.mkdir()
    contents = backup.snapshot(await killed(path), to, silent)
    assert [file.name for file in to.parent.iterdir()] == ["copy.db"]
    assert contents == store_admin.Contents(len(KEYS), {P0: 3}, to.stat().st_size)
    store = await opens(to)
    await store.fold(batch(["a"], 3, 3))  # it gets its write-ahead log only now
    assert {codec_value(row.desired) for row in (await store.documents(KEYS)).values()} == {3}


async def test_what_was_archived_makes_room_again_and_a_snapshot_small(path: Path, tmp_path: Path) -> None:
    async def decide() -> None:
        for number in range(20):
            many = [record("d", number, message=os.urandom(2000).hex()) for _ in range(50)]
            await store.settle(settlement("d", audit=tuple(many)))

    archive = tmp_path / "archive"
    archive.mkdir()
    store = await sqlite.open_store(path, owner=True)
    await store.fold(store_batch("d"))
    await decide()
    grown = path.stat().st_size + files.beside(path, "-wal").stat().st_size
    pruner = Pruner(store=store, archive=FileArchive(archive), clock=VirtualClock(), who="x", role="cli")
    assert [piece.count async for piece in pruner.run(Limits(audit_us=10**9))] == [999]
    small = await asyncio.to_thread(backup.snapshot, path, tmp_path / "small.db", silent)
    assert small.bytes < grown / 4
    assert stat.S_IMODE((tmp_path / "small.db").stat().st_mode) == 0o600
    await decide()
    await store.close()
    assert path.stat().st_size < grown * 1.3  # twice as much was written
    assert await asyncio.to_thread(damage.inspect, tmp_path / "small.db", silent) == damage.Inspected(ANY, None)
    copied = await sqlite.open_store(tmp_path / "small.db", owner=False)
    assert [entry.number async for entry in copied.audit_chain()] == [1000, 1001]
    await copied.close()


async def test_a_damaged_store_gives_no_snapshot(path: Path, tmp_path: Path) -> None:
    await made(path)
    overwrite(path, PAGE * 20, PAGE * 3)
    (tmp_path / "copy.db").write_text("an older one")
    with pytest.raises(StoreDamagedError, match=r"state.db is damaged .*reconciler rebuild"):
        backup.snapshot(path, tmp_path / "copy.db", silent)
    assert (tmp_path / "copy.db").read_text() == "an older one"
    assert not (tmp_path / "copy.db.part").exists()


async def test_a_snapshot_never_takes_a_stores_place(path: Path) -> None:
    await made(path)
    other = await made(path.with_name("other.db"))
    before = other.read_bytes()
    path.with_name("dir").mkdir()
    for to in (path, path.with_name("dir") / ".." / "state.db", other):
        with pytest.raises(StoreError, match="name another file"):
            backup.snapshot(path, to, silent)
    assert other.read_bytes() == before


# --------------------------------------------------------------------------------------------------------- replacement


async def test_another_store_takes_the_place_and_the_old_one_stays_beside_it(path: Path, opens: Opens) -> None:
    await killed(path)
    other = await made(path.with_name("other.db"), ["a"], 9)
    with backup.replacing(path) as replacement:
        backup.copy(other, replacement.fresh, silent)
        aside = replacement.put("replaced", "20261122T100000Z")
    assert aside == path.with_name("state.db.replaced-20261122T100000Z")
    store = await opens(path)
    assert await store.positions() == {P0: 9}
    await store.close()
    old = await opens(aside)
    assert await old.positions() == {P0: 3}  # it still has what was in its log only
    await old.close()
    assert not list(path.parent.glob("*.new*"))


async def test_a_store_in_use_cannot_be_replaced(path: Path, store: SqliteStore) -> None:
    with pytest.raises(StoreError, match=r"in use by another reconciler \(pid \d+\)"), backup.replacing(path):
        pass


async def test_another_programs_database_is_never_replaced(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (a)")
    with pytest.raises(StoreError, match="another program's database"), backup.replacing(path):
        pass


async def test_two_stores_set_aside_in_one_second_are_both_kept(path: Path) -> None:
    asides = []
    for position in (1, 2, 3):
        fresh = await made(path.with_name("other.db"), ["a"], position)
        with backup.replacing(path) as replacement:
            backup.copy(fresh, replacement.fresh, silent)
            asides.append(replacement.put("replaced", "T"))
    assert asides[0] is None
    assert [backup.examine(aside).positions for aside in asides[1:]] == [{P0: 1}, {P0: 2}]
    assert backup.examine(path).positions == {P0: 3}


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
async def test_a_replacement_that_was_interrupted_leaves_a_whole_store_or_is_asked_for_again(
    path: Path, steps: int, monkeypatch: pytest.MonkeyPatch, opens: Opens
) -> None:
    await killed(path)
    other = await made(path.with_name("other.db"), ["a"], 9)
    left = steps

    def step(real: Callable[..., object]) -> Callable[..., object]:
        def act(*args: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return real(*args)

        return act

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", step(Path.rename))
        patch.setattr(Path, "replace", step(Path.replace))
        patch.setattr(backup, "_remove", lambda path: None)  # nothing is tidied up by a process that is dead
        try:
            with backup.replacing(path) as replacement:
                backup.copy(other, replacement.fresh, silent)
                replacement.put("replaced", "T")
        except KeyboardInterrupt:
            pass
    if steps < 4:
        await refused(path, "was being restored or rebuilt, which did not finish; do it again|write-ahead log is not")
        with backup.replacing(path) as replacement:
            backup.copy(other, replacement.fresh, silent)
            replacement.put("replaced", "T2")
    store = await opens(path)
    assert await store.positions() == {P0: 9}
    await store.close()
    assert path.with_name("state.db.replaced-T").exists()


def test_positions_that_went_back_are_listed() -> None:
    topic, other = Partition("changes", 0), Partition("outcomes", 0)
    old, new = store_admin.Contents(1, {topic: 5}, 1), backup.Contents(1, {topic: 7, other: 2}, 1)
    assert old.behind(new) == {topic: (5, 7), other: (0, 2)}
    assert new.behind(old) == {}


# ---------------------------------------------------------------------------------------------------------- inspection


async def test_a_whole_store_is_found_whole_while_it_is_in_use(path: Path, store: SqliteStore) -> None:
    await one_round(store, 1)
    told: list[int] = []
    found = damage.inspect(path, lambda done, total: told.append(done))
    assert (found.fault, told[-1]) == (None, found.rows)
    assert found.rows == 3 * len(KEYS)  # desired states, agreements and messages
    assert damage.glance(path) is None


async def test_an_index_that_lacks_rows_is_found(path: Path, opens: Opens) -> None:
    await made(path, KEYS)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        row = other.execute("SELECT * FROM sqlite_schema WHERE name = 'document_by_due'").fetchone()
        other.execute("PRAGMA writable_schema = ON")
        other.execute("DELETE FROM sqlite_schema WHERE name = 'document_by_due'")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE document SET due_us = due_us + 1")
        other.execute("PRAGMA writable_schema = ON")
        other.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", row)
    await (await opens(path)).close()  # its pages are whole, so a start sees nothing
    assert "document_by_due" in (damage.inspect(path, silent).fault or "")


@pytest.mark.parametrize(
    ("table", "column"), [("desired", "desired"), ("agreement", "agreement"), ("outbox", "message")]
)
async def test_a_row_that_does_not_decode_is_found_and_named(
    path: Path, table: str, column: str, store: SqliteStore
) -> None:
    await one_round(store, 1)
    await store.close()
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"UPDATE {table} SET {column} = CAST('[1' AS BLOB) WHERE rowid = 7")
        other.commit()
    found = damage.inspect(path, silent)
    assert f"{column} of row 7 in table {table}" in (found.fault or "")
