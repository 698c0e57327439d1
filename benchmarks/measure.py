"""Measuring: sides in fresh processes, in turn, and what came of them as figures."""

import gc
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import attrs

_ROOT = Path(__file__).parents[1]
_SIDE_S_MAX = 600.0
_CALM_LOAD = 0.5  # of both cores together; above it someone else's work is in every figure
_CALM_S_MAX = 60.0


@attrs.frozen
class Sample:
    """One side, once: how much work, in how many seconds of the clock and of this process's processors."""

    count: int
    wall_s: float
    cpu_s: float
    more: dict[str, Any] = attrs.field(factory=dict)

    @property
    def rate(self) -> float:
        """Work done a second."""
        return self.count / self.wall_s

    @property
    def cpu_us(self) -> float:
        """Microseconds of processor time for each piece of work."""
        return self.cpu_s / self.count * 1_000_000


@attrs.frozen
class Figures:
    """What several rounds gave."""

    least: float
    middle: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return least, median and most."""
        return cls(min(values), statistics.median(values), max(values))

    def shown(self, form: str = ".2f") -> str:
        """Return `least / median / most`."""
        return " / ".join(format(value, form) for value in (self.least, self.middle, self.most))


def started() -> Callable[[int], Sample]:
    """Return what makes a sample of the time since; threads of this process count, its children do not."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    return lambda count: Sample(count, time.perf_counter() - wall_s, time.process_time() - cpu_s)


@contextmanager
def stopwatch() -> Iterator[Callable[[int], Sample]]:
    """Yield what `started` returns."""
    yield started()


def settle_memory() -> None:
    """Tell the garbage collector what the program tells it, in either side, so that it favours none."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def in_turn(
    rounds: int, sides: Mapping[str, Callable[[], Sample]], tell: Callable[[str], None]
) -> dict[str, list[Sample]]:
    """Measure the sides A B A B, so that whatever else the machine does meets all of them."""
    found: dict[str, list[Sample]] = {name: [] for name in sides}
    width = max(map(len, sides))
    for number in range(1, rounds + 1):
        for name, side in sides.items():
            sample = side()
            found[name].append(sample)
            tell(
                f"  round {number}: {name:<{width}} {sample.rate:>8,.0f}/s  {sample.cpu_us:>8.1f} µs of processor each"
            )
    return found


def ratios(ours: Sequence[Sample], theirs: Sequence[Sample]) -> tuple[Figures, Figures]:
    """Return our rate as a share of theirs, round by round: by the clock, and by processor time."""
    pairs = list(zip(ours, theirs, strict=True))
    return (
        Figures.of([our.rate / their.rate for our, their in pairs]),
        Figures.of([their.cpu_us / our.cpu_us for our, their in pairs]),
    )


def require_equal_digests(found: Mapping[str, Sequence[Sample]]) -> None:
    """Raise AssertionError unless all sides that say what they folded say the same."""
    digests = {name: {sample.more.get("digest") for sample in samples} - {None} for name, samples in found.items()}
    assert len(set().union(*digests.values())) == 1, f"the sides folded different values: {digests}"


def side(module: str, name: str, *arguments: object, python: Path | str = sys.executable) -> Sample:
    """Run `module.name(*arguments)` in a fresh process and return the sample that it returns."""
    order = [str(python), "-m", "benchmarks.side", module, name, *map(str, arguments)]
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(order, cwd=_ROOT, stdout=subprocess.PIPE, stderr=said, timeout=_SIDE_S_MAX, check=False)
        if done.returncode:
            said.seek(0)
            tail = said.read()[-4000:].decode(errors="replace")
            raise RuntimeError(f"{module}.{name} failed with {done.returncode}:\n{tail}")
    return Sample(**json.loads(done.stdout))


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="reconciler-bench-") as folder:
        yield Path(folder)


def load() -> float:
    """Return how many processes wanted to run in the last minute."""
    return os.getloadavg()[0]


def await_calm(tell: Callable[[str], None]) -> None:
    """Wait a little for other work on this machine to end; go on all the same, the load is reported."""
    give_up_s = time.monotonic() + _CALM_S_MAX
    while load() > _CALM_LOAD and time.monotonic() < give_up_s:
        tell(f"  waiting for the machine to calm down (load {load():.1f})")
        time.sleep(15)


def machine() -> str:
    """Name the machine by what matters to a measurement, and by nothing else."""
    model = platform.machine()
    with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory_gib:.0f} GiB of memory, Python {platform.python_version()}"


def peak_mib(pid: int | str = "self") -> float:
    """Return the most memory that a process has had resident; `getrusage` would count what its parent had."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def cpu_s(pid: int) -> float:
    """Return the processor time of a process, and of those children of it that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def disk_mb(path: Path) -> float:
    """Return how much a file, or all below a folder, holds, in millions of bytes."""
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file()) / 1_000_000


@contextmanager
def on_core(number: int) -> Iterator[None]:
    """
    Keep this process, and what it starts meanwhile, on one of two cores; on a machine with one core, do nothing.

    A server on the first core and a worker on the second don't take each other's time.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[number]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def copied(file: Path, to: Path) -> Path:
    """Copy a file and wait until the disk has it, so that nothing measured afterwards waits for that."""
    shutil.copyfile(file, to)
    with to.open("rb+") as copy:
        os.fsync(copy)
    return to


def remove(database: Path) -> None:
    """Remove a SQLite database with what lies beside it."""
    for file in database.parent.glob(f"{database.name}*"):
        file.unlink()
