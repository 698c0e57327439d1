"""A store in a file that moves into PostgreSQL: all of it is there or nothing, whatever ends the move."""

import asyncio
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("asyncpg", reason="there is no asyncpg (`make` installs it)")

from reconciler.adapters import stores
from reconciler.errors import StoreDamagedError, StoreError
from reconciler.model.action import Change
from reconciler.model.document import Agreement, Intent, Status
from reconciler.model.event import Outgoing
from reconciler.model.policy import Policy
from reconciler.model.signing import Noted
from reconciler.model.snapshot import Token
from reconciler.model.stamp import Anchor
from reconciler.ports import OUTBOX_DUTIES, Store
from reconciler.ports.moving import TABLES
from tests.checks import check_chain, opened, projection
from tests.contracts.test_actions import action
from tests.contracts.test_store import (
    AGREEMENT,
    HOSTILE,
    P0,
    P1,
    batch,
    conflict,
    letter,
    record,
    refolded,
    settle,
    settlement,
)
from tests.contracts.test_write_stop import stop
from tests.patience import HANG_S

DOUBT = Agreement(AGREEMENT.base, intent=Intent({"status": "RELEASED"}, Token('W/"1"'), 5, {}))
MANY = [f"many{number:05}" for number in range(4_500)]  # some pages

KILLED = """
import asyncio, os, signal, sys
from reconciler.adapters import stores

async def main():
    origin, target, when = sys.argv[1:]
    begun = False
    def tell(done, total):
        if when == "copying" and done > total / 4 or when == "reading back" and done > total * 3 / 4:
            os.kill(os.getpid(), signal.SIGKILL)
    with stores.admin(origin).leaving() as cargo:
        class Killed:
            count, pages = cargo.count, cargo.pages
            def leave(self, place, move):
                cargo.leave(place, move)
                if when == "before the commit":
                    os.kill(os.getpid(), signal.SIGKILL)
        await stores.admin(target).receive(Killed(), "first", tell)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def filled(path: Path) -> None:
    """A store with something of everything."""
    async with opened(path, owner=True) as store:
        announced = [letter(7), letter(8, topic="changes\0x")]
        await store.fold(
            batch(*HOSTILE, *MANY, positions={P0: 9, P1: 3}, dead_letters=announced, anchors={P0: Anchor(8, "d")})
        )
        await store.keep_policy("a" * 64, Policy())
        await store.note_signing(Noted((("é", 0, 7),), "k2"), Outgoing("outcomes", None, b"sealed"))
        for number, key in enumerate(HOSTILE):
            messages = tuple(Outgoing("outcomes", key.encode(), b"%d" % n) for n in range(3))
            opens = (conflict(f"c{number}"),)
            end = settlement(
                key, status=Status.HELD, audit=(record(key),), outcomes=messages, opened=opens, conflicts=1
            )
            await settle(store, end)
        await settle(store, settlement(HOSTILE[0], closed=("c0",), audit=(record(HOSTILE[0], message="again"),)))
        await store.intend(MANY[0], DOUBT)
        await settle(store, settlement(MANY[1], status=Status.PARKED, agreement=AGREEMENT))
        assert await store.record_actions(Change.PAUSE, [action(MANY[2])], at_us=7000, reason="paused by jdoe")
        assert await store.record_actions(Change.DISCARD, [action(letter(7)[0].id, kind="discard")], at_us=7000)
        assert await store.refold(refolded(key=MANY[3], positions={P0: 9, P1: 3}), action(MANY[3], kind="refold"))
        await store.fold(batch(HOSTILE[1]))  # a copy: superseded
        assert await stop(store)


async def told(store: Store) -> list[Any]:
    """What anyone can read of a store."""
    keys = [*HOSTILE, *MANY]
    letters = await store.dead_letters(None)
    return [
        await projection(store),
        await store.documents(keys),
        await store.counts(),
        (await store.positions(), await store.anchors(), await store.refused()),
        await store.due(2**62, 10_000),
        await store.conflicts(closed=True),
        [await store.dead_letter(one.id) for one in letters],
        (await store.signing(), await store.write_stop(), await store.policy_texts()),
        [await store.superseded(key) for key in HOSTILE],
        await store.hotspots(2000),
        [head for head in await store.audit_heads() if head.records],
        [(entry.number, entry.link, entry.record, entry.columns) async for entry in store.audit_chain()],
        [(one.id, one.kind, one.target) for one in await store.actions()],
        [one.id for key in HOSTILE for one in await store.audit(key)],
        await store.oldest_pending_us(),
    ]


async def published(store: Store) -> list[Outgoing]:
    return [one.record for one in await store.waiting(10_000)]


async def move(origin: str, target: str) -> int:
    with stores.admin(origin).leaving() as cargo:
        documents = await stores.admin(target).receive(cargo, "move", lambda *_: None)
        cargo.left("there", "move")
    return documents


async def test_all_that_a_store_holds_is_there_and_the_file_says_where(
    tmp_path: Path, postgres_url: str, shares: Any
) -> None:
    await filled(tmp_path / "s.db")
    async with opened(tmp_path / "s.db") as guest:
        before = await told(guest)
    async with opened(tmp_path / "s.db", owner=True) as owner:
        messages = await published(owner)
    assert await move(f"sqlite:///{tmp_path}/s.db", postgres_url) == len(HOSTILE) + len(MANY)
    there = await shares()
    for old, new in zip(before, await told(there), strict=True):
        assert new == old
    await there.slots.take_duties(frozenset(OUTBOX_DUTIES))
    after = await published(there)
    assert sorted(map(repr, after)) == sorted(map(repr, messages))
    for key in HOSTILE:
        assert [one for one in after if one.key == key.encode()] == [one for one in messages if one.key == key.encode()]
    for owner_ in (True, False):
        with pytest.raises(StoreError, match="was moved to there; name that in store"):
            await stores.admin(f"sqlite:///{tmp_path}/s.db").open(owner=owner_)
    with pytest.raises(StoreError, match="was moved to there"):
        await move(f"sqlite:///{tmp_path}/s.db", postgres_url)


async def test_work_goes_on_at_the_new_place_in_the_same_trail(tmp_path: Path, postgres_url: str, shares: Any) -> None:
    await filled(tmp_path / "s.db")
    async with opened(tmp_path / "s.db") as guest:
        ((last, _),) = await guest.audit_heads()
    await move(f"sqlite:///{tmp_path}/s.db", postgres_url)
    there = await shares()
    await settle(there, settlement(HOSTILE[0], audit=(record(HOSTILE[0], message="there"),)))
    newest, *_ = await there.audit(HOSTILE[0])
    assert (newest.id, newest.message) == (last + 1, "there")
    ordered = [entry.number async for entry in there.audit_chain(HOSTILE[0])]
    assert ordered == sorted(ordered)
    await check_chain(there, {one.id for one in await there.audit(limit=10_000)})
    await there.fold(batch("new"))
    assert sum((await there.counts()).values()) == len(HOSTILE) + len(MANY) + 1


@pytest.mark.parametrize("when", ["copying", "reading back", "before the commit", "after the commit"])
async def test_a_move_that_is_killed_leaves_one_whole_store_and_can_be_repeated(
    tmp_path: Path, postgres_url: str, shares: Any, when: str
) -> None:
    from reconciler.cli.commands.store import _move

    origin = f"sqlite:///{tmp_path}/s.db"
    await filled(tmp_path / "s.db")
    async with opened(tmp_path / "s.db") as guest:
        before = await told(guest)
    dying = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, origin, postgres_url, when)
    assert await asyncio.wait_for(dying.wait(), HANG_S) == -signal.SIGKILL
    there = await shares(owner=False)
    assert any(head.records for head in await there.audit_heads()) is (when == "after the commit")
    if when in ("copying", "reading back"):
        async with opened(tmp_path / "s.db", owner=True) as owner:
            assert await projection(owner) == before[0]
    else:  # nobody knows which of them counts until the move is repeated
        with pytest.raises(StoreError, match="run the same `reconciler store move` again"):
            await stores.admin(origin).open(owner=True)
    again = await _move(stores.admin(origin), stores.admin(postgres_url), lambda *_: None)
    assert again == (None if when == "after the commit" else len(HOSTILE) + len(MANY))
    for old, new in zip(before, await told(there), strict=True):
        assert new == old
    with pytest.raises(StoreError, match="was moved to"):
        await stores.admin(origin).open(owner=True)


async def test_nothing_moves_while_someone_uses_either_store_or_the_new_one_is_not_empty(
    tmp_path: Path, postgres_url: str, shares: Any
) -> None:
    origin = f"sqlite:///{tmp_path}/s.db"
    async with opened(tmp_path / "s.db", owner=True) as owner:
        await owner.fold(batch("d"))
        with pytest.raises(StoreError, match="in use by another reconciler"):
            await move(origin, postgres_url)
    there = await shares()
    with pytest.raises(StoreError, match="is in use by"):
        await move(origin, postgres_url)
    await there.fold(batch("other"))
    await there.close()
    with pytest.raises(StoreError, match="holds something already"):
        await move(origin, postgres_url)
    async with opened(tmp_path / "s.db", owner=True) as owner:
        assert list(await owner.documents(["d"])) == ["d"]


async def test_a_trail_that_someone_has_changed_does_not_move(tmp_path: Path, postgres_url: str) -> None:
    async with opened(tmp_path / "s.db", owner=True) as owner:
        await owner.fold(batch("d"))
        await settle(owner, settlement(audit=(record(), record(message="second"))))
    with closing(sqlite3.connect(tmp_path / "s.db", isolation_level=None)) as file:
        file.execute("DROP TRIGGER audit_is_never_changed")
        file.execute("UPDATE audit SET link = zeroblob(32) WHERE id = 1")
    with pytest.raises(StoreDamagedError, match="record 1 does not follow"):
        await move(f"sqlite:///{tmp_path}/s.db", postgres_url)
    async with opened(tmp_path / "s.db", owner=True):
        pass


async def test_every_table_of_a_store_in_a_file_moves(tmp_path: Path) -> None:
    async with opened(tmp_path / "s.db", owner=True):
        pass
    with closing(sqlite3.connect(tmp_path / "s.db")) as file:
        names = {name for (name,) in file.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    apart = {"dictionary", "moved", "desired", "agreement", "sqlite_sequence"}
    assert names - apart == set(TABLES)
