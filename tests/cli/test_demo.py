"""`reconciler demo` as a process: what stays up, what may be typed then, and that nothing is left behind."""

import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from reconciler.cli.demo import database
from reconciler.errors import ReconcilerError
from tests.patience import HANG_S

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc here to look for processes in"),
]


class Demo:
    """A demo in a session of its own, known in all its processes by a mark in the environment."""

    def __init__(self, *options: str) -> None:
        self.mark = uuid.uuid4().hex
        command = [sys.executable, "-m", "reconciler", "demo", "--acts", "1", *options]
        environ = {**os.environ, "DEMO_MARK": self.mark, "COLUMNS": "80"}
        self.process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def until(self, start: str) -> list[str]:
        """Return what is printed up to a line that begins so."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line.rstrip("\n"))
            if line.strip().startswith(start):
                return lines
        raise AssertionError(f"{start!r} was never printed: {lines}")

    def daemons(self) -> set[int]:
        """Return those of its processes that are reconcilers."""
        return {pid for pid in self.left() if b"\0run\0" in Path(f"/proc/{pid}/cmdline").read_bytes()}

    def left(self) -> list[int]:
        """Return the processes of this demo that are there."""
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self.mark.encode() in environ.read_bytes():
                    found.append(int(environ.parent.name))
            except OSError:
                continue  # ended meanwhile, or not ours to read
        return found


@pytest.fixture
def demo(request: pytest.FixtureRequest) -> Iterator[Demo]:
    started = Demo(*request.param)
    yield started
    for pid in started.left():
        os.kill(pid, signal.SIGKILL)
    started.process.wait()
    assert started.process.stdout is not None
    started.process.stdout.close()


@pytest.mark.parametrize("demo", [("--stay",)], indirect=True)
def test_a_demo_that_stays_can_be_played_with_and_leaves_nothing_when_it_is_interrupted(demo) -> None:
    said = demo.until("Ctrl-C ends it")
    page = next(line.split()[-1] for line in said if line.startswith("  operators' page"))
    assert httpx.get(page).headers["content-type"].startswith("text/html")
    assert httpx.get(f"{page}readyz").json()["status"] == "ready"
    shown = httpx.get(f"{page}api/v1/status").json()
    assert shown["documents"]["held"] == 1
    commands = [line.strip() for line in said if " -c /" in line]
    assert len(commands) == 6
    for command in commands:
        words = shlex.split(command)
        typed = [sys.executable, "-m", "reconciler", *_arguments(words)]
        ended = subprocess.run(typed, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, (command, ended.stderr)
    os.killpg(demo.process.pid, signal.SIGINT)  # as a terminal does on Ctrl-C
    assert "0 updates lost" in demo.until("Ended")[-1]
    assert demo.process.wait() == 0
    assert demo.left() == []


@pytest.mark.parametrize("demo", [("--acts", "7")], indirect=True)
def test_a_demo_plays_all_its_acts(demo) -> None:
    said = demo.process.communicate(timeout=HANG_S)[0].splitlines()
    titles = [line[:2] for line in said if line[:1].isdigit()]
    assert (demo.process.returncode, titles) == (0, [f"{number}." for number in range(1, 8)]), said
    assert demo.left() == []


@pytest.mark.parametrize("demo", [("--stay-s", "1")], indirect=True)
def test_a_demo_that_stays_for_a_time_ends_by_itself(demo) -> None:
    demo.until("Ctrl-C ends it; else it ends in 1 seconds.")
    demo.until("Ended")
    assert demo.process.wait() == 0
    assert demo.left() == []


@pytest.mark.parametrize("demo", [()], indirect=True)
def test_a_demo_that_is_told_to_end_in_the_middle_takes_its_processes_with_it(demo) -> None:
    demo.until("1. ")
    demo.process.send_signal(signal.SIGTERM)
    assert demo.process.wait() == 143
    assert demo.left() == []


@pytest.mark.usefixtures("postgres_server")  # which says so if there is no PostgreSQL
@pytest.mark.parametrize("demo", [("--replicas", "--acts", "4")], indirect=True)
def test_a_demo_of_replicas_loses_them_and_nothing_else(demo) -> None:
    said = demo.process.communicate(timeout=HANG_S)[0].splitlines()
    titles = [line[:2] for line in said if line[:1].isdigit()]
    assert (demo.process.returncode, titles) == (0, [f"{number}." for number in range(1, 5)]), said
    assert any("took A for dead" in line for line in said)
    assert any(line.split() == ["updates", "lost", "0"] for line in said)
    assert demo.left() == []


@pytest.mark.usefixtures("postgres_server")
@pytest.mark.parametrize("demo", [("--replicas", "--stay")], indirect=True)
def test_a_replica_that_is_killed_while_the_demo_stays_is_started_again(demo) -> None:
    said = demo.until("Ctrl-C ends it")
    kill = next(line.strip() for line in said if line.strip().startswith("kill -9 "))
    pages = [line.split()[-3] for line in said if "operators' page of" in line]
    assert [httpx.get(f"{page}readyz").json()["status"] for page in pages] == ["ready"] * 3
    before = demo.daemons()
    os.kill(int(kill.split()[-1]), signal.SIGKILL)
    give_up_s = time.monotonic() + HANG_S
    while not demo.daemons() - before and time.monotonic() < give_up_s:
        time.sleep(0.2)
    assert len(demo.daemons()) == 3
    demo.process.send_signal(signal.SIGTERM)
    assert "0 updates lost" in demo.until("Ended")[-1]
    assert demo.process.wait() == 0
    assert demo.left() == []


def test_a_demo_of_replicas_says_what_to_install_where_there_is_no_postgresql(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(database, "_DEBIAN", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ReconcilerError, match="package `postgresql`"):
        database.programs()


def _arguments(words: list[str]) -> list[str]:
    """Return a printed command without the program's name, however it was called."""
    return words[3:] if words[1] == "-m" else words[1:]
