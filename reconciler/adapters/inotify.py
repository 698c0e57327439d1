"""
Tells when files change, by Linux's inotify (`man 7 inotify`), so that no one has to look at them all the time.

It is only a hint that saves time. Other systems have no inotify, and on a network file system it does not see what
other hosts write. So a reader must also look at the file itself from time to time.
"""

import asyncio
import ctypes
import os
import pathlib
import sys

_MODIFIED = 0x2  # IN_MODIFY
_EVENTS_BYTES = 64 * 1024  # read at once; what they say does not matter


class FileChanges:
    """Sets `happened` whenever a watched file is written to. Use it on the event loop."""

    def __init__(self) -> None:
        self.happened = asyncio.Event()
        self._inotify: int | None = None

    @property
    def told(self) -> bool:
        """Whether the system tells of changes."""
        return self._inotify is not None

    def watch(self, path: pathlib.Path) -> None:
        """Watch a file as well; does nothing where that is impossible."""
        if sys.platform != "linux":
            return
        libc = ctypes.CDLL(None)
        if self._inotify is None:
            found = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if found < 0:
                return
            self._inotify = found
            asyncio.get_running_loop().add_reader(found, self._read)
        libc.inotify_add_watch(self._inotify, os.fsencode(path), _MODIFIED)

    def close(self) -> None:
        """Stop watching."""
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify)
            os.close(self._inotify)
            self._inotify = None

    def _read(self) -> None:
        assert self._inotify is not None
        os.read(self._inotify, _EVENTS_BYTES)
        self.happened.set()
