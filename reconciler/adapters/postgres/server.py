"""
The server: a pool of connections, one statement at a time on each, and patience while it can't be reached.

Rules. Every statement commits by itself, so none waits for us between BEGIN and COMMIT: a process that stops in the
middle holds no lock. A call runs to its end even if its caller is cancelled. Whoever changes something says how to find
out whether it was done (`Done`), because the answer to a commit can be lost.

Theory. A restart or failover of the server takes seconds. Reads are simply repeated. A change is repeated too, once it
is known that the first one was not stored. When patience ends, the store has a fault that every later call raises.
"""

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import attrs
import structlog

from reconciler.adapters import tls
from reconciler.errors import MovedError, StoreError, StoreFullError
from reconciler.ports import Clock

_log = structlog.get_logger(__name__)

T = TypeVar("T")


class OldPrimaryError(Exception):
    """The server is not the one that was promoted last; another connection may lead there."""


Done = Callable[[], Awaitable[bool]]

VERSION_MIN = 15
CONNECTIONS_MAX = 6  # of a process: pages and commands read while others write
# No statement of ours takes a tenth of these. The last frees rows if a connection ever hangs in an open transaction.
TIMEOUTS = {"statement_timeout": "30s", "lock_timeout": "10s", "idle_in_transaction_session_timeout": "5s"}
_ANSWER_S = 40.0  # longer than any statement may take: the network has lost the answer
_CONNECT_S = 10.0
_RETRY_S, _RETRY_S_MAX = 0.1, 2.0
_LOCAL = re.compile(r"(localhost|127(\.[0-9]+){3}|\[::1\])(:[0-9]+)?")

_LOST = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,  # "connection is closed"
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, before it is promoted
    asyncpg.TargetServerAttributeNotMatched,  # only standbys
    asyncpg.ObjectNotInPrerequisiteStateError,  # a standby that has no timeline of its own yet
    OldPrimaryError,
)
_STANDBY = (
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.TargetServerAttributeNotMatched,
    asyncpg.ObjectNotInPrerequisiteStateError,
)
_MOVED = "RC001"  # raised by our own function
_AGAIN = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)


_NO_FILES = tls.Files()


@attrs.frozen
class Address:
    """
    Where a store is, and how to get there.

    `url` is `postgresql://USER@HOST:PORT/DATABASE`, perhaps with more hosts, of which the one that may be written to is
    used. `password`: `None` for that of PGPASSFILE. `sslmode` is libpq's; empty: `verify-full`, or `prefer` for a
    server on this machine. `pooled`: a PgBouncer in transaction mode is between; then no statement is prepared, and the
    timeouts must be the role's (`ALTER ROLE … SET`), because what a session sets goes to whoever gets it next.
    """

    url: str
    password: str | None = attrs.field(default=None, repr=False)
    sslmode: str = ""
    files: tls.Files = _NO_FILES
    pooled: bool = False
    patience_s: float = 60.0

    def __str__(self) -> str:
        """Return the address without what may be secret."""
        parts = urlsplit(self.url)
        return f"postgresql://{self._hosts}{parts.path}"

    @property
    def _hosts(self) -> str:
        return urlsplit(self.url).netloc.rpartition("@")[2]

    def trust(self) -> tls.Trust | None:
        """Return which servers we believe; None for any, or without TLS."""
        mode = self._mode
        if mode in ("disable", "prefer") or (mode == "require" and self.files == _NO_FILES):
            return None
        trust = tls.Trust(self.files)
        trust.context.check_hostname = mode == "verify-full"
        if mode == "require":
            trust.context.verify_mode = ssl.CERT_NONE
        return trust

    @property
    def _mode(self) -> str:
        return self.sslmode or ("prefer" if all(map(_LOCAL.fullmatch, self._hosts.split(","))) else "verify-full")

    def arguments(self, trust: tls.Trust | None) -> dict[str, Any]:
        """Return how to connect."""
        return {
            "dsn": self.url,
            "password": self.password,
            "ssl": self._mode if trust is None else trust.context,
            "timeout": _CONNECT_S,
            "command_timeout": _ANSWER_S,
            "statement_cache_size": 0 if self.pooled else 100,
            "server_settings": {"application_name": "reconciler"} | ({} if self.pooled else TIMEOUTS),
            "target_session_attrs": "read-write",
        }


class Server:
    """Runs statements, each with the name of its operation, for messages: "can't <operation> in …"."""

    def __init__(self, address: Address, clock: Clock) -> None:
        self.address = address
        self._clock = clock
        self._pool: Any = None  # asyncpg has no types
        self._fault: StoreError | None = None
        self.closed = False
        self.patience_s = address.patience_s  # how long a server that can't be reached is waited for
        self.greeting: Callable[[Any], Awaitable[None]] | None = None  # what is asked first on each new connection

    async def open(self) -> None:
        """Connect, and refuse a server that is too old or lacks the timeouts."""
        trust = self.address.trust()

        async def connect(*arguments: Any, **named: Any) -> Any:
            if trust is not None:
                trust.refresh()
            return await asyncpg.connect(*arguments, **named)

        try:
            pool = asyncpg.create_pool(
                **self.address.arguments(trust),
                min_size=0,
                max_size=CONNECTIONS_MAX,
                connect=connect,
                init=self._greet,
                reset=_left_as_it_is,
            )
        except ValueError as error:
            raise StoreError(f"{self.address} is no usable PostgreSQL address: {error}") from error
        self._pool = await pool
        settings = ", ".join(f"current_setting('{name}')" for name in TIMEOUTS)
        found = await self.fetch("connect", f"SELECT current_setting('server_version_num')::int, {settings}")
        version, *timeouts = found[0]
        if version < VERSION_MIN * 10_000:
            raise StoreError(f"{self.address} is PostgreSQL {version // 10_000}; at least {VERSION_MIN} is needed")
        if "0" in timeouts:
            orders = "; ".join(f"ALTER ROLE … SET {name} = '{limit}'" for name, limit in TIMEOUTS.items())
            raise StoreError(f"{self.address} lets statements run without a limit; an administrator should: {orders}")

    async def fetch(self, operation: str, sql: str, *arguments: Any) -> list[Any]:
        """Return the rows of a query, or of a change that does no harm when it is repeated."""
        rows: Any = await self._patiently(operation, lambda: self._pool.fetch(sql, *arguments), None)
        return list(rows)

    async def once(self, operation: str, within_s: float, sql: str, *arguments: Any) -> list[Any]:
        """Return the rows of a statement, without patience: raises StoreError if it does not answer in time."""
        self._require_open(operation)
        try:
            async with asyncio.timeout(within_s):
                return list(await _answered(self._pool.fetch(sql, *arguments)))
        except (*_LOST, *_AGAIN, asyncpg.PostgresError) as error:
            raise self._failed(operation, error) from error

    async def change(self, operation: str, sql: str, arguments: Sequence[Any], done: Done | None = None) -> Any:
        """Return the one row that a change answers; None if its answer was lost, and `done` says that it is stored."""
        return await self._patiently(operation, lambda: self._pool.fetchrow(sql, *arguments), done)

    async def transact(self, operation: str, work: Callable[[Any], Awaitable[T]]) -> T:
        """Run a function of a connection in a transaction of its own: only for migrations."""
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                return await work(connection)
        except (*_LOST, asyncpg.PostgresError) as error:
            raise self._failed(operation, error) from error

    async def close(self) -> None:
        """Close all connections, after the calls under way."""
        if not self.closed:
            self.closed = True
            if self._fault:
                self._pool.terminate()
            elif self._pool is not None:
                await asyncio.shield(self._pool.close())

    async def _greet(self, connection: Any) -> None:
        if self.greeting is not None:
            await self.greeting(connection)

    async def _patiently(self, operation: str, call: Callable[[], Awaitable[T]], done: Done | None) -> T | None:
        # Shielded: asyncpg would cancel the statement with its caller, and nobody would know whether it was done.
        result, error = await asyncio.shield(_ended(self._repeatedly(operation, call, done)))
        if error is not None:
            raise error
        return result

    async def _repeatedly(self, operation: str, call: Callable[[], Awaitable[T]], done: Done | None) -> T | None:
        wait_s, since_s = _RETRY_S, self._clock.monotonic_s()
        while True:
            self._require_open(operation)
            try:
                return await _answered(call())
            except _AGAIN:
                continue
            except _LOST as error:
                if not _passes(error) or self._clock.monotonic_s() - since_s >= self.patience_s:
                    self._fault = self._fault or self._failed(operation, error)
                    raise self._fault from error
                _log.warning("waiting for PostgreSQL", store=str(self.address), error=_told(error))
            except asyncpg.PostgresError as error:
                if error.sqlstate == _MOVED:
                    raise MovedError(f"can't {operation} in {self.address}: {_told(error)}") from error
                raise self._failed(operation, error) from error
            await self._clock.sleep(wait_s)
            wait_s = min(2 * wait_s, _RETRY_S_MAX)
            if done is not None and await done():
                return None

    def _require_open(self, operation: str) -> None:
        if self._fault:
            raise self._fault
        if self.closed:
            raise StoreError(f"can't {operation} in {self.address}: the store is closed")

    def _failed(self, operation: str, error: BaseException) -> StoreError:
        full = isinstance(error, asyncpg.DiskFullError)
        return (StoreFullError if full else StoreError)(f"can't {operation} in {self.address}: {_told(error)}")


async def _answered(call: Awaitable[T]) -> T:
    """
    Return what a call of asyncpg returns.

    A CancelledError that nobody has sent us can only come from a connection that asyncpg gives up. It would end a loop
    of ours, or the process, without a word.
    """
    try:
        return await call
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ConnectionAbortedError("the connection was lost while a statement was given up") from error


async def _ended(call: Awaitable[T]) -> tuple[T | None, Exception | None]:
    """Return how a call ends. A caller that was cancelled asks for no error, and asyncio would log that nobody has."""
    try:
        return await call, None
    except Exception as error:  # noqa: BLE001  raised by whoever waits for it
        return None, error


async def _left_as_it_is(_: Any) -> None:
    """Leave a connection as it is: our statements leave nothing in the session, and a reset would cost a round trip."""


def _passes(error: BaseException) -> bool:
    """Whether waiting may help."""
    wrong = (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError, ssl.SSLError)
    return not isinstance(error, wrong)


def _told(error: BaseException) -> str:
    if isinstance(error, _STANDBY):
        return "the server is a standby, which can't be written to; promote it, or name the primary in store.url"
    return str(error).partition("\n")[0] or type(error).__name__
