"""
A disk in memory under the real SQLite: it may lose power, fail, or be full.

Each file is what has reached the platter, and the writes since its last sync, which a reader sees already. When power
fails, any of those may have reached the platter and others not, sector by sector, whatever the order they were made in.
A sector that was never written holds zeros or garbage. What a name in the directory stands for is durable once the
directory was synced, which SQLite's own `unix` VFS does when it first syncs a journal or write-ahead log that it made.

As under that VFS, writing a part of a sector does not endanger the rest of it (`POWERSAFE_OVERWRITE`), and a sync that
fails loses nothing that a later one would not make good. One connection has the disk for itself, so that a
write-ahead log needs no shared memory.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import apsw

from tests.sim.world import World

SECTORS = (512, 4096)
_JOURNALS = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL
_numbers = itertools.count(1)


class _File:
    """What a reader sees, what is durable, and what lies between."""

    def __init__(self, *, journal: bool) -> None:
        self.shown = bytearray()
        self.durable = bytearray()
        self.unsynced: list[tuple[int, bytes | None]] = []  # offset and bytes, or the size it was cut to
        self.journal = journal

    def write(self, offset: int, content: bytes) -> None:
        _put(self.shown, offset, content, bytes)
        self.unsynced.append((offset, content))

    def truncate(self, size: int) -> None:
        del self.shown[size:]
        self.unsynced.append((size, None))

    def sync(self) -> None:
        for offset, content in self.unsynced:
            if content is None:
                del self.durable[offset:]
            else:
                _put(self.durable, offset, content, bytes)
        self.unsynced.clear()


def _put(content: bytearray, offset: int, piece: bytes, filling: Callable[[int], bytes]) -> None:
    if offset > len(content):
        content.extend(filling(offset - len(content)))
    content[offset : offset + len(piece)] = piece


class Disk(apsw.VFS):
    """The files of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng("disk")
        self._sector = self._rng.choice(SECTORS)
        self._names: dict[str, _File] = {}
        self._entries: dict[str, _File] = {}  # the directory as it is durable
        self.boot = 0  # what was opened before the process or the machine died is good for nothing
        self.operations = 0
        self.full_until_s = 0.0
        self._calm = False
        self.name = f"simulated disk {next(_numbers)}"
        super().__init__(self.name, None)

    def rest(self) -> None:
        """Let nothing happen any more."""
        self._calm = True

    @contextlib.contextmanager
    def calm(self) -> Iterator[None]:
        """Let nothing happen to what the simulation itself looks up."""
        calm, self._calm = self._calm, True
        try:
            yield
        finally:
            self._calm = calm

    # --------------------------------------------------------------------------------------------------------- deaths

    def let_go(self) -> None:
        """The process is gone, and with it everything that it had open."""
        self.boot += 1

    def lose_power(self) -> None:
        """What was not synced is lost, torn, or there all the same."""
        self.let_go()
        rng = self._rng
        for file in {id(file): file for file in (*self._names.values(), *self._entries.values())}.values():
            self._tear(file)
        for name in sorted({*self._names, *self._entries}):
            if self._names.get(name) is not self._entries.get(name) and rng.random() < 0.5:
                _enter(self._entries, name, self._names.get(name))
        self._names = dict(self._entries)

    def is_synced(self) -> bool:
        """Whether no loss of power can take back what a reader sees."""
        return not any(file.unsynced for file in self._names.values())

    def copied(self) -> dict[str, bytes]:
        """All files as a reader sees them; nothing is under way."""
        return {name: bytes(file.shown) for name, file in self._names.items()}

    def replace(self, content: dict[str, bytes]) -> None:
        """Have these files and no others, durably."""
        self.let_go()
        self._names = {name: _File(journal=False) for name in content}
        for name, file in self._names.items():
            file.write(0, content[name])
            file.sync()
        self.sync_directory()

    def _tear(self, file: _File) -> None:
        rng = self._rng
        survive = rng.choice((0.0, 0.3, 0.7, 1.0))
        filling = rng.choice((bytes, rng.randbytes))
        for offset, content in file.unsynced:
            if content is None:
                if rng.random() < survive:
                    del file.durable[offset:]
                continue
            for start, piece in self._pieces(offset, content):
                if rng.random() < survive:
                    _put(file.durable, start, piece, filling)
        file.unsynced.clear()
        file.shown = bytearray(file.durable)

    def _pieces(self, offset: int, content: bytes) -> list[tuple[int, bytes]]:
        """A write by sectors."""
        bounds = [offset, *range(offset - offset % self._sector + self._sector, offset + len(content), self._sector)]
        ends = [*bounds[1:], offset + len(content)]
        return [(start, content[start - offset : end - offset]) for start, end in zip(bounds, ends, strict=True)]

    def operation(self, name: str, boot: int, act: Callable[[], Any]) -> Any:
        """One read, write, sync or cut, unless something happens to it, or right after it."""
        if boot != self.boot:
            raise apsw.IOError("of a process that is gone")
        if self._calm:
            return act()
        self.operations += 1
        world, number = self._world, self.operations
        options = world.options
        if number == options.cut_at or (options.by_chance and world.strikes("power_cut")):
            if self._rng.random() < 0.5:
                act()
            self.lose_power()
            self._die(f"power fails at {name}, I/O {number}")
        if options.by_chance and world.strikes("killed_in_io"):
            if self._rng.random() < 0.5:
                act()
            self.let_go()
            self._die(f"killed at {name}, I/O {number}")
        if name in ("write", "truncate") and world.faulty and world.loop.time() < self.full_until_s:
            world.faults["write_to_full_disk"] += 1
            world.note(f"the disk is full: I/O {number}")
            raise apsw.FullError("full")
        if number == options.fail_at or (options.by_chance and world.strikes("disk_error")):
            world.note(f"the disk fails: {name}, I/O {number}")
            raise apsw.IOError(name)
        return act()

    def _die(self, why: str) -> NoReturn:
        if self._world.life is not None:
            self._world.life.die(why)
        raise apsw.IOError(why)

    # ------------------------------------------------------------------------------------------------------------ VFS

    def xOpen(self, name: Any, flags: list[int]) -> _Opened:  # noqa: N802  SQLite's name
        path = name.filename() if hasattr(name, "filename") else name
        file = self._names.get(path) if path else None
        if file is None:
            if path and not flags[0] & apsw.SQLITE_OPEN_CREATE:
                raise apsw.CantOpenError(path)
            file = _File(journal=bool(flags[0] & _JOURNALS))
            if path:
                self._names[path] = file
        flags[1] = flags[0]
        return _Opened(self, file)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802  SQLite's name
        self._names.pop(filename, None)
        if syncdir:
            self.sync_directory()

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802  SQLite's name
        return pathname in self._names

    def xFullPathname(self, name: str) -> str:  # noqa: N802  SQLite's name
        return name

    def xRandomness(self, numbytes: int) -> bytes:  # noqa: N802  SQLite's name
        return self._rng.randbytes(numbytes)

    def xGetLastError(self) -> tuple[int, str]:  # noqa: N802  SQLite's name
        return 0, ""

    def xSleep(self, microseconds: int) -> int:  # noqa: N802  SQLite's name
        return microseconds

    def xCurrentTimeInt64(self) -> int:  # noqa: N802  SQLite's name
        return 210_866_760_000_000 + self._world.now_us() // 1000

    def sync_directory(self) -> None:
        self._entries = dict(self._names)


def _enter(entries: dict[str, _File], name: str, file: _File | None) -> None:
    if file is None:
        entries.pop(name, None)
    else:
        entries[name] = file


class _Opened(apsw.VFSFile):
    """A file as one process has it open."""

    def __init__(self, disk: Disk, file: _File) -> None:
        self._disk = disk
        self._file = file
        self._boot = disk.boot
        # No file of another VFS lies below, so there is nothing to initialise there: every method is here.

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802  SQLite's name
        file = self._file
        found: bytes = self._disk.operation("read", self._boot, lambda: bytes(file.shown[offset : offset + amount]))
        return found

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802  SQLite's name
        content = bytes(data)
        self._disk.operation("write", self._boot, lambda: self._file.write(offset, content))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802  SQLite's name
        self._disk.operation("truncate", self._boot, lambda: self._file.truncate(newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802  SQLite's name
        self._disk.operation("sync", self._boot, self._sync)

    def _sync(self) -> None:
        self._file.sync()
        if self._file.journal:
            self._disk.sync_directory()
            self._file.journal = False

    def xFileSize(self) -> int:  # noqa: N802  SQLite's name
        return len(self._file.shown)

    def xClose(self) -> None:  # noqa: N802  SQLite's name
        pass

    def xLock(self, level: int) -> None:  # noqa: N802  SQLite's name
        pass

    def xUnlock(self, level: int) -> None:  # noqa: N802  SQLite's name
        pass

    def xCheckReservedLock(self) -> bool:  # noqa: N802  SQLite's name
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:  # noqa: N802  SQLite's name
        return False

    def xSectorSize(self) -> int:  # noqa: N802  SQLite's name
        return 4096  # as the `unix` VFS says

    def xDeviceCharacteristics(self) -> int:  # noqa: N802  SQLite's name
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE  # as the `unix` VFS says
