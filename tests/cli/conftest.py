"""Fixtures: one simulated Windchill for all tests of commands, and a program in a fresh folder for each."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from reconciler.simulator.server import Simulator
from reconciler.simulator.settings import Settings
from tests.cli.program import Program


@pytest.fixture(scope="session")
def _simulator() -> Iterator[str]:
    with Simulator(Settings(port=0, documents=20)) as simulator:
        yield simulator.url


@pytest.fixture
def windchill(_simulator: str) -> str:
    return _reset(_simulator)


@pytest.fixture(scope="module")
def untouched(_simulator: str) -> str:
    """The same for what a module makes once: nothing in it comes from the modules before."""
    return _reset(_simulator)


def _reset(simulator: str) -> str:
    httpx.post(f"{simulator}/_control/reset", json={}).raise_for_status()
    return simulator


@pytest.fixture
def program(tmp_path: Path, windchill: str) -> Program:
    return Program(tmp_path, windchill)
