"""Where the store's old records go: files in a directory."""

from typing import Protocol


class Archive(Protocol):
    """A directory that only grows."""

    async def keep(self, name: str, content: bytes) -> str:
        """
        Make sure that a file of this name has this content, on the disk; return the file's SHA-256, in hexadecimal.

        What is returned was read back. The same content gives the same file. Raises ArchiveError, also if there is a
        file of this name with another content: that is left as it is.
        """
