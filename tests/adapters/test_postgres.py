"""What PostgreSQL adds to what every store promises: owners that follow each other, migrations, lost connections."""

import asyncio
import contextlib
import gc
import json
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

asyncpg = pytest.importorskip("asyncpg", reason="there is no asyncpg (`make` installs it)")

from reconciler.adapters import tls  # noqa: E402  ditto
from reconciler.adapters.clock import SystemClock  # noqa: E402  after the check above
from reconciler.adapters.postgres import (  # noqa: E402  ditto
    Address,
    PostgresStore,
    Terms,
    migrate_store,
    migrating,
    open_store,
    writing,
)
from reconciler.adapters.postgres.server import Server  # noqa: E402  ditto
from reconciler.core.explain.trail import Scope, Verifier  # noqa: E402  ditto
from reconciler.core.folding import fold, rows  # noqa: E402  ditto
from reconciler.core.scheduling.replicas import Member  # noqa: E402  ditto
from reconciler.errors import EvictedError, LostError, StoreError  # noqa: E402  ditto
from reconciler.model import chain, codec  # noqa: E402  ditto
from reconciler.model.action import Change  # noqa: E402  ditto
from reconciler.model.chain import SPAN, Head  # noqa: E402  ditto
from reconciler.model.desired import Desired, Field, Register  # noqa: E402  ditto
from reconciler.model.document import Lane, Row, Status  # noqa: E402  ditto
from reconciler.model.event import Outgoing  # noqa: E402  ditto
from reconciler.model.policy import Policy  # noqa: E402  ditto
from reconciler.ports import OUTBOX_DUTIES, Changed  # noqa: E402  ditto
from tests import postgres  # noqa: E402  ditto
from tests.brokers import certificates  # noqa: E402  ditto
from tests.checks import check_chain, expect  # noqa: E402  ditto
from tests.contracts.test_actions import action, noted  # noqa: E402  ditto
from tests.contracts.test_store import (  # noqa: E402  ditto
    P0,
    REFOLDED,
    batch,
    letter,
    record,
    refolded,
    row,
    settle,
    settlement,
    stamp,
    wish,
)
from tests.postgres.chains import append, checkpoints  # noqa: E402  ditto

# --------------------------------------------------------------------------------------------------------------- owners


async def test_an_owner_whose_answer_was_lost_when_it_took_the_store_knows_that_it_has_it(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, lost = Server.fetch, list[Any]()

    async def fetch(self: Server, operation: str, sql: str, *arguments: Any) -> list[Any]:
        found = await real(self, operation, sql, *arguments)
        if operation == "take a slot" and not lost:
            lost.append(found)
            return await real(self, operation, sql, *arguments)  # as after a lost answer
        return found

    monkeypatch.setattr(Server, "fetch", fetch)
    store = await open_store(Address(postgres_url), SystemClock(), owner=True)
    assert lost
    assert store.slots is not None
    assert [one.slot for one in (await store.slots.beat(0)).members] == [0]
    await store.close()


async def test_the_owner_that_follows_goes_on_with_the_chain(shares: Any) -> None:
    for number in (1, 2, 3):
        owner = await shares()
        await owner.fold(batch("d"))
        await settle(owner, settlement(audit=(record(),)))
        await check_chain(owner, set(range(1, number + 1)))
        await owner.close()


async def test_guests_and_the_owner_write_one_chain(shares: Any) -> None:
    owner, guest = await shares(), await shares(owner=False)
    await owner.fold(batch("d"))
    await noted(owner, action("a"))
    assert await guest.record_actions(Change.PAUSE, [action("d")], at_us=7000, reason="by hand")
    await noted(owner, action("b"))
    assert [one.target for one in await guest.actions()] == ["b", "d", "a"]
    assert (await row(owner)).reason == "by hand"
    await check_chain(owner, set())


async def test_the_slot_is_seen_as_a_member_with_what_its_holder_obeys_and_its_duties(shares: Any) -> None:
    owner = await shares(terms=Terms("pod-1", evict_s=600))
    slots = owner.slots
    seen = await slots.beat(7)
    (member,) = seen.members
    assert (member.slot, member.obeys, member.leaving) == (slots.slot, 7, False)
    assert (await slots.beat(8)).members[0].beat > member.beat
    assert await slots.take_duties(frozenset({"notify", "drift"})) == {"notify", "drift"}
    assert await slots.take_duties(frozenset({"drift"})) == {"drift"}
    assert not await slots.evict(member), "it has beaten since"
    await owner.close()
    again = await shares()
    found = await again.slots.beat(0)
    (new,) = found.members
    assert (found.number, new.slot) == (seen.number + 2, 0)
    assert new.epoch > member.epoch + 1
    assert await again.slots.take_duties(frozenset({"drift"})) == {"drift"}


async def test_a_store_is_closed_after_leaving_it_was_interrupted(shares: Any) -> None:
    """As at a failover: the loop that has begun to leave is cancelled, since another one has noticed it too."""
    owner = await shares()
    leaving = asyncio.create_task(owner.slots.leave())
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    await owner.close()
    assert [one.slot for one in (await (await shares()).slots.beat(0)).members] == [0]


async def test_a_policy_is_put_in_force_by_who_knows_the_one_before_it(shares: Any) -> None:
    owner, guest = await shares(), await shares(owner=False)
    assert await owner.shared.in_force() is None
    assert await owner.shared.put_in_force("p1", Policy(), 0)
    assert not await guest.shared.put_in_force("p2", Policy(), 0), "it does not know of the first"
    assert (await owner.policy_texts()).keys() == {"p1"}
    assert await guest.shared.put_in_force("p2", Policy(), 1)
    chosen = await owner.shared.in_force()
    assert (chosen.number, chosen.digest) == (2, "p2")
    assert (await owner.slots.beat(0)).policy == 2
    assert await owner.shared.put_in_force("p1", Policy(), 2), "a policy may come back"


async def test_only_intents_of_the_policy_in_force_are_stored(shares: Any) -> None:
    owner, guest = await shares(), await shares(owner=False)
    await owner.fold(batch("a", "b", "c", "d"))
    await owner.hold("abcd")
    before, agreed = await row(owner, "a"), settlement().agreement
    await owner.shared.put_in_force("p1", Policy(), 0)
    assert await owner.intend("d", agreed, "p1")
    await guest.shared.put_in_force("p2", Policy(), 1)  # and the owner does not know yet
    deeds = owner.intend("a", agreed, "p1"), owner.intend("b", agreed, "p2"), owner.intend("c", agreed)
    ends: list[object] = await asyncio.gather(*deeds, return_exceptions=True)
    assert isinstance(ends[0], LostError)
    assert ends[1:] == [True, True]
    assert await row(owner, "a") == before
    with pytest.raises(LostError):
        await owner.intend("d", agreed, "p1")
    await owner.settle(settlement("d", audit=(record(),)))


async def test_an_evicted_owner_is_leaving_until_its_requests_are_over(shares: Any) -> None:
    owner = await shares()
    await owner.fold(batch("d"))
    assert await owner.slots.take_duties(frozenset({"drift"})) == {"drift"}
    seen = await owner.slots.beat(3)
    assert await owner.slots.evict(seen.members[0])
    assert not await owner.slots.evict(seen.members[0])
    for deed in (
        lambda: owner.slots.beat(3),
        lambda: owner.slots.take_duties(frozenset()),
        lambda: owner.fold(batch("e")),
    ):
        with pytest.raises(EvictedError, match="end it, and start it again"):
            await deed()
    member = Member(0, seen.members[0].epoch + 1, seen.members[0].beat, 3, leaving=True)
    assert await owner.slots.evict(member)
    new = await shares()
    assert new.slots.slot == 0
    assert await new.slots.take_duties(frozenset({"drift"})) == {"drift"}


# ------------------------------------------------------------------------------------------------------------ migrating


async def test_a_store_without_a_schema_is_refused_until_it_is_migrated(postgres_server: postgres.Server) -> None:
    address = Address(postgres_server.new("template1"))
    with pytest.raises(StoreError, match="run `reconciler store migrate`"):
        await open_store(address, SystemClock(), owner=True)
    assert await asyncio.gather(*(migrate_store(address, SystemClock()) for _ in range(3))) != [[], [], []]
    assert await migrate_store(address, SystemClock()) == []
    await (await open_store(address, SystemClock(), owner=True)).close()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("INSERT INTO schema_version VALUES (9999, 'later', '')", "migration 9999, which this program does not know"),
        ("UPDATE schema_version SET checksum = 'other'", "has run another migration 1"),
        ("DELETE FROM schema_version", "lacks 0001_first.sql"),
        ("UPDATE dictionary SET text = 'other'", "another dictionary"),
    ],
)
async def test_a_store_with_another_schema_is_refused(
    postgres_server: postgres.Server, postgres_url: str, change: str, complaint: str
) -> None:
    postgres_server.sql(change, postgres_url.rpartition("/")[2])
    for owner in (True, False):
        with pytest.raises(StoreError, match=complaint):
            await open_store(Address(postgres_url), SystemClock(), owner=owner)


def test_migrations_are_numbered_without_gaps() -> None:
    assert [number for number, _, _ in migrating.known()] == list(range(1, len(migrating.known()) + 1))


async def test_the_audit_trail_cannot_be_changed_by_mistake(
    postgres_server: postgres.Server, postgres_url: str, shares: Any
) -> None:
    owner = await shares()
    await noted(owner, action("a"))
    for order in ("UPDATE audit SET at_us = 1", "DELETE FROM audit"):
        with pytest.raises(Exception, match="non-zero exit status"):
            postgres_server.sql(order, postgres_url.rpartition("/")[2])
    await check_chain(owner, set())


# --------------------------------------------------------------------------------------------------------------- chains

THIRD = 3 * SPAN  # chain 3 begins after it
OUTGOING = Outgoing("outcomes", None, b"", ())


async def test_each_slot_has_a_chain_of_its_own(shares: Any, postgres_url: str) -> None:
    owner = await shares()
    await owner.fold(batch("d", "e"))
    await settle(owner, settlement(audit=(record("d", 10),)))
    await append(postgres_url, 3, record("e", 20), action("e"))
    await settle(owner, settlement(audit=(record("d", 30), record("d", 40))))
    await check_chain(owner, {1, 2, 3, THIRD + 1})
    numbers = [entry.number async for entry in owner.audit_chain()]
    assert numbers == [1, 2, 3, THIRD + 1, THIRD + 2]
    assert [(one.number, one.previous is None) async for one in owner.audit_chain("e")] == [
        (THIRD + 1, True),
        (THIRD + 2, False),
    ]
    entry = await owner.audit_entry(THIRD + 2)
    assert entry is not None
    assert (entry.chain, entry.ordinal) == (3, 2)
    assert [head.chain for head in await owner.audit_heads() if head.records] == [0, 3]


async def test_records_of_a_document_are_in_order_over_chains_whatever_the_clocks_say(
    shares: Any, postgres_url: str
) -> None:
    owner = await shares()
    await owner.fold(batch("d"))
    await settle(owner, settlement(audit=(record("d", 30), record("d", 31))))
    await append(postgres_url, 3, record("d", 10))
    await settle(owner, settlement(audit=(record("d", 20),)))
    await append(postgres_url, 1, action("d", "retry"), record("d", 5))
    entries = [entry async for entry in owner.audit_chain("d")]
    assert [entry.number for entry in entries] == [1, 2, THIRD + 1, 3, SPAN + 1, SPAN + 2]
    assert [entry.ordinal for entry in entries] == [1, 2, 3, 4, 5, 6]
    recorded = sorted([*await owner.audit("d"), *await owner.actions(document="d")], key=chain.place)
    assert [one.id for one in recorded] == [entry.number for entry in entries]
    assert [one.at_us for one in await owner.audit()] == [31, 30, 20, 10, 5], "lists are in the order of time"
    assert Verifier(Scope("d", whole=False), {}).faults(entries[2])[0].text.startswith("chain 3: its policy")


async def test_acts_of_all_chains_are_listed_newest_first_page_by_page(shares: Any, postgres_url: str) -> None:
    owner = await shares()
    for slot, at_us in ((3, 10), (0, 20), (1, 30), (0, 30), (3, 40)):
        await append(postgres_url, slot, structs.replace(action(), at_us=at_us))
    found = await owner.actions(target="d", who="jdoe", document="d", kinds=["pause"])
    ids = [THIRD + 2, SPAN + 1, 2, 1, THIRD + 1]
    assert [one.id for one in found] == ids
    before, paged = None, []
    while page := await owner.actions(limit=2, before=before):
        paged += [one.id for one in page]
        before = page[-1].id
    assert paged == ids
    assert await owner.last_audited_us() == 40


async def test_a_checkpoint_names_all_heads_is_announced_once_and_cannot_be_changed(
    shares: Any, postgres_server: postgres.Server, postgres_url: str
) -> None:
    owner = await shares()
    await owner.fold(batch("d"))
    for slot in (0, 3):
        await append(postgres_url, slot, record("d"))
    making = checkpoints(owner)
    head = expect(Head, await making.make())
    assert head == (await owner.audit_heads())[-1]
    assert await making.make() is None
    assert await making.slots.add_checkpoint(head, b"other", OUTGOING) is False
    await append(postgres_url, 3, record("d"))
    following = expect(Head, await making.make())
    assert following.records == 2
    await owner.slots.take_duties(frozenset(OUTBOX_DUTIES))
    found = [json.loads(one.record.value)["data"]["head"] for one in await owner.waiting(9)]
    assert found == [str(head), str(following)]
    entries = [entry async for entry in owner.audit_chain()]
    assert [entry.number for entry in entries][:2] == [head.number, following.number]
    assert await owner.audit_entry(following.number) == entries[1]
    await check_chain(owner, {1, THIRD + 1, THIRD + 2})
    for order in ("UPDATE checkpoint SET number = 1", "DELETE FROM checkpoint"):
        with pytest.raises(Exception, match="non-zero exit status"):
            postgres_server.sql(order, postgres_url.rpartition("/")[2])
    postgres_server.sql("UPDATE slot SET epoch = epoch + 1 WHERE id = 0", postgres_url.rpartition("/")[2])
    await append(postgres_url, 3, record("d"))
    with pytest.raises(EvictedError):
        await making.make()


async def test_a_span_has_no_gaps_in_any_chain(shares: Any, postgres_url: str) -> None:
    owner = await shares()
    for slot, at_us in ((0, 10), (0, 30), (3, 20), (3, 31), (3, 19), (3, 32), (1, 99)):
        await append(postgres_url, slot, record("d", at_us))
    numbers = [entry.number async for entry in owner.audit_chain(None, 30, 40)]
    assert numbers == [2, THIRD + 2, THIRD + 3, THIRD + 4]


# ---------------------------------------------------------------------------------------------------------- connections


async def test_statements_have_a_limit_and_a_pooler_needs_it_from_the_role(
    postgres_server: postgres.Server, postgres_url: str, shares: Any
) -> None:
    owner = await shares()
    (found,) = await owner._server.fetch("look", "SELECT current_setting('statement_timeout')")
    assert found[0] == "30s"
    await owner.close()
    pooled = Address(postgres_url.replace("postgres@", "pooled@"), pooled=True)
    postgres_server.sql("CREATE ROLE pooled SUPERUSER LOGIN")
    with pytest.raises(StoreError, match="ALTER ROLE … SET statement_timeout = '30s'"):
        await open_store(pooled, SystemClock(), owner=True)
    for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        postgres_server.sql(f"ALTER ROLE pooled SET {name} = '30s'")
    store = await open_store(pooled, SystemClock(), owner=True)
    await store.fold(batch("d"))
    await settle(store, settlement(audit=(record(),)))
    await check_chain(store, {1})
    await store.close()


class Losing:
    """A pool that loses the connection at the next change: before the server has it, or when it has committed."""

    def __init__(self, pool: Any, committed: bool) -> None:
        self._pool = pool
        self._committed = committed
        self._lost = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    async def fetchrow(self, sql: str, *arguments: Any) -> Any:
        if self._lost:
            return await self._pool.fetchrow(sql, *arguments)
        self._lost = True
        if self._committed:
            await self._pool.fetchrow(sql, *arguments)
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")


def losing(store: PostgresStore, committed: bool) -> None:
    store._server._pool = Losing(store._server._pool, committed)


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("owner", [False, True])
async def test_a_change_whose_answer_is_lost_is_stored_once(shares: Any, committed: bool, owner: bool) -> None:
    store = await shares()
    await store.fold(batch("d", "e"))
    await store.slots.take_duties(frozenset(OUTBOX_DUTIES))
    actor = store if owner else await shares(owner=False)
    losing(actor, committed)
    assert await actor.record_actions(Change.PAUSE, [action("e")], at_us=7000)
    losing(store, committed)
    await settle(store, settlement(attempts=1, audit=(record(),), contention=()))
    losing(store, committed)
    await settle(store, settlement(attempts=1))  # without a record
    losing(store, committed)
    events = {"d": wish(number=0), "f": wish()}
    assert await store.fold(batch(rows=events, dead_letters=[letter()])) == Changed(["f"], 1)
    assert (await row(store)).attempts == 2
    assert [one.status for one in await store.list_documents(Status.PAUSED, "", 9)] == [Status.PAUSED]
    found = await store.superseded("d")
    assert found is not None
    assert (found.count, len(await store.waiting(9)), (await row(store, "f")).revision) == (1, 1, 1)
    await check_chain(store, {2})


class Cancelling:
    """A pool that gives up a connection, and lets those who wait for it be cancelled."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.times = 2

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    async def fetch(self, *asked: Any) -> Any:
        if self.times:
            self.times -= 1
            raise asyncio.CancelledError
        return await self._pool.fetch(*asked)


async def test_a_cancellation_that_nobody_asked_for_is_a_lost_connection(shares: Any) -> None:
    store = await shares()
    await store.fold(batch("d"))
    server = store._server
    server._pool = pool = Cancelling(server._pool)
    assert (await store.counts())[Status.PENDING] == 1
    pool.times = 1
    with pytest.raises(StoreError, match="the connection was lost while a statement was given up"):
        await store.slots.beat(0)
    await store.slots.beat(0)


async def test_a_change_that_the_server_runs_after_we_gave_it_up_is_not_stored_twice(shares: Any) -> None:
    store = await shares()
    await store.fold(batch("d"))
    answers: list[str] = []

    class Late(Losing):
        """Loses the connection at the first change, which the server gets to just before it is repeated."""

        _given: tuple[Any, ...] | None = None

        async def fetchrow(self, sql: str, *arguments: Any) -> Any:
            if not self._lost:
                self._lost, self._given = True, (sql, *arguments)
                raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
            if self._given is not None:
                late, self._given = self._given, None
                answers.append(await self._pool.fetchval(*late))
            return await self._pool.fetchrow(sql, *arguments)

    pool = store._server._pool
    for change in (
        lambda: settle(store, settlement(attempts=1, audit=(record(),))),
        lambda: store.fold(batch(rows={"d": wish("NEW", 5), "e": wish()})),
    ):
        store._server._pool = Late(pool, committed=False)
        await change()
    assert answers == ["head", "late"]
    found = await row(store)
    assert (found.attempts, found.revision, found.desired) == (1, 2, wish("NEW", 5))
    await check_chain(store, {1})


async def test_a_server_that_comes_back_is_waited_for_and_one_that_does_not_is_an_error() -> None:
    if absent := postgres.missing():
        pytest.skip(absent)
    server = postgres.Server(durable=True)
    try:
        server.start()
        server.sql("CREATE DATABASE store")
        address = Address(server.url("store"))
        await migrate_store(address, SystemClock())
        store = await open_store(address, SystemClock(), owner=True)
        keys = [f"d{number}" for number in range(40)]
        await store.fold(batch(*keys))
        done = 0

        async def settle_one(key: str) -> None:
            nonlocal done
            try:
                await settle(store, settlement(key, attempts=1, audit=(record(key),)))
            except LostError:  # the server had not synced yet that the document is ours
                await settle(store, settlement(key, attempts=1, audit=(record(key),)))
            done += 1

        async def restart() -> None:
            await asyncio.to_thread(server.stop)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(server.start)

        going = asyncio.create_task(restart())
        for key in keys:
            await settle_one(key)
            await asyncio.sleep(0.05)
        await going
        assert done == 40
        assert {one.attempts for one in await store.list_documents(None, "", 99)} == {1}
        await check_chain(store, set(range(1, 41)))
        await store.close()
        impatient = await open_store(Address(server.url("store"), patience_s=0.5), SystemClock(), owner=False)
        server.stop()
        with pytest.raises(StoreError, match=r"can't count documents in postgresql://127\.0"):
            await impatient.counts()
        await impatient.close()
    finally:
        server.remove()


async def test_only_a_server_with_a_trusted_certificate_is_believed_unless_told_otherwise(tmp_path: Path) -> None:
    if absent := postgres.missing() or (None if certificates.available() else "no openssl"):
        pytest.skip(absent)
    ours, others = certificates.Authority(tmp_path / "ours"), certificates.Authority(tmp_path / "others")
    files = {name: tls.Files(one.certificate) for name, one in (("ours", ours), ("others", others))}

    async def encrypted(url: str, sslmode: str, trusted: str = "ours") -> bool:
        server = Server(Address(url, sslmode=sslmode, files=files[trusted]), SystemClock())
        try:
            await server.open()
            query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            return bool((await server.fetch("look", query))[0][0])
        finally:
            await server.close()

    with postgres.running(shown=ours.sign("server")) as server:
        url = server.url("postgres")
        for mode in ("verify-full", "verify-ca", "require", "prefer"):
            assert await encrypted(url, mode), mode
        assert not await encrypted(url, "disable")
        assert await encrypted(url, "require", "others")
        for mode in ("verify-full", "verify-ca"):
            with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
                await encrypted(url, mode, "others")
        elsewhere = url.replace("127.0.0.1", "localhost")
        assert await encrypted(elsewhere, "verify-ca")
        with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
            await encrypted(elsewhere, "verify-full")


@pytest.mark.parametrize(
    ("hosts", "mode"),
    [
        ("localhost:5432", "prefer"),
        ("127.0.0.1,[::1]:5433", "prefer"),
        ("db", "verify-full"),
        ("127.0.0.1,db", "verify-full"),
    ],
)
def test_a_server_elsewhere_must_show_a_trusted_certificate(hosts: str, mode: str) -> None:
    assert Address(f"postgresql://me@{hosts}/x")._mode == mode


async def test_a_call_that_nobody_waits_for_any_more_ends_without_a_word_when_the_store_is_closed() -> None:
    heard: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    with contextlib.closing(socket.create_server((postgres.HOST, 0))) as probe:
        port = probe.getsockname()[1]
    server = Server(Address(f"postgresql://nobody@{postgres.HOST}:{port}/store"), SystemClock())
    before = asyncio.all_tasks()
    opening = asyncio.create_task(server.open())
    await asyncio.sleep(0.1)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    (left,) = asyncio.all_tasks() - before
    await server.close()
    await asyncio.wait({left})
    _, error = left.result()
    assert "the store is closed" in str(error)
    del left
    gc.collect()
    assert not heard


async def test_no_password_is_in_a_message() -> None:
    address = Address("postgresql://me:secret@127.0.0.1:1/db", patience_s=0)
    with pytest.raises(StoreError) as told:
        await open_store(address, SystemClock(), owner=False)
    assert "secret" not in str(told.value)
    assert str(address) == "postgresql://127.0.0.1:1/db"


# ---------------------------------------------------------------------------------------------------------------- races


KEYS = ["a", "b", "c", "d"]


def said(number: int) -> Desired:
    """What one event says: of 30, each sets a field that others set too."""
    return Desired({f"f{number % 3}": Field(Register(stamp(number), number))})


class Hand:
    """One of several connections that change the same rows at the same time; `noted` has what each change came to."""

    def __init__(self, store: PostgresStore, noted: dict[tuple[str, int], Callable[[Row], Row | None]]) -> None:
        self.store = PostgresStore(store._server, store._slot)
        self._noted = noted
        self._rule: Callable[[Row], Row | None] | None = None
        self._call = self.store._writer._call
        self.store._writer._call = self._overheard  # type: ignore[method-assign]  # to listen in

    async def _overheard(self, operation: str, change: Any, done: Any) -> str:
        answer = await self._call(operation, change, done)
        given = change._arguments
        if answer == "done":
            for key, version in zip(given.get("row_key", ()), given.get("row_version", ()), strict=True):
                assert self._noted.setdefault((key.decode(), version), self._rule) is self._rule, "stored twice"
        return answer

    async def do(self, chance: random.Random, number: int) -> tuple[str, Desired] | None:
        key, at_us = chance.choice(KEYS), 1000 + number
        match chance.randrange(5):
            case 0 | 1:
                self._rule = lambda row: rows.folded(row, Lane.EVENT, at_us)
                await self.store.fold(batch(rows={key: said(number)}, at_us=at_us, lane=Lane.EVENT))
                return key, said(number)
            case 2:
                end = settlement(key, chance.randrange(9), attempts=1, at_us=at_us, audit=(record(key, at_us),))
                self._rule = lambda row: rows.settled(row, end)
                with contextlib.suppress(StoreError):  # no event has named it yet
                    await settle(self.store, end)
            case 3:
                self._rule = lambda row: rows.requeued(row, Lane.RESYNC, at_us)
                await self.store.requeue([key], Lane.RESYNC, at_us)
            case _:
                change = chance.choice([Change.PAUSE, Change.RESUME, Change.RETRY])
                self._rule = lambda row: rows.after_action(change, row, at_us, "why")
                await self.store.record_actions(change, [action(key)], at_us=at_us, reason="why")
        return None


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_several_do_at_once_is_what_the_rules_make_of_it_one_after_the_other(
    shares: Any, seed: int
) -> None:
    """Replays, by the rules alone, what each version of each row was made by."""
    store, other = await shares(), await shares()
    noted: dict[tuple[str, int], Callable[[Row], Row | None]] = {}
    told: dict[str, Desired] = {}

    async def work(number: int) -> None:
        hand, chance = Hand((store, other)[number % 2], noted), random.Random(f"{seed} {number}")
        for step in range(40):
            if (event := await hand.do(chance, chance.randrange(30) if step % 2 else 30 + step)) is not None:
                key, desired = event
                told[key] = fold.join(told[key], desired) if key in told else desired

    await asyncio.gather(*(work(number) for number in range(4)))
    found = await store.documents(KEYS)
    assert {key: one.desired for key, one in found.items()} == told
    for key, one in found.items():
        versions = [version for noted_key, version in noted if noted_key == key]
        assert sorted(versions) == list(range(1, len(versions) + 1))
        row = rows.unknown(key)
        for version in range(1, len(versions) + 1):
            row = noted[key, version](row) or row
        assert row == Row(*(getattr(one, name) for name in Row._fields)), key
    await check_chain(store, {one.id for one in await store.audit()})
    assert (await store.counts()).keys() == set(Status)
    assert sum((await store.counts()).values()) == len(found)


async def test_a_document_that_two_add_at_the_same_time_is_joined(shares: Any, postgres_url: str) -> None:
    store = await shares()
    other = await asyncpg.connect(postgres_url)
    row = "INSERT INTO document VALUES ('d', 1, 1, 'pending', '', 1, 5, 5, 0, 0)"
    try:
        adding = other.transaction()
        await adding.start()
        await other.execute(row)
        await other.execute("INSERT INTO desired VALUES ('d', 1, $1)", codec.encode_desired(said(1)))
        folding = asyncio.ensure_future(store.fold(batch(rows={"d": said(2)})))
        await asyncio.sleep(0.3)
        assert not folding.done()
        await adding.commit()
        assert (await folding).keys == ["d"]
    finally:
        await other.close()
    found = (await store.documents(["d"]))["d"]
    assert (found.desired, found.revision) == (fold.join(said(1), said(2)), 2)


async def test_what_was_folded_in_parts_is_folded_once_more_if_a_document_was_folded_again_meanwhile(
    shares: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "CHUNK", 1)
    owner, guest = await shares(), await shares(owner=False)
    await owner.fold(batch(rows={"a": wish("OLD", 1), "b": wish("OLD", 5)}, positions={P0: 10}))
    call = owner._writer._call

    async def interrupted(operation: str, change: Any, done: Any) -> str:
        owner._writer._call = call
        answer = await call(operation, change, done)  # "a" is stored, the positions are not
        assert await guest.refold(refolded("AGAIN", key="a", positions={P0: 10}), REFOLDED)
        return answer

    owner._writer._call = interrupted
    both = batch(rows={"a": wish("NEW", 2), "b": wish("LATE", 4)}, positions={P0: 12})
    assert await owner.fold(both) == Changed(["a"], 1, 1)
    assert (await row(owner, "a")).desired == wish("NEW", 2), "an event that the store has read is lost"
    assert await owner.positions() == {P0: 12}
