"""
No one opens a file of a database by hand while SQLite has it open in the same process.

POSIX locks belong to the process: closing any descriptor of a file drops every lock that the process holds on it, those
of SQLite too. The next process to come then takes itself for the first one, truncates the shared memory (`-shm`), and
ours dies of SIGBUS. `watch` makes every such opening an error, in all tests; it knows a store by `.db` in its name.
"""

import os
import sys
from pathlib import Path

_LOCKS = (".owner", ".writer")  # ours, with locks that belong to the descriptor
_OPEN = Path("/proc/self/fd")


class OpenedBesideSQLiteError(AssertionError):
    """A file that is open already was opened again: closing it will drop SQLite's locks."""


def watch() -> None:
    """Look at every opening of this process from now on; where there is no /proc, nothing is looked at."""
    if _OPEN.is_dir():
        sys.addaudithook(_look)


def _look(event: str, arguments: tuple[object, ...]) -> None:
    if event != "open" or not isinstance(arguments[0], str | bytes | os.PathLike):
        return
    name = os.fsdecode(arguments[0])
    if ".db" not in name or name.endswith(_LOCKS):
        return
    try:
        sought = os.stat(name)  # noqa: PTH116 - a Path would cost every opening of every test
    except OSError:
        return
    for descriptor in os.listdir(_OPEN):  # noqa: PTH208 - likewise
        try:
            found = os.stat(int(descriptor))  # noqa: PTH116 - likewise
        except (OSError, ValueError):
            continue
        if (found.st_dev, found.st_ino) == (sought.st_dev, sought.st_ino):
            raise OpenedBesideSQLiteError(f"{name} is open in this process already; see tests/openings.py")
