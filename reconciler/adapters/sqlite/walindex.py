"""
How far a write-ahead log went: what the file of shared memory beside it (`-shm`) says.

Theory. After a kill, SQLite takes of the log what its checksums vouch for and says nothing of the rest, because a
commit that was never finished looks the same. But the shared memory, which outlives the process, says how far commits
went: it is written after a commit's sync, so it never promises too much. If the log then has less, commits that were
acknowledged are gone. (After a power cut that file is old or gone as well, and then it proves nothing.)

POSIX locks belong to the process: closing any descriptor of a file drops those that SQLite holds on it, and the next
process to come truncates this one under us. So it is opened before SQLite is, and closed after it.

The layout is that of https://www.sqlite.org/walformat.html, in native byte order.
"""

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

_HEADER = struct.Struct("=III BBH II 2I 8s 2I")  # version, –, change, initialised, –, page size, frames, pages, …
_BACKFILLED = struct.Struct("=I")  # the first number behind the two copies of the header
_VERSION = 3_007_000
_NO_SALT = bytes(8)  # of a log that is empty, or whose own header is none


@attrs.frozen
class Extent:
    """How far the log goes: frames of which generation, and how many of them are in the database already."""

    salt: bytes
    frames: int
    backfilled: int

    def lost_in(self, now: "Extent | None") -> bool:
        """Whether the log as it is `now` lacks commits of this one that are in the database only partly, or not."""
        if self.frames <= self.backfilled:
            return False
        if now is None or now.salt == _NO_SALT:
            return True
        if now.salt == self.salt:
            return now.frames < self.frames
        return not self._followed_by(now)

    def _followed_by(self, now: "Extent") -> bool:
        """Whether that is a later generation: one begins when all of the one before is in the database."""
        step = int.from_bytes(now.salt[:4], "big") - int.from_bytes(self.salt[:4], "big")
        return 0 < step % 2**32 < 2**31


@contextmanager
def watched(path: Path) -> Iterator[Callable[[], Extent | None]]:
    """
    Yield what returns how far the log of a database goes at that moment; `None` where nothing says so.

    Enter before SQLite opens the database in this process, and leave after it has closed it.
    """
    try:
        file = os.open(path.with_name(path.name + "-shm"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield lambda: None
        return
    try:
        yield lambda: _extent(file)
    finally:
        os.close(file)


def _extent(file: int) -> Extent | None:
    try:
        content = os.pread(file, 2 * _HEADER.size + _BACKFILLED.size, 0)
    except OSError:
        return None
    if len(content) < 2 * _HEADER.size + _BACKFILLED.size:
        return None
    first, second = content[: _HEADER.size], content[_HEADER.size : 2 * _HEADER.size]
    version, _, _, initialised, _, _, frames, _, _, _, salt, _, _ = _HEADER.unpack(first)
    if first != second or version != _VERSION or not initialised:
        return None
    return Extent(salt, frames, *_BACKFILLED.unpack_from(content, 2 * _HEADER.size))
