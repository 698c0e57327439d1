"""Cases: what an attempt has found and decided, and its options, from which `core/settling/settle.py` settles it."""

from collections.abc import Mapping

import attrs

from reconciler.core.folding import fold, normalise
from reconciler.core.planning import retrying
from reconciler.core.planning.retrying import Moment
from reconciler.core.scheduling import backoff
from reconciler.model.base import NO_BASE, Base
from reconciler.model.desired import Desired
from reconciler.model.document import Document, Lane, Status
from reconciler.model.plan import Plan
from reconciler.model.policy import Policy
from reconciler.model.snapshot import Snapshot
from reconciler.model.value import Json


@attrs.frozen(kw_only=True)
class Pace:
    """How long things wait (configuration sections retry and resync)."""

    conflict_attempts_max: int
    backoff_base_s: float
    backoff_max_s: float
    cooldown_base_s: float
    cooldown_max_s: float
    interval_s: float
    interval_factor_max: float
    contested_window_s: float
    writes_window_s: float
    quiet_s: float
    checkin_interval_s: float

    def longest_us(self, status: Status) -> int:
        """Return the longest that a document waits which stands there; what waits longer was told by a wrong clock."""
        interval_s = self.interval_s * self.interval_factor_max * backoff.INTERVAL_JITTER_MAX or 2 * retrying.DAY_S
        match status:
            case Status.PENDING:
                longest_s = max(self.backoff_max_s, backoff.RETRY_AFTER_S_MAX)
            case Status.COLLECTING:
                longest_s = max(self.quiet_s, self.checkin_interval_s)
            case Status.CONTENDED | Status.LOCKED:
                longest_s = self.cooldown_max_s
            case Status.PARKED:
                longest_s = self.cooldown_max_s + self.writes_window_s
            case Status.SYNCED | Status.HELD:
                longest_s = interval_s
            case Status.PAUSED:
                longest_s = max(self.cooldown_max_s, interval_s)
        return round(longest_s * 1_000_000)


@attrs.frozen
class AttemptOptions:
    """What all attempts share: policy, pace, and where outcomes go."""

    policy: Policy
    policy_digest: str
    pace: Pace
    outcomes_topic: str
    source: str  # of outcomes: "//reconciler/<group>"
    fields_max: int  # managed fields of one document

    def too_wide(self, desired: Desired) -> str | None:
        """Say why a document is not worked on for its many managed fields, `None` if they are few enough."""
        if desired.cut is not None:
            return (
                f"events name more than {fold.FIELDS_MAX:,} fields of it, so the oldest claims were let go: release the"
                " document, and have its producers claim again what is meant"
            )
        count = len(fold.managed(desired))
        if count <= self.fields_max:
            return None
        return (
            f"{count:,} managed fields, more than windchill.fields_max = {self.fields_max:,}: release fields that "
            "nobody needs, or raise the setting"
        )


@attrs.frozen
class Case:
    """One attempt at its end: the document as it was taken up, the plan, and the moment."""

    document: Document
    lane: Lane
    options: AttemptOptions
    now_us: int
    chance: float
    snapshot: Snapshot | None = None  # what was decided on
    plan: Plan | None = None
    drifted: bool = False  # a fresh read showed other content than the last one
    moved: tuple[str, ...] = ()  # managed fields that somebody moved under a write of ours
    confirmed: Mapping[str, Json] = attrs.field(factory=dict)  # a write whose reply was lost, found to be applied
    stored: Base = NO_BASE  # the base before this attempt saw what had become of earlier writes

    def adopted(self, now: Snapshot) -> Base:
        """
        Return the base with what this decision has adopted, of fields that `now` shows as they were.

        The document's date tells only that something has changed since; two reads tell that it was another field.
        """
        base = self.document.agreement.base
        if self.plan is None or self.snapshot is None:
            return base
        same = {
            name: agreed
            for name, agreed in self.plan.base.fields.items()
            if name not in base.fields and normalise.equal(self.snapshot.value(name), now.value(name), ())
        }
        return attrs.evolve(base, fields={**base.fields, **same})

    @property
    def moment(self) -> Moment:
        """By which clock and chance the waits of refused fields are reckoned."""
        pace = self.options.pace
        return Moment(self.now_us, self.chance, pace.cooldown_base_s, pace.contested_window_s)
