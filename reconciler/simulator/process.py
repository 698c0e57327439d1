"""The simulated Windchill in an operating-system process of its own, for demos and tests."""

import contextlib
import queue
import subprocess
import sys
import threading
from types import TracebackType
from typing import Self

import attrs
import orjson

from reconciler.simulator.settings import Settings

_START_S_MAX = 30.0
_STOP_S_MAX = 5.0


class Simulator:
    """
    Starts `python -m reconciler.simulator`, knows its URL, and stops it. A context manager.

    The child also stops by itself when its stdin closes, so it never outlives the program that started it.
    """

    url: str

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = Settings(port=0) if settings is None else settings
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start it and return its URL once it listens; RuntimeError when it does not."""
        assert self._child is None, "started already"
        # A session of its own: Ctrl-C is for the program that started it, and that ends it.
        self._child = subprocess.Popen(  # noqa: S603 - our own program
            _command(self._settings), stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        said = _first_line(self._child, _START_S_MAX)
        word, _, url = said.partition(" ")
        if word != "listening":
            self.stop()
            raise RuntimeError(f"the simulated Windchill did not start; it said {said!r}, and on stderr why")
        self.url = url
        return url

    def stop(self) -> int:
        """Stop it and return its exit status. Stopping twice does nothing."""
        child, self._child = self._child, None
        if child is None:
            return 0
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        child.terminate()
        try:
            status = child.wait(_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            child.kill()
            status = child.wait()
        child.stdout.close()
        return status

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _command(settings: Settings) -> list[str]:
    command = [sys.executable, "-m", "reconciler.simulator", "--until-stdin-closes"]
    plain = ("host", "port", "documents", "seed", "base_path", "history_max")
    for name in plain:
        command += [f"--{name.replace('_', '-')}", str(getattr(settings, name))]
    if settings.seed_file is not None:
        command += ["--seed-file", str(settings.seed_file)]
    for name in ("behaviour", "faults", "rivals", "wrs"):
        command += [f"--{name}", orjson.dumps(attrs.asdict(getattr(settings, name))).decode()]
    return command


def _first_line(child: subprocess.Popen[bytes], patience_s: float) -> str:
    """What the child says first; empty when it ends or says nothing in time."""
    assert child.stdout is not None
    said: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    stdout = child.stdout
    threading.Thread(target=lambda: said.put(stdout.readline()), daemon=True).start()
    try:
        return said.get(timeout=patience_s).decode().strip()
    except queue.Empty:
        return ""
