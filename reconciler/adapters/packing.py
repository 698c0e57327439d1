"""
Packing: records of the trail, messages and SQLite's agreements are zstd frames, made with one dictionary.

Nearly all of a record is names and forms that every record has. The dictionary is text that has them: examples of what
is stored, the most frequent ones last, where references to them are shortest. A record of 2 KB becomes 0.4 KB, and
SQLite saves as much processor time as packing takes.

The dictionary is a part of the schema: another one needs another schema's number (`sqlite/opening._SCHEMA`). Each store
holds a copy (table `dictionary`), which only other programs read: with it, SQLite and any zstd library are all that an
auditor needs. Links of the audit chain are over what was packed, so nothing that is proved depends on how it is packed.
"""

import threading
from importlib import resources

import zstandard

DICTIONARY = (resources.files("reconciler.adapters") / "dictionary.jsonl").read_bytes()

_LEVEL = -1  # half the processor time of level 1, and 15 % more bytes
_BYTES_MAX = 10**9  # as large as SQLite's blobs: a damaged frame may claim more
_FRAME = zstandard.FRAME_HEADER  # how every frame begins; JSON never does

_dictionary = zstandard.ZstdCompressionDict(DICTIONARY)
_dictionary.precompute_compress(_LEVEL)


class _Codecs(threading.local):
    """zstd's codecs, which threads can't share."""

    def __init__(self) -> None:
        self.pack = zstandard.ZstdCompressor(_LEVEL, dict_data=_dictionary).compress
        self.unpack = zstandard.ZstdDecompressor(dict_data=_dictionary).decompress


_codecs = _Codecs()


def pack(text: bytes) -> bytes:
    """Return the stored form of a text."""
    packed: bytes = _codecs.pack(text)
    return packed


def unpack(stored: bytes) -> bytes:
    """Return the text that was packed. What is no frame is returned as it is; raises ValueError for a damaged one."""
    if not stored.startswith(_FRAME):
        return stored
    try:
        if zstandard.frame_content_size(stored) > _BYTES_MAX:
            raise ValueError("it claims to be larger than anything stored")
        text: bytes = _codecs.unpack(stored, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error
    return text
