"""Services: everything that the admin server needs from the daemon."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Protocol

import attrs

from reconciler.core.events import decode
from reconciler.core.explain.series import Point
from reconciler.core.scheduling.breaker import Breaker
from reconciler.core.scheduling.limiter import Limiter
from reconciler.core.scheduling.queue import Queue
from reconciler.flows.actions import OperatorActions
from reconciler.model.document import Document
from reconciler.model.policy import Policy
from reconciler.model.stamp import Partition
from reconciler.model.standing import Space
from reconciler.model.value import Json
from reconciler.ports import Clock, EventLog, Store, standing
from reconciler.web.access import AccessControl
from reconciler.web.probes import Readiness


class Wake(Protocol):
    """Requests a poll of Windchill's changes. Cheap; many calls lead to one poll."""

    def __call__(self) -> None: ...


@attrs.frozen
class Engine:
    """Parts of the running daemon whose state is shown."""

    breaker: Breaker
    limiter: Limiter
    queue: Queue
    seen: Mapping[str, int]  # records of the change log since the start, by what came of them
    reached: Callable[[], Mapping[Partition, int]]  # how far each partition is folded; empty until the log is open
    in_flight_max: int  # of all replicas together


@attrs.frozen(kw_only=True)
class Services:
    """What endpoints use."""

    late: Callable[[], Mapping[str, float]]  # stuck loops, with the seconds since their last sign of life
    readiness: Callable[[], Readiness]
    metrics: Callable[[str], Awaitable[tuple[bytes, str]]]  # from an Accept header to a text and its content type
    wake: Wake
    clock: Clock
    store: Store
    log: EventLog
    decoding: Callable[[], decode.Options]  # by which the log is decoded now
    engine: Engine
    series: Callable[[float], Sequence[Point]]  # of the last hours
    stopping: asyncio.Event  # set when the daemon begins to stop, at the latest when the server does
    access: AccessControl
    settings: Callable[[], Iterable[tuple[str, str, Json, str]]]  # section, key, value (secrets masked), origin
    actions: OperatorActions
    spaces: Callable[[], Iterable[Space]]  # where store and log are
    windchill_link: Callable[[Document], str] = lambda _: ""  # to a document in Windchill's own pages
    hook_secret: str = attrs.field(default="", repr=False)  # empty: no hook

    @property
    def decode_options(self) -> decode.Options:
        """By which the log is decoded now."""
        return self.decoding()

    @property
    def policy(self) -> Policy:
        """The policy in force; it may change between two calls."""
        return self.decoding().policy

    async def ends(self) -> Mapping[Partition, int] | None:
        """Return the end of each partition of the change log; `None` if the log does not answer in time."""
        return await standing.ends(self.log, self.engine.reached())
