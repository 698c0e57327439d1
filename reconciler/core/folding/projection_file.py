"""
The file of a projection archive, as `export projection --with-positions` writes it and `replay --from` reads it.

- one header, `{"projection":1,"made":TIME,"order":O,"positions":[…],"reading":{…}}`: up to where each partition of
  the log was read, with the anchor of the last record; by which `[log] order`; and by which sources
  (`flows/reading.py`);
- each document's desired state, in order of the keys, `{"document":KEY,"desired":{…}}`, as `export projection` has it;
- the dead letters, `{"dead_letter":{…}}`: the log may lose the records that they are about;
- the digest of all lines before, `{"sha256":"…"}`.

The rows may know more of the log than the positions say. That does no harm: the fold is a join.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgspec

from reconciler.errors import ArchiveError
from reconciler.model import codec
from reconciler.model.codec import UNREADABLE
from reconciler.model.desired import Claims, Desired
from reconciler.model.event import DeadLetter
from reconciler.model.stamp import Anchor, Partition

VERSION: Final = 1
_PIECE_BYTES = 4 * 2**20  # of the lines that are decoded, and folded, at once
_HEADER, _ROW, _LETTER = b'{"projection":', b'{"document":', b'{"dead_letter":'


class Reached(NamedTuple):
    """Up to where a partition was read, and the last record, if it is known."""

    topic: str
    partition: int
    offset: int
    anchor: Anchor | None

    @property
    def place(self) -> Partition:
        """The partition."""
        return Partition(self.topic, self.partition)


class Header(msgspec.Struct, frozen=True):
    """The first line."""

    projection: int  # the version of the file's format
    made: str  # canonical instant
    order: str
    positions: tuple[Reached, ...]
    reading: msgspec.Raw

    @property
    def places(self) -> dict[Partition, int]:
        """The offset that comes next in each partition."""
        return {one.place: one.offset for one in self.positions}

    @property
    def anchors(self) -> dict[Partition, Anchor]:
        """The last record of each partition, where it is known."""
        return {one.place: one.anchor for one in self.positions if one.anchor is not None}


class Piece(NamedTuple):
    """Some rows and dead letters of an archive."""

    rows: dict[str, Claims]
    letters: list[DeadLetter]


class _Row(msgspec.Struct, frozen=True):
    document: str
    desired: Desired


class _Letter(msgspec.Struct, frozen=True):
    dead_letter: DeadLetter


_header = msgspec.json.Decoder(Header).decode
_row = msgspec.json.Decoder(_Row).decode
_letter = msgspec.json.Decoder(_Letter).decode


def begins(line: bytes) -> bool:
    """Whether a file with this first line is a projection archive. Raises ArchiveError if it is only a projection."""
    if is_row(line):
        raise ArchiveError("a projection without positions can't be folded: export it again, --with-positions")
    return line.startswith(_HEADER)


def row(key: str, desired: Desired) -> bytes:
    """Return the line of a document."""
    return _ROW + b'%b,"desired":%b}\n' % (codec.encode(key), codec.encode(desired))


def is_row(line: bytes) -> bool:
    """Whether a line is a document's."""
    return line.startswith(_ROW)


def letter(letter: DeadLetter) -> bytes:
    """Return the line of a dead letter."""
    return _LETTER + b"%b}\n" % codec.encode(letter)


class Lines:
    """The lines of a new archive, each as it is written, and the last one, which the others give."""

    def __init__(self, header: Header) -> None:
        self._digest = hashlib.sha256()
        self.first = self.said(codec.encode(header) + b"\n")

    def said(self, line: bytes) -> bytes:
        """Return a line, which the digest covers from now on."""
        self._digest.update(line)
        return line

    def last(self) -> bytes:
        """Return the line that ends the file."""
        return b'{"sha256":"%b"}\n' % self._digest.hexdigest().encode()


class Archived:
    """An archive that is read, once: its header at once, then its pieces."""

    def __init__(self, name: str, lines: Iterable[bytes]) -> None:
        """Read the header of the file that people call `name`. Raises ArchiveError if it can't be used."""
        self._name = name
        self._lines = iter(lines)
        self._first = next(self._lines, b"")
        try:
            self.header = _header(self._first)
        except UNREADABLE as error:
            raise ArchiveError(f"{name}: line 1 can't be read ({error}): {self._remedy}") from error
        if self.header.projection != VERSION:
            raise ArchiveError(
                f"{name} has format {self.header.projection}, and this version of the reconciler reads {VERSION}: use"
                " the version that has made it, or a later one"
            )

    def require_whole(self) -> None:
        """Read to the end; raises ArchiveError if the file is not as it was written."""
        for _ in self._body():
            pass

    def pieces(self) -> Iterator[Piece]:
        """Yield all rows and dead letters; raises ArchiveError, at the latest at the end, if the file was changed."""
        piece, size = Piece({}, []), 0
        for number, line in enumerate(self._body(), start=2):
            try:
                self._take(line, piece.rows, piece.letters)
            except UNREADABLE as error:
                raise ArchiveError(f"{self._name}: line {number} can't be read ({error}): {self._remedy}") from error
            size += len(line)
            if size >= _PIECE_BYTES:
                yield piece
                piece, size = Piece({}, []), 0
        yield piece

    @staticmethod
    def _take(line: bytes, rows: dict[str, Claims], letters: list[DeadLetter]) -> None:
        if line.startswith(_LETTER):
            letters.append(_letter(line).dead_letter)
        else:
            found = _row(line)
            rows[found.document] = Claims.of(found.desired)

    @property
    def _remedy(self) -> str:
        return "take another copy of this archive, or an earlier archive"

    def _body(self) -> Iterator[bytes]:
        """Yield the lines between header and digest; raises ArchiveError if that is another one."""
        digest, ahead = hashlib.sha256(self._first + b"\n"), None
        for line in self._lines:
            if ahead is not None:
                digest.update(ahead + b"\n")
                yield ahead
            ahead = line
        if ahead != b'{"sha256":"%b"}' % digest.hexdigest().encode():
            raise ArchiveError(
                f"{self._name} was changed, or cut short: its lines do not have the SHA-256 that its last line says;"
                f" {self._remedy}"
            )
