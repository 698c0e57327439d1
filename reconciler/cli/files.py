"""Files that exports write and other commands read: plain, or compressed if their name says so."""

import contextlib
import gzip
import os
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from reconciler.errors import ReconcilerError

HELP = "JSON lines, compressed if the name ends in .gz or .zst; - is stdout."
STDOUT = Path("-")

Write = Callable[[bytes], object]


@contextlib.contextmanager
def writing(to: Path) -> Iterator[Write]:
    """Yield a function that writes to a file, which appears under its name once it is complete."""
    if to == STDOUT:
        yield sys.stdout.buffer.write
        sys.stdout.buffer.flush()
        return
    part = to.with_name(f"{to.name}.part")
    try:
        with _opened(part, to.suffix) as write:
            yield write
        part.replace(to)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ReconcilerError(f"{to} can't be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def reading(path: Path) -> Generator[bytes, None, None]:
    """Yield the lines of a file, without their ends; raises LogError."""
    from reconciler.adapters.file_lines import LineReader

    reader = LineReader(path, grows=False)
    try:
        while (lines := reader.read()) is not None:
            yield from lines
    finally:
        reader.close()


def name(to: Path) -> str:
    """Return the name of a target, as shown to people."""
    return "stdout" if to == STDOUT else str(to)


@contextlib.contextmanager
def _opened(path: Path, suffix: str) -> Iterator[Write]:
    from reconciler.adapters import files

    with os.fdopen(files.opened(path, os.O_WRONLY | os.O_TRUNC), "wb") as file:
        os.fchmod(file.fileno(), files.MODE)  # a part that was left behind may have another
        if suffix == ".gz":
            # Neither name nor time: the same content gives the same bytes.
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                yield packed.write
        elif suffix == ".zst":
            import zstandard

            with zstandard.ZstdCompressor().stream_writer(file, closefd=False) as packed:
                yield packed.write
        else:
            yield file.write
        file.flush()
        os.fsync(file.fileno())
