"""The service: its status, measurements, policy and settings."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from msgspec import Meta

from reconciler.core.explain.series import STEP_S, Point
from reconciler.model import instant
from reconciler.model import policy as policies
from reconciler.model import standing as counts
from reconciler.views import shape
from reconciler.views.shape import Instant, Shape


class LogPartition(Shape, frozen=True, kw_only=True):
    """The position in one partition of the change log."""

    topic: str
    partition: int
    position: int
    end: int | None
    lag: int | None


class Standing(Shape, frozen=True, kw_only=True):
    """The status according to the store and the log."""

    documents: Annotated[dict[str, int], Meta(description="Number of documents by status.")]
    oldest_pending_at: Instant | None
    oldest_pending_seconds: float | None
    conflicts: Annotated[int, Meta(description="Number of open conflicts.")]
    dead_letters: int
    comparisons_due: Annotated[int, Meta(description="Documents due for a comparison with Windchill.")]
    log: list[LogPartition]


class Status(Standing, frozen=True, kw_only=True):
    """The overall status."""

    version: str
    phase: Annotated[str, Meta(description="starting, recovering, connecting, ready or stopping.")]
    windchill: Annotated[str, Meta(description="up, down or maintenance.")]
    maintenance: bool
    breaker: Annotated[str, Meta(description="closed, open or half-open; open: no requests are sent to Windchill.")]
    folding_waits: Annotated[str | None, Meta(description="Why no events are being read; null: they are being read.")]
    in_flight: int
    in_flight_limit: float
    queue: Annotated[dict[str, int], Meta(description="Documents queued in memory, by lane.")]
    records: Annotated[
        dict[str, int],
        Meta(description="Records read since the start: folded, superseded, refused, foreign, elsewhere."),
    ]
    log_reachable: bool


class SeriesPoint(Shape, frozen=True, kw_only=True):
    """One step; null if nothing was measured."""

    at: Annotated[Instant, Meta(description="End of the step.")]
    events_per_s: float | None
    writes_per_s: Annotated[float | None, Meta(description="Writes that Windchill accepted.")]
    convergence_p50_s: Annotated[
        float | None, Meta(description="Median time from an event until Windchill agrees with it.")
    ]
    convergence_p95_s: float | None
    version_conflict_rate: Annotated[
        float | None, Meta(description="Share of writes that met a version conflict: 0 to 1.")
    ]
    pending: Annotated[int | None, Meta(description="Documents pending at the end of the step.")]
    lag: Annotated[int | None, Meta(description="Records not yet read at the end of the step.")]


class Series(Shape, frozen=True, kw_only=True):
    """Every step of the period, oldest first."""

    step_s: int
    points: list[SeriesPoint]


class Rule(Shape, frozen=True, kw_only=True):
    """One rule of the policy."""

    name: str
    fields: tuple[str, ...]
    strategy: str
    on_overlap: str
    on_adopt: str | None
    list: str
    normalise: tuple[str, ...]
    types: tuple[str, ...]
    sources: tuple[str, ...]


class Policy(Shape, frozen=True, kw_only=True):
    """The rules in order; the first that covers a field decides it, and the fallback covers the rest."""

    digest: str
    rules: list[Rule]
    fallback: Rule


class Setting(Shape, frozen=True, kw_only=True):
    """One effective value; `origin` is "default", "file", "env VARIABLE" or "secret file PATH"."""

    section: str
    key: str
    value: Any
    origin: str


class Settings(Shape, frozen=True, kw_only=True):
    """Every effective value; secrets are masked."""

    items: list[Setting]


def standing(found: counts.Standing, log: Iterable[counts.Reach]) -> Standing:
    """Return the status according to the store and the log."""
    return Standing(
        documents={status.value: count for status, count in found.documents.items()},
        oldest_pending_at=shape.at(found.oldest_pending_us),
        oldest_pending_seconds=found.oldest_pending_s,
        conflicts=found.conflicts,
        dead_letters=found.dead_letters,
        comparisons_due=found.comparisons_due,
        log=[shape.of(LogPartition, one) for one in log],
    )


def status(found: counts.Standing, log: Iterable[counts.Reach], **said: object) -> Status:
    """Return the overall status, with what the daemon adds."""
    return shape.of(Status, standing(found, log), **said)


def rule(found: policies.Rule) -> Rule:
    """Return a rule of the policy."""
    return shape.of(Rule, found)


def series(found: Sequence[Point]) -> Series:
    """Return the measurements."""
    return Series(
        step_s=STEP_S, points=[shape.of(SeriesPoint, point, at=instant.from_us(point.at_us)) for point in found]
    )
