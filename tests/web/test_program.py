"""The real program: the address it prints, its probes, and how it stops."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.program import Program, event
from tests.patience import HANG_S

DOC = "0000000001"


class Daemon:
    """`reconciler run` in a process of its own."""

    def __init__(self, program: Program, *options: str) -> None:
        command = [sys.executable, "-m", "reconciler", "run", "-c", str(program.config), *options]
        self.process = subprocess.Popen(command, cwd=program.folder, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def address(self) -> str:
        return str(until(lambda: self.heard("listening"))["address"])

    def _listen(self) -> None:
        assert self.process.stderr is not None
        self.lines.extend(iter(self.process.stderr.readline, ""))

    def heard(self, event: str) -> dict:
        said = [json.loads(line) for line in list(self.lines) if line.startswith("{")]
        return next((line for line in said if line["event"] == event), {})

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.address + path, timeout=5)

    def probe(self, path: str) -> tuple[int, dict]:
        reply = self.get(path)
        return reply.status_code, reply.json()

    def ended(self) -> int:
        status = self.process.wait(HANG_S)
        self._listener.join(HANG_S)
        return status

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Tell it to stop; it must end in good order."""
        self.process.send_signal(number)
        assert self.ended() == 0
        assert not [line for line in self.lines if "Traceback" in line or "never retrieved" in line]


def until(found: Callable[[], Any]) -> Any:
    """Wait until something is there, and return it."""
    give_up_s = time.monotonic() + HANG_S
    while not (there := found()):
        assert time.monotonic() < give_up_s, "waited in vain"
        time.sleep(0.02)
    return there


@contextmanager
def started(program: Program, *options: str, after: str = "caught up with the log") -> Iterator[Daemon]:
    """A daemon that has said so; its log is made, if it is a file and not there yet."""
    (program.folder / "events.jsonl").touch()
    daemon = Daemon(program, *options)
    try:
        until(lambda: daemon.heard(after))
        yield daemon
    finally:
        daemon.process.kill()
        daemon.ended()
        assert daemon.process.stderr is not None
        daemon.process.stderr.close()


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Program]:
    """A program whose Windchill takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Program(tmp_path, f"http://127.0.0.1:{listener.getsockname()[1]}")


def test_the_program_tells_where_it_listens_and_answers_there(silent: Program) -> None:
    with started(silent) as daemon:
        assert daemon.probe("/livez") == (200, {"status": "alive"})
        assert daemon.probe("/readyz") == (200, {"status": "ready", "windchill": "up"})
        bind = daemon.address.removeprefix("http://")
        elsewhere = silent.folder / "elsewhere"
        elsewhere.mkdir()
        other = Program(elsewhere, silent.windchill, real=True)
        other.reconfigure("127.0.0.1:0", bind)
        said = other.run("run")
        assert said.returncode == 1
        told, shown = said.stderr.splitlines()
        reason = f"admin.bind: can't listen on {bind} (address already in use); choose "
        assert shown.startswith(f"error: {reason}")
        logged = json.loads(told)
        assert (logged["level"], logged["event"]) == ("critical", "ended by an error")
        assert logged["reason"].startswith(reason)
        daemon.stop()


def test_a_stop_unreadies_at_once_and_a_second_one_ends_it(silent: Program) -> None:
    with started(silent) as daemon:
        silent.emits(DOC, "--set", "owner=sgarcia")
        until(lambda: "reconciler_in_flight 1.0" in daemon.get("/metrics").text)
        daemon.process.send_signal(signal.SIGTERM)
        until(lambda: daemon.probe("/readyz") == (503, {"status": "stopping"}))
        assert daemon.probe("/livez") == (200, {"status": "alive"})  # the request under way is given its time
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.ended() == -signal.SIGTERM
    assert not [line for line in daemon.lines if "Traceback" in line]


@pytest.mark.slow
def test_a_stop_gives_up_on_a_windchill_that_never_answers(silent: Program) -> None:
    silent.reconfigure("[windchill]\n", "[windchill]\ntimeout_s = 600\n")
    with started(silent) as daemon:
        silent.emits(DOC, "--set", "owner=sgarcia")
        until(lambda: "reconciler_in_flight 1.0" in daemon.get("/metrics").text)
        daemon.stop()
        assert daemon.heard("stopped")["pending"] == 1


# ------------------------------------------------------------------------------------------------------------- stopping


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
