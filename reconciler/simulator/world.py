"""Everything in one simulation: documents, faults, rivals, credentials, statistics."""

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

from reconciler.simulator import seeds
from reconciler.simulator.credentials import Credentials
from reconciler.simulator.documents import Documents
from reconciler.simulator.faults import FaultPlan
from reconciler.simulator.history import Entry
from reconciler.simulator.rivals import RivalUsers
from reconciler.simulator.settings import Settings
from reconciler.simulator.wrs.state import WrsState


class Statistics:
    """Counts of requests, replies and writes; memory is limited, because there are few kinds of each."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        """(method, status) → how often; status 0: the connection dropped without a reply."""
        self.calls: Counter[str] = Counter()
        """Of the dialect `wrs`: method and what was called, such as `GET Documents` or `POST CheckOut` → how often."""
        self.causes: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()
        self.crowding: Counter[str] = Counter()
        """`in_flight`: the most requests at once; `overlaps`: writes that came during another one on their document."""

    def reset(self) -> None:
        """Count from zero."""
        for counter in vars(self).values():
            counter.clear()

    def written(self, entry: Entry) -> None:
        if entry.kind == "rest":
            self.writes["outside" if entry.outside else "unguarded" if entry.unguarded else "guarded"] += 1
            self.writes["stale"] += not entry.unguarded and entry.guard != entry.before
        else:
            self.writes[entry.kind] += 1
        self.writes["changed_nothing"] += not entry.changes

    def shown(self) -> dict[str, Any]:
        requests: dict[str, dict[str, int]] = {}
        for (method, status), count in sorted(self.requests.items()):
            requests.setdefault(method, {})[str(status) if status else "dropped"] = count
        writes = dict.fromkeys(("guarded", "unguarded", "stale", "rival", "control", "changed_nothing"), 0)
        return {
            "requests": requests,
            "wrs_calls": dict(sorted(self.calls.items())),
            "refusals": dict(sorted(self.causes.items())),
            "faults": dict(sorted(self.faults.items())),
            "accepted_writes": writes | dict(self.writes),
            "crowding": {"in_flight": self.crowding["in_flight"], "overlaps": self.crowding["overlaps"]},
        }


class World:
    """One simulation, which can start again."""

    documents: Documents
    faults: FaultPlan
    rivals: RivalUsers
    credentials: Credentials
    statistics: Statistics
    wrs: WrsState

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self.settings = settings
        self.clock = clock
        self.begin()

    def begin(self) -> None:
        """Start again with the first documents and settings and an empty history."""
        settings = self.settings
        self.statistics = Statistics()
        self.documents = Documents(settings.behaviour, self.clock, settings.history_max, self._written)
        if settings.seed_file is None:
            self.documents.load(seeds.generated(settings.documents, settings.seed))
        else:
            self.documents.load(seeds.from_file(settings.seed_file))
        self.faults = FaultPlan(settings.seed, settings.faults)
        self.rivals = RivalUsers(settings.seed, settings.rivals)
        self.credentials = Credentials(settings.seed)
        self.wrs = WrsState(settings.seed, settings.wrs, self.documents, self.clock, self.statistics.causes)

    def _written(self, entry: Entry) -> None:
        self.statistics.written(entry)
        self.wrs.iterations.note(entry)
