"""Run crashes from the command line: `python -m tests.crash --kills 300 --seed 1`."""

import argparse
import asyncio
import json
import pickle
import sys
from pathlib import Path

from tests import brokers
from tests.crash import checks, plan, runner
from tests.crash.launch import COUNT_COPIES
from tests.crash.runner import Options, Tally
from tests.sim import mutants


def main() -> int:
    """Return 0 if no promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--mutant", choices=(*mutants.FOUND, COUNT_COPIES), help="make a known mistake")
    parser.add_argument("--at", action="append", choices=sorted({*plan.all_kinds()}), help="die in this way only")
    parser.add_argument("--keep", action="store_true", help="keep the folder though nothing was broken")
    parser.add_argument("--judge", type=Path, metavar="FOLDER", help="judge once more what a run has kept")
    given = parser.parse_args()
    if given.judge:
        evidence = pickle.loads((given.judge / "evidence.pickle").read_bytes())
        violations, _ = asyncio.run(checks.check(evidence, given.judge))
        print(*violations, sep="\n")
        return 1 if violations else 0
    options = runner.Options(given.seed, given.kills, given.mutant, tuple(given.at or ()))
    broker = brokers.choose()
    broker.start()
    try:
        tally = asyncio.run(runner.run(options, broker, keep=given.keep))
    finally:
        broker.stop()
    print(json.dumps(summary(tally) | {"broker": broker.name}, indent=1))
    report(options, tally)
    return 1 if tally.violations else 0


def summary(tally: Tally) -> dict[str, object]:
    """What a run came to."""
    return {
        "seed": tally.seed,
        "kills": tally.kills.total(),
        "lives": tally.lives,
        "ended in order": tally.in_order,
        "seconds": round(tally.seconds),
        "kills by point": dict(sorted(tally.kills.items())),
        **tally.counts,
        "violations": len(tally.violations),
    }


def report(options: Options, tally: Tally) -> None:
    """Say what was broken, and where to look."""
    for violation in tally.violations[:20]:
        print(f"VIOLATION {violation}", file=sys.stderr)
    if tally.folder:
        print(
            f"seed {options.seed}, commit {runner.commit()}; store, history, topics and stderr are in {tally.folder}\n"
            f"the same plan again: {runner.command(options)}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    sys.exit(main())
