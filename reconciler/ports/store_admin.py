"""A state store as a whole, for commands: whether it is there and sound, copies of it, and what takes its place."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import attrs

from reconciler.model.stamp import Partition
from reconciler.model.standing import Replica
from reconciler.ports.moving import Cargo
from reconciler.ports.store import Store

Tell = Callable[[int, int | None], None]  # how much is done, and of how much if that is known


@attrs.frozen
class Contents:
    """What a store holds."""

    documents: int
    positions: Mapping[Partition, int]
    bytes: int

    def behind(self, other: "Contents") -> dict[Partition, tuple[int, int]]:
        """Return the partitions in which this one has read less than the other, with both positions."""
        pairs = {place: (self.positions.get(place, 0), offset) for place, offset in other.positions.items()}
        return {place: pair for place, pair in pairs.items() if pair[0] < pair[1]}


@attrs.frozen
class Replaced:
    """What a store holds now, and what became of the former one."""

    contents: Contents
    aside: str | None = None  # where the former store is kept; None: there was none
    aside_url: str = ""  # by which commands can still read it
    before: Contents | None = None  # what the former store held; None: there was none, or it can't say
    audited: int | None = None  # the former store's audit records; None: they can't all be read


@attrs.frozen
class Durability:
    """What a server says of how well it keeps what was stored. Settings are as the server calls them, in its words."""

    version: str
    safe: bool  # a crash of its host damages nothing: fsync and full_page_writes
    commit: str  # synchronous_commit
    wanted: str  # synchronous_standby_names
    standbys: tuple[tuple[str, str], ...]  # those that are connected: application_name and sync_state
    archive: str  # archive_mode
    archive_fails: bool
    oldest_s: float  # how long the oldest transaction has been open that keeps dead rows from being removed


class Fresh(Protocol):
    """A store in the making, which is to take another one's place."""

    @property
    def url(self) -> str:
        """Return the URL by which it can be opened and filled, as its owner."""

    def put(self) -> Replaced:
        """Put it in the store's place, whole and checked; the former store is set aside."""


class StoreAdmin(Protocol):
    """
    One store, by its URL. Nothing is opened before it is asked for.

    What a kind of store can't do raises UsageError, which says what to do instead. All else that fails raises
    StoreError, or StoreDamagedError.
    """

    @property
    def name(self) -> str:
        """Return what people call the store; never a secret."""

    @property
    def files(self) -> Sequence[Path]:
        """Return the files that only we should be able to read; some may not exist."""

    async def exists(self) -> bool:
        """Whether there is such a store."""

    async def open(self, *, owner: bool) -> Store:
        """Open it, as its owner or to read beside one. An owner makes a store that does not exist."""

    async def migrate(self) -> Sequence[str]:
        """Bring its schema up to date, and make it if there is none; return which changes that took."""

    def leaving(self) -> AbstractContextManager[Cargo]:
        """Keep everyone else from the store for one block, in which it may move into another one."""

    async def receive(self, cargo: Cargo, move: str, tell: Tell) -> int:
        """
        Take in all of another store, or nothing, by a try of this name; return how many documents that are.

        The store must be made and empty, and nobody may use it.
        """

    async def has_received(self, move: str) -> bool:
        """Whether a try was stored."""

    async def size(self) -> int:
        """Return how many bytes it takes."""

    async def replicas(self) -> Sequence[Replica] | None:
        """Return who uses it as one of its owners; None for a store that can only have one."""

    async def durability(self) -> Durability | None:
        """Return how well its server keeps what was stored; None for a store in a file."""

    async def require_place(self) -> None:
        """Raise StoreError if no store can be made here."""

    async def inspect(self, tell: Tell | None) -> str:
        """Look for damage, with `tell` in all of it; return how closely that was."""

    def snapshot(self, to: Path, tell: Tell) -> Contents:
        """Copy the store, perhaps in use, into a file, which appears once it is whole and checked."""

    def restore(self, origin: Path, tell: Tell, at: str) -> Replaced:
        """Put a copy in the store's place, which no reconciler may be using; `at` becomes part of the former's name."""

    def rebuilding(self, at: str) -> AbstractContextManager[Fresh]:
        """Make room for a new store and keep reconcilers from the old one for one block; `at` as for `restore`."""
