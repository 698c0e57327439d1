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
