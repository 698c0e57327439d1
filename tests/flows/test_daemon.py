"""The whole daemon over fakes and a virtual clock: what its loops do together."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import attrs
import pytest
from structlog.testing import capture_logs

from reconciler import config
from reconciler.model.answer import Failed, NotAvailable, Throttled, VersionConflict
from reconciler.model.document import Due, Lane, Status
from reconciler.model.stamp import Partition
from reconciler.ports import Store
from tests import defaults
from tests.fakes.outage import opened
from tests.flows.conftest import MakeWorld
from tests.flows.world import KEY, OPERATORS, World

MISMATCH = VersionConflict(412, "modified by another user")
ONE_ATTEMPT = config.Retry(conflict_attempts_max=1)
NO_RESYNC = config.Resync(interval_s=0)
SIXTEEN = config.Windchill(base_url="https://windchill.example", in_flight_max=16)


def count_calls(store: Any) -> Counter[str]:
    """Count the calls of a store's methods from now on."""
    asked: Counter[str] = Counter()

    def counted(name: str, method: Any) -> Any:
        def call(*given: Any, **more: Any) -> Any:
            asked[name] += 1
            return method(*given, **more)

        return call

    for name in [name for name in dir(Store) if not name.startswith("_")]:
        setattr(store, name, counted(name, getattr(store, name)))
    return asked


async def test_an_event_is_written_as_soon_as_it_is_folded(world: World) -> None:
    async with world.running() as running:
        world.append(world.event({"title": "Cover"}))
        await running.settled()
    assert world.live()["title"] == "Cover"
    assert len(world.broker.records("outcomes")) == 1


async def test_an_idle_daemon_asks_its_store_less_than_once_a_second_and_writes_nothing(world: World) -> None:
    """How much each of these statements may read is in `tests/adapters/test_sqlite.py`."""
    asked = count_calls(world.store)
    world.append(world.event({"title": "Cover"}))
    async with world.running(resync=NO_RESYNC) as running:
        await running.settled()
        await world.clock.advance(60)
        asked.clear()
        await world.clock.advance(600)
        idle = asked.copy()
    assert idle.total() < 600
    assert idle.keys() <= {"waiting", "due", "next_due_us", "counts", "write_stop", "actions"}


async def test_an_ordinary_attempt_is_one_request_one_intent_one_settlement_and_no_line_of_the_log(
    world: World,
) -> None:
    keys = [f"{number:010}" for number in range(20)]
    world.put(*keys)
    async with world.running(resync=NO_RESYNC) as running:
        for title in ("Cover", "Lid"):
            world.windchill.reads = world.windchill.writes = 0
            asked = count_calls(world.store)
            with capture_logs() as logs:
                for key in keys:
                    world.append(world.event({"title": title}, key=key))
                await running.pass_until(lambda asked=asked: asked["settle"] == len(keys), "all are written")
    assert (world.windchill.reads, world.windchill.writes) == (0, len(keys))
    assert (asked["intend"], asked["settle"]) == (len(keys), len(keys))
    assert asked["hold"] < len(keys)  # loaded together
    assert not [line for line in logs if "document" in line and line["log_level"] != "debug"]


async def test_documents_do_not_wait_for_a_worker_so_long_that_each_has_to_be_loaded_again(world: World) -> None:
    keys = [f"{number:010}" for number in range(200)]
    world.put(*keys)
    world.slowed("read", 0.06)
    for key in keys:
        world.append(world.event({"title": "Cover"}, key=key))
    asked = count_calls(world.store)
    async with world.running(resync=NO_RESYNC, windchill=SIXTEEN) as running:
        for _ in range(400):
            await world.clock.advance(0.01)
        await running.pass_until(lambda: asked["settle"] >= len(keys), "all are written")
    assert asked["documents"] < len(keys) / 3


async def test_a_single_event_costs_three_transactions_two_before_it_is_written(world: World) -> None:
    """`published` has none of its own: see `tests/adapters/test_sqlite.py`."""
    async with world.running(resync=NO_RESYNC) as running:
        world.append(world.event({"title": "Cover"}))
        await running.settled()
        await world.clock.advance(1)
        asked = count_calls(world.store)
        world.append(world.event({"title": "Lid"}))
        await running.settled()
        await world.clock.advance(1)
        done = asked.copy()
    assert len(world.broker.records("outcomes")) == 2
    reading = {"waiting", "due", "next_due_us", "counts", "hold", "write_stop"}
    assert {name: count for name, count in done.items() if name not in reading} == {
        "fold": 1,
        "intend": 1,
        "settle": 1,
        "published": 1,
    }


async def test_an_idle_daemon_waits_for_events_all_the_time(world: World) -> None:
    fetch, waited = world.log.fetch, []

    async def fetched(*given: Any) -> Any:
        began_s = world.clock.monotonic_s()
        records = await fetch(*given)
        waited.append((began_s, world.clock.monotonic_s()))
        return records

    setattr(world.log, "fetch", fetched)  # noqa: B010  a method, as type checkers see it
    async with world.running():
        await world.clock.advance(60)
        assert len(waited) <= 60
        assert [after[0] - before[1] for before, after in pairwise(waited)] == [0.0] * (len(waited) - 1)


async def test_once_waits_for_a_first_batch_that_is_still_being_folded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = world.store.fold

    async def slowly(batch: Any) -> Any:
        await world.clock.sleep(5)
        return await fold(batch)

    monkeypatch.setattr(world.store, "fold", slowly)
    world.append(world.event({"title": "Cover"}, time="2026-11-22T10:00:00.000000Z"))
    async with world.running(once=True) as running:
        await running.pass_until(running.task.done, "the one pass is over", 60)
        assert running.task.result().settled
    assert world.live()["title"] == "Cover"


async def test_a_backlog_is_folded_to_its_end_before_anything_is_written(world: World) -> None:
    for number in range(12_000):
        world.append(world.event({"title": f"title {number}"}, time=f"2026-11-22T10:00:01.{number:06}Z"))
    async with world.running() as running:
        await running.settled()
    assert world.windchill.writes == 1
    assert world.live()["title"] == "title 11999"


async def test_the_newest_intent_wins_when_it_comes_while_an_attempt_is_under_way(world: World) -> None:
    under_way = world.slowed("write", 10)
    async with world.running() as running:
        world.append(world.event({"title": "Cover"}))
        await running.pass_until(under_way.is_set, "the first write is under way")
        world.append(world.event({"title": "Lid"}))
        await running.pass_until(lambda: world.document().revision == 2, "the second event is folded")
        assert world.live()["title"] == "Bracket"
        await running.pass_until(lambda: world.live()["title"] == "Lid", "the newest intent is written")
        await running.settled()
    assert [dict(entry.fields) for entry in world.windchill.history] == [{"title": "Cover"}, {"title": "Lid"}]


async def test_events_do_not_shorten_a_cool_down(make_world: MakeWorld) -> None:
    world = make_world(pace=defaults.pace(conflict_attempts_max=1))
    world.windchill.script_writes(MISMATCH)
    async with world.running(retry=ONE_ATTEMPT) as running:
        world.append(world.event({"title": "Cover"}))
        await running.settled(KEY, Status.CONTENDED)
        for number in range(10):
            await world.clock.advance(2)
            world.append(world.event({"title": f"Lid {number}"}))
        await world.clock.advance(2)
        assert world.windchill.writes == 1
        assert await running.pass_until(lambda: world.live()["title"] == "Lid 9", "the cool-down is over") > 20


async def test_an_event_during_the_attempt_does_not_undo_the_cool_down_either(world: World) -> None:
    """Else a document with an event a second and a rival would be written to without any wait at all."""
    under_way = world.slowed("write", 5)
    world.windchill.script_writes(MISMATCH)
    async with world.running(retry=ONE_ATTEMPT) as running:
        world.append(world.event({"title": "Cover"}))
        await running.pass_until(under_way.is_set, "the first write is under way")
        world.append(world.event({"title": "Lid"}))
        await running.pass_until(lambda: world.document().revision == 2, "the second event is folded")
        await running.settled(KEY, Status.CONTENDED)
        assert await running.pass_until(lambda: world.live()["title"] == "Lid", "the cool-down is over") > 45


async def test_an_operator_does_not_wait_for_a_cool_down(world: World) -> None:
    world.windchill.script_writes(MISMATCH)
    async with world.running(retry=ONE_ATTEMPT) as running:
        world.append(world.event({"title": "Cover"}))
        await running.settled(KEY, Status.CONTENDED)
        world.append(world.event({"title": "Lid"}, source=OPERATORS, actor="boss"))
        assert await running.pass_until(lambda: world.live()["title"] == "Lid", "the operator is heard") < 5


async def test_maintenance_folds_and_asks_nothing_of_windchill(world: World) -> None:
    async with world.running(windchill=config.Windchill(maintenance=True)) as running:
        world.append(world.event({"title": "Cover"}))
        await running.settled(KEY, Status.PENDING)
        await world.clock.advance(100)
        assert (world.windchill.reads, world.windchill.writes) == (0, 0)
    async with world.running() as running:
        await running.settled()
    assert world.live()["title"] == "Cover"


async def test_a_threshold_stops_a_mass_overwrite_before_the_offending_write(world: World) -> None:
    keys = [f"d{number}" for number in range(6)]
    world.put(*keys)
    async with world.running(resync=config.Resync(interval_s=60, writes_max_per_window=2, window_s=3600)) as running:
        await world.clock.advance(1)
        for key in keys:
            world.append(world.event({"status": "RELEASED"}, key=key))
        for key in keys:
            await running.settled(key)
        for key in keys:
            world.windchill.edit(key, {"status": "INWORK"})
        for key in keys:
            await running.pass_until(
                lambda key=key: world.live(key)["status"] == "RELEASED" or world.document(key).status is Status.PARKED,
                f"{key} is compared again",
            )
        parked = [key for key in keys if world.document(key).status is Status.PARKED]
        assert len(parked) == 4
        assert all("writes_max_per_window" in world.document(key).reason for key in parked)
        await world.clock.advance(1000)
        assert [key for key in keys if world.live(key)["status"] == "INWORK"] == parked
        await world.store.requeue(parked, Lane.OPERATOR, world.clock.now_us())
        for key in parked:
            await running.settled(key)
        assert [key for key in keys if world.live(key)["status"] == "INWORK"] == []


async def test_the_interval_grows_while_nothing_moves_and_starts_over_after_drift(world: World) -> None:
    async with world.running(resync=config.Resync(interval_s=60)) as running:
        world.append(world.event({"status": "RELEASED"}))
        await running.settled()
        waits = []
        for _ in range(5):
            reads = world.windchill.reads
            waits.append(await running.pass_until(lambda reads=reads: world.windchill.reads > reads, "it is compared"))
        for wait_s, most in zip(waits, (1, 2, 4, 6, 6), strict=True):
            assert 0.9 * 60 * most - 2 <= wait_s <= 1.1 * 60 * most + 2
        world.windchill.edit(KEY, {"status": "INWORK"})
        await running.pass_until(lambda: world.live()["status"] == "RELEASED", "the drift is put right")
        assert world.document().agreement.stable == 0
        assert world.windchill.writes == 2


async def test_one_throttled_request_slows_everyone_down(world: World) -> None:
    keys = [f"d{number}" for number in range(20)]
    world.put(*keys)
    world.windchill.script_reads(*[Throttled(429, "slow down", 60.0)] * 16)
    async with world.running(resync=NO_RESYNC) as running:
        await world.clock.advance(1)
        for key in keys:
            world.append(world.event({"title": "Cover"}, key=key))
        await running.pass_until(lambda: world.windchill.reads > 0, "someone was told to slow down")
        await world.clock.advance(50)
        assert world.windchill.reads <= 16
        for key in keys:
            await running.settled(key)
    assert all(world.live(key)["title"] == "Cover" for key in keys)


async def test_a_document_that_is_not_due_is_not_looked_at_for_an_old_offer(world: World) -> None:
    """An offer may be older than the attempt that satisfied it; it would cost a request that no one needs."""
    async with world.running(resync=NO_RESYNC) as running:
        world.append(world.event({"title": "Cover"}))
        await running.settled()
        asked = world.windchill.reads
        running.daemon.reconciler.offer(Due(KEY, Lane.EVENT, world.clock.now_us()))
        await world.clock.advance(10)
        assert (world.windchill.reads, world.windchill.writes) == (asked, 1)


async def test_many_documents_in_trouble_all_come_through_a_spent_retry_quota(world: World) -> None:
    keys = [f"d{number:03}" for number in range(300)]
    world.put(*keys)
    for key in keys[::2]:  # more than the quota has saved up
        world.windchill.script_reads(Failed("500"), key=key)
    async with world.running(resync=NO_RESYNC) as running:
        await world.clock.advance(1)
        for key in keys:
            world.append(world.event({"title": "Cover"}, key=key))
        await running.pass_until(
            lambda: all(key in world.store.rows and world.document(key).status is Status.SYNCED for key in keys),
            "all of them are synced",
            300,
        )
    assert all(world.live(key)["title"] == "Cover" for key in keys)


async def test_a_parked_document_is_tried_again_when_an_event_comes(world: World) -> None:
    world.windchill.refusals[KEY] = NotAvailable(404, "there is no such document")
    async with world.running() as running:
        world.append(world.event({"title": "Cover"}))
        await running.settled(KEY, Status.PARKED)
        del world.windchill.refusals[KEY]
        world.append(world.event({"title": "Lid"}))
        assert await running.pass_until(lambda: world.live()["title"] == "Lid", "the event is heard") < 10


@pytest.mark.parametrize("trouble", [Throttled(503, "maintenance tonight", 600.0), Failed("no connection")])
async def test_a_stop_does_not_wait_for_a_windchill_that_is_away(
    world: World, trouble: Throttled | Failed, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> Throttled | Failed:
        return trouble

    monkeypatch.setattr(world.windchill, "read", away)
    async with world.running(resync=NO_RESYNC) as running:
        await world.clock.advance(1)
        for number in range(40):
            world.append(world.event({"title": "Cover"}, key=f"d{number}"))
        breaker = running.daemon._progress._breaker
        await running.pass_until(lambda: breaker.away, "all wait until Windchill is to be asked again")
        summary = await running.ended(within_s=5)
    assert summary.counts[Status.PENDING] == 40
    assert all(world.document(f"d{number}").due_us is not None for number in range(40))


@attrs.define(eq=False)
class Membership:
    """A consumer group with one member, which is told when it has left."""

    assigned: frozenset[Partition] = frozenset()
    changed: asyncio.Event = attrs.field(factory=asyncio.Event)
    left: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def run(self, positions: Callable[[], Mapping[Partition, int]]) -> None:
        await self.left.wait()

    def stop(self) -> None:
        self.left.set()


async def test_a_stop_leaves_the_group_before_the_last_request_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else nobody reads our partitions for as long as a slow Windchill takes to answer."""
    membership, answered, write = Membership(), asyncio.Event(), world.windchill.write

    async def slow(*given: Any, **named: Any) -> Any:
        await answered.wait()
        return await write(*given, **named)

    monkeypatch.setattr(world.windchill, "write", slow)
    async with world.running(resync=NO_RESYNC, group=membership) as running:
        world.append(world.event({"title": "Cover"}))
        await running.pass_until(
            lambda: KEY in world.store.rows and world.document().agreement.intent is not None, "a request is under way"
        )
        running.stop.set()
        await running.pass_until(membership.left.is_set, "we have left the group", within_s=5)
        answered.set()
    assert world.live()["title"] == "Cover"


async def test_what_the_log_asked_for_before_a_pause_is_not_written_after_it(world: World) -> None:
    async with world.running(resync=NO_RESYNC) as running:
        world.append(world.event({"status": "INREVIEW"}))
        await running.settled()
        opened(running.daemon._progress._breaker, world.clock.monotonic_s())
        world.append(world.event({"status": "RELEASED"}))
        await running.pass_until(lambda: world.document().status is Status.PENDING, "it is folded")
        await world.clock.advance(1)
        world.append(world.event({"status": "CANCELLED"}))
        await running.settled()
    assert [accepted.fields for accepted in world.windchill.history if accepted.key == KEY][-2:] == [
        {"status": "INREVIEW"},
        {"status": "CANCELLED"},
    ]
