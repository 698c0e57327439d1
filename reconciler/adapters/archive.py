"""
An archive (`ports.Archive`): a directory of Zstandard files.

A file appears under its name whole, once its content is on the disk, and is never written again. So an archive that a
kill has left without its record in the store serves the next run, and that of another store is safe from us.
"""

import asyncio
import hashlib
import os
from pathlib import Path

import attrs
import zstandard

from reconciler.adapters import files
from reconciler.errors import ArchiveError

_BYTES_MAX = 2**30  # of a content: ours have some tens of megabytes


@attrs.frozen
class FileArchive:
    """The files in a directory, which must exist."""

    folder: Path

    async def keep(self, name: str, content: bytes) -> str:
        return await asyncio.to_thread(self._keep, self.folder / name, content)

    def _keep(self, path: Path, content: bytes) -> str:
        try:
            if not path.exists():
                self._write(path, zstandard.ZstdCompressor().compress(content))
            files.sync(path)
            files.sync(self.folder)
            packed = path.read_bytes()
        except OSError as error:
            raise ArchiveError(f"{path} can't be written: {error.strerror or error}") from error
        if _unpacked(packed) != content:
            raise ArchiveError(f"{path} has another content: it is another store's, or damaged; use another directory")
        return hashlib.sha256(packed).hexdigest()

    def _write(self, path: Path, packed: bytes) -> None:
        part = files.beside(path, f".{os.getpid()}.part")
        with os.fdopen(files.opened(part, os.O_WRONLY | os.O_TRUNC), "wb") as file:
            file.write(packed)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)


def _unpacked(packed: bytes) -> bytes | None:
    try:
        text: bytes = zstandard.ZstdDecompressor().decompress(
            packed, max_output_size=_BYTES_MAX, allow_extra_data=False
        )
    except zstandard.ZstdError:
        return None
    return text
