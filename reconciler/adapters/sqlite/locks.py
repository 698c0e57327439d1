"""Advisory locks on files beside the database: who owns the store, and who is at the end of its log."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reconciler.errors import StoreError


class FileLock:
    """A lock on a file of its own. The kernel lets go of it when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
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


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock for one block."""
    lock = FileLock(path)
    try:
        lock.take()
        yield
    finally:
        lock.close()


def claim(path: Path) -> FileLock:
    """Return the owner's lock on a store, with our process id written in it; refuse when somebody else has it."""
    lock = FileLock(path.with_name(path.name + ".owner"))
    if not lock.take_at_once():
        holder = lock.path.read_text(encoding="ascii", errors="replace").strip()
        lock.close()
        raise StoreError(
            f"{path} is in use by another reconciler (pid {holder or 'unknown'}); stop it, or use another [store] url"
        )
    lock.path.write_text(f"{os.getpid()}\n", encoding="ascii")
    return lock


def writer_path(path: Path) -> Path:
    """Return the file whose lock is held by whoever writes as a guest or checkpoints."""
    return path.with_name(path.name + ".writer")
