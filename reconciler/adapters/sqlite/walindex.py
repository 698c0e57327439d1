"""
How far a write-ahead log went: what the file of shared memory beside it (`-shm`) says.

Theory. After a kill, SQLite takes of the log what its checksums vouch for and says nothing of the rest, because a
commit that was never finished looks the same. But the shared memory, which outlives the process, says how far commits
went: it is written after a commit's sync, so it never promises too much. If the log then has less, commits that were
acknowledged are gone. (After a power cut that file is old or gone as well, and then it proves nothing.)

The layout is that of https://www.sqlite.org/walformat.html, in native byte order.
"""

import struct
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


def extent(path: Path) -> Extent | None:
    """Return how far the log of a database goes; `None` where nothing says so."""
    try:
        with path.with_name(path.name + "-shm").open("rb") as file:
            content = file.read(2 * _HEADER.size + _BACKFILLED.size)
    except OSError:
        return None
    if len(content) < 2 * _HEADER.size + _BACKFILLED.size:
        return None
    first, second = content[: _HEADER.size], content[_HEADER.size : 2 * _HEADER.size]
    version, _, _, initialised, _, _, frames, _, _, _, salt, _, _ = _HEADER.unpack(first)
    if first != second or version != _VERSION or not initialised:
        return None
    return Extent(salt, frames, *_BACKFILLED.unpack_from(content, 2 * _HEADER.size))
