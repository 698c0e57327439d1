"""Nearest: which known name somebody probably meant."""

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like `name`, `None` when none is."""
    return next(iter(difflib.get_close_matches(name.lower(), list(known), n=1)), None)


def among(name: str, known: Iterable[str]) -> str:
    """Return advice for an unknown name: the closest known one, or else all of them."""
    names = list(known)
    found = closest(name, names)
    return f"did you mean {found}?" if found else f"known are {', '.join(names)}"
