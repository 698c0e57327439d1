"""One simulated Windchill a module, as new for each test."""

from collections.abc import Iterator

import pytest

from reconciler.simulator.process import Simulator
from reconciler.simulator.settings import Settings
from tests.adapters.simulated import Simulated


@pytest.fixture(scope="module")
def running() -> Iterator[Simulated]:
    with Simulator(Settings(port=0, documents=3)) as simulator:
        steering = Simulated(simulator.url)
        yield steering
        steering.close()


@pytest.fixture
def server(running: Simulated) -> Simulated:
    running.reset()
    return running
