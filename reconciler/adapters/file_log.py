"""
The change log in a file of structured CloudEvents, one a line: `.jsonl`, read also from `.jsonl.gz` and `.jsonl.zst`.

Rules:
1. A file is one partition: its topic is the file's name, its offsets are line numbers from 0. Blank lines count, but
   are no records.
2. Operators' decisions are read from, and appended to, a file of their own beside the log: `events.jsonl.decisions`.
3. An append is written whole or not at all, even if other processes append through this module.
4. Outcomes and dead letters go to files beside the log: `events.outcomes.jsonl` and `events.dead-letters.jsonl`.

Reading runs on the event loop (`file_partition` says why). Appending waits for the disk, so it runs on a thread.
"""

import asyncio
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence

import attrs

from reconciler.adapters import file_lines, files
from reconciler.adapters.file_partition import FilePartition
from reconciler.adapters.inotify import FileChanges
from reconciler.errors import LogError
from reconciler.model.event import DECISIONS, PACKED, Outgoing, PlainRecord, unpacked
from reconciler.model.stamp import NO_ANCHORS, Anchor, Partition
from reconciler.ports import Clock

if sys.platform != "win32":
    import fcntl

POLL_S = 0.1  # between two looks at a growing file whose changes the system does not report
TOLD_POLL_S = 1.0  # the same where it reports them; it can't for files that another host writes
LOCK_POLL_S = 0.02
LOCK_S_MAX = 10.0  # an append takes milliseconds; a process that holds the lock longer hangs
OUTCOMES, DEAD_LETTERS = "outcomes", "dead-letters"  # in the names of the files beside a log


@attrs.frozen(kw_only=True)
class FileTopics:
    """The topics that the flows append to, as configured."""

    changes: str = "windchill.document.changes"
    decisions: str = "windchill.document.decisions"
    outcomes: str = "windchill.document.outcomes"
    dead_letters: str = "windchill.document.dead-letters"
    foreign: bool = False  # whether lines may have any shape


class FileLog:
    """
    The `EventLog` port on a file, and the file of decisions beside it unless it is `alone`.

    `grows`: others append while we read, so a fetch at the end waits, and a last line is read once it has its newline.
    Without it (`--once`, `replay`) a fetch at the end returns at once.

    `stamped`: each appended event gets the present time as its `recordedtime`, as a broker would stamp it.
    """

    def __init__(
        self,
        path: pathlib.Path | str,
        clock: Clock,
        *,
        grows: bool = True,
        topics: FileTopics | None = None,
        stamped: bool = False,
        alone: bool = False,
    ) -> None:
        self._path = pathlib.Path(path)
        self._clock = clock
        self._grows = grows
        self._stamped = stamped
        self._topics = topics or FileTopics()
        self._decisions = decisions_of(self._path)
        self._changes = FileChanges()
        known = clock, self._changes if grows else None
        beside = [] if alone else [self._decisions, *_packed(self._decisions)]
        # Decisions are few: they need not wait for a backlog of changes.
        self._files = [FilePartition(one, *known, optional=True) for one in beside]
        self._files.append(FilePartition(self._path, *known))
        self._counting = asyncio.Lock()
        self._opened = False

    # ------------------------------------------------------------------------------------------------------- reading

    async def open(
        self,
        positions: Mapping[Partition, int],
        *,
        accept_truncation: bool = False,
        anchors: Mapping[Partition, Anchor] = NO_ANCHORS,
    ) -> None:
        """
        Go to the line that `positions` has for each file's name, or to the first line.

        Raises LogError when the file does not exist, LogTruncatedError when it has fewer lines or not the line that an
        anchor says; with `accept_truncation` it is then read from its first line.
        """
        assert not self._opened, "open once"
        try:
            for file in self._files:
                position, anchor = positions.get(file.place, 0), anchors.get(file.place)
                await file.open(position, anchor, accept_truncation=accept_truncation)
        except BaseException:
            await self.close()
            raise
        self._opened = True

    async def fetch(self, records_max: int, timeout_s: float) -> Sequence[PlainRecord]:
        """
        Return the next records in order, all of one file; none if none came within `timeout_s` (at once if no file
        grows). Raises LogError when a file is damaged, LogTruncatedError when it was cut or replaced while we read.
        """
        assert self._opened, "open first"
        changed = self._changes.happened
        give_up_s = self._clock.monotonic_s() + timeout_s
        while True:
            changed.clear()  # first: what is written from here on sets it again
            at_end = True
            for file in self._files:
                at_end &= await file.fill(records_max)
                if records := file.taken(records_max):
                    return records
            left_s = give_up_s - self._clock.monotonic_s()
            if at_end and (not self._grows or left_s <= 0):
                return ()
            if at_end:
                await self._clock.wait(changed, min(TOLD_POLL_S if self._changes.told else POLL_S, left_s))

    async def positions(self) -> Mapping[Partition, int]:
        """Return the number of each file's next line, past blank ones."""
        return {file.place: file.next for file in self._files if file.is_there}

    async def ends(self) -> Mapping[Partition, int]:
        """
        Return how many lines each file has; a last one without newline counts if the file does not grow.

        The first call reads the whole files, later ones only what is new. Raises as `fetch` does.
        """
        async with self._counting:
            ends = {file.place: await file.end() for file in self._files}
        return {file.place: ends[file.place] for file in self._files if file.is_there}

    async def close(self) -> None:
        for file in self._files:
            file.close()
        self._changes.close()
        self._opened = False

    # ----------------------------------------------------------------------------------------------------- appending

    async def append(self, records: Sequence[Outgoing]) -> Mapping[Partition, int]:
        """
        Append records durably: changes to this file, outcomes and dead letters to files beside it.

        Returns no offsets, because lines of other processes are not counted. Raises LogError, before anything is
        written, for a record that is not a structured CloudEvent (except dead letters) and for a compressed log; and
        when another process holds a file, or the disk fails.
        """
        writes: dict[pathlib.Path, list[bytes]] = {}
        if any(self._decides(record) for record in records) and not file_lines.is_compressed(self._path):
            create(self._path)  # a log may begin with a decision
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

    def _decides(self, record: Outgoing) -> bool:
        return record.topic in {self._topics.decisions, self._decisions.name}

    def _line(self, record: Outgoing) -> tuple[pathlib.Path, bytes]:
        """Return the file that a record goes to, and its line."""
        if record.topic == self._topics.dead_letters:
            return beside(self._path, DEAD_LETTERS), file_lines.dead_letter(record)
        if record.topic == self._topics.outcomes:
            return beside(self._path, OUTCOMES), file_lines.event(record)
        if self._decides(record):
            return self._decisions, self._event(record)
        if record.topic not in {self._topics.changes, self._path.name}:
            raise LogError(
                f'a file log has no topic {record.topic}: use [log] kind = "kafka", or one of its own topics'
            )
        if file_lines.is_compressed(self._path):
            raise LogError(
                f"{self._path} is compressed and can't be appended to: unpack it, and name the .jsonl instead"
            )
        return self._path, self._event(record, foreign=self._topics.foreign)

    def _event(self, record: Outgoing, *, foreign: bool = False) -> bytes:
        line = file_lines.event(record, foreign=foreign)
        return file_lines.stamped(line, self._clock.now_us()) if self._stamped else line


def decisions_of(path: pathlib.Path) -> pathlib.Path:
    """Return the file of operators' decisions beside a log; it can be appended to even if the log is compressed."""
    return path.with_name(unpacked(path.name) + DECISIONS)


def has_decisions(path: pathlib.Path) -> bool:
    """Whether there are decisions beside a log, compressed or not."""
    decisions = decisions_of(path)
    return decisions.exists() or any(_packed(decisions))


def _packed(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield the compressed forms of a file that exist."""
    for ending in PACKED:
        packed = path.with_name(path.name + ending)
        if packed.exists():
            yield packed


def beside(path: pathlib.Path, what: str) -> pathlib.Path:
    """Return the file of outcomes or dead letters beside a log."""
    stem = path.name.removesuffix(".gz").removesuffix(".zst").removesuffix(".jsonl")
    return path.with_name(f"{stem}.{what}.jsonl")


def create(path: pathlib.Path) -> None:
    """Make an empty log if there is none; raises LogError."""
    try:
        os.close(files.opened(path, os.O_WRONLY | os.O_APPEND))
    except OSError as error:
        raise _unwritable(path, error) from error


def _append(path: pathlib.Path, lines: bytes) -> bool:
    """Append lines under the file's lock and wait for the disk; False, with nothing done, if the lock is taken."""
    try:
        is_new = not path.exists()
        descriptor = files.opened(path, os.O_RDWR | os.O_APPEND)
        try:
            if not _locked(descriptor):
                return False
            _write(descriptor, lines)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)  # and with it the lock
        if is_new:
            files.sync(path.parent)  # its name must be durable, too
    except OSError as error:
        raise _unwritable(path, error) from error
    return True


def _unwritable(path: pathlib.Path, error: OSError) -> LogError:
    hint = "make it writable" if path.parent.is_dir() else f"make the directory {path.parent} first"
    return LogError(f"{path} can't be appended to: {error.strerror}; {hint}")


def _locked(descriptor: int) -> bool:
    """Whether we have the lock now. Without `flock` (Windows) the operator must allow only one writer."""
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _write(descriptor: int, lines: bytes) -> None:
    """Write all or nothing: half a line, left by a full disk, would spoil the next one."""
    start = os.lseek(descriptor, 0, os.SEEK_END)
    if start and os.pread(descriptor, 1, start - 1) != b"\n":
        lines = b"\n" + lines  # the last line has no newline
    written = 0
    try:
        while written < len(lines):
            written += os.write(descriptor, lines[written:])
    except OSError:
        if os.fstat(descriptor).st_size == start + written:  # else others append without the lock
            os.ftruncate(descriptor, start)
        raise
