"""SIGTERM at the moments when the program waits for somebody else."""

import json
import signal
from pathlib import Path

import pytest

from tests.cli.program import Program, event
from tests.web.test_program import Daemon, started

NOWHERE = "127.0.0.1:9"


@pytest.fixture
def brokerless(tmp_path: Path) -> Program:
    """A program whose broker is away."""
    return Program(tmp_path, f"http://{NOWHERE}", f'brokers = ["{NOWHERE}"]')


def stops_well(daemon: Daemon) -> None:
    daemon.stop()
    assert daemon.heard("stopped")["event"] in daemon.lines[-1]
    assert not [line for line in daemon.lines if line.startswith("error:")]


def test_a_stop_while_no_broker_answers_is_a_stop_and_no_failure(brokerless: Program) -> None:
    with started(brokerless, after="no broker answers yet") as daemon:
        assert daemon.probe("/readyz")[1]["status"] == "recovering"
        stops_well(daemon)


def test_a_second_stop_while_no_broker_answers_ends_it_at_once(brokerless: Program) -> None:
    with started(brokerless, after="no broker answers yet") as daemon:
        daemon.process.send_signal(signal.SIGTERM)
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.ended() in {0, -signal.SIGTERM}


def test_a_stop_right_after_the_start_is_a_stop(brokerless: Program) -> None:
    with started(brokerless, after="listening") as daemon:
        stops_well(daemon)


def test_a_stop_while_outcomes_are_taken_over_is_a_stop_and_the_next_start_takes_the_rest(tmp_path: Path) -> None:
    program = Program(tmp_path, f"http://{NOWHERE}", real=True)
    told = [reconciled(number) for number in range(20_000)]
    (tmp_path / "events.outcomes.jsonl").write_text("\n".join(told) + "\n", encoding="utf-8")
    with started(program, after="listening") as daemon:
        stops_well(daemon)
    assert program.json("run", "--once")["documents"]["synced"] == 20_000


def reconciled(number: int) -> str:
    """An outcome that tells of a document of its own."""
    said = {"type": "windchill.document.reconciled.v1", "id": str(number), "sequence": "0000000001"}
    data = {"base": {"title": {"value": "x", "stamp": None}}}
    return json.dumps(event(f"document {number}", "//reconciler/test", {}, **said, data=data))
