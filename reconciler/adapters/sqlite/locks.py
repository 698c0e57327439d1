"""
Advisory locks on files beside the database: who owns the store, and who writes at the end of its log.

They are found by name, as SQLite's own files beside the database are. So a database must have one name: symbolic links
are followed (`real`), and a file with a second name, or mounted on its own, is not written to (`require_one_name`).

The owner's file also notes how the last owner left the store, which decides how closely the next one checks it.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.adapters import files
from reconciler.errors import StoreError, StoreFullError

# What an owner notes; there is no note before there is a store.
OPEN = "open"  # in use, or its owner ended without closing it
CLOSED = "closed"  # closed properly
REPLACING = "replacing"  # another file is being put in its place
LOST = "lost"  # its write-ahead log had lost commits; only the first look can find that out

_NOTE_BYTES = 32  # always this long: a note that is overwritten in place fits on a full disk


_TRIES = 1_000  # to become the owner: some milliseconds


class FileLock:
    """A lock on a file of its own. The kernel releases it when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = files.opened(path, os.O_RDWR)
        except OSError as error:
            hint = "make its directory writable" if path.parent.is_dir() else f"make the directory {path.parent} first"
            raise StoreError(f"can't lock {path}: {error.strerror}; {hint}") from error

    def take(self) -> None:
        """Wait for the lock."""
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def take_at_once(self) -> bool:
        """Take the lock if it is free; return whether we have it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Release the lock; keep the file open for the next time."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release the lock and close the file, once."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


class Ownership(FileLock):
    """The owner's lock. `found` is what the last owner noted, "" without one."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._holder, _, self.found = os.pread(self._file, _NOTE_BYTES, 0).decode("ascii", "replace").partition("\n")
        self.found = self.found.strip()

    @property
    def holder(self) -> str:
        """Return the process id of the last owner, who still has the lock if we could not take it."""
        return self._holder.strip() or "unknown"

    def note(self, how: str) -> None:
        """Write durably how the store is, beside our process id."""
        try:
            os.pwrite(self._file, f"{os.getpid()}\n{how}\n".ljust(_NOTE_BYTES - 1).encode() + b"\n", 0)
            os.fsync(self._file)
        except OSError as error:
            kind = StoreFullError if error.errno == errno.ENOSPC else StoreError
            raise kind(f"can't write {self.path}: {error.strerror}; check its disk, then start again") from error


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock for one block."""
    lock = FileLock(path)
    try:
        lock.take()
        yield
    finally:
        lock.close()


def real(path: Path) -> Path:
    """Return the file that a name leads to; the same name where it is no symbolic link."""
    return path.resolve() if path.is_symlink() else path


def require_one_name(path: Path) -> None:
    """Raise StoreError if a file has another name: the locks beside that one would be others."""
    try:
        links = path.stat().st_nlink
    except OSError:  # opening it will say what is wrong
        return
    why = ""
    if links > 1:
        why = f"has another name (a hard link); find it with `find / -samefile {path}` and remove it"
    elif os.fsencode(path.resolve()) in _mounts():
        why = "is mounted as a single file; mount the directory that it is in"
    if why:
        raise StoreError(f"{path} {why}: under two names two reconcilers could write to it at once")


def _mounts() -> frozenset[bytes]:
    """Return all mount points; on Linux only."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return frozenset()
    return frozenset(line.split(b" ")[4].decode("unicode_escape").encode("latin-1") for line in lines)


def claim(path: Path) -> Ownership:
    """Take the owner's lock on a store and write our process id into it; StoreError while another process has it."""
    require_one_name(path)
    lock = Ownership(owner_path(path))
    try:
        tries = 0
        while not lock.take_at_once():
            tries += 1
            if tries == _TRIES:
                raise StoreError(
                    f"{path} is in use by another reconciler (pid {lock.holder}); stop it, or use another [store] url"
                )
            os.sched_yield()  # perhaps someone only asks for the owner (`owner_of`), which takes microseconds
        lock.note(lock.found)
    except BaseException:
        lock.close()
        raise
    return lock


def owner_of(path: Path) -> str:
    """Return the process id of a store's owner, "" if there is none."""
    lock = Ownership(owner_path(path))
    try:
        return "" if lock.take_at_once() else lock.holder
    finally:
        lock.close()


def owner_path(path: Path) -> Path:
    """Return the file that the owner locks."""
    return files.beside(path, ".owner")


def writer_path(path: Path) -> Path:
    """Return the file that guests lock to write, and the owner to checkpoint."""
    return files.beside(path, ".writer")
