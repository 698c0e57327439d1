"""Clocks and replaced topics on a real broker, with a daemon at work."""

import asyncio

import attrs
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from reconciler.cli.commands.docs import _refold
from reconciler.errors import LogTruncatedError
from tests.brokers import Server
from tests.brokers.apache import Apache
from tests.e2e.conftest import MakeWorld
from tests.e2e.world import World, event, now

KEY = "0000000007"
CENTURY_S = 100 * 366 * 86_400.0


async def test_a_document_is_folded_again_while_the_daemon_is_at_work(make_world: MakeWorld) -> None:
    """The daemon believes any time, as an earlier version did; today's rules do not."""
    world = await make_world()
    today, world.config = (
        world.config,
        attrs.evolve(world.config, log=attrs.evolve(world.config.log, max_clock_skew_s=CENTURY_S)),
    )
    async with world.running() as running:
        await world.append(event(KEY, {"status": "CANCELLED"}, time="2099-01-01T00:00:00Z"))
        await running.until_settled()
        await world.append(event(KEY, {"status": "RELEASED"}))
        await running.until_settled()
        assert world.simulated.document(KEY)["status"] == "CANCELLED"
        again = await _refold(today, KEY, archives=(), accept_truncation=False, actor="jdoe", reason="a clock ahead")
        assert (again.changed, len(again.refused)) == (["status"], 1)
        await running.until_settled()
        await running.until(lambda: world.simulated.document(KEY)["status"] == "RELEASED", "the later claim is written")
        await world.append(event(KEY, {"status": "INREVIEW"}, time=now()))
        await running.until_settled()
        assert world.simulated.document(KEY)["status"] == "INREVIEW"
        await running.check()


async def test_a_topic_that_was_made_again_and_has_grown_longer_stops_the_start(
    make_world: MakeWorld, broker: Server
) -> None:
    if not isinstance(broker, Apache):
        pytest.skip("only Apache Kafka deletes topics")
    world = await make_world(partitions=1)
    await world.append(event(KEY, {"status": "RELEASED"}))
    await world.converge()
    await _made_again(world, broker)
    await world.append(*(event(KEY, {"status": "INREVIEW"}) for _ in range(3)))
    with pytest.raises(LogTruncatedError, match="the record at 0 is not the one that was read"):
        await world.converge()
    assert world.simulated.document(KEY)["status"] == "RELEASED"


async def _made_again(world: World, broker: Apache) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.brokers)
    await admin.start()
    await admin.delete_topics([world.config.log.topic])
    await admin.close()
    await asyncio.sleep(0)
    await broker.create_topic(world.config.log.topic, 1)
