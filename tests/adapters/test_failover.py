"""The store on a PostgreSQL that fails over, is restored, or restarts: nobody goes on with what it does not have."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("asyncpg", reason="there is no asyncpg (`make` installs it)")

from reconciler.adapters.clock import SystemClock
from reconciler.adapters.postgres import Address, PostgresStore, Terms, migrate_store, open_store
from reconciler.core.scheduling.replicas import Stage
from reconciler.errors import ReplacedError, StoreError
from tests import postgres
from tests.checks import check_chain
from tests.contracts.test_store import batch, record, settle, settlement

pytestmark = pytest.mark.slow

DATABASE = "store"
Open = Callable[..., Awaitable[PostgresStore]]


def migrated(server: postgres.Server) -> postgres.Server:
    server.sql(f"CREATE DATABASE {DATABASE}")
    asyncio.run(migrate_store(Address(server.url(DATABASE)), SystemClock()))
    return server


@pytest.fixture
def server() -> Iterator[postgres.Server]:
    """A server of our own with one store."""
    if absent := postgres.missing():
        pytest.skip(absent)
    with postgres.running(durable=True) as made:
        yield migrated(made)


@pytest.fixture
def standby(server: postgres.Server) -> Iterator[postgres.Server]:
    with postgres.running(follows=server) as made:
        yield made


@pytest.fixture
async def opens(server: postgres.Server) -> AsyncIterator[Open]:
    """Opens the store as an owner that hardly beats by itself, on whichever of the servers can be written to."""
    opened: list[PostgresStore] = []

    async def make(*others: postgres.Server) -> PostgresStore:
        hosts = ",".join(f"{postgres.HOST}:{one.port}" for one in (server, *others))
        address = Address(f"postgresql://{postgres.USER}@{hosts}/{DATABASE}")
        opened.append(await open_store(address, SystemClock(), owner=True, terms=Terms(evict_s=600)))
        return opened[-1]

    yield make
    for store in opened:
        await store.close()


def slots(store: PostgresStore) -> Any:
    return store.slots


async def generation(store: PostgresStore) -> tuple[int, Stage]:
    seen = await slots(store).beat(0)
    return seen.generation, seen.stage


async def work(store: PostgresStore, *keys: str) -> None:
    """Store something of each kind."""
    await store.fold(batch(*keys))
    for key in keys:
        await settle(store, settlement(key, audit=(record(key),)))
    await slots(store).beat(0)


async def check_that_nothing_counts(store: PostgresStore) -> None:
    for deed in (
        lambda: store.fold(batch("late")),
        lambda: slots(store).beat(0),
        lambda: slots(store).reach(Stage.OPEN),
    ):
        with pytest.raises(ReplacedError, match="after a failover or a restore; begin anew"):
            await deed()


async def check_the_successor(store: PostgresStore, *keys: str, generation_: int = 2) -> None:
    """Whoever opens the store then has what it has, must recover first, and goes on with the chain."""
    assert await generation(store) == (generation_, Stage.RECOVERING)
    assert [one.key for one in await store.list_documents(None, "", 9)] == [*keys]
    await work(store, "new")
    await check_chain(store, {entry.number async for entry in store.audit_chain()})


async def test_a_generation_goes_on_when_the_server_restarts(server: postgres.Server, opens: Open) -> None:
    owner = await opens()
    assert await generation(owner) == (1, Stage.RECOVERING)
    for stage in (Stage.FOLDING, Stage.OPEN, Stage.FOLDING):
        await slots(owner).reach(stage)
    await work(owner, "a")
    server.stop()
    server.start()
    await work(owner, "b")
    assert await generation(owner) == (1, Stage.OPEN)
    assert await generation(await opens()) == (1, Stage.OPEN)


async def test_after_a_failover_to_a_standby_that_lost_commits_all_begin_anew(
    server: postgres.Server, standby: postgres.Server, opens: Open
) -> None:
    one, other = await opens(standby), await opens(standby)
    await work(one, "a")
    await work(other, "b")
    standby.stall(server)
    await work(one, "lost")
    server.stop()
    standby.promote()
    await check_that_nothing_counts(other)
    await check_that_nothing_counts(one)
    successor = await opens(standby)
    await check_the_successor(successor, "a", "b")
    assert [one.leaving for one in (await slots(successor).beat(0)).members] == [True, True, False]


async def test_who_took_a_slot_in_commits_that_were_lost_does_not_share_it_with_who_takes_it_then(
    server: postgres.Server, standby: postgres.Server, opens: Open
) -> None:
    standby.stall(server)
    one = await opens(standby)
    await work(one, "lost")
    server.stop()
    standby.promote()
    successor = await opens(standby)
    assert slots(successor).slot == slots(one).slot
    await check_that_nothing_counts(one)
    await check_the_successor(successor, generation_=1)


@pytest.mark.parametrize("new_timeline", [True, False], ids=["to a time", "as a disk"])
async def test_after_a_restore_all_begin_anew(server: postgres.Server, opens: Open, new_timeline: bool) -> None:
    one, other = await opens(), await opens()
    await work(one, "a")
    backup = await asyncio.to_thread(server.back_up)
    await work(one, "lost")
    await slots(other).beat(0)
    server.restore(backup, new_timeline=new_timeline)
    await check_that_nothing_counts(one)
    await check_that_nothing_counts(other)
    await check_the_successor(await opens(), "a")


async def test_a_store_that_forgot_a_settlement_but_no_beat_is_noticed_by_who_made_it(
    server: postgres.Server, opens: Open
) -> None:
    one = await opens()
    await work(one, "a")
    server.sql("UPDATE slot SET turn = turn - 1; UPDATE folding SET turn = turn - 1", DATABASE)
    with pytest.raises(ReplacedError):
        await settle(one, settlement("a", audit=(record("a"),)))
    other = await opens()
    assert await generation(other) == (2, Stage.RECOVERING)
    await work(other, "b")
    server.sql("UPDATE folding SET turn = turn - 1", DATABASE)
    with pytest.raises(ReplacedError):
        await other.fold(batch("c"))
    assert await generation(await opens()) == (3, Stage.RECOVERING)


async def test_a_dump_that_is_restored_begins_a_generation(server: postgres.Server, opens: Open) -> None:
    owner = await opens()
    await work(owner, "a")
    await owner.close()
    server.restore_dump(DATABASE, server.dump(DATABASE))
    await check_the_successor(await opens(), "a")


async def test_an_old_primary_is_not_believed(server: postgres.Server, standby: postgres.Server, opens: Open) -> None:
    await work(await opens(standby), "a")
    standby.stall(server)
    server.stop()
    standby.promote()
    owner = await opens(standby)
    standby.stop()
    server.start()
    slots(owner).hurry()  # so that it gives up in the end
    with pytest.raises(StoreError, match=r"the server is an old primary, .* let store.url lead to the other") as told:
        await owner.fold(batch("b"))
    assert not isinstance(told.value, ReplacedError)


async def test_a_standby_is_named_as_what_it_is(server: postgres.Server, standby: postgres.Server) -> None:
    address = Address(standby.url(DATABASE), patience_s=0)
    with pytest.raises(StoreError, match="the server is a standby, which can't be written to; promote it, or name"):
        await open_store(address, SystemClock(), owner=True)
