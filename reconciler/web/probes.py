"""
Probes: liveness (`/livez`: is the daemon stuck?) and readiness (`/readyz`: does it do its work?).

Both answer from memory. A restart helps only a stuck daemon, so liveness checks no dependency. Readiness does not fail
if Windchill is unreachable: the daemon keeps folding and catches up later. The body says that Windchill is down.
"""

import enum
from collections.abc import Callable, Mapping

import attrs
from starlette.responses import Response

from reconciler.core.scheduling.breaker import Breaker
from reconciler.model import instant
from reconciler.model.standing import WriteStop
from reconciler.web import responses


class Phase(enum.StrEnum):
    """The phases of a daemon's life."""

    STARTING = "starting"  # opening the store
    RECOVERING = "recovering"  # reading the outcome log
    CONNECTING = "connecting"  # opening the change log and taking its partitions
    READY = "ready"
    STOPPING = "stopping"


class Health(enum.StrEnum):
    """The state of Windchill."""

    UP = "up"  # or not requested yet
    DOWN = "down"  # the breaker is open
    MAINTENANCE = "maintenance"  # the configuration, or a maintenance window, forbids requests


@attrs.frozen
class Readiness:
    """The readiness of the daemon."""

    phase: Phase
    windchill: Health = Health.UP
    folding_waits: str = ""  # why folding waits; empty: it does not
    clock: str = ""  # what is wrong with the host's clock; empty: nothing
    stop: WriteStop | None = None  # operators have stopped all writes
    maintenance_until_us: int | None = None  # the end of the maintenance window, if there is one now


class Progress:
    """The current phase, which the daemon sets while it starts."""

    def __init__(self, breaker: Breaker, *, maintenance: Callable[[], bool]) -> None:
        self.phase = Phase.STARTING
        self._breaker = breaker
        self._maintenance = maintenance

    def readiness(self, *, stopping: bool) -> Readiness:
        """Return the current readiness; a stopping daemon is not ready."""
        health = Health.DOWN if self._breaker.away else Health.UP
        return Readiness(
            Phase.STOPPING if stopping else self.phase, Health.MAINTENANCE if self._maintenance() else health
        )


def live(late: Mapping[str, float]) -> Response:
    """Answer `/livez`; `late` maps each stuck loop to the seconds since its last sign of life."""
    if late:
        return responses.json(
            {"status": "stuck", "loops": {name: round(since_s) for name, since_s in late.items()}}, 503
        )
    return responses.json({"status": "alive"})


def ready(readiness: Readiness) -> Response:
    """Answer `/readyz`."""
    if readiness.phase is not Phase.READY:
        return responses.json({"status": readiness.phase.value}, 503)
    stop = readiness.stop
    stopped = "" if stop is None else f"stopped at {instant.from_us(stop.at_us)}"  # no names: anyone may ask
    wrong = {"folding": readiness.folding_waits, "clock": readiness.clock, "writes": stopped}
    wrong = {name: said for name, said in wrong.items() if said}
    status = "degraded" if wrong or readiness.windchill is Health.DOWN else "ready"
    return responses.json({"status": status, "windchill": readiness.windchill.value, **wrong})
