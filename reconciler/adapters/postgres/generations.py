"""
Generations: whether the database is the one that a replica knows, and not in an earlier state.

Rules. The database's identity is recorded when a generation begins. Whoever opens the store and finds another one
begins the next generation. So does whoever finds that the store has forgotten what it had stored: a restored disk keeps
its identity. All statements that store something name the generation and the identity, so nobody goes on in the next
one with what it knows of the last: it begins anew. No clock decides anything.

An earlier timeline of the same cluster is no other database but an old primary that still answers, in most cases.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import structlog

from reconciler.adapters.postgres.server import Server
from reconciler.errors import ReplacedError

_log = structlog.get_logger(__name__)

Ask = Callable[..., Awaitable[Sequence[Any]]]  # gets a statement and its arguments, and returns rows

RENEW = "SELECT renew_1($1)"
_READ = "SELECT generation, identity, identity_1() FROM control"


class Generation(NamedTuple):
    """A generation of the store: its number, and the database that it began on."""

    number: int
    identity: str

    def is_after(self, identity: str) -> bool:
        """Whether another identity is that of the same cluster at an earlier time."""
        cluster, timeline, *_ = self.identity.split("/")
        its_cluster, its_timeline, *_ = identity.split("/")
        return cluster == its_cluster and int(its_timeline, 16) < int(timeline, 16)


async def current(server: Server) -> Generation:
    """Return the generation of this database; begins it if the last one began on another database."""
    while True:
        ((number, recorded, identity),) = await server.fetch("read which database it is", _READ)
        if recorded == identity:
            return Generation(number, identity)
        ((renewed,),) = await server.fetch("begin a generation", RENEW, number)
        if renewed and recorded is not None:
            _log.warning(
                "the store is another database than before; recovering what was agreed meanwhile",
                store=str(server.address),
                generation=number + 1,
                before=recorded,
                now=identity,
            )


def replaced(operation: str, server: Server) -> ReplacedError:
    """Return the error of an owner whose generation has ended."""
    return ReplacedError(
        f"can't {operation} in {server.address}: it is another database than before, or in an earlier state, after a"
        " failover or a restore; begin anew"
    )


OLD_PRIMARY = (
    "the server is an old primary, and another one was promoted since; stop it, and let store.url lead to the other (if"
    " it was restored on purpose, start the reconciler again)"
)
