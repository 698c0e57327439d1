"""
A replica that falls asleep after its last look, and wakes when another one has its place: its request goes out late.

Nobody else moves the document meanwhile, so nothing refuses that request for what it is.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from reconciler.simulator import history
from reconciler.simulator.validation import chosen
from reconciler.simulator.wrs.options import Wrs
from tests import postgres
from tests.adapters.simulated import Simulated, simulating
from tests.cli.program import Program
from tests.crash.launch import Launcher
from tests.crash.strikes import REQUEST
from tests.patience import HANG_S

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ME, KEY = "integration", "0000000001"
HOLD = """\
[[policy]]
fields = ["owner", "Owner", "State"]
strategy = "hold"
[[policy]]
"""
WRS = """\
dialect = "wrs"
base_url = "{url}/Windchill/servlet/odata"
account = "Integration, Reconciler"
checkin_interval_s = 0
"""


class Late(NamedTuple):
    """A request that comes late, and how many writes of ours are accepted by then."""

    dialect: str
    request: str
    field: str
    values: tuple[str, str]
    accepted: int


LATE = [
    Late("documents", "PATCH", "owner", ("akim", "lchen"), 1),
    Late("wrs", "CheckOut", "Owner", ("akim", "lchen"), 0),
    Late("wrs", "CheckIn", "Owner", ("akim", "lchen"), 0),
    Late("wrs", "SetState", "State", ("INREVIEW", "INWORK"), 1),
]


@pytest.fixture
def windchill() -> Iterator[Simulated]:
    wrs = chosen(Wrs(), {"display_names": {ME: "Integration, Reconciler"}})
    with simulating(documents=3, wrs=wrs) as steering:
        yield steering


class Replicas:
    """Processes over one store, started one after the other."""

    def __init__(self, program: Program, server: postgres.Server, database: str) -> None:
        self.program = program
        self._server, self._database = server, database
        self._launchers: dict[str, tuple[Launcher, int]] = {}

    def start(self, name: str, asleep_before: str = "") -> int:
        launcher = Launcher(self.program.folder, name)
        strike = {"effect": REQUEST + asleep_before, "moment": "before", "number": 1, "delay_s": 0.0}
        pid = launcher.start(["run", "-c", str(self.program.config)], strike if asleep_before else None)
        self._launchers[name] = launcher, pid
        return pid

    def end(self, name: str, number: signal.Signals) -> tuple[int, str]:
        """Send a signal, and wait for the end: its status, and what was said."""
        launcher, pid = self._launchers.pop(name)
        os.kill(pid, number)
        status = launcher.wait()
        launcher.close()
        return status, launcher.stderr.read_text()

    def living(self) -> int:
        return int(self._server.sql("SELECT count(*) FROM slot WHERE held AND NOT leaving", self._database))

    def close(self) -> None:
        for name in [*self._launchers]:
            self.end(name, signal.SIGKILL)


@pytest.fixture
def replicas(windchill: Simulated, tmp_path: Path, postgres_server: postgres.Server) -> Iterator[Replicas]:
    program, url = Program(tmp_path, windchill.url, real=True), postgres_server.new()
    program.reconfigure(f'url = "sqlite:///{tmp_path}/state.db"', f'url = "{url}"\nevict_s = 3')
    # A newcomer writes nothing while requests of a dead one may be in flight.
    program.reconfigure("[windchill]", "[windchill]\ntimeout_s = 3")
    program.reconfigure("[retry]", "[resync]\ninterval_s = 2\n[retry]")
    program.reconfigure("[[policy]]\n", HOLD)
    program.reconfigure('bind = "127.0.0.1:0"', 'bind = ""')
    made = Replicas(program, postgres_server, url.rpartition("/")[2])
    yield made
    made.close()


def until(true: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + HANG_S
    while not true():
        assert time.monotonic() < end_s, f"waited in vain until {what}"
        time.sleep(0.1)


def is_asleep(pid: int) -> bool:
    return "T (stopped)" in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.parametrize("late", LATE, ids=lambda late: late.request)
def test_a_request_that_a_zombie_sends_late_passes_for_no_one_elses(
    replicas: Replicas, windchill: Simulated, late: Late
) -> None:
    program, (first, then) = replicas.program, late.values
    if late.dialect == "wrs":
        program.reconfigure(f'base_url = "{windchill.url}"', WRS.format(url=windchill.url))

    def ours() -> list[history.Entry]:
        return [entry for entry in windchill.history(KEY) if entry.who == ME]

    def settled(value: str) -> bool:
        shown = windchill.document(KEY)["status" if late.field == "State" else "owner"]
        return bool(shown == value and program.json("docs", "show", KEY)["status"] == "synced")

    def copies() -> list[object]:
        return list(windchill._control.get("/wrs/working-copies").json()["items"])

    program.emits(KEY, "--set", f"{late.field}={first}")
    zombie = replicas.start("zombie", asleep_before=late.request)
    until(lambda: is_asleep(zombie), "it sleeps")
    program.say("docs", "pause", KEY)  # so that the other one does not write
    replicas.start("other")
    until(lambda: replicas.living() == 2, "the other one has begun")
    until(lambda: replicas.living() == 1, "the sleeping one is taken for dead")
    until(lambda: not copies(), "the other one has given up its lock")
    status, said = replicas.end("zombie", signal.SIGCONT)
    assert (status, "no sign of life" in said) == (1, True), said
    assert len(ours()) == late.accepted
    assert len(copies()) == (late.request == "CheckOut")
    program.say("docs", "resume", KEY)
    program.emits(KEY, "--set", f"{late.field}={first}")  # the same once more, for the other one to look at once
    until(lambda: settled(first), "it is settled")
    program.emits(KEY, "--set", f"{late.field}={then}")
    until(lambda: settled(then), "it goes on")
    assert replicas.end("other", signal.SIGTERM)[0] == 0
    assert len(ours()) == 2, "nothing was written twice"
    assert not program.json("conflicts", "list", "--closed"), "none of ours passed for a person's edit"
    assert not copies(), "a lock is stranded"
    assert not history.lost_updates(windchill.whole_history(), ME)
    program.say("audit", "verify")
