"""The audit chain in the file: what SQLite refuses, and commits that failed."""

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from reconciler.adapters import packing
from reconciler.adapters.sqlite import SqliteStore
from reconciler.model.audit import AuditRecord, Settlement
from reconciler.model.base import NO_BASE
from reconciler.model.chain import BEGIN
from reconciler.model.desired import NOTHING_DESIRED, Claims, Desired, Field, Register
from reconciler.model.document import NO_AGREEMENT, Lane, Status
from reconciler.model.policy import Policy
from reconciler.model.snapshot import Snapshot
from reconciler.model.stamp import Stamp
from reconciler.ports import FoldBatch
from tests.adapters.conftest import Opens
from tests.checks import check_audit, check_chain

REST = "document, at_us, target, who, kind, link, record"
KEYS = [f"d{number}" for number in range(5)]


def record(document: str, at_us: int = 2000) -> AuditRecord:
    snapshot = Snapshot(document, {}, None)
    inputs = (document, at_us, "event", 1, NOTHING_DESIRED, NO_BASE, snapshot, "p1", (), None)
    return AuditRecord(*inputs, result="in_sync", message="nul \0, ü, \n", status=None, token_after=None)


def settlement(key: str, at_us: int = 2000) -> Settlement:
    fixed = (key, 1, NO_AGREEMENT, Status.SYNCED, "", Lane.RESYNC, None)
    return Settlement(*fixed, at_us, audit=(record(key, at_us),))


@pytest.fixture
async def store(store: SqliteStore) -> SqliteStore:
    wish = Desired({"status": Field(Register(Stamp("", "", "", "changes", 0, 1, "", ""), 1))})
    await store.fold(FoldBatch(dict.fromkeys(KEYS, Claims.of(wish)), {}, (), Lane.EVENT, 1000))
    return store


# --------------------------------------------------------------------------------------------------------- append-only


@pytest.mark.parametrize(
    ("statement", "refusal"),
    [
        ("UPDATE audit SET record = x'' WHERE id = 2", "append-only"),
        ("UPDATE audit SET at_us = at_us", "append-only"),
        ("DELETE FROM audit WHERE id = 2", "append-only"),
        ("DELETE FROM audit", "append-only"),
        ("INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE id = 2", "without gaps"),
        (
            "INSERT INTO audit SELECT 7, document, at_us, target, who, kind, link, record FROM audit WHERE id = 2",
            "without gaps",
        ),
        (
            "INSERT INTO audit SELECT -1, document, at_us, target, who, kind, link, record FROM audit WHERE id = 2",
            "without gaps",
        ),
    ],
)
async def test_sqlite_refuses_to_change_the_trail(
    path: Path, store: SqliteStore, opens: Opens, statement: str, refusal: str
) -> None:
    for key in KEYS:
        await store.settle(settlement(key))
    await store.close()
    with closing(sqlite3.connect(path)) as other, pytest.raises(sqlite3.IntegrityError, match=refusal):
        other.execute(statement)
    await check_chain(await opens(path), {1, 2, 3, 4, 5})


async def test_what_every_end_to_end_test_checks_includes_the_chain(
    path: Path, store: SqliteStore, opens: Opens
) -> None:
    await store.keep_policy("p1", Policy())
    for key in KEYS:
        await store.settle(settlement(key))
    assert len(await check_audit(store)) == 5
    await store.close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TRIGGER audit_is_never_changed")
        other.create_function("respaced", 1, lambda stored: packing.pack(packing.unpack(stored) + b" "))
        other.execute("UPDATE audit SET record = respaced(record) WHERE id = 3")
        other.commit()
    store = await opens(path)
    with pytest.raises(AssertionError, match="link of audit record 3"):
        await check_audit(store)


# ------------------------------------------------------------------------------------------------------------- commits


async def test_after_a_commit_whose_end_is_not_known_the_chain_goes_on_from_what_is_stored(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.settle(settlement("d0"))
    real = store._database.write

    async def lost(*arguments: object) -> None:
        await real(*arguments)
        raise ZeroDivisionError

    monkeypatch.setattr(store._database, "write", lost)
    with pytest.raises(ZeroDivisionError):
        await store.settle(settlement("d1"))
    monkeypatch.undo()
    await store.settle(settlement("d2"))
    await check_chain(store, {1, 2, 3})


async def test_a_new_owner_goes_on_with_the_chain(path: Path, store: SqliteStore, opens: Opens) -> None:
    for number, key in enumerate(KEYS, start=1):
        await store.settle(settlement(key))
        await check_chain(store, set(range(1, number + 1)))
        await store.close()
        store = await opens(path)


async def test_a_guest_sees_the_head_that_the_owner_left(store: SqliteStore, guest: SqliteStore) -> None:
    assert await guest.audit_heads() == [BEGIN]
    await store.settle(settlement("d0"))
    assert await guest.audit_heads() == await store.audit_heads()
    await check_chain(guest, {1})


# --------------------------------------------------------------------------------------------------- another process

# A command beside the daemon: it acts again and again, and says what it knows to be recorded.
COMMAND = """
import asyncio, itertools, sys
from pathlib import Path
from reconciler.adapters import sqlite
from reconciler.model.action import OperatorAction, Change

async def main():
    store = await sqlite.open_store(Path(sys.argv[1]), owner=False)
    for number in itertools.count():
        action = OperatorAction(1, "jdoe", "cli", "emit", str(number), "", {}, "done")
        done = await store.record_actions(Change.NOTHING, [action], at_us=1)
        print(number if done else "", flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("actions", [1, 25])
async def test_a_command_that_races_the_daemon_and_is_killed_loses_nothing_and_breaks_no_link(
    path: Path, store: SqliteStore, actions: int
) -> None:
    settled = 0
    command = await asyncio.create_subprocess_exec(sys.executable, "-c", COMMAND, path, stdout=subprocess.PIPE)
    assert command.stdout is not None
    known: list[str] = []
    while len(known) < actions:
        line = asyncio.create_task(command.stdout.readline())
        while not line.done():
            await asyncio.gather(*(store.settle(settlement(key)) for key in KEYS))
            settled += len(KEYS)
        known.append((await line).decode().strip())
    command.kill()
    known += (await command.stdout.read()).decode().split()
    await command.wait()
    await asyncio.gather(*(store.settle(settlement(key)) for key in KEYS))
    recorded = [action.target for action in await store.actions()][::-1]
    assert recorded[: len(known)] == known == [str(number) for number in range(len(known))]
    assert len(recorded) <= len(known) + 1, "killed between the commit and the word of it"
    decided = {record.id for record in await store.audit(limit=1_000_000)}
    assert len(decided) == settled + len(KEYS)
    await check_chain(store, decided)
