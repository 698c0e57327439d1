"""The store in a file as a whole, for commands (`ports.StoreAdmin`)."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import attrs

from reconciler.adapters import files
from reconciler.adapters.sqlite import backup, damage, leaving, locks
from reconciler.adapters.sqlite.opening import URL_PREFIX, path_of
from reconciler.adapters.sqlite.store import SqliteStore, open_store
from reconciler.errors import StoreDamagedError, StoreError, UsageError
from reconciler.ports.moving import Cargo
from reconciler.ports.store_admin import Contents, Replaced, Tell


@attrs.frozen
class _Fresh:
    """A new file beside the store's."""

    replacement: backup.Replacement
    at: str

    @property
    def url(self) -> str:
        return f"{URL_PREFIX}{self.replacement.fresh}"

    def put(self) -> Replaced:
        contents = backup.examine(self.replacement.fresh)
        return _replaced(contents, self.replacement.put("damaged", self.at))


class SqliteAdmin:
    """`ports.StoreAdmin` over a file; the port says what each method does."""

    def __init__(self, url: str) -> None:
        self._path = path_of(url)

    @property
    def name(self) -> str:
        return str(self._path)

    @property
    def files(self) -> Sequence[Path]:
        real = locks.real(self._path)
        return [files.beside(real, suffix) for suffix in ("", "-wal", "-shm", ".owner", ".writer")]

    async def exists(self) -> bool:
        return self._path.exists()

    async def open(self, *, owner: bool) -> SqliteStore:
        return await open_store(self._path, owner=owner)

    async def migrate(self) -> Sequence[str]:
        raise UsageError("a store in a file is migrated by `reconciler run` itself; there is nothing to do")

    def leaving(self) -> AbstractContextManager[Cargo]:
        return leaving.leaving(self._path)

    async def receive(self, cargo: Cargo, move: str, tell: Tell) -> int:
        raise UsageError("a store moves into PostgreSQL, not into a file: use `reconciler rebuild` for that")

    async def has_received(self, move: str) -> bool:
        return False

    async def replicas(self) -> None:
        return None

    async def size(self) -> int:
        return self._path.stat().st_size

    async def durability(self) -> None:
        return None

    async def require_place(self) -> None:
        if not self._path.parent.is_dir():
            raise StoreError(f"there is no directory {self._path.parent}; create it, or correct [store] url")

    async def inspect(self, tell: Tell | None) -> str:
        if tell is None:
            fault = await asyncio.to_thread(damage.glance, self._path)
            said = "no damage found by a quick check; --deep reads all of it"
        else:
            found = await asyncio.to_thread(damage.inspect, self._path, tell)
            fault, said = found.fault, f"every page, index and row was read, {found.rows:,} in all"
        if fault:
            raise StoreDamagedError(f"damaged ({fault}); {damage.REMEDY}")
        return said

    def snapshot(self, to: Path, tell: Tell) -> Contents:
        return backup.snapshot(self._path, to, tell)

    def restore(self, origin: Path, tell: Tell, at: str) -> Replaced:
        if origin.exists() and self._path.exists() and origin.samefile(self._path):
            raise StoreError(f"{origin} is the state store itself; give a snapshot")
        with backup.replacing(self._path) as replacement, backup.unowned(origin):
            before = backup.unchecked(self._path)
            try:
                backup.copy(origin, replacement.fresh, tell)
                contents = backup.examine(replacement.fresh)
            except StoreDamagedError as error:
                said = f"{origin} is damaged ({error}); use another snapshot, or `reconciler rebuild`"
                raise StoreError(said) from error
            return _replaced(contents, replacement.put("replaced", at), before)

    @contextmanager
    def rebuilding(self, at: str) -> Iterator[_Fresh]:
        with backup.replacing(self._path) as replacement:
            yield _Fresh(replacement, at)


def _replaced(contents: Contents, aside: Path | None, before: Contents | None = None) -> Replaced:
    if aside is None:
        return Replaced(contents)
    return Replaced(contents, str(aside), f"{URL_PREFIX}{aside}", before, backup.audit_records(aside))
