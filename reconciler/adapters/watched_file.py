"""A file that somebody else may change: it is read again when it has been, and only then."""

from pathlib import Path

import attrs

from reconciler.errors import ConfigError

_BYTES_MAX = 1024 * 1024  # a wrong path must not bring a log file into memory


@attrs.define
class WatchedFile:
    """A text of some kilobytes."""

    path: Path
    _seen: tuple[int, ...] = ()
    _text: str = ""

    def text(self) -> str:
        """Return what the file says now; raises ConfigError."""
        try:
            with self.path.open("rb") as file:
                stat = self.path.stat()
                seen = stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
                if seen == self._seen:
                    return self._text
                content = file.read(_BYTES_MAX + 1)
        except OSError as error:
            raise ConfigError(f"{self.path}: can't be read: {error.strerror or error}") from error
        if len(content) > _BYTES_MAX:
            raise ConfigError(f"{self.path}: has more than {_BYTES_MAX} bytes; is it the right file?")
        try:
            self._text = content.decode()
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self.path}: is not text in UTF-8") from error
        self._seen = seen
        return self._text
