"""Sources: all that the server asks of the daemon, handed over by the composition root."""

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
from reconciler.model.policy import Policy
from reconciler.model.stamp import Partition
from reconciler.model.value import Json
from reconciler.ports import Clock, EventLog, Store, standing
from reconciler.web.access import Door
from reconciler.web.probes import Readiness


class Wake(Protocol):
    """Asks for a look at what has changed in Windchill, soon. Cheap, and many calls make one look."""

    def __call__(self) -> None: ...


@attrs.frozen
class Engine:
    """The parts of the daemon at work, to be looked at."""

    breaker: Breaker
    limiter: Limiter
    queue: Queue
    reached: Callable[[], Mapping[Partition, int]]  # how far each partition is folded; empty until the log is open


@attrs.frozen(kw_only=True)
class Sources:
    """Where the answers come from."""

    late: Callable[[], Mapping[str, float]]  # loops that are stuck, with the seconds since they were heard of
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
    door: Door
    settings: Callable[[], Iterable[tuple[str, str, Json, str]]]  # section, key, value (secrets masked), origin
    actions: OperatorActions
    hook_secret: str = attrs.field(default="", repr=False)  # empty: no hook

    @property
    def decode_options(self) -> decode.Options:
        """By which the log is decoded now."""
        return self.decoding()

    @property
    def policy(self) -> Policy:
        """The policy in force; another one the next time, perhaps."""
        return self.decoding().policy

    async def ends(self) -> Mapping[Partition, int] | None:
        """Return where each partition of the change log ends; `None` when it does not say so in time."""
        return await standing.ends(self.log, self.engine.reached())
