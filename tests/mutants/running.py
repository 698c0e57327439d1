"""
The tests of one mutant at a time in a process of their own, several such processes beside each other.

A mutant is caught when a test fails, or when the tests need much more processor time than without it. Processor time,
because how long things take on a busy machine says nothing.
"""

import enum
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs

from tests.mutants import planting

_FACTOR = 5  # how much more processor time the tests may take than with the module as it is
_MORE_S = 20  # and this beside, since little is soon five times as much
_OURS = Path(__file__).parents[2]
_WALL_S_MAX = 1800  # for tests that wait forever; pytest's own limit comes first
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


class End(enum.StrEnum):
    """How the tests of a mutant ended."""

    CAUGHT = "caught"
    ENDLESS = "caught by the time limit"
    SURVIVED = "survived"


@attrs.frozen
class Trial:
    """A mistaken source to be tested."""

    name: str
    path: str  # of the module, from the root, with slashes
    source: str
    tests: tuple[str, ...]

    @property
    def module(self) -> str:
        """The module's dotted name."""
        return self.path.removesuffix(".py").replace("/", ".")


@attrs.frozen
class Result:
    """How it went with one."""

    trial: Trial
    end: End
    test: str  # the first that failed
    cpu_s: float


class BrokenTestsError(Exception):
    """The tests fail, or don't load the module, without any mistake."""


def run(
    trials: Iterable[Trial],
    root: Path,
    *,
    workers: int,
    told: Callable[[Result], None] = lambda _: None,
    more_s: int = _MORE_S,
) -> list[Result]:
    """Run the tests of each from the directory `root`; `told` learns of each result as it comes."""
    trials = list(trials)
    limits = _limits(trials, root, workers, more_s)
    with ThreadPoolExecutor(workers) as pool:
        return list(_telling(pool.map(lambda one: _result(one, root, limits[one.tests]), trials), told))


def _telling(results: Iterable[Result], told: Callable[[Result], None]) -> Iterator[Result]:
    for one in results:
        told(one)
        yield one


def _limits(trials: Iterable[Trial], root: Path, workers: int, more_s: int) -> Mapping[tuple[str, ...], int]:
    """Run all tests without a mistake, and return how many seconds of processor time they may take with one."""
    wanted = {one.tests: one.path for one in trials}

    def limit(tests: tuple[str, ...], path: str) -> int:
        status, output, cpu_s = _pytest(Trial("as it is", path, (root / path).read_text(), tests), root, _WALL_S_MAX)
        if status not in (0, planting.NOT_LOADED):
            raise BrokenTestsError(f"{' '.join(tests)} fail without a mistake: {output}")
        return round(cpu_s * _FACTOR + more_s)

    with ThreadPoolExecutor(workers) as pool:
        return dict(zip(wanted, pool.map(limit, wanted, wanted.values()), strict=True))


def _result(trial: Trial, root: Path, cpu_s_max: int) -> Result:
    status, output, cpu_s = _pytest(trial, root, cpu_s_max)
    failed = _FAILED.search(output)
    if status == planting.NOT_LOADED:
        raise BrokenTestsError(f"{' '.join(trial.tests)} do not load {trial.path}")
    if status < 0:
        return Result(trial, End.ENDLESS, "", cpu_s)
    return Result(trial, End.CAUGHT if status else End.SURVIVED, failed[1] if failed else "", cpu_s)


def _pytest(trial: Trial, root: Path, cpu_s_max: int) -> tuple[int, str, float]:
    """Return pytest's exit status (below zero: ended by a limit), its output, and what processor time it took."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        source, used = Path(folder) / "source.py", Path(folder) / "cpu_s"
        source.write_text(trial.source)
        environ = os.environ | {
            planting.MODULE: trial.module,
            planting.SOURCE: str(source),
            planting.CPU_S_MAX: str(cpu_s_max),
            planting.CPU_S_USED: str(used),
            "HYPOTHESIS_PROFILE": planting.PROFILE,
            "PYTHONPATH": os.pathsep.join((str(root), str(_OURS))),
        }
        options = ["-x", "-q", "-rfE", "--no-header", "--tb=no", "--basetemp", f"{folder}/tmp"]
        plugins = ["-p", "tests.mutants.planting", "-p", "no:cacheprovider", "-p", "no:xdist"]
        order = [sys.executable, "-m", "pytest", *plugins, *options, *trial.tests]
        try:
            done = subprocess.run(
                order, cwd=root, env=environ, capture_output=True, text=True, check=False, timeout=_WALL_S_MAX
            )
        except subprocess.TimeoutExpired:
            return -1, "", 0.0
        return done.returncode, done.stdout + done.stderr, float(used.read_text()) if used.exists() else 0.0
