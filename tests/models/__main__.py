"""`python -m tests.models`: search every world and say what was found; `--only TEXT` those with a name that has it."""

import argparse
import sys
import time

from tests.models.explore import explore
from tests.models.runs import RUNS


def main() -> int:
    """Search the worlds; return 1 if one does not end as it should."""
    parser = argparse.ArgumentParser(prog="python -m tests.models", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--way", action="store_true", help="show the shortest way to each broken promise")
    given = parser.parse_args()
    wrong = 0
    for run in RUNS:
        if given.only not in run.name:
            continue
        began_s = time.process_time()
        found = explore(run.model)
        right = run.ends_right(found)
        wrong += not right
        seconds, broken = time.process_time() - began_s, "; ".join(found.broken) or "holds"
        said = f"{run.name}: {broken} ({found.states:,} states, {seconds:.1f} s)"
        print(said if right else f"WRONG {said}", flush=True)
        if given.way or not right:
            for promise, way in found.broken.items():
                print(f"    {promise}: {' > '.join(way)}")
    return int(bool(wrong))


sys.exit(main())
