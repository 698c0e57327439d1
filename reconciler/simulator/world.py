"""Everything there is in one simulation: documents and their seeds, faults, rivals, credentials, statistics."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from reconciler.simulator.credentials import Credentials
from reconciler.simulator.documents import Documents
from reconciler.simulator.faults import FaultPlan
from reconciler.simulator.history import Entry
from reconciler.simulator.rivals import RivalUsers
from reconciler.simulator.settings import Settings
from reconciler.simulator.wrs.checkout import Cycles
from reconciler.simulator.wrs.nonces import Nonces, Sessions
from reconciler.simulator.wrs.options import Wrs
from reconciler.simulator.wrs.shelf import Shelf
from reconciler.simulator.wrs.types import Types, types


class Statistics:
    """What was asked and how it was answered. Bounded: methods, statuses, calls, causes and faults are few."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        """(method, status) → how often; status 0 stands for a connection that dropped without a reply."""
        self.calls: Counter[str] = Counter()
        """Of the dialect `wrs`: method and what was called, such as `GET Documents` or `POST CheckOut` → how often."""
        self.causes: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()

    def written(self, entry: Entry) -> None:
        """Count one accepted write."""
        if entry.kind == "rest":
            self.writes["outside" if entry.outside else "unguarded" if entry.unguarded else "guarded"] += 1
            self.writes["stale"] += not entry.unguarded and entry.guard != entry.before
        else:
            self.writes[entry.kind] += 1
        self.writes["changed_nothing"] += not entry.changes

    def shown(self) -> dict[str, Any]:
        """As the control API shows them."""
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
        }


class Side:
    """What the dialect `wrs` adds to a world: switches, iterations, nonces, check-outs, and what users saw."""

    def __init__(self, seed: int, switches: Wrs, documents: Documents) -> None:
        self._switches = switches
        self.shelf = Shelf(documents)
        self.nonces = Nonces(seed)
        self.sessions = Sessions(seed)
        self.cycles = Cycles()
        self._seen: dict[tuple[str, str], str] = {}

    @property
    def switches(self) -> Wrs:
        """The switches in force."""
        return self._switches

    @switches.setter
    def switches(self, switches: Wrs) -> None:
        self._switches = switches
        self.__dict__.pop("types", None)

    @cached_property
    def types(self) -> Types:
        """The types under these switches."""
        return types(self._switches)

    def note(self, entry: Entry) -> None:
        """Follow an accepted write."""
        self.shelf.note(entry)

    def showed(self, user: str, key: str, token: str) -> None:
        """Remember that `user` was shown the document's version with this token."""
        self._seen[user, key] = token

    def seen(self, user: str, key: str) -> str | None:
        """The token last shown to `user`; None: nothing yet."""
        return self._seen.get((user, key))


class World:
    """One simulation, which can begin again."""

    documents: Documents
    faults: FaultPlan
    rivals: RivalUsers
    credentials: Credentials
    statistics: Statistics
    wrs: Side

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self.settings = settings
        self.clock = clock
        self.begin()

    def begin(self) -> None:
        """Everything as it was when the program started: documents, versions, settings, an empty history."""
        settings = self.settings
        self.statistics = Statistics()
        self.documents = Documents(settings.behaviour, self.clock, settings.history_max, self._written)
        if settings.seed_file is None:
            self.documents.load(generated(settings.documents, settings.seed))
        else:
            self.documents.load(from_file(settings.seed_file))
        self.faults = FaultPlan(settings.seed, settings.faults)
        self.rivals = RivalUsers(settings.seed, settings.rivals)
        self.credentials = Credentials(settings.seed)
        self.wrs = Side(settings.seed, settings.wrs, self.documents)

    def _written(self, entry: Entry) -> None:
        self.statistics.written(entry)
        self.wrs.note(entry)


# --------------------------------------------------------------------------------------------------------------- seeds
# The documents to begin with: generated from a seed, or read from a file of JSON lines.

PEOPLE = ("jdoe", "akim", "mrossi", "lchen", "pnovak", "sgarcia")
STATES = ("INWORK", "INREVIEW", "RELEASED")
KEYWORDS = ("bracket", "casting", "draft", "fastener", "gasket", "housing", "legacy", "sheet-metal", "weldment")
_PARTS = ("Bracket", "Cover", "Housing", "Shaft", "Spacer", "Valve body", "Wiring harness", "Heat shield")
_PAPERS = ("drawing", "specification", "test report", "work instruction", "change note")
_BEGINNING = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
"""Documents were last touched some time after this, which lies before anything a test will send."""


def generated(count: int, seed: int) -> Iterator[dict[str, Any]]:
    """`count` documents, `0000000001` onwards; the same seed gives the same documents."""
    chance = random.Random(f"documents {seed}")
    for number in range(1, count + 1):
        modified = _BEGINNING + timedelta(seconds=chance.randrange(30 * 86400))
        yield {
            "id": f"{number:010d}",
            "status": chance.choices(STATES, weights=(6, 3, 1))[0],
            "owner": chance.choice(PEOPLE),
            "title": f"{chance.choice(_PARTS)} {chance.randrange(1000, 9999)}, {chance.choice(_PAPERS)}",
            "attributes": {
                "CostCenter": str(chance.randrange(4000, 5000)),
                "Note": "",
                "Project": f"P-{chance.randrange(100, 130)}",
                "Weight": round(chance.uniform(0.05, 80.0), 2),
                "Keywords": sorted(chance.sample(KEYWORDS, chance.randrange(0, 4))),
            },
            "modifiedBy": chance.choice(PEOPLE),
            "modifiedOn": modified.isoformat().replace("+00:00", "Z"),
        }


def from_file(path: Path) -> Iterator[dict[str, Any]]:
    """Documents from JSON lines; ValueError names the line that is not an object with an `id`."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                document = orjson.loads(line)
            except orjson.JSONDecodeError as mistake:
                raise ValueError(f"{path}:{number}: not JSON: {mistake}") from mistake
            if not isinstance(document, dict) or "id" not in document:
                raise ValueError(f"{path}:{number}: each line must be an object with an id")
            yield document
