"""
Files that only their owner may read: what we make holds documents' metadata, whatever the umask says.

A file that is there already keeps its mode, since somebody may have chosen it; `exposed` tells of it.
"""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

MODE = 0o600
_OTHERS = 0o077


def opened(path: Path, flags: int) -> int:
    """Open a file, and make it if it is not there; raises OSError. Returns a descriptor that children don't inherit."""
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, MODE)


def make(path: Path) -> None:
    """Make an empty file where there is none. Whatever prevents it, whoever opens the file next says it better."""
    with contextlib.suppress(OSError):
        os.close(opened(path, os.O_WRONLY | os.O_EXCL))


def exposed(paths: Iterable[Path]) -> list[str]:
    """Return which of these files others than their owner may read or write, each with its mode."""
    found = []
    for path in paths:
        try:
            mode = path.stat().st_mode & 0o777
        except OSError:
            continue
        if mode & _OTHERS:
            found.append(f"{path} ({mode:04o})")
    return found
