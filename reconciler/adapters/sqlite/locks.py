"""
Advisory locks on files beside the database: who owns the store, and who is at the end of its log.

They go by name, as SQLite's own files beside it do. So a database has one name here: symbolic links are followed to it
(`real`), and one that has a second name, or is mounted as a file, is not written to (`require_one_name`).

The owner's file also says how the last owner left the store, which decides how closely the next one looks at it.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.adapters import files
from reconciler.errors import StoreError, StoreFullError

# What an owner notes; nothing is noted before there is a store.
OPEN = "open"  # at work, or ended without closing
CLOSED = "closed"  # closed in good order
REPLACING = "replacing"  # the file is being set aside for another one
LOST = "lost"  # its write-ahead log had lost commits, which is to be seen only once

_NOTE_BYTES = 32  # always as long, so that a note is overwritten in place: that takes no room on a full disk


class FileLock:
    """A lock on a file of its own. The kernel lets go of it when the process ends, however it ends."""

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
        """Take the lock if nobody has it; return whether we have it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Let go of the lock, and keep the file for the next time."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of lock and file."""
        os.close(self._file)


class Ownership(FileLock):
    """The owner's lock. `found` is what the last owner noted, "" if there was none."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._holder, _, self.found = os.pread(self._file, _NOTE_BYTES, 0).decode("ascii", "replace").partition("\n")
        self.found = self.found.strip()

    @property
    def holder(self) -> str:
        """Return the process id of whoever had the lock when we came."""
        return self._holder.strip() or "unknown"

    def note(self, how: str) -> None:
        """Note durably, beside our process id, how the store is left if nothing more is noted."""
        try:
            os.pwrite(self._file, f"{os.getpid()}\n{how}\n".ljust(_NOTE_BYTES - 1).encode() + b"\n", 0)
            os.fsync(self._file)
        except OSError as error:
            kind = StoreFullError if error.errno == errno.ENOSPC else StoreError
            raise kind(f"can't write {self.path}: {error.strerror}; see to its disk, then start again") from error


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock for one block."""
    lock = FileLock(path)
    try:
        lock.take()
        yield
    finally:
        lock.close()


@contextmanager
def owned(path: Path) -> Iterator[Ownership]:
    """Own a store for one block, without opening it."""
    ownership = claim(path)
    try:
        yield ownership
    finally:
        ownership.close()


def real(path: Path) -> Path:
    """Return the file that a name leads to; the same name where it is no symbolic link."""
    return path.resolve() if path.is_symlink() else path


def require_one_name(path: Path) -> None:
    """Raise StoreError if a file could be opened under another name, beside which there are other locks."""
    try:
        links = path.stat().st_nlink
    except OSError:  # whoever opens it says what is wrong
        return
    why = ""
    if links > 1:
        why = f"has another name (a hard link); find it with `find / -samefile {path}` and remove it"
    elif os.fsencode(path.resolve()) in _mounts():
        why = "is mounted as a single file; mount the directory that it is in"
    if why:
        raise StoreError(f"{path} {why}: under two names two reconcilers could write to it at once")


def _mounts() -> frozenset[bytes]:
    """Return where something is mounted, as Linux says it; elsewhere nothing is known."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return frozenset()
    return frozenset(line.split(b" ")[4].decode("unicode_escape").encode("latin-1") for line in lines)


def claim(path: Path) -> Ownership:
    """Return the owner's lock on a store, with our process id written in it; refuse when somebody else has it."""
    require_one_name(path)
    lock = Ownership(owner_path(path))
    try:
        if not lock.take_at_once():
            raise StoreError(
                f"{path} is in use by another reconciler (pid {lock.holder}); stop it, or use another [store] url"
            )
        lock.note(lock.found)
    except BaseException:
        lock.close()
        raise
    return lock


def owner_path(path: Path) -> Path:
    """Return the file whose lock is held by the owner."""
    return path.with_name(path.name + ".owner")


def writer_path(path: Path) -> Path:
    """Return the file whose lock is held by whoever writes as a guest or checkpoints."""
    return path.with_name(path.name + ".writer")
