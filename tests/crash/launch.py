"""
`python -m tests.crash.launch`: a process that has imported the program, and forks a daemon for each line on stdin.

Importing takes longer than most lives are to last, so it is done once. From there on a child is what `reconciler …` is:
the command line's own entry point, reading its configuration, opening its store, connecting to its broker.
"""

import gc
import json
import os
import sqlite3
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import IO, Any

from reconciler import app, cli
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.sqlite import database
from reconciler.flows import recovery
from reconciler.model.stamp import Stamp
from tests.crash.strikes import Strike, arm
from tests.sim import mutants

COUNT_COPIES, NO_RECOVERY = "count-copies", "no-recovery"
_CHECKPOINT_CHANGES = 60  # rows, instead of thousands: a life of a second or two is to see some checkpoints


def main() -> None:
    """Serve orders until stdin ends: a line with the child's pid, and one with how it ended."""
    gc.freeze()
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _child(order)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _child(order: dict[str, Any]) -> None:
    """Become the program; never returns."""
    status = 70
    try:
        for number, name in ((1, order["stdout"]), (2, order["stderr"])):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        database.CHECKPOINT_CHANGES = _CHECKPOINT_CHANGES
        _skew(Path(order["clock"]))
        store, mutant = Path(order["store"]), order["mutant"]
        if order["strike"]:
            arm(Strike(**order["strike"]), store)
        if mutant:
            _mistaken(mutant, store)
        with mutants.applied(mutant if mutant in mutants.FOUND else None):
            cli.main(order["arguments"])
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _skew(clock: Path) -> None:
    """Add to the time of day what a file says, in seconds; it may change at any time."""
    if clock.exists():
        number = os.open(clock, os.O_RDONLY)

        def now_us(self: SystemClock) -> int:
            return time.time_ns() // 1000 + int(os.pread(number, 20, 0)) * 1_000_000

        SystemClock.now_us = now_us  # type: ignore[method-assign]  # this process ends with it


def _mistaken(mutant: str, store: Path) -> None:
    """Make one of the simulation's known mistakes, or one that only real parts bring out."""
    if mutant == "drop-outbox" and store.exists():
        with sqlite3.connect(store) as connection:
            connection.execute("DELETE FROM outbox")
        connection.close()
    if mutant == COUNT_COPIES:
        Stamp.event = property(tuple)  # type: ignore[method-assign, assignment]  # each record is an event of its own
    if mutant == NO_RECOVERY:

        async def recover(*_: Any, **__: Any) -> int:
            return 0

        recovery.recover = recover
    wire = app.Daemon.__init__

    def wired(self: app.Daemon, *args: Any, **kwargs: Any) -> None:
        wire(self, *args, **kwargs)
        mutants.wired(mutant, self)

    app.Daemon.__init__ = wired  # type: ignore[method-assign]  # this process ends with it


class Launcher:
    """The other end: starts the program in a child of a warm process, one at a time. A context manager."""

    def __init__(self, folder: Path, name: str, mutant: str | None = None) -> None:
        self.folder, self._name, self._mutant = folder, name, mutant
        command = [sys.executable, "-m", "tests.crash.launch"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=None, text=True)

    @property
    def stderr(self) -> Path:
        return self.folder / f"{self._name}.stderr.log"

    @property
    def clock(self) -> Path:
        """Where to say, before a start, by how many seconds the program's time of day is wrong."""
        return self.folder / f"{self._name}.clock"

    @property
    def stdout(self) -> Path:
        return self.folder / f"{self._name}.stdout.log"

    def start(self, arguments: list[str], strike: dict[str, Any] | None = None, *, mistaken: bool = True) -> int:
        """Start the program; return its pid."""
        order = {
            "arguments": arguments,
            "strike": strike,
            "mutant": self._mutant if mistaken else None,
            "store": str(self.folder / "state.db"),
            "clock": str(self.clock),
            "stdout": str(self.stdout),
            "stderr": str(self.stderr),
        }
        _of(self._process.stdin).write(json.dumps(order) + "\n")
        _of(self._process.stdin).flush()
        return int(_of(self._process.stdout).readline())

    def wait(self) -> int:
        """Wait for the child's end; return its exit status, negative for a signal."""
        return int(_of(self._process.stdout).readline())

    def close(self) -> None:
        """Let go of the warm process; a child of it has been ended before."""
        _of(self._process.stdin).close()
        _of(self._process.stdout).close()
        self._process.kill()
        self._process.wait()


def _of(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


if __name__ == "__main__":
    main()
