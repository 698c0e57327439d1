"""
Migrations: numbered SQL files, each run once, in order, in a transaction; the store knows which were run.

A file never changes once it is released: its checksum is kept, and another one is refused. `run` migrates nothing. It
refuses a store with other migrations than it knows, so that an old and a new program never write side by side unless
the new one says that it may.
"""

import hashlib
from importlib import resources
from typing import Any

from reconciler.adapters import packing
from reconciler.adapters.postgres.server import Server
from reconciler.errors import StoreError

_LOCK = 8243107300  # of the database, for as long as the transaction: two migrators don't meet
_TABLE = (
    "CREATE TABLE IF NOT EXISTS schema_version (number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL)"
)


def known() -> list[tuple[int, str, str]]:
    """Return number, name and text of all migrations, in order."""
    files = (resources.files("reconciler.adapters.postgres") / "migrations").iterdir()
    named = sorted((file.name, file.read_text(encoding="utf-8")) for file in files if file.name.endswith(".sql"))
    return [(int(name[:4]), name, text) for name, text in named]


async def migrate(server: Server) -> list[str]:
    """Run the migrations that were not run yet; return their names."""

    async def work(connection: Any) -> list[str]:
        await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
        await connection.execute(_TABLE)
        run = {number: checksum for number, _, checksum in await connection.fetch("SELECT * FROM schema_version")}
        _require_known(server, run)
        new = [one for one in known() if one[0] not in run]
        for number, name, text in new:
            await connection.execute(text)
            await connection.execute("INSERT INTO schema_version VALUES ($1, $2, $3)", number, name, _checksum(text))
        if not run:
            await connection.execute("INSERT INTO dictionary VALUES ($1)", packing.DICTIONARY)
        return [name for _, name, _ in new]

    return await server.transact("migrate", work)


async def is_made(server: Server) -> bool:
    """Whether any migration was run."""
    found = await server.fetch("read the schema's version", "SELECT to_regclass('schema_version') IS NOT NULL")
    return bool(found[0][0])


async def require_current(server: Server) -> None:
    """Refuse a store that has not run exactly the migrations that this program knows."""
    if not await is_made(server):
        raise StoreError(f"{server.address} has no schema yet; run `reconciler store migrate`")
    found = await server.fetch("read the schema's version", "SELECT number, checksum FROM schema_version")
    run = dict(found)
    _require_known(server, run)
    if missing := [name for number, name, _ in known() if number not in run]:
        raise StoreError(f"{server.address} lacks {', '.join(missing)}; run `reconciler store migrate`")
    ((text,),) = await server.fetch("read the dictionary", "SELECT text FROM dictionary")
    if text != packing.DICTIONARY:
        raise StoreError(f"{server.address} packs with another dictionary; use the reconciler that wrote it")


def _require_known(server: Server, run: dict[int, str]) -> None:
    ours = {number: _checksum(text) for number, _, text in known()}
    if later := sorted(run.keys() - ours.keys()):
        raise StoreError(
            f"{server.address} has migration {later[-1]}, which this program does not know; use a later one"
        )
    if other := [number for number, checksum in run.items() if ours[number] != checksum]:
        raise StoreError(f"{server.address} has run another migration {other[0]} than this program has")


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
