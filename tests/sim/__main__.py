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
    parser.add_argument("--mutant", choices=mutants.NAMES, help="make a known mistake")
    parser.add_argument("--crash-at", type=int, help="die before this effect (after it, if negative) and nowhere else")
    parser.add_argument("--cut-at", type=int, help="lose power at this I/O of SQLite and nowhere else")
    parser.add_argument("--fail-at", type=int, help="fail at this I/O of SQLite and nowhere else")
    parser.add_argument("--store", choices=("memory", "sqlite"), help="instead of the one that the seed stands for")
    parser.add_argument("--several", action="store_true", help="let several processes share the store")
    parser.add_argument("--guard", choices=("token", "lock"), help="instead of the one that the seed stands for")
    parser.add_argument(
        "--rate", action="append", type=_rate, default=[], metavar="FAULT=RATE", help="how often a fault strikes"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--trace", action="store_true", help="print everything that happened")
    given = parser.parse_args()
    overrides = {
        name: value
        for name in ("crash_at", "cut_at", "fail_at", "store", "guard", "several")
        if (value := getattr(given, name)) not in (None, False)
    }
    world: partial[runner.WorldResult] = partial(
        runner.run, steps=given.steps, mutant=given.mutant, rates=dict(given.rate), **overrides
    )
    if given.many == 1:
        world_result = world(given.seed)
        report(world_result, trace=given.trace)
        print(f"seed {given.seed}: {'broken' if world_result.violation else 'kept'}, trace {world_result.digest}")
        return 1 if world_result.violation else 0
    return many(world, given)


def many(world: partial[runner.WorldResult], given: argparse.Namespace) -> int:
    """Run many seeds and say what they came to."""
    began_s = time.monotonic()
    seeds = range(given.seed, given.seed + given.many)
    with ProcessPoolExecutor(given.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        world_results = []
        for world_result in pool.map(world, seeds, chunksize=8):
            if world_result.violation:
                report(world_result, trace=False)
            world_results.append(runner.without_trace(world_result))
    print(json.dumps(runner.summary(world_results) | {"seconds": round(time.monotonic() - began_s)}, indent=1))
    return 1 if any(world_result.violation for world_result in world_results) else 0


def report(world_result: runner.WorldResult, *, trace: bool) -> None:
    """Print what was broken and how to see it again."""
    if trace or world_result.violation:
        print(*(world_result.trace if trace else world_result.trace[-_SHOWN:]), sep="\n")
    if world_result.violation:
        told = (world_result.violation, runner.described(world_result.options), f"commit: {runner.commit()}")
        print(*told, f"replay: {runner.command(world_result)}", sep="\n", file=sys.stderr)


def _rate(text: str) -> tuple[str, float]:
    name, _, rate = text.partition("=")
    if name not in options.RATES_MAX:
        raise argparse.ArgumentTypeError(f"no fault {name!r}; there are {', '.join(options.RATES_MAX)}")
    return name, float(rate)


if __name__ == "__main__":
    sys.exit(main())
