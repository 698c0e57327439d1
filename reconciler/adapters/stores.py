"""Which store a URL names. No other module outside the stores' own packages knows which kinds of store there are."""

from pathlib import Path

import attrs

from reconciler.adapters import tls
from reconciler.adapters.clock import SystemClock
from reconciler.adapters.sqlite.admin import SqliteAdmin
from reconciler.errors import StoreError
from reconciler.ports import Clock, StoreAdmin


@attrs.frozen(kw_only=True)
class Options:
    """How to reach a store that is a server; empty texts for what is not set."""

    password: str = attrs.field(default="", repr=False)
    sslmode: str = ""
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    pooled: bool = False
    evict_s: float = 15.0
    name: str = ""  # of this process, for people


DEFAULTS = Options()


def admin(url: str, options: Options = DEFAULTS, clock: Clock | None = None) -> StoreAdmin:
    """Return the store that a URL names, not yet opened; it waits by the clock."""
    scheme, _, _ = url.partition(":")
    match scheme:
        case "sqlite":
            return SqliteAdmin(url)
        case "postgresql" | "postgres":
            return _postgres(url, options, clock or SystemClock())
        case _:
            raise StoreError(f"there is no store of the kind {scheme!r}; use sqlite:///FILE or postgresql://…")


def _postgres(url: str, options: Options, clock: Clock) -> StoreAdmin:
    try:
        from reconciler.adapters.postgres.admin import PostgresAdmin  # noqa: PLC0415  asyncpg is an extra
        from reconciler.adapters.postgres.server import Address  # noqa: PLC0415  the same
        from reconciler.adapters.postgres.slots import Terms  # noqa: PLC0415  the same
    except ModuleNotFoundError as error:
        raise StoreError(
            "a store on PostgreSQL needs the extra `postgres`: pip install 'windchill-reconciler[postgres]'"
        ) from error
    paths = [Path(name) if name else None for name in (options.ca_file, options.cert_file, options.key_file)]
    address = Address(url, options.password or None, options.sslmode, tls.Files(*paths), options.pooled)
    return PostgresAdmin(address, clock, Terms(options.name, options.evict_s))
