"""What a store promises to several owners at once: on PostgreSQL, and in memory as simulations have it."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest
from msgspec import structs

asyncpg = pytest.importorskip("asyncpg", reason="there is no asyncpg (`make` installs it)")

from reconciler.adapters.postgres import PostgresStore, Terms, queries  # noqa: E402  after the check above
from reconciler.core.folding import fold  # noqa: E402  ditto
from reconciler.errors import EvictedError, LostError, StoreError  # noqa: E402  ditto
from reconciler.model.action import Change  # noqa: E402  ditto
from reconciler.model.desired import Desired, Field, Register  # noqa: E402  ditto
from reconciler.model.document import Agreement, Due, Lane, Status  # noqa: E402  ditto
from reconciler.model.event import Outgoing  # noqa: E402  ditto
from reconciler.model.policy import Policy  # noqa: E402  ditto
from reconciler.ports import OUTBOX_DUTIES, Slots  # noqa: E402  ditto
from tests.contracts.test_actions import action  # noqa: E402  ditto
from tests.contracts.test_store import AGREEMENT, P0, batch, record, row, settle, settlement, stamp, wish  # noqa: E402  ditto
from tests.fakes.shared_store import SharedMemory, SharedStore  # noqa: E402  ditto
from tests.postgres.fixtures import owners  # noqa: E402  ditto

Opens = Callable[..., Awaitable[Any]]
ALL = frozenset(OUTBOX_DUTIES)


@pytest.fixture
async def on_postgres(postgres_url: str) -> AsyncIterator[Opens]:
    """What only PostgreSQL can show."""
    async with owners(postgres_url) as open_:
        yield open_


@pytest.fixture(params=["memory", "postgres"])
async def shares(request: pytest.FixtureRequest) -> AsyncIterator[Opens]:
    """Opens stores on one database, as an owner unless told otherwise, and closes them."""
    if request.param == "postgres":
        async with owners(request.getfixturevalue("postgres_url")) as open_:
            yield open_
        return
    memory = SharedMemory()

    async def enter(*, owner: bool = True) -> SharedStore:
        return memory.owner() if owner else memory.guest()

    yield enter


def slots(store: PostgresStore) -> Slots:
    """The slot of an owner."""
    assert store.slots is not None
    return store.slots


async def bury(by: PostgresStore, dead: PostgresStore) -> None:
    """One replica takes another for dead."""
    (member,) = [one for one in (await slots(by).beat(0)).members if one.slot == slots(dead).slot]
    assert await slots(by).evict(member)


def outcome(key: str, number: int) -> Outgoing:
    return Outgoing("outcomes", key.encode(), str(number).encode())


async def published(store: PostgresStore) -> list[tuple[str, int]]:
    """What an owner may publish now, and publishes."""
    messages = await store.waiting(1000)
    if messages:
        await store.published([message.number for message in messages], {})
    return [((one.record.key or b"").decode(), int(one.record.value or 0)) for one in messages]


# ---------------------------------------------------------------------------------------------------------------- slots


async def test_each_owner_has_a_slot_of_its_own_and_a_slot_that_was_left_is_taken_again(shares: Any) -> None:
    owners = [await shares() for _ in range(3)]
    assert [slots(owner).slot for owner in owners] == [0, 1, 2]
    assert [one.slot for one in (await slots(owners[2]).beat(0)).members] == [0, 1, 2]
    await owners[1].close()
    assert [one.slot for one in (await slots(owners[2]).beat(0)).members] == [0, 2]
    assert slots(await shares()).slot == 1


async def test_owners_that_come_at_the_same_time_get_different_slots(shares: Any) -> None:
    owners = await asyncio.gather(*(shares() for _ in range(6)))
    assert sorted(slots(owner).slot for owner in owners) == list(range(6))


async def test_each_owner_appends_to_a_chain_of_its_own_and_a_guest_to_the_first(shares: Any) -> None:
    owners, guest = [await shares() for _ in range(3)], await shares(owner=False)
    await owners[0].fold(batch("a", "b", "c"))
    before = {head.chain: head.records for head in await guest.audit_heads()}
    for owner, key in zip(owners, "abc", strict=True):
        await settle(owner, settlement(key, audit=(record(key),)))
    assert await guest.record_actions(Change.PAUSE, [action("a")], at_us=7000)
    await settle(owners[0], settlement("b", audit=(record("b", message="again"),)))
    after = {head.chain: head.records for head in await guest.audit_heads()}
    assert [after[slot] - before.get(slot, 0) for slot in range(3)] == [3, 1, 1]
    assert len(await guest.audit()) == 4
    assert len(await guest.actions()) == 1


async def test_a_store_whose_slots_are_all_taken_by_the_living_refuses_and_by_the_dead_is_taken_over(
    on_postgres: Opens,
) -> None:
    shares, brisk = on_postgres, Terms("pod", evict_s=0.6)
    owners = [await shares(terms=brisk) for _ in range(15)]
    last = await shares(terms=brisk)
    await last.fold(batch("d"))
    with pytest.raises(StoreError, match=r"in use by 16 processes \(pod\); end one first"):
        await shares(terms=brisk)
    waiting: asyncio.Future[Any] = asyncio.ensure_future(shares(terms=brisk))
    await asyncio.sleep(0.1)
    await last.close()
    follower = await waiting
    assert slots(follower).slot == 15
    assert "d" in await follower.hold(["d"])
    for owner in [*owners, follower]:  # stopped, or cut off, all at once
        owner._slot._leaving.set()
        await owner._slot._living
    survivor = await shares(terms=brisk)
    assert slots(survivor).slot == 0
    with pytest.raises(EvictedError):
        await owners[0].fold(batch("e"))


# --------------------------------------------------------------------------------------------------------------- claims


async def test_a_document_goes_to_one_owner_and_is_due_for_no_other(shares: Any) -> None:
    one, two = await shares(), await shares()
    await one.fold(batch("d", "e", at_us=1000))
    mine, yours = await asyncio.gather(one.hold(["d", "e", "f"]), two.hold(["e", "d"]))
    assert len(mine) + len(yours) == 2
    holder, other = (one, two) if mine else (two, one)
    assert await other.hold(["d", "e"]) == {}
    assert (await other.due(9000, 9), await other.next_due_us()) == ([], None)
    assert await holder.due(9000, 9) == [Due("d", Lane.EVENT, 1000), Due("e", Lane.EVENT, 1000)]
    assert await holder.hold(["d", "e"]) == await holder.documents(["d", "e"]), "the answer may have been lost"
    await holder.give_back(["d"])
    assert await other.due(9000, 9) == [Due("d", Lane.EVENT, 1000)]
    assert set(await other.hold(["d", "e"])) == {"d"}


async def test_who_does_not_have_a_document_stores_nothing_for_it_and_its_group_goes_on(shares: Any) -> None:
    one, two = await shares(), await shares()
    await one.fold(batch("d", "e", "f"))
    await slots(two).take_duties(ALL)
    await one.hold(["d"])
    await two.hold(["e", "f"])
    lost = settlement("d", audit=(record("d"),), outcomes=(outcome("d", 1),), attempts=1)
    results = await asyncio.gather(
        two.settle(settlement("e", audit=(record("e"),))),
        two.settle(lost),
        two.settle(settlement("f", audit=(record("f"),))),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), LostError, type(None)]
    with pytest.raises(LostError, match="'d': another process has it"):
        await two.intend("d", AGREEMENT)
    assert (await row(one)).agreement == Agreement()
    assert {found.document for found in await one.audit()} == {"e", "f"}
    assert await two.waiting(9) == []
    await one.settle(lost)
    with pytest.raises(LostError):
        await one.settle(lost)
    assert (await row(two)).attempts == 1


async def test_a_settled_document_is_anyones_with_what_was_agreed(shares: Any) -> None:
    one, two = await shares(), await shares()
    await one.fold(batch("d"))
    await one.hold(["d"])
    assert await one.intend("d", structs.replace(AGREEMENT, failures=1))
    assert await one.intend("d", structs.replace(AGREEMENT, failures=2))
    assert await two.hold(["d"]) == {}
    await one.settle(settlement(agreement=structs.replace(AGREEMENT, failures=3)))
    assert (await two.hold(["d"]))["d"].agreement.failures == 3
    await two.settle(settlement(agreement=structs.replace(AGREEMENT, failures=4)))
    assert (await row(one)).agreement.failures == 4


async def test_events_and_people_change_a_document_that_an_owner_has(shares: Any) -> None:
    one, two, guest = await shares(), await shares(), await shares(owner=False)
    await one.fold(batch("d"))
    await one.hold(["d"])
    assert (await two.fold(batch(rows={"d": wish("NEW", 2)}, at_us=3000))).keys == ["d"]
    assert await guest.record_actions(Change.PAUSE, [action("d")], at_us=7000)
    assert not await one.intend("d", AGREEMENT), "it is paused"
    await one.settle(settlement())
    found = await row(two)
    assert (found.status, found.desired, found.revision) == (Status.PAUSED, wish("NEW", 2), 3)


async def test_what_was_decided_on_an_agreement_that_was_recovered_meanwhile_is_not_stored(shares: Any) -> None:
    one, two = await shares(), await shares()
    await one.fold(batch("d"))
    await one.hold(["d"])
    assert await one.intend("d", AGREEMENT)
    await two.rebase({"d": Agreement(told=9)}, {}, 5000)
    for deed in (lambda: one.intend("d", AGREEMENT), lambda: one.settle(settlement(audit=(record(),)))):
        with pytest.raises(LostError):
            await deed()
    assert ((await row(one)).agreement, await one.audit()) == (Agreement(told=9), [])
    assert (await one.hold(["d"]))["d"].agreement.told == 9
    await one.settle(settlement())


async def test_a_document_whose_taking_came_late_is_its_owners_to_find(shares: Any) -> None:
    one, two = await shares(), await shares()
    await one.fold(batch("d", at_us=1000))
    await settle(one, settlement(due_us=2000))
    if isinstance(one, SharedStore):
        one.held_late(["d"], back=False)
    else:
        await one._server.fetch("take documents", queries.HOLD, slots(one).slot, one._slot.epoch, [b"d"])
    assert await two.due(9000, 9) == []
    assert await one.due(9000, 9) == [Due("d", Lane.RESYNC, 2000)]
    with pytest.raises(LostError):
        await one.settle(settlement())
    await settle(one, settlement(due_us=3000))
    assert set(await two.hold(["d"])) == {"d"}


# ------------------------------------------------------------------------------------------------------------ evictions


async def test_the_evicted_store_nothing_more_and_what_they_had_is_free(shares: Any) -> None:
    old, new = await shares(), await shares()
    await old.fold(batch("d", "e", positions={P0: 1}))
    assert set(await old.hold(["d", "e"])) == {"d", "e"}
    assert await slots(old).take_duties(ALL) == ALL
    await bury(new, old)
    deeds: list[Callable[[], Coroutine[Any, Any, object]]] = [
        lambda: old.fold(batch(rows={"d": wish("X")}, positions={P0: 2})),
        lambda: old.settle(settlement(audit=(record(),))),
        lambda: old.intend("d", settlement().agreement),
        lambda: old.hold(["d"]),
        lambda: old.requeue(["d"], settlement().lane, 1),
        lambda: old.record_actions(Change.PAUSE, [action()], at_us=1),
        lambda: old.rebase({"d": settlement().agreement}, {}, 1),
        lambda: old.reposition({P0: 9}),
        lambda: old.shared.put_in_force("p", Policy(), 0),
        lambda: slots(old).take_duties(ALL),
        lambda: slots(old).beat(1),
    ]
    for deed in deeds:
        with pytest.raises((EvictedError, LostError)):
            await deed()
    await old.keep_policy("p", Policy())
    await old.give_back(["d"])
    assert await old.waiting(9) == []
    assert (await row(new)).revision == 1
    assert (await new.positions(), await new.audit(), await new.actions()) == ({P0: 1}, [], [])
    assert await new.policy_texts() == {}
    assert set(await new.hold(["d", "e"])) == {"d", "e"}
    assert await slots(new).take_duties(ALL) == ALL
    await old.give_back(["d"])
    await new.settle(settlement(audit=(record(),)))


async def test_a_document_that_is_taken_while_its_owner_is_evicted_is_free_afterwards(
    on_postgres: Opens, postgres_url: str
) -> None:
    one, two = await on_postgres(), await on_postgres()
    await one.fold(batch("d"))
    other = await asyncpg.connect(postgres_url)
    try:
        taking = other.transaction()
        await taking.start()
        await other.fetch(queries.HOLD, slots(two).slot, two._slot.epoch, [b"d"])
        burying = asyncio.create_task(bury(one, two))
        await asyncio.sleep(0.3)
        assert not burying.done(), "it waits for what is under way"
        await taking.commit()
        await burying
    finally:
        await other.close()
    assert set(await one.hold(["d"])) == {"d"}


async def test_who_leaves_frees_all_at_once(shares: Any) -> None:
    one, two = await shares(), await shares()
    await one.fold(batch("d"))
    await one.hold(["d"])
    await slots(one).take_duties(ALL)
    await one.close()
    assert set(await two.hold(["d"])) == {"d"}
    assert await slots(two).take_duties(ALL) == ALL


async def test_who_leaves_with_requests_in_flight_frees_all_but_its_share_of_them(shares: Any) -> None:
    one, two = await shares(), await shares()
    await one.fold(batch("d"))
    await one.hold(["d"])
    await slots(one).take_duties(ALL)
    await slots(one).leave(in_flight=True)
    await one.close()
    (member,) = [one for one in (await slots(two).beat(0)).members if one.leaving]
    assert set(await two.hold(["d"])) == {"d"}
    assert await slots(two).take_duties(ALL) == ALL
    assert await slots(two).evict(member), "its requests must be over by now"
    assert len((await slots(two).beat(0)).members) == 1


# --------------------------------------------------------------------------------------------------------------- outbox


async def test_messages_of_a_document_stay_in_order_when_its_bucket_goes_to_another_owner(shares: Any) -> None:
    one, two = await shares(), await shares()
    keys = [f"d{number}" for number in range(40)]
    await one.fold(batch(*keys))

    async def tell(number: int) -> None:
        for key in keys:
            await settle(one, settlement(key, outcomes=(outcome(key, number),)))

    await tell(1)
    assert await two.waiting(99) == await one.waiting(99) == []
    assert await slots(one).take_duties(ALL) == ALL
    messages = await one.waiting(99)
    assert len(messages) == 40
    await tell(2)
    assert await slots(one).take_duties(frozenset()) == frozenset()
    assert await slots(two).take_duties(ALL) == frozenset(), "the other one is at it"
    assert await two.waiting(99) == []
    await one.published([message.number for message in messages], {})
    await slots(one).take_duties(frozenset())
    assert await slots(two).take_duties(ALL) == frozenset(), "they would be published again"
    assert await one.waiting(99) == [], "others are to publish what comes after"
    await slots(one).take_duties(frozenset())
    assert await slots(two).take_duties(ALL) == ALL
    assert sorted(await published(two)) == sorted((key, 2) for key in keys)


async def test_owners_divide_the_messages_by_their_duties(shares: Any) -> None:
    one, two = await shares(), await shares()
    keys = [f"d{number}" for number in range(40)]
    await one.fold(batch(*keys))
    half = frozenset(OUTBOX_DUTIES[::2])
    assert await slots(one).take_duties(half) == half
    assert await slots(two).take_duties(ALL) == ALL - half
    for key in keys:
        await settle(one, settlement(key, outcomes=(outcome(key, 1),)))
    mine, yours = await published(one), await published(two)
    assert mine
    assert yours
    assert sorted(mine + yours) == sorted((key, 1) for key in keys)


# ------------------------------------------------------------------------------------------------------------- together


async def test_events_of_a_document_that_several_fold_at_once_are_joined(shares: Any) -> None:
    owners = [await shares() for _ in range(3)]
    keys = [f"d{number}" for number in range(5)]
    said = [
        {key: Desired({f"f{number % 4}": Field(Register(stamp(number), number))}) for key in keys}
        for number in range(30)
    ]
    chance = random.Random(7)
    chance.shuffle(said)

    async def work(number: int) -> None:
        for events in said[number::3]:
            await owners[number].fold(batch(rows=events))

    await asyncio.gather(*(work(number) for number in range(3)))
    for key in keys:
        wanted = said[0][key]
        for events in said[1:]:
            wanted = fold.join(wanted, events[key])
        assert (await row(owners[0], key)).desired == wanted
    assert (await owners[1].counts())[Status.PENDING] == len(keys)
