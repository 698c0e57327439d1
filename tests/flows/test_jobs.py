"""Jobs over fakes: comparing everything and folding everything again, beside the daemon's own work."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from reconciler import config
from reconciler.core.decode import Rules
from reconciler.errors import LogError
from reconciler.flows import jobs, replay
from reconciler.flows.recovery import Bases
from reconciler.model.answer import Failed
from reconciler.model.document import Lane, Status
from reconciler.model.event import Outgoing
from reconciler.model.job import Job, JobKind, JobState, NotNow
from reconciler.model.policy import Policy, Rule, Strategy
from reconciler.model.stamp import Partition
from tests.fakes.memory_log import MemoryLog
from tests.fakes.memory_store import MemoryStore
from tests.flows.world import BODY, KEY, OPERATORS, TOPIC, TOPICS

if TYPE_CHECKING:
    from tests.flows.conftest import MakeWorld
    from tests.flows.world import Running, World

NO_RESYNC = config.Resync(interval_s=0)


def begun(running: Running, kind: JobKind) -> str:
    job = running.daemon.jobs.start(kind, "boss")
    assert isinstance(job, Job), job
    assert (job.state, job.by, job.ended_us) == (JobState.RUNNING, "boss", None)
    return job.id


def job_of(running: Running, job_id: str) -> Job:
    job = running.daemon.jobs.find(job_id)
    assert job is not None
    return job


async def over(running: Running, job_id: str) -> Job:
    await running.pass_until(lambda: job_of(running, job_id).state is not JobState.RUNNING, "the job is over")
    return job_of(running, job_id)


async def many(world: World, running: Running, count: int) -> list[str]:
    """So many documents, each settled."""
    keys = [f"d{number:04}" for number in range(count)]
    for key in keys:
        world.windchill.put(key, BODY | {"id": key})
    await world.clock.advance(1)
    for key in keys:
        world.append(world.event({"status": "RELEASED"}, key=key))
    rows = world.store.rows
    await running.pass_until(
        lambda: len(rows) == count and all(row.status is Status.SYNCED for row in rows.values()), "all are synced"
    )
    return keys


async def test_a_resync_finds_what_changed_in_every_document(world: World) -> None:
    async with world.running(resync=NO_RESYNC) as running:
        keys = await many(world, running, 1200)
        for key in keys:
            world.windchill.edit(key, {"status": "INWORK"})
        await world.clock.advance(3600)
        assert all(world.live(key)["status"] == "INWORK" for key in keys), "nothing looks by itself here"
        job = await over(running, begun(running, JobKind.RESYNC))
        assert (job.state, job.done, job.total, job.estimate_s) == (JobState.DONE, 1200, 1200, None)
        assert all(world.live(key)["status"] == "RELEASED" for key in keys)


async def test_its_progress_only_grows_and_tells_how_long_the_rest_takes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running(resync=NO_RESYNC) as running:
        await many(world, running, 1200)
        read = world.windchill.read

        async def slowly(*args: Any, **named: Any) -> Any:
            await world.clock.sleep(1)
            return await read(*args, **named)

        monkeypatch.setattr(world.windchill, "read", slowly)
        job_id, seen = begun(running, JobKind.RESYNC), []

        def ended() -> bool:
            seen.append(job_of(running, job_id))
            return seen[-1].state is not JobState.RUNNING

        await running.pass_until(ended, "it is done")
        done = [job.done for job in seen]
        assert done == sorted(done)
        assert len(set(done)) > 10
        estimates = [job.estimate_s for job in seen if job.estimate_s]
        assert estimates[-1] < estimates[len(estimates) // 2]


async def test_a_cancelled_resync_hastens_no_more_and_leaves_what_is_due(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running(resync=NO_RESYNC) as running:
        keys = await many(world, running, 1500)
        asked: set[str] = set()
        read = world.windchill.read

        async def slowly(key: str, *args: Any, **named: Any) -> Any:
            asked.add(key)
            await world.clock.sleep(5)
            return await read(key, *args, **named)

        monkeypatch.setattr(world.windchill, "read", slowly)
        job_id = begun(running, JobKind.RESYNC)
        await running.pass_until(lambda: job_of(running, job_id).done > 0, "it has begun")
        cancelled = running.daemon.jobs.cancel(job_id, "jdoe")
        assert isinstance(cancelled, Job)
        job = await over(running, job_id)
        assert (job.state, job.message) == (JobState.CANCELLED, "cancelled by jdoe")
        assert 0 < job.done < 500
        await world.clock.advance(3600)
        assert asked == set(keys[:500]), "what was due is looked at all the same, and nothing else"


async def test_a_resync_that_is_cancelled_at_once_makes_nothing_due(world: World) -> None:
    async with world.running(resync=NO_RESYNC) as running:
        await many(world, running, 3)
        before = dict(world.store.rows)
        job_id = begun(running, JobKind.RESYNC)
        assert isinstance(running.daemon.jobs.cancel(job_id, "jdoe"), Job)
        job = await over(running, job_id)
        assert (job.state, job.done, job.message) == (JobState.CANCELLED, 0, "cancelled by jdoe")
        assert world.store.rows == before


async def test_a_resync_touches_no_wait_and_no_lane_that_is_more_urgent(world: World) -> None:
    async with world.running(resync=NO_RESYNC) as running:
        await many(world, running, 2)
        later_us = world.clock.now_us() + 3_600_000_000
        row = world.document("d0000")
        world.store.rows["d0000"] = row = attrs.evolve(row, status=Status.CONTENDED, lane=Lane.RETRY, due_us=later_us)
        await over(running, begun(running, JobKind.RESYNC))
        assert world.document("d0000") == row


async def test_what_a_resync_writes_comes_under_the_write_budget(world: World) -> None:
    async with world.running(resync=config.Resync(interval_s=0, writes_max_per_window=2, window_s=3600)) as running:
        keys = await many(world, running, 6)
        for key in keys:
            world.windchill.edit(key, {"status": "INWORK"})
        job = await over(running, begun(running, JobKind.RESYNC))
        assert (job.state, job.done) == (JobState.DONE, 6)
        parked = [key for key in keys if world.document(key).status is Status.PARKED]
        assert len(parked) == 4
        assert all("writes_max_per_window" in world.document(key).reason for key in parked)


async def test_one_job_of_a_kind_at_a_time_and_another_after_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world.running(resync=NO_RESYNC) as running:
        await many(world, running, 3)
        job_id = begun(running, JobKind.RESYNC)
        again = running.daemon.jobs.start(JobKind.RESYNC, "jdoe")
        assert isinstance(again, NotNow)
        assert "is under way" in again.reason
        other_id = begun(running, JobKind.REPLAY)
        await over(running, job_id)
        await over(running, other_id)
        assert isinstance(running.daemon.jobs.cancel(job_id, "jdoe"), NotNow)
        assert running.daemon.jobs.cancel("nope", "jdoe") is None
        assert (await over(running, begun(running, JobKind.RESYNC))).state is JobState.DONE


async def test_without_documents_and_without_events_both_are_done_at_once(world: World) -> None:
    async with world.running() as running:
        await world.clock.advance(1)
        for kind in (JobKind.RESYNC, JobKind.REPLAY):
            job = await over(running, begun(running, kind))
            assert (job.state, job.done, job.total) == (JobState.DONE, 0, 0)


async def test_in_maintenance_nothing_is_compared_and_nobody_is_promised_it(world: World) -> None:
    async with world.running(windchill=config.Windchill(maintenance=True)) as running:
        refused = running.daemon.jobs.start(JobKind.RESYNC, "boss")
        assert isinstance(refused, NotNow)
        assert "maintenance" in refused.reason
        assert (await over(running, begun(running, JobKind.REPLAY))).state is JobState.DONE


# -------------------------------------------------------------------------------------------------------------- replay


async def test_a_replay_gives_back_what_the_store_has_lost_and_nothing_else(make_world: MakeWorld) -> None:
    world = make_world(partitions=3)
    async with world.running(resync=NO_RESYNC) as running:
        keys = await many(world, running, 20)
        world.broker.put_gap(Partition(TOPIC, 1), 5)
        before, offsets = dict(world.store.rows), dict(world.store.offsets)
        telemetry = running.daemon.telemetry.total("events_total")
        del world.store.rows["d0007"]
        job = await over(running, begun(running, JobKind.REPLAY))
        assert (job.state, job.done, job.total) == (JobState.DONE, 25, 25)
        assert world.document("d0007").desired == before["d0007"].desired
        assert world.document("d0007").lane in (Lane.REPLAY, Lane.RESYNC)
        assert {key: row for key, row in world.store.rows.items() if key != "d0007"} == {
            key: before[key] for key in keys if key != "d0007"
        }
        assert all(world.store.offsets[place] >= offset for place, offset in offsets.items())
        assert running.daemon.telemetry.total("events_total") == telemetry
        await running.settled("d0007")


async def test_an_operators_old_event_is_not_urgent_when_it_is_folded_again(world: World) -> None:
    async with world.running(resync=NO_RESYNC) as running:
        world.append(world.event({"title": "Cover"}, source=OPERATORS, actor="boss"))
        await running.settled()
        del world.store.rows[KEY]
        running.daemon.reconciler.stop()  # so that it is seen where it waits
        await over(running, begun(running, JobKind.REPLAY))
        assert world.document().lane is Lane.REPLAY


async def test_a_replay_makes_no_dead_letter_of_what_another_policy_let_in(world: World) -> None:
    """Neither in the daemon nor by command; a store that has read nothing yet folds by the rules of today."""
    async with world.running(resync=NO_RESYNC) as running:
        keys = await many(world, running, 3)
        before, offsets = dict(world.store.rows), dict(world.store.offsets)
        world.broker.put(Outgoing(TOPIC, b"k", b"not json"))
        narrower = Policy((Rule(("*",), Strategy.EXTERNAL, sources=("//mes/*",)),))
        running.daemon.ingest.decode_by(Rules(policy=narrower))
        await running.pass_until(lambda: bool(world.store.letters), "what can't be used is a dead letter")
        job = await over(running, begun(running, JobKind.REPLAY))
        assert (job.state, job.done) == (JobState.DONE, 4)
        assert [letter.stage for letter in await world.store.dead_letters()] == ["decode"]
        assert {key: world.store.rows[key] for key in keys} == before
    world.store.offsets = offsets
    world.policy = narrower
    world.log = world.make_log()
    await world.run(replay.replay(world.log, world.make_ingest(), Bases(world.store, world.clock)))
    assert len(await world.store.dead_letters()) == 1
    other = MemoryStore()
    world.log = world.make_log()
    await world.run(replay.replay(world.log, world.make_ingest(store=other), Bases(other, world.clock)))
    assert [letter.stage for letter in await other.dead_letters()] == ["policy"] * 3 + ["decode"]


async def test_a_release_that_counted_stays_one_when_a_rule_keeps_its_source_out_later(world: World) -> None:
    """By the time of another policy it was taken; a store that has read nothing yet asks the rules of today."""
    async with world.running(resync=NO_RESYNC) as running:
        world.append(world.event({"title": "Cover"}))
        await running.settled()
        world.append(world.event(type="windchill.document.released.v1") | {"data": {}})
        await running.pass_until(lambda: world.document().desired.released is not None, "the document is released")
        narrower = Policy((Rule(("owner",), Strategy.PRESERVE, sources=("//mes/*",), name="policy[1]"),))
        running.daemon.ingest.decode_by(Rules(policy=narrower, topics=TOPICS))
        before = world.document().desired
        await over(running, begun(running, JobKind.REPLAY))
        assert (world.document().desired, world.store.letters) == (before, {})
        world.append(world.event(type="windchill.document.released.v1", source="//erp/other") | {"data": {}})
        await running.pass_until(lambda: bool(world.store.letters), "the next one is a dead letter")
        assert world.document().desired == before
    world.policy = narrower
    other, world.log = MemoryStore(), world.make_log()
    await world.run(replay.replay(world.log, world.make_ingest(store=other), Bases(other, world.clock)))
    assert [letter.stage for letter in await other.dead_letters()] == ["policy"] * 2
    assert other.rows[KEY].desired.released is None


async def test_two_folds_at_the_same_time_lose_nothing_of_each_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reads a row, joins and writes it: were the other to write in between, what it wrote would be gone."""
    for number in range(10):
        world.append(world.event({f"attributes.A{number}": "old"}))
    desired = world.store.desired

    async def slowly(keys: Any) -> Any:
        found = await desired(keys)
        for _ in range(3):
            await asyncio.sleep(0)
        return found

    monkeypatch.setattr(world.store, "desired", slowly)
    other = world.make_log()
    await world.log.open({Partition(TOPIC, 0): 5})
    await other.open({})
    aside = world.ingest.aside(other)
    ours, theirs = await world.log.fetch(5, 0), await other.fetch(5, 0)
    await asyncio.gather(world.ingest.take(ours), aside.take(theirs))
    assert sorted(world.document().desired.fields) == [f"attributes.A{number}" for number in range(10)]
    assert world.store.offsets == {Partition(TOPIC, 0): 10}


async def test_a_log_whose_beginning_is_gone_fails_honestly(world: World) -> None:
    async with world.running(resync=NO_RESYNC) as running:
        await many(world, running, 5)
        world.broker.forget_before(Partition(TOPIC, 0), 2)
        job = await over(running, begun(running, JobKind.REPLAY))
        assert job.state is JobState.FAILED
        assert "the log holds 2 up to 5" in job.message
        world.append(world.event({"title": "Cover"}))
        await running.settled()


async def test_a_broker_that_is_away_fails_the_replay_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running(resync=NO_RESYNC) as running:
        await many(world, running, 5)

        async def away(*_: Any, **__: Any) -> Any:
            raise LogError("no broker answers")

        monkeypatch.setattr(MemoryLog, "ends", away)
        job = await over(running, begun(running, JobKind.REPLAY))
        assert (job.state, job.message) == (JobState.FAILED, "no broker answers")
        monkeypatch.undo()
        assert (await over(running, begun(running, JobKind.REPLAY))).state is JobState.DONE


async def test_a_replay_is_cancelled_between_two_batches(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_RECORDS", 3)
    monkeypatch.setattr(jobs, "_REST_S", 5.0)
    async with world.running(resync=NO_RESYNC) as running:
        await many(world, running, 30)
        job_id = begun(running, JobKind.REPLAY)
        await running.pass_until(lambda: job_of(running, job_id).done > 5, "it is under way")
        running.daemon.jobs.cancel(job_id, "jdoe")
        job = await over(running, job_id)
        assert (job.state, job.total) == (JobState.CANCELLED, 30)
        assert job.done < 30


# --------------------------------------------------------------------------------------------------- beginning and end


async def test_a_stop_ends_jobs_in_good_order_and_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_RECORDS", 1)
    monkeypatch.setattr(jobs, "_REST_S", 5.0)
    async with world.running(resync=NO_RESYNC) as running:
        await many(world, running, 30)

        async def slowly(*_: Any, **__: Any) -> Any:
            await world.clock.sleep(15)
            return Failed("no connection")

        monkeypatch.setattr(world.windchill, "read", slowly)
        ids = [begun(running, kind) for kind in (JobKind.RESYNC, JobKind.REPLAY)]
        await running.pass_until(lambda: job_of(running, ids[1]).done > 2, "they are under way")
        await running.ended(within_s=60)
        for job_id in ids:
            job = job_of(running, job_id)
            assert (job.state, "start it again" in job.message) == (JobState.CANCELLED, True)
        assert isinstance(running.daemon.jobs.start(JobKind.RESYNC, "boss"), NotNow)


async def test_what_is_caught_up_with_at_the_start_is_a_job_that_nobody_can_cancel(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3000):
        world.append(world.event({"title": f"title {number}"}, time=f"2026-11-22T10:00:01.{number:06}Z"))
    fold = world.store.fold
    tries: list[tuple[Any, ...]] = []

    async def slowly(batch: Any) -> None:
        (job, *_) = running.daemon.jobs.list()
        tries.append((job.kind, job.state, job.total, type(running.daemon.jobs.cancel(job.id, "jdoe"))))
        await world.clock.sleep(5)
        await fold(batch)

    monkeypatch.setattr(world.store, "fold", slowly)
    async with world.running() as running:
        await running.settled()
        assert tries[0] == (JobKind.CATCH_UP, JobState.RUNNING, 3000, NotNow)
        (job,) = running.daemon.jobs.list()
        assert (job.kind, job.state, job.done, job.total) == (JobKind.CATCH_UP, JobState.DONE, 3000, 3000)
        monkeypatch.undo()
    async with world.running() as running:
        await world.clock.advance(2)
        assert running.daemon.jobs.list() == [], "with nothing to be caught up with there is no job"


async def test_only_the_last_jobs_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world.running() as running:
        await world.clock.advance(1)
        ids = []
        for _ in range(60):
            ids.append(begun(running, JobKind.REPLAY))
            await over(running, ids[-1])
        kept = [job.id for job in running.daemon.jobs.list()]
        assert kept == ids[:-51:-1]


async def test_a_letter_that_was_refused_is_not_announced_twice_by_a_replay(world: World) -> None:
    async with world.running() as running:
        world.broker.put(Outgoing(TOPIC, b"k", b"not json"))
        await running.pass_until(lambda: world.store.letters, "it is refused")
        await world.clock.advance(5)
        await over(running, begun(running, JobKind.REPLAY))
        await world.clock.advance(5)
        assert len(world.broker.records("dead-letters")) == 1
