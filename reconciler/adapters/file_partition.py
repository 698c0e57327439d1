"""
One file of lines as one partition of a `FileLog`, read forwards.

Reading runs on the event loop, in pieces of half a megabyte with turns for other tasks between them: a piece takes less
time than a thread hop, and a cancelled fetch loses nothing. Never here: appending, or what a line means.
"""

import functools
import pathlib
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import overload

import attrs
import structlog

from reconciler.adapters import file_lines
from reconciler.adapters.inotify import FileChanges
from reconciler.core.events import anchoring
from reconciler.errors import LogError, LogTruncatedError
from reconciler.model.event import PlainRecord
from reconciler.model.stamp import Anchor, Partition
from reconciler.ports import Clock

_log = structlog.get_logger()

FETCH_BYTES_MAX = 64 * 1024 * 1024  # of one fetch, whatever its limit of records
BLANK_BYTES_MAX = 32  # every event is longer, so only such short lines are checked for being blank

# Builds the tuple in C: the generated `PlainRecord.__new__` takes twice as long.
_record = functools.partial(tuple.__new__, PlainRecord)


@attrs.frozen(eq=False)
class LineRecords(Sequence[PlainRecord]):
    """
    Lines as records that are made each time one is asked for.

    Fifty thousand records alive at once cost more, in memory traffic and garbage collection, than reading their lines.
    """

    topic: str
    numbers: Sequence[int]
    lines: Sequence[bytes]

    def __len__(self) -> int:
        return len(self.lines)

    def __iter__(self) -> Iterator[PlainRecord]:
        none = repeat(0)
        fields = zip(
            repeat(self.topic), none, self.numbers, none, repeat(None), self.lines, repeat(()), none, strict=False
        )
        return map(_record, fields)

    @overload
    def __getitem__(self, index: int) -> PlainRecord: ...
    @overload
    def __getitem__(self, index: slice) -> "LineRecords": ...
    def __getitem__(self, index: int | slice) -> "PlainRecord | LineRecords":
        if isinstance(index, slice):
            return LineRecords(self.topic, self.numbers[index], self.lines[index])
        return PlainRecord(self.topic, 0, self.numbers[index], 0, None, self.lines[index])


class FilePartition:
    """
    One file, from a line on. `changes` tells when it has grown; None: it does not grow.

    An `optional` file has no lines until it exists.
    """

    def __init__(
        self, path: pathlib.Path, clock: Clock, changes: FileChanges | None, *, optional: bool = False
    ) -> None:
        self.place = Partition(path.name, 0)
        self.next = 0  # the line that the next `taken` begins with
        self.path = path
        self._clock = clock
        self._changes = changes
        self._optional = optional
        self._reader: file_lines.LineReader | None = None
        self._counter: file_lines.LineReader | None = None
        self._lines: list[bytes] = []  # what the next fetch returns
        self._spare: list[bytes] = []  # what comes after it
        self._some_short = False  # whether `_lines` may contain blank lines
        self._is_known = False  # whether some of it was read before

    @property
    def is_there(self) -> bool:
        """Whether the file exists, as far as it was looked for, or did when it was read before."""
        return self._reader is not None or self._counter is not None or self._is_known

    async def open(self, wanted: int, anchor: Anchor | None, *, accept_truncation: bool) -> None:
        """Go to a line. Raises as `FileLog.open` does."""
        reader, self._is_known = self._open(), wanted > 0
        try:
            fault = await self._go_to(reader, wanted, anchor)
            if fault is not None:
                if not accept_truncation:
                    raise LogTruncatedError(
                        f"{fault}. Events are lost: put the file back, or fold an archive and the rest with"
                        f" `replay --from ARCHIVE --from {self.path}`, or read it from its start with"
                        " `run --accept-truncation`"
                    )
                _log.warning("going on although events may be lost, as --accept-truncation asks", fault=fault)
                if reader is not None:
                    reader.close()
                reader, wanted, self._spare = self._open(), 0, []
        except BaseException:
            if reader is not None:
                reader.close()
            raise
        self._reader, self.next = reader, wanted

    async def _go_to(self, reader: file_lines.LineReader | None, wanted: int, anchor: Anchor | None) -> str | None:
        """Go to a line, past the last one read; return the fault if this is not the file that was read before."""
        known = anchor is not None and anchor.offset < wanted
        first = anchor.offset if anchor is not None and known else wanted
        while reader is not None and reader.skip(first):
            await self._clock.sleep(0)
        lines: list[bytes] = []
        while reader is not None and reader.line < wanted and (more := reader.read()) is not None:
            lines += more
        held = 0 if reader is None else reader.line
        if held < wanted:
            return f"{self.path}: line {wanted} comes next, but it holds {held} lines"
        self._spare = lines[wanted - first :]
        read = PlainRecord(self.place.topic, 0, first, 0, None, lines[0], ()) if known else None
        if anchor is not None and read is not None and anchoring.replaced(anchor, read):
            return anchoring.fault(str(self.path), anchor)
        return None

    async def end(self) -> int:
        """Return how many lines there are. The first call reads the whole file, later ones only what is new."""
        self._counter = self._counter or self._open()
        while self._counter is not None and self._counter.skip(None):
            await self._clock.sleep(0)
        return 0 if self._counter is None else self._counter.line

    async def fill(self, count: int) -> bool:
        """
        Read until `count` lines are ready, or `FETCH_BYTES_MAX`; return whether the end came first.

        A piece's lines are looked at while they are in the processor's cache: later each costs a trip to memory.
        """
        self._reader = self._reader or self._open()
        read_bytes = 0
        while len(self._lines) < count and read_bytes < FETCH_BYTES_MAX:
            try:
                lines = self._spare or (None if self._reader is None else self._reader.read())
            except LogError:
                if self._lines:
                    return True  # the lines before the damage are good; the next fetch meets the damage again
                raise
            if lines is None:
                return True
            room = count - len(self._lines)
            self._spare = lines[room:]
            del lines[room:]
            self._some_short |= min(map(len, lines), default=BLANK_BYTES_MAX + 1) <= BLANK_BYTES_MAX
            self._lines += lines
            read_bytes += sum(map(len, lines))
            await self._clock.sleep(0)
        return False

    def taken(self, records_max: int) -> LineRecords | None:
        """Return the lines that are ready, `None` if there are none."""
        lines, self._lines = self._lines, []
        if len(lines) > records_max:  # a larger fetch was cancelled
            self._lines = lines[records_max:]
            del lines[records_max:]
        numbers: Sequence[int] = range(self.next, self.next + len(lines))
        self.next += len(lines)
        if self._some_short:
            self._some_short = bool(self._lines)
            numbers = [number for number, line in zip(numbers, lines, strict=True) if line.strip()]
            lines = [line for line in lines if line.strip()]
        return LineRecords(self.place.topic, numbers, lines) if lines else None

    def close(self) -> None:
        for reader in (self._reader, self._counter):
            if reader is not None:
                reader.close()
        self._reader = self._counter = None

    def _open(self) -> file_lines.LineReader | None:
        if self._optional and not self.path.exists():
            return None
        if self._changes is not None:
            self._changes.watch(self.path)
        return file_lines.LineReader(self.path, grows=self._changes is not None)
