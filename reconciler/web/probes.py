"""
Probes: whether to restart the daemon (`/livez`), and whether it does its work (`/readyz`).

Both answer from memory. Restarting helps only a daemon that is stuck, so liveness asks no dependency. Readiness does
not fail over a Windchill that is away either: the daemon goes on folding then and catches up by itself, and taking it
out of service would only hide it. The body says so.
"""

import enum
from collections.abc import Mapping

import attrs
from starlette.responses import Response

from reconciler.core.scheduling.breaker import Breaker
from reconciler.web import answers


class Phase(enum.StrEnum):
    """How far the daemon has come."""

    STARTING = "starting"  # the store is open
    RECOVERING = "recovering"  # the outcome log is read
    CONNECTING = "connecting"  # the change log is opened and its partitions are taken
    READY = "ready"
    STOPPING = "stopping"


class Health(enum.StrEnum):
    """How Windchill is seen."""

    UP = "up"  # or not asked yet
    DOWN = "down"  # the breaker keeps requests back
    MAINTENANCE = "maintenance"  # it is not asked, by configuration


@attrs.frozen
class Readiness:
    """What there is to know about readiness."""

    phase: Phase
    windchill: Health = Health.UP
    folding_waits: str = ""  # why, if it does
    clock: str = ""  # what speaks against the host's clock


class Progress:
    """How far the daemon has come; whoever starts it says so by setting `phase`."""

    def __init__(self, breaker: Breaker, *, maintenance: bool) -> None:
        self.phase = Phase.STARTING
        self._breaker = breaker
        self._maintenance = maintenance

    def readiness(self, *, stopping: bool) -> Readiness:
        """Return the readiness of now: a daemon that was told to stop is unready at once."""
        health = Health.DOWN if self._breaker.away else Health.UP
        return Readiness(
            Phase.STOPPING if stopping else self.phase, Health.MAINTENANCE if self._maintenance else health
        )


def live(late: Mapping[str, float]) -> Response:
    """Answer `/livez`; `late` are loops of which nothing was heard for too long, with the seconds since."""
    if late:
        return answers.json({"status": "stuck", "loops": {name: round(since_s) for name, since_s in late.items()}}, 503)
    return answers.json({"status": "alive"})


def ready(readiness: Readiness) -> Response:
    """Answer `/readyz`."""
    if readiness.phase is not Phase.READY:
        return answers.json({"status": readiness.phase.value}, 503)
    wrong = {"folding": readiness.folding_waits, "clock": readiness.clock}
    wrong = {name: said for name, said in wrong.items() if said}
    status = "degraded" if wrong or readiness.windchill is Health.DOWN else "ready"
    return answers.json({"status": status, "windchill": readiness.windchill.value, **wrong})
