"""
Files: reading again those that others change, and making our own so that only their owner can read them.

What we write holds documents' metadata, so the mode does not depend on the umask. A file that exists keeps its mode,
since a person may have chosen it; `exposed` reports such files.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import attrs

from reconciler.errors import ConfigError
from reconciler.model import limits

_BYTES_MAX = 1024 * 1024  # a wrong path must not bring a log file into memory


@attrs.define
class WatchedFile:
    """A text of some kilobytes, which is read again only when the file has changed."""

    path: Path
    _seen: tuple[int, ...] = ()
    _text: str = ""

    def text(self) -> str:
        """Return what the file says now; raises ConfigError."""
        try:
            with self.path.open("rb") as file:
                stat = os.fstat(file.fileno())  # of what we read, should another file take its name right now
                seen = stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
                if seen == self._seen:
                    return self._text
                content = file.read(_BYTES_MAX + 1)
        except OSError as error:
            raise ConfigError(f"{self.path}: can't be read: {error.strerror or error}") from error
        if len(content) > _BYTES_MAX:
            raise ConfigError(f"{self.path}: has more than {limits.size(_BYTES_MAX)}; is it the right file?")
        try:
            self._text = content.decode()
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self.path}: is not text in UTF-8") from error
        self._seen = seen
        return self._text

    def changes(self) -> Callable[[], bool]:
        """Return what tells whether the text has changed since it was last asked, or has come or gone."""

        def now() -> str | None:
            try:
                return self.text()
            except ConfigError:
                return None  # whoever reads it then says why

        known = now()

        def changed() -> bool:
            nonlocal known
            before, known = known, now()
            return before != known

        return changed


# -------------------------------------------------------------------------------------------------------- private files


MODE = 0o600
_OTHERS = 0o077


def opened(path: Path, flags: int) -> int:
    """Open a file, and make it if it is not there; raises OSError. Returns a descriptor that children don't inherit."""
    return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, MODE)


def make(path: Path) -> None:
    """Make an empty file where there is none. Errors are ignored: opening it next explains them better."""
    with contextlib.suppress(OSError):
        os.close(opened(path, os.O_WRONLY | os.O_EXCL))


def beside(path: Path, suffix: str) -> Path:
    """Return the file whose name is that of `path` and a suffix."""
    return path.with_name(path.name + suffix)


def sync(path: Path) -> None:
    """Force a file, or a directory's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def exposed(paths: Iterable[Path]) -> list[str]:
    """Return those of the files that others than their owner may read or write, each with its mode."""
    found = []
    for path in paths:
        try:
            mode = path.stat().st_mode & 0o777
        except OSError:
            continue
        if mode & _OTHERS:
            found.append(f"{path} ({mode:04o})")
    return found
