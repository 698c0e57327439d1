"""Cases: an attempt at its end, with all that its settlement depends on (`core/settling/settle.py`)."""

from collections.abc import Mapping

import msgspec
from msgspec import structs

from reconciler.core.folding import fold, normalise
from reconciler.core.planning import retrying
from reconciler.core.planning.retrying import Moment
from reconciler.core.scheduling import backoff
from reconciler.model import instant
from reconciler.model.base import NO_BASE, Base
from reconciler.model.desired import Desired
from reconciler.model.document import Document, Lane, Status
from reconciler.model.plan import Plan
from reconciler.model.policy import Policy
from reconciler.model.snapshot import Snapshot
from reconciler.model.value import Json


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How long things wait (configuration sections retry and resync)."""

    conflict_attempts_max: int
    backoff_base_s: float
    backoff_max_s: float
    cooldown_base_s: float
    cooldown_max_s: float
    absent_s: float
    interval_s: float
    interval_factor_max: float
    contested_window_s: float
    writes_window_s: float
    quiet_s: float
    checkin_interval_s: float

    def longest_us(self, status: Status) -> int:
        """Return the longest wait of a document with a status; a longer one is from a wrong clock."""
        interval_s = self.interval_s * self.interval_factor_max * backoff.INTERVAL_JITTER_MAX or 2 * retrying.DAY_S
        match status:
            case Status.PENDING:
                longest_s = max(self.backoff_max_s, backoff.RETRY_AFTER_S_MAX)
            case Status.COLLECTING:
                longest_s = max(self.quiet_s, self.checkin_interval_s)
            case Status.CONTENDED | Status.LOCKED:
                longest_s = self.cooldown_max_s
            case Status.ABSENT:
                longest_s = backoff.ABSENCE_S[-1]
            case Status.PARKED:
                longest_s = max(self.cooldown_max_s + self.writes_window_s, retrying.DAY_S)
            case Status.SYNCED | Status.HELD | Status.OBSERVED:
                longest_s = interval_s
            case Status.PAUSED:
                longest_s = max(self.cooldown_max_s, interval_s)
        return instant.after_us(0, longest_s)


class AttemptOptions(msgspec.Struct, frozen=True):
    """The options that all attempts share: policy, pace, and where outcomes go."""

    policy: Policy
    policy_digest: str
    pace: Pace
    outcomes_topic: str
    source: str  # of outcomes: "//reconciler/<group>"
    fields_max: int  # managed fields of one document

    def too_wide(self, desired: Desired) -> str | None:
        """Return why a document has too many managed fields to work on, `None` if it has not."""
        if desired.cut is not None:
            return (
                f"events name more than {fold.FIELDS_MAX:,} fields of it, so the oldest claims were dropped: release"
                " the document, and have its sources send again the fields that are meant"
            )
        count = len(fold.managed(desired))
        if count <= self.fields_max:
            return None
        return (
            f"{count:,} managed fields, more than windchill.fields_max = {self.fields_max:,}: release fields that are "
            "not needed, or raise the setting"
        )


class Case(msgspec.Struct, frozen=True):
    """One attempt at its end: the document as it was when the attempt began, the plan, and the moment."""

    document: Document
    lane: Lane
    options: AttemptOptions
    now_us: int
    chance: float
    snapshot: Snapshot | None = None  # that the plan was made from
    plan: Plan | None = None
    drifted: bool = False  # a fresh read showed other content than the last one
    moved: tuple[str, ...] = ()  # managed fields that someone changed before a write of ours
    confirmed: Mapping[str, Json] = {}  # a write whose reply was lost, found to be applied
    stored: Base = NO_BASE  # the base before this attempt found the results of earlier writes

    def adopted(self, now: Snapshot) -> Base:
        """
        Return the base with the fields that this decision has adopted and `now` shows unchanged.

        The document's date only tells that something has changed; two reads tell that it was another field.
        """
        base = self.document.agreement.base
        if self.plan is None or self.snapshot is None:
            return base
        same = {
            name: agreed
            for name, agreed in self.plan.base.fields.items()
            if name not in base.fields and normalise.equal(self.snapshot.value(name), now.value(name), ())
        }
        return structs.replace(base, fields={**base.fields, **same})

    @property
    def moment(self) -> Moment:
        """The clock and chance for the waits of refused fields."""
        pace = self.options.pace
        return Moment(self.now_us, self.chance, pace.cooldown_base_s, pace.contested_window_s)

    @property
    def jitter(self) -> float:
        """A factor that takes off a fifth of a wait at most, so that what came together does not come back so."""
        return 0.8 + 0.2 * self.chance

    def after_us(self, wait_s: float | None) -> int | None:
        """Return the moment that far from now, `None` for none."""
        return None if wait_s is None else instant.after_us(self.now_us, wait_s)

    def delay_s(self, failures: int) -> float:
        """Return the wait after so many failures in a row."""
        return backoff.delay_s(failures, self.options.pace.backoff_base_s, self.options.pace.backoff_max_s, self.chance)

    def cooldown_s(self, times: int, longest_s: float | None = None) -> float:
        """Return the wait of a document that is left alone for the `times`-th time in a row."""
        pace = self.options.pace
        longest_s = pace.cooldown_max_s if longest_s is None else longest_s
        return backoff.cooldown_s(times, pace.cooldown_base_s, longest_s, self.chance)

    def interval_s(self, stable: int) -> float | None:
        """Return the time until the next comparison after so many without drift, `None` if there is none."""
        pace = self.options.pace
        return backoff.interval_s(stable, pace.interval_s, self.chance, pace.interval_factor_max)
