"""What every store promises of the stop of all writes (`reconciler/ports/write_stops.py`)."""

import asyncio
from pathlib import Path
from typing import Any

from reconciler.model.action import Change
from reconciler.model.policy import Policy
from reconciler.model.standing import WriteStop
from reconciler.ports import Store
from tests.checks import opened
from tests.contracts.test_actions import AT_US, action
from tests.contracts.test_store import AGREEMENT, batch, record, settle, settlement

POLICY = "f" * 64


async def stop(store: Store, reason: str = "wrong prices") -> bool:
    done = action("", kind="stop-writes", document="", details={"reason": reason})
    return await store.record_actions(Change.STOP_WRITES, [done], at_us=AT_US)


async def resume(store: Store) -> bool:
    done = action("", kind="resume-writes", document="", details={})
    return await store.record_actions(Change.RESUME_WRITES, [done], at_us=AT_US)


async def begins(store: Store, key: str = "d") -> bool:
    """Whether a write of a document may begin."""
    await store.hold([key])
    return await store.intend(key, AGREEMENT, POLICY if store.shared is None else await in_force(store))


async def in_force(store: Store) -> str:
    assert store.shared is not None
    chosen = await store.shared.in_force()
    if chosen is None:
        assert await store.shared.put_in_force(POLICY, Policy(), 0)
    return POLICY


async def test_no_write_begins_while_writes_are_stopped_and_its_intent_is_stored(store: Store) -> None:
    await store.fold(batch("d", "e"))
    assert await store.write_stop() is None
    assert await begins(store)
    assert await stop(store)
    assert await store.write_stop() == WriteStop(1, AT_US, "jdoe", "wrong prices")
    assert not await begins(store, "e")
    assert (await store.documents(["e"]))["e"].agreement == AGREEMENT
    assert await store.intend("e", AGREEMENT), "what goes on with a write that has begun is not refused"
    assert await resume(store)
    assert await store.write_stop() is None
    assert await begins(store)


async def test_attempts_end_and_events_are_folded_while_writes_are_stopped(store: Store) -> None:
    await store.fold(batch("d"))
    await stop(store)
    await settle(store, settlement("d", audit=(record("d"),)))
    await store.fold(batch("e"))
    assert [one.key for one in await store.list_documents(None, "", 10)] == ["d", "e"]


async def test_writes_are_stopped_once_and_resumed_once_and_each_is_recorded(store: Store) -> None:
    assert not await resume(store)
    assert await stop(store)
    assert not await stop(store, "again")
    assert await resume(store)
    assert not await resume(store)
    assert await stop(store, "second")
    assert await store.write_stop() == WriteStop(3, AT_US, "jdoe", "second")
    kinds = [one.kind for one in await store.actions()]
    assert kinds == ["stop-writes", "resume-writes", "stop-writes"]


async def test_of_several_who_stop_writes_at_once_one_does(store: Store) -> None:
    assert sum(await asyncio.gather(*(stop(store, str(number)) for number in range(5)))) == 1
    assert len(await store.actions()) == 1


async def test_an_owner_obeys_the_stop_that_it_names_and_no_later_one(store: Store) -> None:
    async def writing() -> list[bool]:
        found = await store.write_stop()
        assert found is not None
        return [one.writes_despite(found) for one in await store.replicas()]

    await stop(store)
    assert await writing() == [True]
    await store.obey_stop(1)
    assert await writing() == [False]
    await resume(store)
    await stop(store)
    assert await writing() == [True]


async def test_a_stop_outlives_its_store_s_owner_and_guests_see_who_obeys_it(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    async with opened(path, owner=True) as owner, opened(path) as guest:
        await owner.fold(batch("d"))
        assert await stop(guest)
        assert not await begins(owner)
        (one,) = await guest.replicas()
        assert one.name.startswith("process ")
        assert one.obeys_stop == 0
        await owner.obey_stop(1)
        assert [one.obeys_stop for one in await guest.replicas()] == [1]
    async with opened(path) as guest:
        assert await guest.replicas() == []
    async with opened(path, owner=True) as owner:
        assert (await owner.write_stop()) is not None
        assert not await begins(owner)


async def test_a_stop_holds_for_every_replica_and_a_newcomer_has_to_obey_it_anew(shares: Any) -> None:
    one, other, guest = await shares(), await shares(), await shares(owner=False)
    await one.fold(batch("d", "e"))
    assert await begins(one, "d")
    assert await stop(guest)
    assert not await begins(one, "d")
    assert not await begins(other, "e")
    await one.obey_stop(1)
    await other.obey_stop(1)
    found = await guest.write_stop()
    assert [replica.writes_despite(found) for replica in await guest.replicas()] == [False, False]
    await other.close()
    await shares()
    assert [replica.writes_despite(found) for replica in await guest.replicas()] == [False, True]
    assert await resume(one)
    assert await begins(one, "d")
