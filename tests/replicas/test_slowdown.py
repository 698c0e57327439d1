"""Two replicas before a Windchill that is overloaded: one of them is told so, and both slow down, as one would."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.adapters.simulated import Simulated, simulating
from tests.cli.program import Program, event
from tests.patience import HANG_S
from tests.replicas.zombies import OTHER, ZOMBIE, Pair

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

DOCUMENTS, IN_FLIGHT_MAX = 300, 8  # many more than one replica takes for itself while it waits for its turn
SLOW_MS, LOOK_S = 4_000, 5.0  # between two requests there are none for a moment: we look for longer than one takes


@pytest.fixture
def windchill() -> Iterator[Simulated]:
    with simulating(documents=DOCUMENTS) as steering:
        yield steering


def until_at_once(windchill: Simulated, low: int, high: int) -> None:
    """Wait until the server has counted so many requests at once for a while."""
    end_s = time.monotonic() + HANG_S
    while True:
        windchill.forget_requests()
        time.sleep(LOOK_S)
        found = windchill.crowding()["in_flight"]
        if low <= found <= high:
            return
        assert time.monotonic() < end_s, f"{found} requests at once"


def test_replicas_slow_down_together_when_one_of_them_is_told_to(
    windchill: Simulated, postgres_server: postgres.Server, tmp_path: Path
) -> None:
    program = Program(tmp_path, windchill.url)
    url = f'{postgres_server.new()}"\nevict_s = 3'
    program.reconfigure(f'url = "sqlite:///{tmp_path}/state.db"', f'url = "{url}')
    program.reconfigure("[windchill]", f"[windchill]\nin_flight_max = {IN_FLIGHT_MAX}")
    program.reconfigure("[retry]", "[resync]\ninterval_s = 1\n[retry]")
    program.reconfigure('bind = "127.0.0.1:0"', 'bind = ""')
    replicas = Pair()
    try:
        program.append(*(event(f"{number:010}", "//erp/prod", {"owner": "akim"}) for number in range(1, DOCUMENTS + 1)))
        windchill.faults(slow_ms=SLOW_MS)
        for name in (ZOMBIE, OTHER):
            replicas.start(name, program)
        until_at_once(windchill, IN_FLIGHT_MAX, IN_FLIGHT_MAX)
        windchill.script("GET", "unavailable", document=None)
        # Each has half of the share that it had. One that had not heard of it would still have all of its own.
        until_at_once(windchill, 1, IN_FLIGHT_MAX // 2)
        until_at_once(windchill, IN_FLIGHT_MAX, IN_FLIGHT_MAX)
    finally:
        replicas.close()
