"""
Lines of a plain, gzip or Zstandard file, read a piece at a time, and records as such lines.

Each call reads only one piece, so that a caller in an event loop can let others run between two calls.
Never here: which file a record goes to, and what a line means (`file_log`).
"""

import base64
import io
import os
import pathlib
import zlib
from typing import Protocol

import msgspec
import orjson
import zstandard

from reconciler.errors import LogError, LogTruncatedError
from reconciler.model import instant
from reconciler.model.event import Outgoing

PIECE_BYTES = 512 * 1024  # larger pieces leave the processor's cache before they are split
PACKED_PIECE_BYTES = 4 * 1024  # compressed: events grow about tenfold, but 4 bytes can become 128 KiB
LINE_BYTES_MAX = 64 * 1024 * 1024  # a file without newlines must not fill the memory
GZIP_WINDOW_BITS = 31  # for zlib: a gzip header, the largest window


class _Decoder(Protocol):
    """Decodes one gzip member or Zstandard frame; a file may have several."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, packed: bytes, /) -> bytes: ...


def is_compressed(path: pathlib.Path) -> bool:
    """Whether a file's name says gzip or Zstandard."""
    return path.suffix in {".gz", ".zst"}


class LineReader:
    """
    Reads forwards only; `line` is the number, from 0, of the next line.

    With `grows`, a last line without its newline is still being written and is not read yet; else it is a whole line.
    """

    def __init__(self, path: pathlib.Path, *, grows: bool) -> None:
        """Open the file; raises LogError."""
        self.line = 0
        self._path = path
        self._packed = is_compressed(path)
        self._grows = grows and not self._packed
        self._decoder: _Decoder | None = None
        self._rest = b""  # compressed bytes after the end of a frame
        self._ahead = b""  # the rest of a piece after skipping
        self._tail = b""  # the beginning of a line that goes on in the next piece
        self._damage = ""  # why no more can be read: a decoder that failed may go on as if all were well
        try:
            self._file = io.FileIO(path)
        except OSError as error:
            raise LogError(f"{path} can't be read: {error.strerror}; create it, or name another file") from error

    def close(self) -> None:
        self._file.close()

    def read(self) -> list[bytes] | None:
        """
        Return the lines of the next piece without newlines, perhaps none; None at the (present) end.

        Raises LogError when the file can't be read or is damaged, LogTruncatedError when it was cut or replaced.
        """
        if piece := self._piece():
            lines = piece.split(b"\n")
            lines[0] = self._tail + lines[0]
            self._tail = lines.pop()
            if len(self._tail) > LINE_BYTES_MAX:
                raise self._damaged(f"{self._path}: line {self.line + len(lines)} never ends: is this a log of events?")
        elif self._grows:
            self._check_same_file()
            return None
        elif self._tail:
            lines, self._tail = [self._tail], b""
        else:
            return None
        self.line += len(lines)
        return lines

    def skip(self, to_line: int | None) -> bool:
        """Skip one piece, at most to line `to_line`; return whether to call again. Raises as `read` does."""
        if self.line == to_line:
            return False
        piece = self._piece()
        if not piece:
            if self._tail and not self._grows:
                self._tail = b""
                self.line += 1
            return False
        passed = piece.count(b"\n")
        if to_line is not None and self.line + passed >= to_line:
            self._ahead = piece.split(b"\n", to_line - self.line)[-1]
            self._tail = b""
            self.line = to_line
            return False
        # Only whether a line has begun matters here: skipped lines are never read.
        self._tail = piece[-1:] if not piece.endswith(b"\n") else b""
        self.line += passed
        return True

    def _piece(self) -> bytes:
        if self._damage:
            raise LogError(self._damage)
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            return ahead
        try:
            return self._unpacked() if self._packed else self._file.read(PIECE_BYTES)
        except OSError as error:
            raise LogError(f"{self._path} can't be read after line {self.line}: {error}; is it damaged?") from error
        except (zlib.error, zstandard.ZstdError) as error:
            message = f"{self._path} can't be read after line {self.line}: {error}; is it damaged?"
            raise self._damaged(message) from error

    def _damaged(self, message: str) -> LogError:
        self._damage = message
        return LogError(message)

    def _unpacked(self) -> bytes:
        while packed := self._rest or self._file.read(PACKED_PIECE_BYTES):
            self._rest = b""
            if self._decoder is None:
                self._decoder = self._make_decoder()
            elif self._decoder.eof:
                # A gzip file may be padded with zeros (RFC 1952 does not say, gzip allows it).
                packed = packed.lstrip(b"\0") if self._path.suffix == ".gz" else packed
                if not packed:
                    continue
                self._decoder = self._make_decoder()
            piece = self._decoder.decompress(packed)
            self._rest = self._decoder.unused_data
            if piece:
                return piece
        if self._decoder is not None and not self._decoder.eof:
            raise LogError(
                f"{self._path} ends in the middle of its compressed bytes, after line {self.line}: copy it again"
            )
        return b""

    def _make_decoder(self) -> _Decoder:
        if self._path.suffix == ".gz":
            return zlib.decompressobj(GZIP_WINDOW_BITS)
        decoder: _Decoder = zstandard.ZstdDecompressor().decompressobj()
        return decoder

    def _check_same_file(self) -> None:
        """Raise LogTruncatedError at the end of a growing file if it is no longer the file that we read."""
        mine = os.fstat(self._file.fileno())
        try:
            found = self._path.stat()
        except OSError:
            found = None
        if found is None or not os.path.samestat(mine, found) or found.st_size < self._file.tell():
            raise LogTruncatedError(
                f"{self._path} was replaced or cut short after line {self.line} was read: events may be lost. Put it"
                " back, or fold an archive and the rest into a new store with `replay`"
            )


# -------------------------------------------------------------------------------------------------------- file records
REASON_HEADERS = "__reconciler.errors."


def event(record: Outgoing, *, foreign: bool = False) -> bytes:
    """
    Return the line of a structured event, without headers and key: the event names its type and subject.

    With `foreign`, JSON of any shape is a line too. Raises LogError.
    """
    try:
        event = orjson.loads(record.value or b"")
    except orjson.JSONDecodeError as error:
        raise LogError(
            f"a record for {record.topic} is not JSON ({error}): a file takes structured CloudEvents"
        ) from error
    if not foreign and (not isinstance(event, dict) or "specversion" not in event):
        raise LogError(f"a record for {record.topic} has no specversion: a file takes structured CloudEvents only")
    # In JSON, raw line breaks are only white space between tokens.
    return (record.value or b"").replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"


def stamped(line: bytes, now_us: int) -> bytes:
    """Return an event's line with the time of recording; its other members stay as they are."""
    members = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
    members["recordedtime"] = msgspec.Raw(msgspec.json.encode(instant.from_us(now_us)))
    return msgspec.json.encode(members) + b"\n"


def dead_letter(record: Outgoing) -> bytes:
    """Return a line with a whole dead letter (bytes in Base64) and its reasons."""
    reasons = {
        name: (text or b"").decode(errors="replace") for name, text in record.headers if name.startswith(REASON_HEADERS)
    }
    letter = {
        "key": _base64(record.key),
        "value": _base64(record.value),
        "headers": [[name, _base64(text)] for name, text in record.headers if name not in reasons],
        "reasons": reasons,
    }
    return orjson.dumps(letter) + b"\n"


def _base64(original: bytes | None) -> str | None:
    return None if original is None else base64.b64encode(original).decode()
