"""The file systems that hold what we write, and how much of them is free."""

import os
from collections.abc import Mapping
from pathlib import Path

from reconciler.model.standing import Space


def spaces(paths: Mapping[str, Path]) -> list[Space]:
    """Return the space of each path, a file or a directory, by what it holds; those that are not there are left out."""
    found = []
    for what, path in paths.items():
        try:
            told = os.statvfs(path if path.exists() else path.parent)
        except OSError:
            continue
        found.append(Space(what, str(path), told.f_bavail * told.f_frsize, told.f_blocks * told.f_frsize))
    return found
