"""The real program on a simulated Windchill REST Services, with a file log: a run, and one killed under a check-out."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.simulator import history
from reconciler.simulator.validation import chosen
from reconciler.simulator.wrs.options import Wrs
from tests.adapters.simulated import Simulated, simulating
from tests.cli.program import Program
from tests.patience import HANG_S

ME = "integration"
KEY = "0000000001"
SETTINGS = """\
dialect = "wrs"
base_url = "{url}/Windchill/servlet/odata"
account = "Integration, Reconciler"
"""
# Where the program is when it is killed: the method, and how many requests of that method come before; and what has
# become of the check-out when the server has done what it was asked for, hearing nothing of the death.
MOMENTS = {
    "CheckOut": ("POST", 0, ["CheckOut"]),
    "the working copy read": ("GET", 2, ["CheckOut"]),
    "PATCH": ("PATCH", 0, ["CheckOut"]),
    "CheckIn": ("POST", 1, ["CheckOut", "CheckIn"]),
    "the new iteration read": ("GET", 4, ["CheckOut", "CheckIn"]),
}


@pytest.fixture(scope="module")
def running() -> Iterator[Simulated]:
    wrs = chosen(Wrs(), {"display_names": {ME: "Integration, Reconciler"}})
    with simulating(documents=30, wrs=wrs) as steering:
        yield steering


@pytest.fixture
def windchill(running: Simulated) -> Simulated:
    running.reset()
    return running


@pytest.fixture
def program(windchill: Simulated, tmp_path: Path) -> Program:
    made = Program(tmp_path, windchill.url, real=True)
    text = made.config.read_text(encoding="utf-8")
    given = f'base_url = "{windchill.url}"\n'
    assert given in text
    made.config.write_text(text.replace(given, SETTINGS.format(url=windchill.url)), encoding="utf-8")
    return made


def events(windchill: Simulated) -> list[str]:
    """The steps of all our check-outs, in order."""
    shown = windchill._control.get("/wrs/checkouts", params={"user": ME}).raise_for_status().json()
    return [step["event"] for step in shown["items"]]


def held(windchill: Simulated) -> list[dict[str, Any]]:
    return list(windchill._control.get("/wrs/working-copies").raise_for_status().json()["items"])


def until(true: Callable[[], bool], what: str) -> None:
    end_s = time.monotonic() + HANG_S
    while not true():
        assert time.monotonic() < end_s, f"waited in vain until {what}"
        time.sleep(0.02)


def set_fields(program: Program, **fields: Any) -> None:
    program.emits(KEY, *(f"--set={name}={json.dumps(value)}" for name, value in fields.items()))


def test_a_run_writes_attributes_name_and_state_with_one_check_out(program: Program, windchill: Simulated) -> None:
    # One of the seed, not made here: of one made in the second of the first event, no one could tell which is later.
    assert windchill.document(KEY)["status"] == "INWORK"
    set_fields(program, Owner="akim", CostCenter="4711", Name="Lid")
    set_fields(program, State="INREVIEW", Owner="lchen")
    program.say("run", "--once")
    shown = windchill.document(KEY)
    assert (shown["owner"], shown["name"], shown["status"]) == ("lchen", "Lid", "INREVIEW")
    assert shown["attributes"]["CostCenter"] == "4711"
    assert events(windchill) == ["CheckOut", "CheckIn"]
    program.say("run", "--once")
    assert events(windchill) == ["CheckOut", "CheckIn"], "a second run found something to write"


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_program_that_is_killed_under_a_check_out_leaves_nothing_behind(
    program: Program, windchill: Simulated, moment: str
) -> None:
    method, before, done = MOMENTS[moment]
    windchill.faults(slow=0.0, slow_ms=2000)
    windchill.script(method, *["ok"] * before, "slow", document=KEY)
    set_fields(program, Owner="akim", CostCenter="4711")
    command = [sys.executable, "-m", "reconciler", "run", "--once", "-c", str(program.config)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RECONCILER_")}
    with subprocess.Popen(
        command, cwd=program.folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as child:
        until(lambda: windchill._control.get("/stats").json()["faults"].get("slow", 0) > 0, "it hangs in that request")
        child.send_signal(signal.SIGKILL)
        assert child.wait(HANG_S) == -signal.SIGKILL
    until(lambda: events(windchill) == done, f"the server has come to {done}")
    program.say("run", "--once")
    shown = windchill.document(KEY)
    assert (shown["owner"], shown["attributes"]["CostCenter"]) == ("akim", "4711")
    assert held(windchill) == [], "a lock is stranded"
    assert events(windchill).count("CheckIn") == 1, "the document got more than one iteration, or none"
    assert history.lost_updates(windchill.whole_history(), ME) == []
    program.say("audit", "verify")
