"""
`make mutants`: make chosen mistakes one at a time, and say which of them no test has noticed.

Exit status 0 when every named bug and the wanted share of chosen mutants are caught, 1 otherwise.
"""

import argparse
import collections
import json
import sys
import time
from pathlib import Path

from tests.mutants import bugs, choosing, running
from tests.mutants.operators import Mutant
from tests.mutants.running import End, Result, Trial
from tests.mutants.targets import TESTS

WANTED = 0.95


def main() -> int:
    """Choose, run, tell."""
    given = _arguments()
    paths = choosing.targets(TESTS, given.only)
    same = choosing.equivalents()
    every = choosing.every(paths)
    mutants = choosing.chosen(choosing.without(every, same), given.count, given.seed)
    if given.again:
        mutants = choosing.survivors(mutants, json.loads(given.again.read_text()))
    named = [bug for bug in bugs.BUGS if given.only in bug.path or given.only == bug.name]
    if given.show:
        for one in mutants:
            print(f"{one.place} {one.function}\n{one.diff((choosing.ROOT / one.path).read_text())}\n")
        return 0
    for old in choosing.stale(every, [one for one in same if one.path in paths]):
        print(f"listed as equivalent, but no mutant any more: {old.path} {old.function}: {old.before}")
    print(f"{len(named)} named bugs, {len(mutants)} of {len(every)} mutants, seed {given.seed}", flush=True)
    trials = {_trial(one): one for one in mutants}
    began_s = time.monotonic()
    results: list[Result] = []

    def told(one: Result) -> None:
        print(f"{one.end:24} {one.trial.name:60} {one.test}", flush=True)
        results.append(one)
        if given.output:  # after each, since all of them take an hour
            _written(given.output, results, trials)

    running.run([*(_bug(bug) for bug in named), *trials], choosing.ROOT, workers=given.workers, told=told)
    survivors = [one for one in results if one.end is End.SURVIVED]
    for survivor in survivors:
        print(f"\nsurvived: {_told(survivor, trials)}")
    print(f"\n{_table(results, trials)}\n{time.monotonic() - began_s:.0f} s")
    caught = len(mutants) - sum(one.trial in trials for one in survivors)
    no_bug = all(one.trial in trials for one in survivors)
    return 0 if no_bug and caught >= WANTED * len(mutants) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mutants", description="Make mistakes on purpose; the tests must notice.")
    parser.add_argument("--count", type=int, default=200, help="how many of all mutants; 0: only the named bugs")
    parser.add_argument("--seed", type=int, default=1, help="which ones; the same seed takes the same")
    parser.add_argument("--only", default="", help="a part of a module's path, or the name of a bug")
    parser.add_argument("--workers", type=int, default=2, help="how many at a time")
    parser.add_argument("--output", type=Path, help="where to write the results, as JSON")
    parser.add_argument("--again", type=Path, help="only those that survived in such a file")
    parser.add_argument("--show", action="store_true", help="show the chosen mutants, and run nothing")
    return parser.parse_args()


def _trial(one: Mutant) -> Trial:
    source = (choosing.ROOT / one.path).read_text()
    return Trial(f"{one.place} {one.operator}", one.path, one.planted(source), TESTS[one.path])


def _bug(bug: bugs.Bug) -> Trial:
    source = (choosing.ROOT / bug.path).read_text()
    return Trial(bug.name, bug.path, bug.planted(source), bug.tests or TESTS[bug.path])


def _told(one: Result, trials: dict[Trial, Mutant]) -> str:
    mutant = trials.get(one.trial)
    if mutant is None:
        return f"the bug {one.trial.name}"
    source = (choosing.ROOT / mutant.path).read_text()
    return f"{mutant.place} {mutant.function}\n{mutant.diff(source)}"


def _table(results: list[Result], trials: dict[Trial, Mutant]) -> str:
    rows: dict[str, collections.Counter[End]] = collections.defaultdict(collections.Counter)
    for one in results:
        rows[one.trial.path if one.trial in trials else "named bugs"][one.end] += 1
        if one.trial in trials:
            rows["all mutants"][one.end] += 1
    lines = ["| module | mutants | caught | survived | share |", "|---|---|---|---|---|"]
    for name, ends in sorted(rows.items(), key=lambda row: (not row[0].startswith("reconciler"), row[0])):
        count, survived = ends.total(), ends[End.SURVIVED]
        share = (count - survived) / count
        lines.append(
            f"| {name.removeprefix('reconciler/')} | {count} | {count - survived} | {survived} | {share:.1%} |"
        )
    return "\n".join(lines)


def _written(path: Path, results: list[Result], trials: dict[Trial, Mutant]) -> None:
    rows = []
    for one in results:
        mutant = trials.get(one.trial)
        told = {"name": one.trial.name, "path": one.trial.path, "end": one.end, "test": one.test}
        rows.append(told if mutant is None else told | {part: getattr(mutant, part) for part in choosing.TOLD})
    path.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    sys.exit(main())
