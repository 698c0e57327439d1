"""Which mistakes are made: some of all by a seed, so that a run can be repeated, and none that is no mistake."""

import collections
import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from tests.mutants import operators
from tests.mutants.operators import Mutant

ROOT = Path(__file__).parents[2]
EQUIVALENT = Path(__file__).parent / "equivalent.toml"

TOLD = ("function", "before", "after")  # by which a mutant of a path is known again; lines move

# Most exchanged arguments are of different types: mypy finds them, and each test that reaches the line does.
_WEIGHTS = {"swap": 0.25}


@attrs.frozen
class Equivalent:
    """A mutant that no test can tell from the program, with the reason."""

    path: str
    function: str
    before: str
    after: str
    reason: str

    def is_(self, mutant: Mutant) -> bool:
        """Whether this is about a mutant; lines are not compared, because they move."""
        mine = (self.path, self.function, self.before, self.after)
        return mine == (mutant.path, mutant.function, mutant.before, mutant.after)


def equivalents(path: Path = EQUIVALENT) -> list[Equivalent]:
    """Return the list of mutants that change nothing."""
    return [Equivalent(**one) for one in tomllib.loads(path.read_text()).get("mutant", [])]


def every(paths: Iterable[str], root: Path = ROOT) -> list[Mutant]:
    """Return all mistakes that can be made in some modules."""
    return [one for path in paths for one in operators.mutants(path, (root / path).read_text())]


def chosen(mutants: Iterable[Mutant], count: int, seed: int) -> list[Mutant]:
    """
    Take `count` of them.

    A mutant's chance depends on itself and the seed alone, so that a change elsewhere in the code leaves most of the
    choice as it was.
    """
    twins: collections.Counter[tuple[str, ...]] = collections.Counter()
    ranks: dict[Mutant, float] = {}
    for one in mutants:
        told = (one.path, one.function, one.operator, one.before, one.after)
        twins[told] += 1
        digest = hashlib.sha256("\0".join((str(seed), str(twins[told]), *told)).encode()).digest()
        chance = (int.from_bytes(digest[:8]) + 1) / 2**64
        ranks[one] = chance ** (1 / _WEIGHTS.get(one.operator, 1.0))
    best = sorted(ranks, key=lambda one: (-ranks[one], one))[:count]
    return sorted(best)


def survivors(mutants: Iterable[Mutant], rows: Iterable[Mapping[str, str]]) -> list[Mutant]:
    """Return those that survived, by the results of an earlier run."""
    known = {(row["path"], *(row.get(part) for part in TOLD)) for row in rows if row["end"] == "survived"}
    return [one for one in mutants if (one.path, *(getattr(one, part) for part in TOLD)) in known]


def without(mutants: Iterable[Mutant], same: Iterable[Equivalent]) -> list[Mutant]:
    """Leave out those that change nothing."""
    known = list(same)
    return [one for one in mutants if not any(equivalent.is_(one) for equivalent in known)]


def stale(mutants: Iterable[Mutant], same: Iterable[Equivalent]) -> list[Equivalent]:
    """Return what is listed as equivalent but is no mutant of today's code."""
    today = list(mutants)
    return [one for one in same if not any(one.is_(mutant) for mutant in today)]


def targets(mapping: Mapping[str, tuple[str, ...]], only: str) -> list[str]:
    """Return the modules whose path contains a text."""
    return [path for path in mapping if only in path]
