"""One simulated Windchill for all tests of this folder, as new for each; topics and a database for each test."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from reconciler.config import Admin, Config, Log, Resync, Retry, Store, Windchill
from tests import brokers
from tests.adapters.simulated import Simulated, simulating
from tests.brokers.fixtures import MakeTopic
from tests.e2e.world import World

MakeWorld = Callable[..., Awaitable[World]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def running() -> Iterator[Simulated]:
    with simulating(documents=300) as steering:
        yield steering


@pytest.fixture
def simulated(running: Simulated) -> Simulated:
    running.reset()
    return running


@pytest.fixture
async def make_world(simulated: Simulated, broker: brokers.Server, topic: MakeTopic, tmp_path: Path) -> MakeWorld:
    """Makes worlds: keyword arguments by group, such as `windchill={"write_method": "put"}`."""

    async def make(policy: Any = None, partitions: int = 3, **groups: dict[str, Any]) -> World:
        log = Log(
            brokers=tuple(broker.brokers),
            topic=await topic(partitions=partitions, name="changes"),
            decisions_topic=await topic(name="decisions"),
            outcomes_topic=await topic(name="outcomes"),
            dead_letter_topic=await topic(name="dead-letters"),
            group="test",
        )
        # Waits are short, so that tests wait for the program and not for its patience. No resync unless asked for.
        retry = Retry(backoff_base_s=0.05, backoff_max_s=0.5, cooldown_base_s=0.2, cooldown_max_s=0.5)
        config = Config(
            log=attrs.evolve(log, **groups.get("log", {})),
            store=Store(url=f"sqlite:///{tmp_path}/state.db"),
            windchill=attrs.evolve(Windchill(base_url=simulated.url), **groups.get("windchill", {})),
            retry=attrs.evolve(retry, **groups.get("retry", {})),
            resync=attrs.evolve(Resync(interval_s=0), **groups.get("resync", {})),
            admin=attrs.evolve(Admin(bind=""), **groups.get("admin", {})),
        )
        return World(config if policy is None else attrs.evolve(config, policy=policy), simulated)

    return make


@pytest.fixture
async def world(make_world: MakeWorld) -> World:
    """A world with the settings that most tests want."""
    return await make_world()
