"""The audit chain in the file: stores of schema 1, what SQLite refuses, and commits that failed."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from importlib import resources
from typing import TYPE_CHECKING

import pytest

from reconciler.adapters import sqlite
from reconciler.adapters.sqlite import opening
from reconciler.errors import StoreError
from reconciler.model import codec
from reconciler.model.audit import AuditRecord
from reconciler.model.base import NO_BASE
from reconciler.model.desired import NOTHING_DESIRED, Desired, Field, Register
from reconciler.model.document import NO_AGREEMENT, Lane, Status
from reconciler.model.policy import Policy
from reconciler.model.settlement import Settlement
from reconciler.model.snapshot import Snapshot
from reconciler.model.stamp import Stamp
from reconciler.ports import FoldBatch
from tests.checks import check_audit, check_chain

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEYS = [f"d{number}" for number in range(5)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def record(document: str, at_us: int = 2000) -> AuditRecord:
    snapshot = Snapshot(document, {}, None)
    inputs = (document, at_us, "event", 1, NOTHING_DESIRED, NO_BASE, snapshot, "p1", (), None)
    return AuditRecord(*inputs, result="in_sync", message="nul \0, ü, \n", status=None, token_after=None)


def settlement(key: str, at_us: int = 2000) -> Settlement:
    fixed = (key, 1, NO_AGREEMENT, Status.SYNCED, "", Lane.RESYNC, None)
    return Settlement(*fixed, at_us, audit=(record(key, at_us),))


async def opened(path: Path) -> sqlite.SqliteStore:
    store = await sqlite.open_store(path, owner=True)
    wish = Desired({"status": Field(Register(Stamp("", "", "", "changes", 0, 1, "", ""), 1))})
    await store.fold(FoldBatch(dict.fromkeys(KEYS, wish), {}, (), Lane.EVENT, 1000))
    return store


def of_schema_1(path: Path, records: list[bytes]) -> None:
    """Make a file as the program made it before there was a chain."""
    sql = (resources.files("reconciler.adapters.sqlite") / "migrations" / "0001_first.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(path)) as old:
        old.executescript(f"{sql}; PRAGMA application_id = {opening._APPLICATION_ID}; PRAGMA user_version = 1;")
        for text in records:
            told = codec.decode_audit(text)
            row = told.document, told.at_us, text
            old.execute("INSERT INTO audit (document, at_us, record) VALUES (?, ?, ?)", row)
        old.commit()


# ----------------------------------------------------------------------------------------------------------- migration


async def test_a_trail_of_schema_1_is_chained(path: Path) -> None:
    records = [codec.encode(record(f"d{number % 7}", number)) for number in range(1, 1501)]
    of_schema_1(path, records)
    store = await opened(path)
    await check_chain(store, set(range(1, 1501)))
    assert [entry.record async for entry in store.audit_chain()] == records
    assert len(await store.audit("d3", limit=9999)) == 214
    await store.settle(settlement("d3"))
    await check_chain(store, set(range(1, 1502)))
    await store.close()


async def test_a_trail_of_schema_1_with_a_gap_is_chained_as_it_is_and_the_gap_shows(path: Path) -> None:
    of_schema_1(path, [codec.encode(record("d1", number)) for number in range(1, 6)])
    with closing(sqlite3.connect(path)) as old:
        old.execute("DELETE FROM audit WHERE id = 3")
        old.commit()
    store = await opened(path)
    assert [entry.number async for entry in store.audit_chain()] == [1, 2, 4, 5]
    await store.settle(settlement("d1"))
    head = await store.audit_head()
    assert head is not None
    assert head.number == 6
    with pytest.raises(AssertionError, match="audit record 4 stands where 3 should"):
        await check_chain(store, set())
    await store.close()


async def test_a_migration_that_fails_leaves_schema_1_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [codec.encode(record("d1", number)) for number in range(1, 301)]
    of_schema_1(path, records)

    def failing() -> Callable[[int, bytes], bytes]:
        def link(number: int, record: bytes) -> bytes:
            if number == 200:
                raise OSError
            return b""

        return link

    monkeypatch.setattr(opening, "_chaining", failing)
    with pytest.raises(StoreError):
        await sqlite.open_store(path, owner=True)
    monkeypatch.undo()
    with closing(sqlite3.connect(path)) as old:
        assert old.execute("PRAGMA user_version").fetchone() == (1,)
        columns = [row[1] for row in old.execute("PRAGMA table_info(audit)")]
        assert columns == ["id", "document", "at_us", "record"]
        assert [row[0] for row in old.execute("SELECT record FROM audit ORDER BY id")] == records
    store = await opened(path)
    await check_chain(store, set(range(1, 301)))
    await store.close()


async def test_a_guest_is_refused_until_the_owner_has_chained_the_trail(path: Path) -> None:
    of_schema_1(path, [])
    with pytest.raises(StoreError, match=r"has schema 1, not yet \d; start the reconciler once"):
        await sqlite.open_store(path, owner=False)


# --------------------------------------------------------------------------------------------------------- append-only


@pytest.mark.parametrize(
    ("statement", "refusal"),
    [
        ("UPDATE audit SET record = x'' WHERE id = 2", "append-only"),
        ("UPDATE audit SET at_us = at_us", "append-only"),
        ("DELETE FROM audit WHERE id = 2", "append-only"),
        ("DELETE FROM audit", "append-only"),
        ("INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE id = 2", "without gaps"),
        ("INSERT INTO audit SELECT 7, document, at_us, link, record FROM audit WHERE id = 2", "without gaps"),
        ("INSERT INTO audit SELECT -1, document, at_us, link, record FROM audit WHERE id = 2", "without gaps"),
    ],
)
async def test_sqlite_refuses_to_change_the_trail(path: Path, statement: str, refusal: str) -> None:
    store = await opened(path)
    for key in KEYS:
        await store.settle(settlement(key))
    await store.close()
    with closing(sqlite3.connect(path)) as other, pytest.raises(sqlite3.IntegrityError, match=refusal):
        other.execute(statement)
    store = await opened(path)
    await check_chain(store, {1, 2, 3, 4, 5})
    await store.close()


async def test_what_every_end_to_end_test_checks_includes_the_chain(path: Path) -> None:
    store = await opened(path)
    await store.keep_policy("p1", Policy())
    for key in KEYS:
        await store.settle(settlement(key))
    assert len(await check_audit(store)) == 5
    await store.close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TRIGGER audit_is_never_changed")
        other.execute("UPDATE audit SET record = CAST(record || ' ' AS BLOB) WHERE id = 3")
        other.commit()
    store = await opened(path)
    with pytest.raises(AssertionError, match="link of audit record 3"):
        await check_audit(store)
    await store.close()


# ------------------------------------------------------------------------------------------------------------- commits


async def test_a_head_that_is_not_the_stored_one_is_refused_and_read_again(path: Path) -> None:
    store = await opened(path)
    await store.settle(settlement("d0"))
    stale = store._head
    await store.settle(settlement("d1"))
    store._head = stale
    with pytest.raises(StoreError, match="does not end where its owner left it"):
        await store.settle(settlement("d2"))
    await check_chain(store, {1, 2})
    await asyncio.gather(*(store.settle(settlement(key)) for key in KEYS))
    await check_chain(store, {1, 2, 3, 4, 5, 6, 7})
    await store.close()


async def test_a_head_of_the_right_number_with_another_link_is_refused(path: Path) -> None:
    store = await opened(path)
    await store.settle(settlement("d0"))
    assert store._head is not None
    store._head = store._head._replace(link=bytes(32))
    with pytest.raises(StoreError, match="does not end where its owner left it"):
        await store.settle(settlement("d1"))
    await check_chain(store, {1})
    await store.close()


async def test_a_group_that_found_another_head_is_committed_one_by_one(path: Path) -> None:
    store = await opened(path)
    await store.settle(settlement("d0"))
    stale = store._head
    await store.settle(settlement("d1"))
    store._head = stale
    await asyncio.gather(*(store.settle(settlement(key)) for key in KEYS))
    await check_chain(store, {1, 2, 3, 4, 5, 6, 7})
    await store.close()


async def test_after_a_commit_whose_end_is_not_known_the_chain_goes_on_from_what_is_stored(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await opened(path)
    await store.settle(settlement("d0"))
    real = store._database.write

    async def lost(*arguments: object) -> int:
        await real(*arguments)
        raise ZeroDivisionError

    monkeypatch.setattr(store._database, "write", lost)
    with pytest.raises(ZeroDivisionError):
        await store.settle(settlement("d1"))
    monkeypatch.undo()
    await store.settle(settlement("d2"))
    await check_chain(store, {1, 2, 3})
    await store.close()


async def test_a_new_owner_goes_on_with_the_chain(path: Path) -> None:
    for number, key in enumerate(KEYS, start=1):
        store = await opened(path)
        await store.settle(settlement(key))
        await check_chain(store, set(range(1, number + 1)))
        await store.close()


async def test_a_guest_sees_the_head_that_the_owner_left(path: Path) -> None:
    store = await opened(path)
    guest = await sqlite.open_store(path, owner=False)
    assert await guest.audit_head() is None
    await store.settle(settlement("d0"))
    assert await guest.audit_head() == await store.audit_head()
    await check_chain(guest, {1})
    await guest.close()
    await store.close()
