"""Nearest: which known name somebody probably meant."""

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like `name`, `None` when none is."""
    meant = name.lower()
    alike = difflib.get_close_matches(meant, list(known), n=3)
    # By common letters alone, `ce_file` is more like `cert_file` than like `ca_file`.
    return min(alike, key=lambda one: _slips(meant, one), default=None)


def _slips(left: str, right: str) -> int:
    """Return how many letters are too many, too few, wrong or swapped (optimal string alignment)."""
    above: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        before, above, row = above, row, [i]
        for j, b in enumerate(right, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and b == left[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
    return row[-1]


def among(name: str, known: Iterable[str]) -> str:
    """Return advice for an unknown name: the closest known one, or else all of them."""
    names = list(known)
    found = closest(name, names)
    return f"did you mean {found}?" if found else f"known are {', '.join(names)}"
