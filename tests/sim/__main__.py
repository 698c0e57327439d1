"""Run worlds from the command line: one seed with its trace, or many on all processors."""

import argparse
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.sim import mutants, options, runner

_SHOWN = 60  # lines of the trace before a violation


def main() -> int:
    """Return 0 if no promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--many", type=int, default=1, help="how many seeds, from the first one on")
    parser.add_argument("--steps", type=int, default=runner.STEPS, help="how many things happen before the faults stop")
    parser.add_argument("--mutant", choices=mutants.FOUND, help="make a known mistake")
    parser.add_argument("--crash-at", type=int, help="die before this effect (after it, if negative) and nowhere else")
    parser.add_argument("--cut-at", type=int, help="lose power at this I/O of SQLite and nowhere else")
    parser.add_argument("--fail-at", type=int, help="fail at this I/O of SQLite and nowhere else")
    parser.add_argument("--store", choices=("memory", "sqlite"), help="instead of the one that the seed stands for")
    parser.add_argument("--guard", choices=("token", "lock"), help="instead of the one that the seed stands for")
    parser.add_argument(
        "--rate", action="append", type=_rate, default=[], metavar="FAULT=RATE", help="how often a fault strikes"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--trace", action="store_true", help="print everything that happened")
    given = parser.parse_args()
    overrides = {
        name: value
        for name in ("crash_at", "cut_at", "fail_at", "store", "guard")
        if (value := getattr(given, name)) is not None
    }
    world: partial[runner.Verdict] = partial(
        runner.run, steps=given.steps, mutant=given.mutant, rates=dict(given.rate), **overrides
    )
    if given.many == 1:
        verdict = world(given.seed)
        report(verdict, trace=given.trace)
        print(f"seed {given.seed}: {'broken' if verdict.violation else 'kept'}, trace {verdict.digest}")
        return 1 if verdict.violation else 0
    return many(world, given)


def many(world: partial[runner.Verdict], given: argparse.Namespace) -> int:
    """Run many seeds and say what they came to."""
    began_s = time.monotonic()
    seeds = range(given.seed, given.seed + given.many)
    with ProcessPoolExecutor(given.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        verdicts = []
        for verdict in pool.map(world, seeds, chunksize=8):
            if verdict.violation:
                report(verdict, trace=False)
            verdicts.append(runner.without_trace(verdict))
    print(json.dumps(runner.summary(verdicts) | {"seconds": round(time.monotonic() - began_s)}, indent=1))
    return 1 if any(verdict.violation for verdict in verdicts) else 0


def report(verdict: runner.Verdict, *, trace: bool) -> None:
    """Print what was broken and how to see it again."""
    if trace or verdict.violation:
        print(*(verdict.trace if trace else verdict.trace[-_SHOWN:]), sep="\n")
    if verdict.violation:
        told = (verdict.violation, runner.described(verdict.options), f"commit: {runner.commit()}")
        print(*told, f"replay: {runner.command(verdict)}", sep="\n", file=sys.stderr)


def _rate(text: str) -> tuple[str, float]:
    name, _, rate = text.partition("=")
    if name not in options.RATES_MAX:
        raise argparse.ArgumentTypeError(f"no fault {name!r}; there are {', '.join(options.RATES_MAX)}")
    return name, float(rate)


if __name__ == "__main__":
    sys.exit(main())
