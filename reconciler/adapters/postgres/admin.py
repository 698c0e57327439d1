"""The store on PostgreSQL as a whole, for commands (`ports.StoreAdmin`)."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path

from reconciler.adapters.postgres import arriving, migrating, slots
from reconciler.adapters.postgres.server import Address, Server
from reconciler.adapters.postgres.slots import Terms
from reconciler.adapters.postgres.store import PostgresStore, open_store
from reconciler.errors import UsageError
from reconciler.model.standing import Replica
from reconciler.ports import Clock
from reconciler.ports.moving import Cargo
from reconciler.ports.store_admin import Contents, Durability, Fresh, Replaced, Tell

_SIZE = "SELECT pg_database_size(current_database())"
_CHECKED = "SELECT current_setting('data_checksums') = 'on'"

# A role that is not in pg_monitor sees only its own transactions, and not how standbys follow.
_DURABILITY = """
    SELECT current_setting('server_version'),
        current_setting('fsync')::boolean AND current_setting('full_page_writes')::boolean,
        current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
        current_setting('archive_mode'),
        (SELECT coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) FROM pg_stat_archiver),
        extract(epoch FROM now() - least(now(),
            (SELECT min(xact_start) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL),
            (SELECT min(prepared) FROM pg_prepared_xacts)))::double precision
"""
_STANDBYS = "SELECT application_name, sync_state FROM pg_stat_replication ORDER BY 1"


class PostgresAdmin:
    """`ports.StoreAdmin` over a database; the port says what each method does."""

    def __init__(self, address: Address, clock: Clock, terms: Terms) -> None:
        self._address = address
        self._clock = clock
        self._terms = terms

    @property
    def name(self) -> str:
        return str(self._address)

    @property
    def files(self) -> Sequence[Path]:
        return ()

    async def exists(self) -> bool:
        async with self._server() as server:
            return await migrating.is_made(server)

    async def open(self, *, owner: bool) -> PostgresStore:
        return await open_store(self._address, self._clock, owner=owner, terms=self._terms)

    async def migrate(self) -> Sequence[str]:
        async with self._server() as server:
            return await migrating.migrate(server)

    def leaving(self) -> AbstractContextManager[Cargo]:
        raise UsageError("only a store in a file moves; PostgreSQL's own tools copy its databases")

    async def receive(self, cargo: Cargo, move: str, tell: Tell) -> int:
        async with self._server() as server:
            await migrating.require_current(server)
            return await arriving.receive(server, cargo, move, tell)

    async def has_received(self, move: str) -> bool:
        async with self._server() as server:
            return await migrating.is_made(server) and await arriving.has_arrived(server, move)

    async def replicas(self) -> Sequence[Replica]:
        async with self._server() as server:
            return await slots.replicas(server)

    async def size(self) -> int:
        async with self._server() as server:
            return int((await server.fetch("read the store's size", _SIZE))[0][0])

    async def durability(self) -> Durability:
        async with self._server() as server:
            ((*said, oldest_s),) = await server.fetch("read settings", _DURABILITY)
            standbys = await server.fetch("list standbys", _STANDBYS)
        version, safe, commit, wanted, archive, archive_fails = said
        found = tuple((str(name or "unnamed"), str(state or "unknown")) for name, state in standbys)
        return Durability(version, safe, commit, wanted, found, archive, archive_fails, oldest_s)

    async def require_place(self) -> None:
        async with self._server():
            return

    async def inspect(self, tell: Tell | None) -> str:
        if tell is not None:
            raise UsageError("--deep does not read a store on PostgreSQL; use pg_amcheck, and pg_checksums")
        async with self._server() as server:
            await migrating.require_current(server)
            ((checked,),) = await server.fetch("read a setting", _CHECKED)
        return "its schema is current, and PostgreSQL " + (
            "checks its pages when it reads them" if checked else "checks no pages (data_checksums is off)"
        )

    def snapshot(self, to: Path, tell: Tell) -> Contents:
        raise UsageError("PostgreSQL makes copies of its stores itself: use pg_basebackup, or pg_dump")

    def restore(self, origin: Path, tell: Tell, at: str) -> Replaced:
        raise UsageError("PostgreSQL restores its stores itself: use its own backups")

    def rebuilding(self, at: str) -> AbstractContextManager[Fresh]:
        raise UsageError("make another database, migrate it, and name it in store.url: the log is folded into it anew")

    @asynccontextmanager
    async def _server(self) -> AsyncIterator[Server]:
        server = Server(self._address, self._clock)
        try:
            await server.open()
            yield server
        finally:
            await server.close()
