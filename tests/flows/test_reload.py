"""A new policy in the whole daemon, over fakes: what is under way when it comes into force."""

import asyncio
from typing import Any

import pytest

from reconciler import config, factory
from reconciler.config import Config
from reconciler.flows.reload import InForce, PolicySource
from reconciler.model import codec
from reconciler.model.document import Status
from reconciler.model.policy import Policy, Rule, Strategy
from tests.fakes.shared_slots import SharedSlots
from tests.flows.conftest import MakeWorld
from tests.flows.world import KEY, LETTERS, OUTCOMES, TOPIC, Running, World, policy

YIELDS = policy(Rule(("title",), Strategy.PRESERVE, name="title"))
WRITES = policy(Rule(("title",), Strategy.EXTERNAL, name="title"))
LONG_AGO = "2026-11-22T09:00:00Z"  # before anyone touched the document in Windchill


def in_force(rules: Policy) -> InForce:
    log = config.Log(topic=TOPIC, outcomes_topic=OUTCOMES, dead_letter_topic=LETTERS, group="test")
    return factory.in_force(Config(log=log, policy=rules))


async def reload(running: Running, policy_source: PolicySource) -> None:
    """Ask for the policy to be read again, and wait until it is in force: a file is read on a thread, in real time."""
    counted, before = running.daemon.telemetry.total, running.daemon.telemetry.total("policy_reloads_total")
    policy_source.asked.set()
    while counted("policy_reloads_total") == before:  # noqa: ASYNC110  virtual time must not pass meanwhile
        await asyncio.sleep(0.001)


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world(YIELDS)


async def slow_reads(world: World, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    read, under_way = world.windchill.read, asyncio.Event()

    async def slowly(*args: Any) -> Any:
        under_way.set()
        answer = await read(*args)
        await world.clock.sleep(10)
        return answer

    monkeypatch.setattr(world.windchill, "read", slowly)
    return under_way


async def test_what_an_attempt_under_way_settles_by_the_old_policy_is_decided_again_by_the_new_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No interval would bring it back."""
    under_way = await slow_reads(world, monkeypatch)
    policy_source = PolicySource(lambda: in_force(WRITES))
    async with world.running(policy_source=policy_source, resync=config.Resync(interval_s=0)) as running:
        world.append(world.event({"title": "Cover"}, time=LONG_AGO))
        await running.pass_until(under_way.is_set, "the attempt is under way")
        await reload(running, policy_source)
        assert world.document().status is Status.PENDING
        await running.pass_until(lambda: world.live()["title"] == "Cover", "the new policy has written", 60)
        await running.settled()
    by = [record.policy for record in await world.store.audit()]
    assert by == [codec.policy_digest(WRITES), codec.policy_digest(YIELDS)]


async def test_policies_that_follow_each_other_quickly_leave_nothing_decided_by_the_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way = await slow_reads(world, monkeypatch)
    wanted = [policy(Rule(("title",), Strategy.HOLD, name="title")), WRITES]
    policy_source = PolicySource(lambda: in_force(wanted.pop(0) if len(wanted) > 1 else wanted[0]))
    async with world.running(policy_source=policy_source, resync=config.Resync(interval_s=0)) as running:
        world.append(world.event({"title": "Cover"}, time=LONG_AGO))
        await running.pass_until(under_way.is_set, "the attempt is under way")
        await reload(running, policy_source)
        await reload(running, policy_source)
        await running.pass_until(lambda: world.live()["title"] == "Cover", "the last policy has written", 60)
        await running.settled()


async def test_a_paused_document_is_left_alone_by_a_new_policy_until_it_is_resumed(world: World) -> None:
    policy_source = PolicySource(lambda: in_force(WRITES))
    async with world.running(policy_source=policy_source, resync=config.Resync(interval_s=0)) as running:
        world.append(world.event({"title": "Cover"}, time=LONG_AGO))
        await running.settled()
        await running.daemon._make_actions().pause("jdoe", [KEY], "")
        await reload(running, policy_source)
        await world.clock.advance(3600)
        assert world.live()["title"] == "Bracket"
        await running.daemon._make_actions().resume("jdoe", [KEY])
        await running.settled()
        assert world.live()["title"] == "Cover"


# -------------------------------------------------------------------------------------------------- several replicas


DIGESTS = {rules: codec.policy_digest(rules) for rules in (YIELDS, WRITES)}


def shared_by(world: World) -> SharedSlots:
    return SharedSlots().over(world.store, world.clock)


async def put_in_force(shared: SharedSlots, rules: Policy) -> None:
    """As another replica does."""
    assert await shared.put_in_force(DIGESTS[rules], rules, len(shared.store.chosen))


async def test_replicas_take_up_the_policy_that_one_of_them_puts_in_force(world: World) -> None:
    shared = shared_by(world)
    async with world.running(slots=shared.enter()) as running:
        world.append(world.event({"title": "Cover"}, time=LONG_AGO))
        await running.settled()
        assert world.live()["title"] == "Bracket"
        await put_in_force(shared, WRITES)
        await running.pass_until(lambda: world.live()["title"] == "Cover", "the new policy has written", 60)
        await running.settled()


async def test_a_write_decided_by_an_old_policy_is_not_sent(make_world: MakeWorld) -> None:
    world = make_world(WRITES)
    shared, under_way = shared_by(world), world.slowed("read", 1.5)
    async with world.running(slots=shared.enter()) as running:
        world.append(world.event({"title": "Cover"}, time=LONG_AGO))
        await running.pass_until(under_way.is_set, "the attempt is under way")
        await put_in_force(shared, YIELDS)
        await running.settled()
        assert world.windchill.writes == 0
    assert {one.policy for one in await world.store.audit()} == {DIGESTS[YIELDS]}


async def test_a_replica_that_starts_with_an_old_policy_decides_by_the_one_in_force(world: World) -> None:
    shared = shared_by(world)
    await put_in_force(shared, YIELDS)
    await put_in_force(shared, WRITES)
    policy_source = PolicySource(lambda: in_force(YIELDS))
    async with world.running(slots=shared.enter(), policy_source=policy_source) as running:
        await world.clock.advance(5)
        await reload(running, policy_source)  # whose configuration is what it was
        world.append(world.event({"title": "Cover"}, time=LONG_AGO))
        await running.settled()
        assert world.live()["title"] == "Cover"
    assert [one.digest for one in world.store.chosen] == [DIGESTS[YIELDS], DIGESTS[WRITES]]


async def test_a_policy_that_no_replica_had_is_put_in_force_by_the_first_that_starts_with_it(world: World) -> None:
    shared = shared_by(world)
    await put_in_force(shared, WRITES)
    async with world.running(slots=shared.enter()):
        await world.clock.advance(5)
    assert [one.digest for one in world.store.chosen] == [DIGESTS[WRITES], DIGESTS[YIELDS]]


async def test_a_reload_puts_a_policy_in_force_for_all_and_requeues_once_all_must_know_of_it(world: World) -> None:
    shared, policy_source = shared_by(world), PolicySource(lambda: in_force(WRITES))
    async with world.running(slots=shared.enter(), policy_source=policy_source) as running:
        world.append(world.event({"title": "Cover"}, time=LONG_AGO))
        await running.settled()
        await reload(running, policy_source)
        assert [one.digest for one in world.store.chosen] == [DIGESTS[YIELDS], DIGESTS[WRITES]]
        evict_s = running.daemon.config.store.evict_s
        took_s = await running.pass_until(lambda: world.live()["title"] == "Cover", "the document was requeued", 60)
        assert took_s >= evict_s - 1
        await running.settled()
