# ruff: noqa: ASYNC220, ASYNC240 - nothing else runs on these loops that a file or a child could hold up
"""What is particular to the SQLite store: the file and who shares it, the plans of its statements, sudden death."""

import asyncio
import os
import random
import re
import signal
import sqlite3
import string
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from reconciler.adapters import changes, group_commit, sqlite
from reconciler.adapters.sqlite import database, locks, opening, queries, transactions, writes
from reconciler.adapters.sqlite.store import SqliteStore
from reconciler.errors import StoreDamagedError, StoreError
from reconciler.model.action import ActionKind, Change, OperatorAction
from reconciler.model.audit import Settlement
from reconciler.model.desired import Claims, Desired, Field, Register
from reconciler.model.document import NO_AGREEMENT, Agreement, Lane, Repeating, Status
from reconciler.model.event import DeadLetter, Outgoing
from reconciler.model.stamp import Partition, Place, Stamp
from reconciler.ports import FoldBatch
from tests.adapters.conftest import Opens
from tests.patience import HANG_S

ROOT = Path(__file__).parents[2]
P0 = Partition("changes", 0)


def wish(value: object, number: int = 1) -> Desired:
    return Desired({"status": Field(Register(Stamp("", "", f"{number:09}", "changes", 0, 1, "", ""), value))})


def batch(keys: list[str], value: object = 1, position: int = 1) -> FoldBatch:
    return FoldBatch(dict.fromkeys(keys, Claims.of(wish(value, position))), {P0: position}, (), Lane.EVENT, 1000)


def settled(key: str, revision: int = 1) -> Settlement:
    return Settlement(key, revision, Agreement(stable=3), Status.SYNCED, "", Lane.RESYNC, 9000, 2000)


async def shown(store: SqliteStore) -> list[object]:
    """Everything a reader can see."""
    return [
        await store.positions(),
        await store.list_documents(None, "", 1000),
        await store.counts(),
        await store.dead_letters(None),
        await store.waiting(1000),
        await store.audit(),
        await store.conflicts(closed=True),
    ]


# ------------------------------------------------------------------------------------------------------------ the file


async def test_a_store_has_the_same_content_after_reopening(path: Path, store: SqliteStore, opens: Opens) -> None:
    letter = DeadLetter(Place("changes", 0, 7), 5, b"k", b"\xff", (), "decode", "not JSON", 77)
    await store.fold(batch(["a", "b"]))
    await store.fold(FoldBatch({}, {P0: 8}, [(letter, Outgoing("dead", b"k", b"v"))], Lane.EVENT, 1))
    await store.settle(settled("a"))
    before = await shown(store)
    await store.close()
    store = await opens(path)
    assert await shown(store) == before


async def test_a_store_closed_in_order_is_one_file(path: Path, store: SqliteStore) -> None:
    await store.fold(batch(["a"]))
    await store.close()
    assert not path.with_name("state.db-wal").exists()


@pytest.mark.parametrize("name", ["with space.db", "què?#%41.db", "a'b\"c.db"])
async def test_a_path_may_hold_any_character(tmp_path: Path, name: str, opens: Opens) -> None:
    store = await opens(tmp_path / name)
    await store.fold(batch(["a"]))
    guest = await opens(tmp_path / name, owner=False)
    assert len(await guest.documents(["a"])) == 1
    await guest.close()
    await store.close()
    assert (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("url", "path"),
    [("sqlite:///state.db", "state.db"), ("sqlite:////var/lib/s.db", "/var/lib/s.db"), ("sqlite:///a/b.db", "a/b.db")],
)
def test_a_url_names_a_path(url: str, path: str) -> None:
    assert sqlite.path_of(url) == Path(path)


@pytest.mark.parametrize("url", ["sqlite:///", "sqlite://state.db", "postgresql:///x", "state.db", ""])
def test_any_other_url_is_refused(url: str) -> None:
    with pytest.raises(StoreError, match="sqlite:///"):
        sqlite.path_of(url)


@pytest.mark.parametrize("owner", [True, False])
async def test_a_file_that_is_not_a_database_is_left_alone(path: Path, owner: bool) -> None:
    path.write_bytes(b"once upon a time, " * 100)
    with pytest.raises(StoreError, match=r"not a database; use another \[store\] url"):
        await sqlite.open_store(path, owner=owner)
    assert path.read_bytes() == b"once upon a time, " * 100


@pytest.mark.parametrize("owner", [True, False])
async def test_another_programs_database_is_left_alone(path: Path, owner: bool) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (a)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        await sqlite.open_store(path, owner=owner)
    assert path.read_bytes() == before


@pytest.mark.parametrize("owner", [True, False])
@pytest.mark.parametrize("schema", [9, 99])
async def test_another_schema_is_refused_and_left_as_it_is(path: Path, owner: bool, schema: int) -> None:
    await (await sqlite.open_store(path, owner=True)).close()
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version = {schema}")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=rf"has schema {schema}, and this program reads \d+; use the reconciler that"):
        await sqlite.open_store(path, owner=owner)
    assert path.read_bytes() == before


async def test_a_guest_makes_no_schema(path: Path) -> None:
    with closing(sqlite3.connect(path)) as empty:
        empty.execute(f"PRAGMA application_id = {opening._APPLICATION_ID}")
    with pytest.raises(StoreError, match="start the reconciler once"):
        await sqlite.open_store(path, owner=False)


async def test_a_schema_that_can_t_be_made_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "_schema", lambda: "CREATE TABLE a (b); CREATE TABLE a (b);")
    with pytest.raises(StoreError, match="already exists"):
        await sqlite.open_store(path, owner=True)
    with closing(sqlite3.connect(path)) as found:
        assert found.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    monkeypatch.undo()
    await (await sqlite.open_store(path, owner=True)).close()


async def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        await sqlite.open_store(tmp_path / "nowhere" / "s.db", owner=True)


async def test_a_guest_does_not_make_a_store(path: Path) -> None:
    with pytest.raises(StoreError, match="no store at"):
        await sqlite.open_store(path, owner=False)
    assert not path.exists()


async def test_an_acknowledged_commit_is_on_the_disk(store: SqliteStore) -> None:
    for pragma, value in [("journal_mode", "wal"), ("synchronous", 2), ("wal_autocheckpoint", 0)]:
        rows = await store._database._connection.execute_fetchall(f"PRAGMA {pragma}")
        assert list(rows) == [(value,)]


async def test_damage_is_reported_with_what_to_do(path: Path, store: SqliteStore, opens: Opens) -> None:
    await store.fold(batch([f"d{n:04}" for n in range(2000)]))
    await store.close()
    text = bytearray(path.read_bytes())
    whole = 4096 * 64  # the pages that hold the schema are among the first
    text[whole:] = b"\x55" * (len(text) - whole)
    path.write_bytes(text)
    with pytest.raises(StoreDamagedError, match=r"is damaged.*reconciler rebuild"):
        await sqlite.open_store(path, owner=True)
    guest = await opens(path, owner=False)
    with pytest.raises(StoreDamagedError, match=r"malformed: the store is damaged; .*reconciler rebuild"):
        await guest.list_documents(None, "", 1000)


# ------------------------------------------------------------------------------------------------------ who shares it


async def test_a_second_owner_is_refused_and_told_who_has_it(path: Path, store: SqliteStore) -> None:
    with pytest.raises(StoreError, match=r"in use by another reconciler \(pid \d+\); stop it, or use another"):
        await sqlite.open_store(path, owner=True)
    await store.fold(batch(["a"]))
    await store.close()
    await (await sqlite.open_store(path, owner=True)).close()


async def test_a_store_has_one_owner_however_it_is_named(
    path: Path, monkeypatch: pytest.MonkeyPatch, store: SqliteStore, opens: Opens
) -> None:
    await store.fold(batch(["a"]))
    (path.parent / "elsewhere").mkdir()
    link, folder, hard = (path.parent / "elsewhere" / name for name in ("link.db", "folder", "hard.db"))
    link.symlink_to(path)
    folder.symlink_to(path.parent, target_is_directory=True)
    monkeypatch.chdir(path.parent)
    for name in (link, folder / path.name, Path(path.name), Path("elsewhere", "..", path.name), hard):
        if name == hard:
            hard.hardlink_to(path)
        with pytest.raises(StoreError, match=r"in use by another reconciler|has another name"):
            await sqlite.open_store(name, owner=True)
    await store.close()
    with pytest.raises(StoreError, match="has another name"):
        await sqlite.open_store(path, owner=True)
    hard.unlink()
    store = await opens(link)
    await store.fold(batch(["b"], 2, 2))
    guest = await opens(link, owner=False)
    assert await guest.positions() == {P0: 2}
    await guest.close()
    await store.close()
    assert {file.name for file in link.parent.iterdir()} == {"link.db", "folder"}


async def test_a_store_that_is_mounted_as_a_single_file_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_mounts", lambda: frozenset({bytes(path)}))
    await (await sqlite.open_store(path, owner=True)).close()  # there was none yet
    with pytest.raises(StoreError, match="mount the directory"):
        await sqlite.open_store(path, owner=True)


async def test_only_the_owner_can_read_the_files_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        store = await sqlite.open_store(path, owner=True)
        await store.fold(batch(["a"]))
        assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
        await store.close()
    finally:
        os.umask(before)


async def test_an_owner_that_could_not_open_gives_up_the_lock(path: Path) -> None:
    path.write_bytes(b"once upon a time, " * 100)
    with pytest.raises(StoreError):
        await sqlite.open_store(path, owner=True)
    path.unlink()
    await (await sqlite.open_store(path, owner=True)).close()


async def test_a_guest_reads_while_the_owner_writes(store: SqliteStore, guest: SqliteStore) -> None:
    await store.fold(batch(["a"]))
    exported = guest.export_projection()
    assert (await anext(exported))[0] == "a"
    for position in range(2, 40):
        await store.fold(batch(["a", f"b{position}"], position, position))
        assert await guest.positions() == {P0: position}
        assert (await guest.documents(["a"]))["a"].desired == wish(position, position)
    assert len([item async for item in exported]) == 38
    await store.close()
    assert await guest.positions() == {P0: 39}


@pytest.mark.parametrize("owned", [True, False])
async def test_a_guest_may_requeue_documents_and_discard_dead_letters(
    path: Path, owned: bool, store: SqliteStore, opens: Opens
) -> None:
    letter = DeadLetter(Place("changes", 0, 7), 5, None, None, (), "decode", "", 77)
    await store.fold(FoldBatch({"a": Claims.of(wish(1))}, {}, [(letter, Outgoing("dead", None, None))], Lane.EVENT, 1))
    if not owned:
        await store.close()
    guest = await opens(path, owner=False)
    assert await guest.requeue(["a", "b"], Lane.OPERATOR, 55) == 1
    action = OperatorAction(55, "jdoe", "cli", ActionKind.DISCARD, letter.id, "", {}, "done")
    assert await guest.record_actions(Change.DISCARD, [action], at_us=55)
    reader = store if owned else guest
    assert [(one.key, one.due_us) for one in await reader.due(55, 9)] == [("a", 55)]
    assert [one.id for one in await reader.dead_letters("discarded")] == [letter.id]


async def test_a_guest_may_not_fold_or_settle(store: SqliteStore, guest: SqliteStore) -> None:
    await store.fold(batch(["a"]))
    for action in (guest.fold(batch(["b"])), guest.settle(settled("a")), guest.rebase({"c": NO_AGREEMENT}, {}, 0)):
        with pytest.raises(StoreError, match="opened read-only"):
            await action
    await guest.close()
    assert [found.key for found in await store.list_documents(None, "", 9)] == ["a"]


async def test_checkpoints_wait_for_guests_that_write(
    path: Path, monkeypatch: pytest.MonkeyPatch, store: SqliteStore
) -> None:
    monkeypatch.setattr(database, "CHECKPOINT_CHANGES", 1)
    size = path.stat().st_size
    keys = [f"d{n:04}" for n in range(500)]
    with locks.held(locks.writer_path(path)):
        await store.fold(batch(keys))
        assert path.stat().st_size == size
    await store.fold(batch(["a"]))
    assert path.stat().st_size > size


async def test_a_checkpoint_outlives_the_caller_it_was_made_for(
    path: Path, monkeypatch: pytest.MonkeyPatch, store: SqliteStore
) -> None:
    monkeypatch.setattr(database, "CHECKPOINT_CHANGES", 1)
    for number in range(20):
        folding = asyncio.create_task(store.fold(batch([f"d{n}" for n in range(50)], number, number)))
        for _ in range(number):
            await asyncio.sleep(0)
        folding.cancel()
        await asyncio.wait([folding])
    await store.fold(batch(["last"], 1, 99))
    assert await store.positions() == {P0: 99}
    await store.close()
    lock = locks.FileLock(locks.writer_path(path))
    assert lock.take_at_once()
    lock.close()


async def test_a_checkpoint_that_fails_does_not_fail_the_commit_before_it(
    monkeypatch: pytest.MonkeyPatch, store: SqliteStore
) -> None:
    """A commit that was reported as failed would be made again, with its audit records and outcomes."""
    monkeypatch.setattr(database, "CHECKPOINT_CHANGES", 1)
    keys = ["a", "b", "c"]
    await store.fold(batch(keys))
    monkeypatch.setattr(queries, "CHECKPOINT", "PRAGMA wal_checkpoint(PASSIVE) nonsense")
    told = (Outgoing("outcomes", b"key", b"told"),)
    await asyncio.gather(*(store.settle(structs.replace(settled(key), attempts=1, outcomes=told)) for key in keys))
    assert len(await store.waiting(100)) == len(keys)
    assert [row.attempts for row in (await store.documents(keys)).values()] == [1, 1, 1]


async def test_guests_and_owner_write_at_once_without_harm(
    path: Path, monkeypatch: pytest.MonkeyPatch, store: SqliteStore, opens: Opens
) -> None:
    monkeypatch.setattr(database, "CHECKPOINT_CHANGES", 1)
    keys = [f"d{n:02}" for n in range(30)]
    await store.fold(batch(keys))
    guests = [await opens(path, owner=False) for _ in range(3)]
    await asyncio.gather(
        *(store.settle(settled(key)) for key in keys),
        *(guest.requeue([key], Lane.OPERATOR, 5) for guest in guests for key in keys[:5]),
        *(store.fold(batch(["x"], number, number)) for number in range(1, 20)),
    )
    for guest in guests:
        await guest.close()
    rows = await store._database._connection.execute_fetchall("PRAGMA integrity_check")
    assert list(rows) == [("ok",)]


# -------------------------------------------------------------------------------------------------------- group commit


async def test_changes_that_come_during_a_commit_share_the_next_one(
    monkeypatch: pytest.MonkeyPatch, store: SqliteStore
) -> None:
    sizes: list[int] = []
    real = transactions.commit

    def commit(connection: sqlite3.Connection, changes: list[changes.Decided]) -> object:
        sizes.append(len(changes))
        return real(connection, changes)

    monkeypatch.setattr(transactions, "commit", commit)
    keys = [f"d{n:03}" for n in range(600)]
    await store.fold(batch(keys))
    await asyncio.gather(*(store.settle(settled(key)) for key in keys))
    assert sum(sizes) == 600
    assert max(sizes) == group_commit.GROUP_MAX
    assert len(sizes) == 3


async def test_settlements_of_cancelled_callers_are_stored_before_closing(
    path: Path, store: SqliteStore, opens: Opens
) -> None:
    keys = [f"d{n:03}" for n in range(600)]
    await store.fold(batch(keys))
    tasks = [asyncio.create_task(store.settle(settled(key))) for key in keys]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await store.close()
    store = await opens(path)
    assert (await store.counts())[Status.SYNCED] == 600


async def test_a_fault_of_ours_reaches_every_caller_and_the_next_works(
    monkeypatch: pytest.MonkeyPatch, store: SqliteStore
) -> None:
    await store.fold(batch(["a", "b"]))

    def broken(connection: sqlite3.Connection, changes: object) -> None:
        real(connection, changes)
        raise ZeroDivisionError

    real = transactions.commit
    monkeypatch.setattr(transactions, "commit", broken)
    results = await asyncio.gather(store.settle(settled("a")), store.settle(settled("b")), return_exceptions=True)
    assert [type(result) for result in results] == [ZeroDivisionError, ZeroDivisionError]
    monkeypatch.undo()
    assert (await store.counts())[Status.PENDING] == 2, "nothing of it stays"
    await store.settle(settled("a"))


async def test_forgetting_published_messages_costs_no_transaction(path: Path, opens: Opens, store: SqliteStore) -> None:
    """A single event would wait for the disk four times instead of three."""
    commits: list[str] = []
    store._database._connection._conn.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    told = structs.replace(settled("a"), outcomes=(Outgoing("o", None, b"1"), Outgoing("o", None, b"2")))
    await store.fold(batch(["a", "b"]))
    await store.settle(told)
    first, second = await store.waiting(10)
    await store.published([first.number], {P0: 7})
    assert await store.waiting(10) == [second]
    assert len(commits) == 2
    guest = await opens(path, owner=False)
    assert await guest.waiting(10) == [first, second], "as a crash would leave it"
    await store.settle(settled("b"))
    assert await guest.waiting(10) == await store.waiting(10) == [second]
    assert (len(commits), (await guest.positions())[P0]) == (3, 7)
    await store.published([second.number], {P0: 8})
    await store.close()
    assert (await guest.waiting(10), (await guest.positions())[P0]) == ([], 8)


async def test_a_transaction_that_fails_leaves_published_messages_to_the_next(store: SqliteStore) -> None:
    told = structs.replace(settled("a"), outcomes=(Outgoing("o", None, b"1"),))
    await store.fold(batch(["a"]))
    await store.settle(told)
    (message,) = await store.waiting(10)
    await store.published([message.number], {P0: 7})
    with pytest.raises(StoreError, match="unknown"):
        await store.settle(settled("unknown"))
    assert (await store.waiting(10), (await store.positions())[P0]) == ([], 1)
    await store.settle(settled("a"))
    assert (await store.waiting(10), (await store.positions())[P0]) == ([], 7)


async def test_many_published_messages_are_forgotten_at_once(path: Path, opens: Opens, store: SqliteStore) -> None:
    told = structs.replace(settled("a"), outcomes=(Outgoing("o", None, b"1"),) * 1200)
    await store.fold(batch(["a"]))
    await store.settle(told)
    guest = await opens(path, owner=False)
    while messages := await store.waiting(300):
        await store.published([message.number for message in messages], {})
        assert len(await guest.waiting(2000)) - len(await store.waiting(2000)) < 500


async def test_two_faults_in_a_group_leave_no_caller_waiting(store: SqliteStore) -> None:
    """After the first the group is committed one by one: those behind the second must hear of it too."""
    await store.fold(batch(["a", "b"]))
    unstorable = structs.replace(settled("a"), reason="\ud800")
    changes = [settled("unknown"), unstorable, settled("b")]
    under_way = asyncio.gather(*map(store.settle, changes), return_exceptions=True)
    results = await asyncio.wait_for(under_way, HANG_S)
    assert [type(result) for result in results] == [StoreError, UnicodeEncodeError, UnicodeEncodeError]
    await store.settle(settled("b"))
    assert (await store.counts())[Status.SYNCED] == 1


async def test_a_commit_has_not_failed_because_the_store_is_closed_behind_it(
    monkeypatch: pytest.MonkeyPatch, store: SqliteStore
) -> None:
    real, committing, go = transactions.published, threading.Event(), threading.Event()

    def published(connection: sqlite3.Connection, **values: Any) -> None:
        real(connection, **values)
        committing.set()
        go.wait(5)

    monkeypatch.setattr(transactions, "published", published)
    publishing = asyncio.create_task(store.published([], {P0: 7}))
    await asyncio.to_thread(committing.wait)
    closing_it = asyncio.create_task(store.close())
    await asyncio.sleep(0.1)  # until the connection is to be closed behind the commit
    go.set()
    time.sleep(0.1)  # noqa: ASYNC251  the event loop is to hear of both at once
    await publishing
    await closing_it


# ---------------------------------------------------------------------------------------------------------------- SQL


def statements() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for module in (queries, writes):
        for name, one in vars(module).items():
            for query in one.values() if isinstance(one, dict) else [one]:
                if isinstance(query, queries.Query):
                    found.append((name, query.sql))
                elif isinstance(query, queries.Many):
                    found.append((name, query.sql.replace(":many", query.row)))
    return found


# The only statements that may read a table or an index from end to end, and which.
SCANS = {
    "POSITIONS": "SCAN position",
    "ANCHORS": "SCAN position",
    "REFUSED": "SCAN dead_letter USING INDEX dead_letter_by_clock|SCAN dead_letter USING COVERING INDEX"
    " dead_letter_by_clock",  # what our clock has refused
    "WAITING": "SCAN outbox",  # in order, up to its limit
    "LETTERS": "SCAN dead_letter",  # likewise
    "LETTERS_WITH_SUFFIX": "SCAN dead_letter USING COVERING INDEX sqlite_autoindex_dead_letter_1",  # no letter is read
    "POLICIES": "SCAN policy",  # one row for every configuration there was
    "COUNTS": "SCAN document USING COVERING INDEX document_by_status",  # what is not settled
    "COUNT_CONFLICTS": "SCAN conflict USING INDEX conflict_open",  # what is open; no row is read
    "SINCE_AHEAD": "SCAN document USING INDEX document_by_waiting",  # what is pending; at a start and once an hour
    "HOTSPOTS": "SCAN document USING INDEX document_by_conflicts|SCAN contention|SCAN lately",  # what was contended
}


@pytest.mark.parametrize(("name", "sql"), statements(), ids=[name for name, _ in statements()])
def test_no_statement_reads_more_than_it_must(path: Path, name: str, sql: str) -> None:
    with closing(opening.as_owner(path)) as connection:
        values = (None,) * (len(set(re.findall(r"\?\d", sql))) or sql.count("?"))
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    tables = "document|desired|agreement|position|outbox|dead_letter|audit|conflict|contention|contention_hour|policy"
    scans = [step for step in plan if re.match(rf"SCAN ({tables})\b", step)]
    allowed = SCANS.get(name, "never").split("|")
    assert [scan for scan in scans if scan not in allowed] == [], plan
    sorts = [step for step in plan if "TEMP B-TREE" in step]
    assert not sorts or name == "HOTSPOTS", plan


def test_a_statement_about_many_rows_takes_no_more_than_a_megabyte_or_one_row() -> None:
    sizes = [10] * 700 + [300_000] * 9 + [3_000_000] + [10] * 3
    values = [(str(number), "open", bytes(size)) for number, size in enumerate(sizes)]
    parts = list(writes.LETTERS._parts(values))
    assert [cell for _, cells in parts for cell in cells] == [cell for row in values for cell in row]
    for sql, cells in parts:
        assert sql.count("(?, ?, ?)") * 3 == len(cells) <= 500 * 3
        assert len(cells) == 3 or sum(map(len, cells[2::3])) <= 2**20
    assert len(parts) < 20


# ------------------------------------------------------------------------------------------------------- pages written


async def pages(store: SqliteStore, act: Awaitable[None]) -> int:
    """Return how many pages a transaction writes."""
    run = store._database._connection.execute_fetchall
    await run("PRAGMA wal_checkpoint(TRUNCATE)")
    await act
    ((_, written, _),) = await run("PRAGMA wal_checkpoint(PASSIVE)")
    return int(written)


async def test_a_fold_writes_no_page_of_the_agreement_and_a_settlement_none_of_the_desired_state(
    store: SqliteStore,
) -> None:
    long = "".join(random.Random(1).choices(string.ascii_letters, k=400_000))  # fifty pages and more, even packed
    await store.fold(batch(["a"], long))
    large = structs.replace(settled("a"), agreement=Agreement(repeating=Repeating(long)))
    assert await pages(store, store.settle(large)) > 50
    assert await pages(store, store.fold(batch(["a"], 2, 2))) < 20
    await store.fold(batch(["a"], long, 3))
    assert await pages(store, store.settle(settled("a"))) < 20


async def test_a_fold_of_what_is_pending_writes_no_index(store: SqliteStore) -> None:
    keys = [f"d{n:05}" for n in range(4_000)]
    await store.fold(batch(keys, 1, 1))
    first, again = keys[::40], keys[20::40]
    await asyncio.gather(*(store.settle(settled(key)) for key in first))
    assert await pages(store, store.fold(batch(first, 2, 2))) > await pages(store, store.fold(batch(again, 2, 3))) + 20


# -------------------------------------------------------------------------------------------------------- sudden death

CHILD = """
import asyncio, sys
from reconciler.adapters import sqlite
from tests.adapters import test_sqlite as t

async def main():
    store = await sqlite.open_store(sys.argv[1], owner=True)
    number = (await store.positions()).get(t.P0, 0)
    while True:
        number += 1
        await t.one_round(store, number)
        print(number, flush=True)

asyncio.run(main())
"""
KEYS = [f"d{n:03}" for n in range(60)]


async def one_round(store: SqliteStore, number: int) -> None:
    """Fold a batch that says the same in every row and in the position, and settle it with a trail."""
    await store.fold(batch(KEYS, number, number))
    outcome = (Outgoing("outcomes", None, None),)
    await asyncio.gather(
        *(
            store.settle(
                Settlement(
                    *(key, number, Agreement(stable=number), Status.SYNCED, "", Lane.RESYNC, 9000, 2000),
                    attempts=1,
                    outcomes=outcome,
                )
            )
            for key in KEYS
        )
    )


async def test_a_killed_owner_leaves_rows_positions_and_trails_in_agreement(path: Path) -> None:
    acknowledged = 0
    for kill in range(10):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            for _ in range(1 + kill % 4):
                acknowledged = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
        store = await sqlite.open_store(path, owner=True)
        position = (await store.positions())[P0]
        assert position >= acknowledged
        rows = await store.documents(KEYS)
        assert {row.revision for row in rows.values()} == {position}
        assert {codec_value(row.desired) for row in rows.values()} == {position}
        for row in rows.values():
            # A process that died between the two has folded a round that is never settled, so attempts stay behind.
            assert row.attempts <= row.agreement.stable <= position
            assert row.agreement.stable >= acknowledged
            assert (row.status is Status.SYNCED) == (row.agreement.stable == position)
        assert len(await store.waiting(10**6)) == sum(row.attempts for row in rows.values())
        await store.close()


def codec_value(desired: Desired) -> object:
    register = desired.fields["status"].register
    return register and register.value


def test_who_asks_for_the_owner_keeps_no_one_from_becoming_it(tmp_path: Path) -> None:
    """`reconciler status` once made a daemon refuse to start, if both looked at the same moment."""
    path, done = tmp_path / "state.db", threading.Event()
    path.touch()

    def ask() -> None:
        while not done.is_set():
            locks.owner_of(path)

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    try:
        for _ in range(100):
            locks.claim(path).close()
    finally:
        done.set()
        for thread in asking:
            thread.join()
