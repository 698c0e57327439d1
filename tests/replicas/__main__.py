"""Run several replicas from the command line: `python -m tests.replicas --rounds 200 --seed 1`."""

import argparse
import asyncio
import json
import sys

from tests.replicas import crowd, rollout


def main() -> int:
    """Return 0 if no promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.replicas", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--keep", action="store_true", help="keep the folder though nothing was broken")
    parser.add_argument("--failovers", action="store_true", help="let PostgreSQL fail over as well, and lose commits")
    parser.add_argument("--rollout", action="store_true", help="replace each replica in turn, instead of any rounds")
    given = parser.parse_args()
    kinds = (*crowd.KINDS, crowd.FAILOVER) if given.failovers else ()
    rounds = crowd.Options(given.seed, rounds=given.rounds, kinds=kinds)
    tally = asyncio.run(rollout.run(keep=given.keep) if given.rollout else crowd.run(rounds, keep=given.keep))
    shown = {"seed": tally.seed, "rounds": tally.kills.total(), "seconds": round(tally.seconds), "lives": tally.lives}
    print(json.dumps(shown | dict(sorted(tally.kills.items())) | tally.counts, indent=1))
    for violation in tally.violations[:20]:
        print(f"VIOLATION {violation}", file=sys.stderr)
    if tally.folder:
        print(f"verdict, history, topics, store and stderr are in {tally.folder}", file=sys.stderr)
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
