"""
`python -m tests.fuzz [--minutes N] [TARGET …]`: fuzz for a while, on one processor, and say what was tried.

Hypothesis goes round all tests of this folder with more examples than CI. Where atheris is installed it gets half of
the time: it follows coverage through our own modules, and keeps what led it further in `.cache/fuzz/`.
"""

import argparse
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
GROWN = ROOT / ".cache" / "fuzz"
NAMES = ("record", "headers", "reply", "outcome")
EXAMPLES = 2000  # of each test in one round
INPUT_BYTES_MAX = 20_000


def main() -> int:
    """Fuzz; 1 when something was found."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Look for input that is not met as it should be.")
    parser.add_argument("names", nargs="*", metavar="TARGET", help=f"for atheris: {', '.join(NAMES)}; default: all")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)  # this process is atheris' own
    given = parser.parse_args()
    if given.inside:
        _inside(given.names[0], round(given.minutes * 60))
    guided = importlib.util.find_spec("atheris") is not None
    print(
        f"atheris and Hypothesis, {given.minutes:g} minutes" if guided else "Hypothesis alone: atheris is not installed"
    )
    names = given.names or NAMES
    share = given.minutes / 2 / len(names) if guided else 0.0
    found = [name for name in names if guided and not _guided(name, share)]
    passed = _rounds(given.minutes - share * len(names))
    for name in found:
        print(f"found: see {GROWN / name}.finds/")
    return 0 if passed and not found else 1


def _rounds(minutes: float) -> bool:
    """Let Hypothesis go round until the time is over; whether it found nothing."""
    end_s, number = time.monotonic() + minutes * 60, 0
    while time.monotonic() < end_s:
        number += 1
        order = [sys.executable, "-m", "pytest", "tests/fuzz", "-q", "--timeout=3600", "--hypothesis-show-statistics"]
        environ = os.environ | {"FUZZ_EXAMPLES": str(EXAMPLES)}
        done = subprocess.run(order, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
        examples = sum(map(int, re.findall(r"(\d+) passing,", done.stdout)))
        print(f"Hypothesis, round {number}: {examples:,} examples passed", flush=True)
        if done.returncode:
            print(done.stdout[-8000:])
            return False
    return True


def _guided(name: str, minutes: float) -> bool:
    """Let atheris work on one target in a process of its own; whether it found nothing."""
    order = [sys.executable, "-m", "tests.fuzz", name, "--inside", "--minutes", str(minutes)]
    done = subprocess.run(order, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    runs = re.findall(r"^(?:stat::number_of_executed_units:\s*|Done )(\d+)", done.stderr, re.MULTILINE)
    print(f"atheris, {name}: {int(runs[-1]) if runs else 0:,} inputs", flush=True)
    if done.returncode:
        print(done.stderr[-6000:])
    return done.returncode == 0


def _inside(name: str, seconds: int) -> None:
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]  # optional, and without types

    with atheris.instrument_imports(include=["reconciler"]):
        from tests.fuzz import targets
    folder, finds = GROWN / name, GROWN / f"{name}.finds"
    for each in (folder, finds):
        each.mkdir(parents=True, exist_ok=True)
    (GROWN / ".gitignore").write_text("*\n", encoding="utf-8")
    for text in targets.seeds(name):
        (folder / hashlib.sha256(text).hexdigest()[:16]).write_bytes(text)
    options = [f"-max_total_time={seconds}", f"-max_len={INPUT_BYTES_MAX}", "-timeout=20", "-rss_limit_mb=4096"]
    options += ["-print_final_stats=1", f"-artifact_prefix={finds}/", str(folder)]
    atheris.Setup([sys.argv[0], *options], targets.TARGETS[name][0])
    atheris.Fuzz()


if __name__ == "__main__":
    raise SystemExit(main())
