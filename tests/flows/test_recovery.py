"""Recovery at start: whatever became of the store, the logs give back what was agreed before anything is written."""

import asyncio
import contextlib
import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from reconciler.core.events.outcomes import OutcomeType
from reconciler.errors import LogTruncatedError, StoreError
from reconciler.flows import recovery
from reconciler.flows.outbox import Publisher
from reconciler.flows.recovery import Bases
from reconciler.model.document import Agreement, Lane, Status
from reconciler.model.event import Outgoing, Record
from reconciler.model.policy import Rule, Strategy
from reconciler.model.stamp import Partition
from tests.fakes.memory_log import MemoryLog
from tests.fakes.memory_store import MemoryStore
from tests.flows.conftest import MakeWorld
from tests.flows.world import BODY, KEY, OUTCOMES, TOPIC, World, policy

PLACE = Partition(OUTCOMES, 0)


async def said(world: World, **fields: object) -> None:
    """Append an event; the daemon is to fold it."""
    await world.clock.advance(1)
    world.append(world.event(fields))


async def run(world: World, **given: bool) -> int:
    """Run the daemon until everything is settled and told; return how many writes that took."""
    writes = world.windchill.writes
    async with world.running(**given) as running:
        store, daemon = world.store, running.daemon

        def done() -> bool:
            settled = all(row.status in (Status.SYNCED, Status.HELD) for row in store.rows.values())
            return daemon._writable.is_set() and settled and daemon.reconciler.idle and not store.outbox

        await running.pass_until(done, "everything is settled and told")
    return world.windchill.writes - writes


async def said_and_run(world: World, **fields: object) -> int:
    await said(world, **fields)
    return await run(world)


async def agree_and_let_a_user_edit(world: World) -> None:
    """The log wants one owner, a user has set another, and the reconciler has seen both."""
    assert await said_and_run(world, owner="akim", title="Cover") == 1
    await world.edit({"owner": "jdoe"})
    await world.store.requeue([KEY], Lane.OPERATOR, world.clock.now_us())
    assert await run(world) == 0


async def test_a_lost_store_costs_no_write_and_no_users_edit(world: World) -> None:
    await agree_and_let_a_user_edit(world)
    agreed = world.document().agreement
    assert agreed.base.fields["owner"].value == "jdoe"
    world.store = MemoryStore()
    assert await run(world) == 0
    assert world.live()["owner"] == "jdoe"
    recovered = world.document().agreement
    assert (recovered.base, recovered.told) == (agreed.base, agreed.told)


LARGE, LIMIT = "Cover " * 500, 2_500


async def test_an_outcome_that_is_too_large_still_tells_what_was_agreed(world: World) -> None:
    world.broker.record_bytes_max = LIMIT
    assert await said_and_run(world, owner="akim", title=LARGE) == 1
    agreed = world.document().agreement
    assert len(json.dumps({**agreed.base.fields})) > LIMIT
    (record,) = world.broker.records(OUTCOMES)
    told = json.loads(record.value or b"")["data"]
    assert (told["base"]["owner"]["value"], told["base"]["title"]["value"]) == ("akim", None)
    assert told["digests"]["base"].keys() == told["digests"]["written"].keys() == {"title"}
    world.store = MemoryStore()
    assert await run(world) == 0
    assert world.document().agreement.base.fields == agreed.base.fields, "its value is what is there"


async def test_an_edit_of_what_is_known_by_its_digest_is_seen_as_one(world: World) -> None:
    world.broker.record_bytes_max = LIMIT
    await said_and_run(world, owner="akim", title=LARGE)
    world.store = MemoryStore()
    await world.edit({"title": "Lid"})
    assert await said_and_run(world, title="Plate") == 0
    assert world.live()["title"] == "Lid"
    (row,) = await world.store.conflicts()
    assert (row.conflict.field, row.conflict.live, row.conflict.has_base) == ("title", "Lid", False)
    world.store = MemoryStore()  # what is still not known is told again, as its digest
    assert await run(world) == 0
    assert world.live()["title"] == "Lid"
    assert [row.conflict.field for row in await world.store.conflicts()] == ["title"]


async def test_an_older_copy_of_the_store_takes_over_what_was_agreed_since(world: World) -> None:
    """By its own base it would call our last write a user's edit."""
    await said_and_run(world, owner="akim", title="Cover")
    older = copy.deepcopy(world.store)
    assert await said_and_run(world, owner="lchen") == 1
    world.store = older
    assert await said_and_run(world, owner="mroth") == 1
    assert world.live()["owner"] == "mroth", "no one but us had written lchen"


async def test_an_older_copy_closes_what_was_settled_since_at_the_next_comparison(make_world: MakeWorld) -> None:
    world = make_world(policy(Rule(("title",), Strategy.HOLD)))
    await said_and_run(world, title="Cover")
    await world.edit({"title": "Lid"})
    await world.store.requeue([KEY], Lane.OPERATOR, world.clock.now_us())
    await run(world)
    older = copy.deepcopy(world.store)
    assert len(await older.conflicts()) == 1
    await world.edit({"title": "Cover"})
    await world.store.requeue([KEY], Lane.OPERATOR, world.clock.now_us())
    await run(world)
    assert await world.store.conflicts() == []
    world.store = older
    async with world.running() as running:
        await running.pass_until(lambda: older.rows[KEY].status is Status.SYNCED, "the conflict is no more")
    assert await older.conflicts() == []


async def test_what_was_taken_note_of_is_not_read_again(world: World) -> None:
    await said_and_run(world, title="Cover")
    end = world.broker.at(PLACE).end
    assert (await world.store.positions())[PLACE] == end > 0
    world.broker.forget_before(PLACE, end)
    assert await run(world) == 0


async def test_outcomes_that_are_gone_before_they_were_read_stop_it_until_a_person_decides(world: World) -> None:
    await agree_and_let_a_user_edit(world)
    world.store = MemoryStore()
    world.broker.forget_before(PLACE, world.broker.at(PLACE).end)
    log, stop = MemoryLog(world.broker, OUTCOMES), asyncio.Event()
    with pytest.raises(LogTruncatedError):
        await world.run(recovery.recover(log, world.store, world.clock, stop))
    assert await world.store.positions() == {}
    assert await world.run(recovery.recover(log, world.store, world.clock, stop, accept_truncation=True)) == 0
    await world.run(recovery.recover(log, world.store, world.clock, stop))


async def test_nothing_is_written_by_a_daemon_that_is_stopped_before_it_knows_what_was_agreed(world: World) -> None:
    await agree_and_let_a_user_edit(world)
    await said(world, title="Lid")
    world.store = MemoryStore()
    writes = world.windchill.writes
    async with world.running() as running:
        running.stop.set()
    assert world.windchill.writes == writes
    assert world.store.rows == {}


async def test_a_log_whose_records_are_gone_stops_the_daemon_until_a_person_decides(world: World) -> None:
    for title in ("one", "two", "three"):
        await said(world, title=title)
    place = Partition(TOPIC, 0)
    world.broker.forget_before(place, 2)
    with pytest.raises(LogTruncatedError):
        await run(world)
    assert await run(world, accept_truncation=True) == 1
    assert world.live()["title"] == "three"
    assert await run(world) == 0
    assert (await world.store.positions())[place] == 3


async def test_going_on_without_lost_records_does_not_hide_that_another_log_was_replaced(world: World) -> None:
    """Of the log that has lost nothing, the record read last stays known."""
    assert await said_and_run(world, title="one") == 1
    assert await run(world, accept_truncation=True) == 0  # as after a loss in another partition
    own = world.broker.at(Partition(TOPIC, 0))
    own.records, own.begin, own.end = [], 0, 0
    await said(world, title="two")
    await said(world, title="three")
    with pytest.raises(LogTruncatedError, match="replaced"):
        await run(world)


async def test_a_store_that_is_behind_writes_nothing_before_it_has_seen_the_whole_log(world: World) -> None:
    """However long a partition can't be read: what is folded so far may ask for values that were replaced long ago."""
    await said_and_run(world, title="old")
    await said_and_run(world, title="new")
    world.store = MemoryStore()
    writes, sleeping = world.windchill.writes, asyncio.Event()

    class Stuck(MemoryLog):
        async def fetch(self, records_max: int, timeout_s: float) -> Sequence[Record]:
            if self._positions[Partition(TOPIC, 0)] < 1:
                return await super().fetch(1, timeout_s)
            await world.clock.wait(sleeping, timeout_s)
            return ()

    world.log = Stuck(world.broker, TOPIC)
    async with world.running() as running:
        await running.pass_until(lambda: KEY in world.store.rows, "the first event is folded")
        await world.clock.advance(600)
        assert world.windchill.writes == writes


# ------------------------------------------------------------------------------------------------- how much at a time


class Watched(MemoryStore):
    """A store that notes how many agreements it is given at a time, and may die before it takes some."""

    def __init__(self, dies_at: int | None = None) -> None:
        super().__init__()
        self.given: list[int] = []
        self.dies_at = dies_at

    async def rebase(self, agreements: Mapping[str, Agreement], *where: Any, **more: Any) -> None:
        if len(self.given) == self.dies_at:
            raise StoreError("the disk is gone")
        if agreements:
            self.given.append(len(agreements))
        await super().rebase(agreements, *where, **more)


async def told(world: World, keys: Sequence[str]) -> int:
    """Let an outcome be told of each; return how many bytes the longest takes."""
    for key in keys:
        if key not in world.windchill._versions:
            world.windchill.put(key, BODY)
        await world.emit({"title": f"title {world.clock.now_us()}"}, key=key)
        await world.settle(key)
    while await Publisher(world.store, world.log, world.clock, world.woken).publish():
        pass
    return max(len(record.value or b"") for record in world.broker.records(OUTCOMES))


async def recovered(world: World, store: MemoryStore, topic: str = OUTCOMES) -> int:
    log = MemoryLog(world.broker, topic)
    return await world.run(recovery.recover(log, store, world.clock, asyncio.Event()))


async def test_the_offsets_that_lines_of_an_archive_name_are_noted(world: World) -> None:
    await told(world, ["a"])
    bases = Bases(MemoryStore(), world.clock)
    for offset in (7, 9):
        (record,) = world.broker.records(OUTCOMES)
        place = {"kafkatopic": OUTCOMES, "kafkapartition": 0, "kafkaoffset": offset}
        bases.see(record._replace(value=json.dumps(json.loads(record.value or b"") | place).encode()))
    assert bases.spans == {PLACE: (7, 10)}


async def test_what_was_read_is_stored_before_it_takes_more_memory_than_it_may(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"{number:03}" for number in range(31)]
    longest = await told(world, keys)
    monkeypatch.setattr(recovery, "_BYTES_MAX", 7 * longest)
    monkeypatch.setattr(recovery, "_BATCH", 2)
    store = Watched()
    assert await recovered(world, store) == len(keys)
    assert {key: store.rows[key].agreement.base for key in keys} == {
        key: world.store.rows[key].agreement.base for key in keys
    }
    assert store.given == [8, 8, 8, 7], "as soon as it is too much, and not after every further record"


async def test_what_a_later_outcome_replaces_takes_no_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    longest = await told(world, [KEY, "001", *[KEY] * 20])
    monkeypatch.setattr(recovery, "_BYTES_MAX", 3 * longest)
    monkeypatch.setattr(recovery, "_BATCH", 2)
    store = Watched()
    assert await recovered(world, store) == 2
    assert store.given == [2]
    assert store.rows[KEY].agreement.base == world.document().agreement.base


async def test_a_transaction_holds_only_so_many_documents(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await told(world, [f"{number:03}" for number in range(7)])
    monkeypatch.setattr(recovery, "_CHUNK", 3)
    store = Watched()
    assert await recovered(world, store) == 7
    assert store.given == [3, 3, 1]


def one_each(record: Record, sizes: Sequence[int]) -> list[Record]:
    """An outcome of so many bytes for each of so many documents, made of one that was told."""
    outcome = json.loads(record.value or b"")
    records = []
    for number, size in enumerate(sizes):
        bare = json.dumps(outcome | {"subject": f"{number:04}", "note": ""}).encode()
        value = json.dumps(outcome | {"subject": f"{number:04}", "note": "x" * (size - len(bare))}).encode()
        records.append(record._replace(value=value))
    return records


async def test_outcomes_take_64_mib_of_memory_at_most_before_they_are_stored(world: World) -> None:
    mib = 1024 * 1024
    bases = Bases(MemoryStore(), world.clock)
    await told(world, ["a"])
    (record,) = world.broker.records(OUTCOMES)
    for one in one_each(record, [8 * mib] * 7 + [8 * mib - 1]):
        bases.see(one)
        assert not bases.full
    for one in one_each(record, [8 * mib + 1]):  # it takes the place of one that has a byte less
        bases.see(one)
    assert bases.full


async def test_a_transaction_holds_a_thousand_documents(world: World) -> None:
    store = Watched()
    bases = Bases(store, world.clock)
    await told(world, ["a"])
    (record,) = world.broker.records(OUTCOMES)
    for one in one_each(record, [2000] * 2001):
        bases.see(one)
    await world.run(bases.store({}))
    assert store.given == [1000, 1000, 1]


@pytest.mark.parametrize("dies_at", range(5))
async def test_a_recovery_that_dies_between_two_transactions_is_taken_up_again(
    world: World, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    """How far the log was read is stored after what was read there."""
    keys = [f"{number:03}" for number in range(9)]
    longest = await told(world, keys)
    monkeypatch.setattr(recovery, "_BYTES_MAX", 3 * longest)
    monkeypatch.setattr(recovery, "_BATCH", 2)
    monkeypatch.setattr(recovery, "_CHUNK", 3)
    store = Watched(dies_at)
    with contextlib.suppress(StoreError):
        await recovered(world, store)
    store.dies_at = None
    await recovered(world, store)
    assert {key: row.agreement.base for key, row in store.rows.items()} == {
        key: world.store.rows[key].agreement.base for key in keys
    }


async def test_what_the_store_knows_already_is_not_taken_again(world: World) -> None:
    await told(world, [KEY, "001"])
    store = Watched()
    assert await recovered(world, store) == 2
    store.offsets.clear()
    assert await recovered(world, store) == 0
    await told(world, ["001"])
    store.offsets.clear()
    assert await recovered(world, store) == 1


async def test_what_only_mentions_an_outcome_or_can_not_be_read_is_passed_over(world: World) -> None:
    await told(world, [KEY])
    (outcome,) = world.outcomes("reconciled")
    kind = OutcomeType.RECONCILED.value
    bases: tuple[object, ...] = (None, [], {"title": 5})
    broken = [outcome | {"subject": "002", "data": outcome["data"] | {"base": base}} for base in bases]
    others = [b"", b"[]", kind.encode(), f'{{"type": "{kind}"'.encode(), f'{{"note": "{kind}"}}'.encode()]
    place = Partition("strange", 0)
    for value in (None, *others, *[json.dumps(one).encode() for one in (*broken, outcome)]):
        world.broker.put(Outgoing(place.topic, b"001", value))
    store = Watched()
    assert await recovered(world, store, place.topic) == 1
    assert store.rows.keys() == {KEY}
    assert store.offsets[place] == world.broker.at(place).end, "they are not read again"
