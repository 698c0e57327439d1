"""
The state store as the simulation sees it: every call may fail or be the last, and the witness is told of each.

`Watched` stands around any store. For the store in memory each call of the port is an effect. Under the real SQLite
store the effects are its queries and transactions, each run in one go at a seeded later moment: `InlineConnection`
takes the place of aiosqlite's connection, with the members that `Database` uses, and of its thread. Below it is SQLite
itself, on a disk that fails (`disk.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from reconciler.adapters.sqlite import locks, transactions
from reconciler.adapters.sqlite.database import Database, transacted
from reconciler.adapters.sqlite.store import SqliteStore
from reconciler.core.folding.rows import DONE
from reconciler.errors import StoreError
from reconciler.model import codec
from reconciler.model.audit import Settlement
from reconciler.model.document import Agreement, Document, Lane, Status
from reconciler.model.stamp import Partition
from reconciler.ports import Changed, FoldBatch, OutboxMessage
from tests.fakes.memory_log import MemoryBroker
from tests.fakes.memory_store import MemoryStore
from tests.fakes.shared_store import SharedMemory, SharedStore
from tests.sim.connection import Connection, as_owner
from tests.sim.disk import Disk
from tests.sim.logs import OUTCOMES, places
from tests.sim.promises import Promises
from tests.sim.witness import Witness
from tests.sim.world import Life, TrueClock, World


class Watched:
    """A store of one life. What is not about documents is passed on as it is."""

    slots: Any = None
    shared: Any = None

    def __init__(self, inner: Any, life: Life, witness: Witness, promises: Promises, *, effects: bool) -> None:
        self._inner = inner
        self._life = life
        self._witness = witness
        self._promises = promises
        self._effects = effects
        self._published: set[int] = set()  # in this life

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name == "export_projection":
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._call(name, lambda: method(*args, **kwargs))

        return call

    async def _call(self, name: str, act: Callable[[], Any]) -> Any:
        await self._life.alive()
        if self._effects:
            return await self._life.effect(f"store.{name}", act, fails=True)
        result = await act()
        await self._life.alive()
        return result

    def _durable(self) -> None:
        """A commit has been acknowledged. One that changed nothing has written and synced nothing."""
        if not self._promises.is_synced():
            return
        self._promises.durable()
        self._witness.folding.durable()

    async def fold(self, batch: FoldBatch) -> Changed:
        again = self._life.again
        if not batch.positions and again is not None:  # a replay beside: how far that has come
            self._witness.folding.folds(batch, dict(await again.positions()))
        else:
            self._life.world.expect(not self._witness.folding.jumps(batch), f"a silent jump: {batch.positions}")
            self._witness.folding.folds(batch)
        stored: Changed = await self._call("fold", lambda: self._inner.fold(batch))
        self._witness.folding.folded()
        self._durable()
        return stored

    async def reposition(self, positions: Mapping[Partition, int]) -> None:
        self._witness.folding.moves(positions)
        await self._call("reposition", lambda: self._inner.reposition(positions))
        self._witness.folding.moved()
        self._durable()

    async def rebase(self, agreements: Mapping[str, Agreement], *more: Any) -> None:
        changes = [self._promises.intends(key, agreement) for key, agreement in agreements.items()]
        await self._call("rebase", lambda: self._inner.rebase(agreements, *more))
        if changes:  # else perhaps nothing was written, and nothing is durable by that
            self._durable()
        for change in changes:
            self._promises.acknowledged(change)

    async def hold(self, keys: Iterable[str]) -> dict[str, Document]:
        wanted = list(keys)
        mark, paused = self._witness.folding.mark(), set(self._life.paused())
        found = await self._call("hold", lambda: self._inner.hold(wanted))
        for key in wanted:
            if key in found:
                still = key not in paused or key not in self._life.paused() or found[key].status is Status.PAUSED
                self._life.world.expect(still, f"{key} was paused, and is {found[key].status} though no one resumed it")
                self._witness.loaded(found[key], mark)
        return found

    async def intend(self, key: str, agreement: Agreement, policy: str = "") -> bool:
        self._witness.intending(key, agreement.intent, paused=key in self._life.paused())
        change = self._promises.intends(key, agreement)
        stands: bool = await self._call("intend", lambda: self._inner.intend(key, agreement, policy))
        self._durable()
        self._promises.acknowledged(change)
        self._witness.intended(key)
        return stands

    async def settle(self, settlement: Settlement) -> None:
        self._witness.settling(settlement)
        change = self._promises.settles(settlement)
        await self._call("settle", lambda: self._inner.settle(settlement))
        self._durable()
        self._promises.acknowledged(change)
        self._witness.settled(settlement)

    async def waiting(self, limit: int) -> list[OutboxMessage]:
        found: list[OutboxMessage] = await self._call("waiting", lambda: self._inner.waiting(limit))
        again = self._published.intersection(message.number for message in found)
        self._life.world.expect(not again, f"published already, and waiting still: {again}")
        self._promises.shows(found)
        return found

    async def published(self, numbers: Sequence[int], *more: Any) -> None:
        self._promises.forgets(numbers)
        await self._call("published", lambda: self._inner.published(numbers, *more))
        self._published.update(numbers)


class InlineConnection:
    """What `Database` needs of aiosqlite, without its thread."""

    def __init__(self, connection: Connection, life: Life) -> None:
        self._connection = self._conn = connection
        self._life = life

    @property
    def total_changes(self) -> int:
        return self._connection.total_changes

    async def execute_fetchall(self, sql: str) -> list[Any]:
        return await self._execute(lambda: self._connection.execute(sql).fetchall())

    async def _execute(self, work: Callable[[], Any]) -> Any:
        async def act() -> Any:
            if self._life.world.strikes("store_busy"):
                raise sqlite3.OperationalError("database is locked")
            return work()

        return await self._life.effect("sql", act)

    async def close(self) -> None:
        await self._life.alive()
        try:
            self._connection.close()
        except sqlite3.Error:
            await self._life.alive()
            raise


class Durable:
    """What of the state store outlives the process."""

    def __init__(self, world: World, folder: Path) -> None:
        self._world = world
        self._path = folder / "state.db"
        self._memory = SharedMemory(TrueClock(world)) if world.options.replicas > 1 else MemoryStore()
        self.shared: Callable[[SharedStore, Life, Witness, Promises], Watched] | None = None  # how an owner is watched
        self.disk = Disk(world)
        self.promises = Promises(world, self.disk.is_synced)
        self._opened: tuple[Connection, locks.FileLock] | None = None
        self._database: Database | None = None
        self._store: SqliteStore | None = None

    def open(self, life: Life, witness: Witness) -> Watched:
        """Open the store as a starting process does. Raises StoreError."""
        if isinstance(self._memory, SharedMemory):
            assert self.shared is not None
            return self.shared(self._memory.owner(), life, witness, self.promises)
        if self._world.options.store == "memory":
            self._memory._open = True
            return Watched(self._memory, life, witness, self.promises, effects=True)
        ownership = locks.claim(self._path)
        try:
            connection = as_owner(self.disk, self._path)
        except sqlite3.Error as error:
            ownership.close()
            raise StoreError(f"can't open the store: {error}") from error
        except BaseException:
            ownership.close()
            raise
        self._opened = connection, ownership
        self._database = Database(self._path, InlineConnection(connection, life), ownership)
        self._store = SqliteStore(self._database)
        return Watched(self._store, life, witness, self.promises, effects=False)

    @property
    def memory(self) -> MemoryStore:
        """The store in memory."""
        return self._memory

    def requeue(self, key: str, at_us: int) -> None:
        """As `docs retry` does, from a process of its own."""
        if self._world.options.store == "memory" and self._memory._open:
            with contextlib.suppress(StopIteration):  # it awaits nothing
                self._memory.requeue([key], Lane.OPERATOR, at_us).send(None)
        elif self._opened is not None:
            work = partial(transactions.requeue, keys=[key], lane=Lane.OPERATOR, at_us=at_us)
            with self.disk.calm(), contextlib.suppress(sqlite3.Error):
                transacted(work, self._opened[0])

    def is_guarded(self) -> bool:
        """Whether no one else can own the store while someone does."""
        if self._opened is None:
            return True
        try:
            locks.claim(self._path).close()
        except StoreError:
            return True
        return False

    def copied(self) -> Any:
        """A copy of the store as it is now."""
        return _copy_of(self._memory) if self._world.options.store == "memory" else self.disk.copied()

    def replace(self, content: Any) -> None:
        """Put a copy in the place of the store, or nothing."""
        if self._world.options.store == "memory":
            self._memory = MemoryStore() if content is None else _copy_of(content)
        else:
            self.disk.replace(content or {})

    def forget_outcomes(self) -> None:
        """As `restore` does: let the next start read all of the outcome log."""
        if self._opened is not None:
            self._opened[0].execute("DELETE FROM position WHERE topic = ?", (OUTCOMES,))
        memory = self._memory
        memory.offsets = {place: offset for place, offset in memory.offsets.items() if place.topic != OUTCOMES}

    def released(self) -> None:
        """The process is gone: the kernel closes what it had open, with nothing committed; or the machine went too."""
        self.disk.let_go()
        if self._opened is not None and self._database is not None:
            connection, _ = self._opened
            with contextlib.suppress(sqlite3.Error):
                connection.close()
            for lock in (self._database._writer, self._database._ownership):
                if lock is not None:  # killed while it closed the store, it may have both
                    lock.close()
        if self._world.options.store == "sqlite" and self._world.strikes("power_lost"):
            self._world.note("and the power is gone")
            self.disk.lose_power()
        self._opened = self._database = None

    def looks_settled(self, broker: MemoryBroker) -> bool:
        """Whether the log is folded, every document is settled and nothing waits to be published."""
        logs = {place: broker.at(place).records for place in places(broker)}
        ends = {place: records[-1].offset + 1 for place, records in logs.items() if records}
        if self._world.options.store == "memory":
            memory = self._memory
            settled = all(row.status in DONE for row in memory.rows.values())
            told = set().union(*memory.told.values()) if isinstance(memory, SharedMemory) else set()
            return (
                settled
                and memory.outbox.keys() <= told
                and all(memory.offsets.get(p, 0) >= end for p, end in ends.items())
            )
        if self._opened is None:
            return False
        query = self._opened[0].execute
        (unsettled,) = query("SELECT count(*) FROM document WHERE status NOT IN ('synced', 'held')").fetchone()
        assert self._store is not None
        # A published message is forgotten with a later transaction.
        waiting = {number for (number,) in query("SELECT number FROM outbox").fetchall()} - self._store._published
        rows = query("SELECT topic, partition, next_offset FROM position").fetchall()
        positions = {Partition(topic, number): offset for topic, number, offset in rows}
        return not unsettled and not waiting and all(positions.get(place, 0) >= end for place, end in ends.items())

    async def refused(self) -> list[str]:
        """Fields that wait only because the server would not take them once."""
        with self.disk.calm():
            found = await self.looked_at().list_documents(None, "", 1_000_000)
        refused = [(row.key, name, one) for row in found for name, one in row.agreement.base.refused.items()]
        # One whose time has come, and that is not tried, waits for another reason: its rule holds it.
        return [f"{key}: {name}" for key, name, one in refused if not one.contested and one.due_us is not None]

    async def rows(self) -> dict[str, tuple[bytes, str]]:
        """Desired state and status of every document, past all effects."""
        with self.disk.calm():
            found = await self.looked_at().list_documents(None, "", 1_000_000)
        return {row.key: (codec.encode(row.desired), row.status.value) for row in found}

    def looked_at(self) -> Any:
        """The store, just opened, past all effects; look at it while the disk is calm."""
        if self._world.options.store == "memory":
            return self._memory
        assert self._opened is not None
        connection = self._opened[0]
        (found,) = connection.execute("PRAGMA integrity_check").fetchone()
        self._world.expect(found == "ok", f"the file is damaged: {found}")
        return SqliteStore(Database(self._path, _Plain(connection), None))

    def direct(self) -> Any:
        """The store's content for the checks at the end, past all effects."""
        if self._world.options.store == "memory":
            self._memory._open = True
            return self._memory
        self.disk.rest()
        return SqliteStore(Database(self._path, _Plain(as_owner(self.disk, self._path)), None))

    def empty_outbox(self) -> None:
        """For a mutant: forget what waits to be published."""
        self._memory.outbox.clear()
        if self._opened is not None:
            self._opened[0].execute("DELETE FROM outbox")


def _copy_of(store: MemoryStore) -> MemoryStore:
    made = MemoryStore()
    made.__dict__.update({name: copy.copy(value) for name, value in store.__dict__.items()})
    return made


class _Plain:
    """A connection for looking only."""

    def __init__(self, connection: Connection) -> None:
        self._connection = self._conn = connection

    async def _execute(self, work: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)
        return work()

    async def close(self) -> None:
        self._connection.close()
