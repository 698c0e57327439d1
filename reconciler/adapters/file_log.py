"""
The change log in a file of structured CloudEvents, one a line: `.jsonl`, read also from `.jsonl.gz` and `.jsonl.zst`.

Rules:
1. A file is one partition: its topic is the file's name, its offsets are line numbers from 0. Blank lines keep their
   number and are no records.
2. What is appended is whole or not there, also beside other processes that append through this module.
3. Outcomes and dead letters have no topics to go to; they go to files beside the log: `events.outcomes.jsonl` and
   `events.dead-letters.jsonl`.

Reading is done on the event loop, in pieces of half a megabyte with a turn for others between them: a piece takes less
than the hop to a thread and back, and a fetch that is cancelled can lose nothing. Appending waits for the disk, so it
has a thread.
"""

import asyncio
import functools
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import overload

import attrs
import structlog

from reconciler.adapters import file_lines, file_records, private_file
from reconciler.core import anchoring
from reconciler.errors import LogError, LogTruncatedError
from reconciler.model.event import Outgoing, PlainRecord
from reconciler.model.stamp import NO_ANCHORS, Anchor, Partition
from reconciler.ports import Clock

if sys.platform != "win32":
    import fcntl

_log = structlog.get_logger()

FETCH_BYTES_MAX = 64 * 1024 * 1024  # of one fetch, however many records are asked for
POLL_S = 0.1  # between two looks at a file that grows
LOCK_POLL_S = 0.02
LOCK_S_MAX = 10.0  # an append takes some milliseconds; a lock held longer is somebody's fault
BLANK_BYTES_MAX = 32  # no event is as short, so only shorter lines are looked at for being blank
OUTCOMES, DEAD_LETTERS = "outcomes", "dead-letters"  # as the files beside a log are called

# Building the tuple in C: the generated `PlainRecord.__new__` costs twice as much.
_record = functools.partial(tuple.__new__, PlainRecord)


@attrs.frozen(kw_only=True)
class FileTopics:
    """The topics that the flows append to, as the configuration names them."""

    changes: str = "windchill.document.changes"
    outcomes: str = "windchill.document.outcomes"
    dead_letters: str = "windchill.document.dead-letters"


@attrs.frozen(eq=False)
class LineRecords(Sequence[PlainRecord]):
    """
    Lines as records that are made when asked for, once each time.

    Fifty thousand records that are alive at once cost more, in memory traffic and garbage collection, than reading
    their lines; whoever goes through them keeps one at a time.
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


class FileLog:
    """
    The `EventLog` port on a file.

    `grows`: others append while we read, so a fetch at the end waits and a last line without newline is left until it
    has one. Without it (`--once`, `replay`) the file's end is the end, and a fetch there returns at once.

    `stamped`: each event that is appended gets the present time as its `recordedtime`, as a broker would stamp it.
    """

    def __init__(
        self,
        path: pathlib.Path | str,
        clock: Clock,
        *,
        grows: bool = True,
        topics: FileTopics | None = None,
        stamped: bool = False,
    ) -> None:
        self._path = pathlib.Path(path)
        self._clock = clock
        self._grows = grows
        self._stamped = stamped
        self._topics = topics or FileTopics()
        self._partition = Partition(self._path.name, 0)
        self._reader: file_lines.LineReader | None = None
        self._counter: file_lines.LineReader | None = None
        self._counting = asyncio.Lock()
        self._lines: list[bytes] = []  # what the next fetch returns
        self._spare: list[bytes] = []  # what comes after it
        self._some_short = False  # whether `_lines` may have blank ones
        self._next = 0

    # ------------------------------------------------------------------------------------------------------- reading

    async def open(
        self,
        positions: Mapping[Partition, int],
        *,
        accept_truncation: bool = False,
        anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
    ) -> None:
        """
        Go to the line that `positions` has for this file's name, or to its first; others are ignored.

        Raises LogError when there is no such file, LogTruncatedError when it has fewer lines, or another one than an
        anchor says; with `accept_truncation` it is read from its first line then.
        """
        assert self._reader is None, "open once"
        wanted = positions.get(self._partition, 0)
        reader = file_lines.LineReader(self._path, grows=self._grows)
        try:
            fault = await self._go_to(reader, wanted, anchors.get(self._partition))
            if fault is not None:
                if not accept_truncation:
                    raise LogTruncatedError(
                        f"{fault}. Events are lost: put the file back, or fold an archive and what is left with"
                        f" `replay --from ARCHIVE --from {self._path}`, or read it anew with `run --accept-truncation`"
                    )
                _log.warning("going on although events may be lost, as asked for", fault=fault)
                reader.close()
                reader, wanted, self._spare = file_lines.LineReader(self._path, grows=self._grows), 0, []
        except BaseException:
            reader.close()
            raise
        self._reader, self._next = reader, wanted

    async def _go_to(self, reader: file_lines.LineReader, wanted: int, anchor: Anchor | None) -> str | None:
        """Go to a line, past the one that was read last; return why this can't be the file that was read."""
        known = anchor is not None and anchor.offset < wanted
        first = anchor.offset if anchor is not None and known else wanted
        while reader.skip(first):
            await self._clock.sleep(0)
        lines: list[bytes] = []
        while reader.line < wanted and (more := reader.read()) is not None:
            lines += more
        if reader.line < wanted:
            return f"{self._path}: line {wanted} comes next, but it holds {reader.line} lines"
        self._spare = lines[wanted - first :]
        read = PlainRecord(self._partition.topic, 0, first, 0, None, lines[0], ()) if known else None
        if anchor is not None and read is not None and anchoring.replaced(anchor, read):
            return anchoring.fault(str(self._path), anchor)
        return None

    async def fetch(self, records_max: int, timeout_s: float) -> Sequence[PlainRecord]:
        """
        Return the next records in order; empty when none came within `timeout_s`, at once when the end is the end.

        Raises LogError when the file is damaged, LogTruncatedError when it shrank or was replaced while it was read.
        """
        give_up_s = self._clock.monotonic_s() + timeout_s
        while True:
            at_end = await self._fill(records_max)
            if records := self._taken(records_max):
                return records
            left_s = give_up_s - self._clock.monotonic_s()
            if at_end and (not self._grows or left_s <= 0):
                return ()
            if at_end:
                await self._clock.sleep(min(POLL_S, left_s))

    async def positions(self) -> Mapping[Partition, int]:
        """Return the number of the next line: past blank ones."""
        return {self._partition: self._next}

    async def ends(self) -> Mapping[Partition, int]:
        """
        Return how many lines the file has; a last one without newline counts when the end is the end.

        The first call reads the file once, later ones what was added. Raises as `fetch` does.
        """
        async with self._counting:
            if self._counter is None:
                self._counter = file_lines.LineReader(self._path, grows=self._grows)
            while self._counter.skip(None):
                await self._clock.sleep(0)
            return {self._partition: self._counter.line}

    async def close(self) -> None:
        """Close the file."""
        for reader in (self._reader, self._counter):
            if reader is not None:
                reader.close()
        self._reader = self._counter = None

    async def _fill(self, count: int) -> bool:
        """
        Read until `count` lines wait to be fetched, or `FETCH_BYTES_MAX`; return whether the end came first.

        Lines are touched while they are in the processor's cache, a piece at a time: later each costs a trip to memory.
        """
        assert self._reader is not None, "open first"
        read_bytes = 0
        while len(self._lines) < count and read_bytes < FETCH_BYTES_MAX:
            try:
                lines = self._spare or self._reader.read()
            except LogError:
                if self._lines:
                    return True  # what came before the damage is good; the next fetch meets the damage again
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

    def _taken(self, records_max: int) -> LineRecords | None:
        lines, self._lines = self._lines, []
        if len(lines) > records_max:  # a fetch of more was cancelled
            self._lines = lines[records_max:]
            del lines[records_max:]
        numbers: Sequence[int] = range(self._next, self._next + len(lines))
        self._next += len(lines)
        if self._some_short:
            self._some_short = bool(self._lines)
            numbers = [number for number, line in zip(numbers, lines, strict=True) if line.strip()]
            lines = [line for line in lines if line.strip()]
        return LineRecords(self._partition.topic, numbers, lines) if lines else None

    # ----------------------------------------------------------------------------------------------------- appending

    async def append(self, records: Sequence[Outgoing]) -> Mapping[Partition, int]:
        """
        Append records durably: those of the change topic to this file, outcomes and dead letters to files beside it.

        Returns no offsets: others append too, and nobody has counted their lines.

        Raises LogError, before anything is written, for a record that is no structured CloudEvent (only dead letters
        may be anything) and for a compressed log; and when another process holds a file, or the disk refuses.
        """
        writes: dict[pathlib.Path, list[bytes]] = {}
        for record in records:
            path, line = self._line(record)
            writes.setdefault(path, []).append(line)
        for path, lines in writes.items():
            give_up_s = self._clock.monotonic_s() + LOCK_S_MAX
            while not await asyncio.to_thread(_append, path, b"".join(lines)):
                if self._clock.monotonic_s() > give_up_s:
                    raise LogError(f"{path}: another process has held its lock for {LOCK_S_MAX:g} s; end that process")
                await self._clock.sleep(LOCK_POLL_S)
        return {}

    def _line(self, record: Outgoing) -> tuple[pathlib.Path, bytes]:
        """The file that a record goes to, and its line."""
        if record.topic == self._topics.dead_letters:
            return beside(self._path, DEAD_LETTERS), file_records.dead_letter(record)
        if record.topic == self._topics.outcomes:
            return beside(self._path, OUTCOMES), file_records.event(record)
        if record.topic not in {self._topics.changes, self._partition.topic}:
            raise LogError(
                f'a file log has no topic {record.topic}: use [log] kind = "kafka", or one of its own topics'
            )
        if file_lines.is_compressed(self._path):
            raise LogError(
                f"{self._path} is compressed and can't be appended to: unpack it, and name the .jsonl instead"
            )
        line = file_records.event(record)
        return self._path, file_records.stamped(line, self._clock.now_us()) if self._stamped else line


def beside(path: pathlib.Path, what: str) -> pathlib.Path:
    """Return the file beside a log that takes outcomes or dead letters."""
    stem = path.name.removesuffix(".gz").removesuffix(".zst").removesuffix(".jsonl")
    return path.with_name(f"{stem}.{what}.jsonl")


def create(path: pathlib.Path) -> None:
    """Make an empty log where there is none; raises LogError."""
    try:
        os.close(private_file.opened(path, os.O_WRONLY | os.O_APPEND))
    except OSError as error:
        raise _unwritable(path, error) from error


def _append(path: pathlib.Path, lines: bytes) -> bool:
    """Append lines under the file's lock and wait for the disk; False, with nothing done, when the lock is taken."""
    try:
        is_new = not path.exists()
        descriptor = private_file.opened(path, os.O_RDWR | os.O_APPEND)
        try:
            if not _locked(descriptor):
                return False
            _write(descriptor, lines)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)  # and with it the lock
        if is_new:
            _sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    return True


def _unwritable(path: pathlib.Path, error: OSError) -> LogError:
    hint = "make it writable" if path.parent.is_dir() else f"make the directory {path.parent} first"
    return LogError(f"{path} can't be appended to: {error.strerror}; {hint}")


def _locked(descriptor: int) -> bool:
    """Whether the lock is now ours. Without `flock` (Windows) one writer at a time is up to the operator."""
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _write(descriptor: int, lines: bytes) -> None:
    """Write all or nothing: half a line left by a full disk would spoil the next one."""
    start = os.lseek(descriptor, 0, os.SEEK_END)
    if start and os.pread(descriptor, 1, start - 1) != b"\n":
        lines = b"\n" + lines  # an earlier writer's last line has no end
    written = 0
    try:
        while written < len(lines):
            written += os.write(descriptor, lines[written:])
    except OSError:
        if os.fstat(descriptor).st_size == start + written:  # else somebody appends without the lock: leave it to them
            os.ftruncate(descriptor, start)
        raise


def _sync_folder(folder: pathlib.Path) -> None:
    """Make a new file's name durable; its content alone would be a file that nobody finds."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
