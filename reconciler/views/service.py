"""The service: its status, measurements, policy and settings."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from msgspec import Meta

from reconciler.core.explain.series import STEP_S, Point
from reconciler.core.scheduling.replicas import Member, Membership
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


class WriteStop(Shape, frozen=True, kw_only=True):
    """Operators have stopped all writes to Windchill."""

    at: Instant
    by: str
    reason: str


class Replica(Shape, frozen=True, kw_only=True):
    """A process that uses the store as one of its owners."""

    slot: int
    name: str
    silent_s: Annotated[float, Meta(description="Seconds since its last sign of life, by the store's clock.")]
    evicted: Annotated[bool, Meta(description="Others have taken it for dead, and go on with its work.")]
    in_flight_max: Annotated[int, Meta(description="Its share of `windchill.in_flight_max`; 0 while it is evicted.")]
    writing: Annotated[bool, Meta(description="Writes may begin or be under way there; false: it obeys the stop.")]


class Failing(Shape, frozen=True, kw_only=True):
    """A receiver that accepts no notifications."""

    to: Annotated[str, Meta(description="The webhook, or a rule of `[[notify.rules]]` and where it sends to.")]
    since: Instant


class Standing(Shape, frozen=True, kw_only=True):
    """The status according to the store and the log."""

    documents: Annotated[dict[str, int], Meta(description="Number of documents by status.")]
    oldest_pending_at: Instant | None
    oldest_pending_seconds: float | None
    conflicts: Annotated[int, Meta(description="Number of open conflicts.")]
    dead_letters: int
    comparisons_due: Annotated[int, Meta(description="Documents due for a comparison with Windchill.")]
    write_stop: Annotated[WriteStop | None, Meta(description="Since when all writes are stopped; null: they go on.")]
    replicas: Annotated[
        list[Replica], Meta(description="The processes that share the store; none with a store in a file.")
    ]
    notifications_failing: Annotated[
        list[Failing], Meta(description="Receivers that accept no notifications; what they are to be told waits.")
    ]
    log: list[LogPartition]


class Disk(Shape, frozen=True, kw_only=True):
    """The file system of the store, or of a log in a file."""

    of: Annotated[str, Meta(description="store or log.")]
    free_bytes: int
    size_bytes: int
    low: Annotated[bool, Meta(description="Whether it is nearly full: less than a tenth and less than 5 GiB is left.")]


class Status(Standing, frozen=True, kw_only=True):
    """The overall status."""

    version: str
    phase: Annotated[str, Meta(description="starting, recovering, connecting, ready or stopping.")]
    windchill: Annotated[str, Meta(description="up, down or maintenance.")]
    maintenance: bool
    maintenance_until: Annotated[Instant | None, Meta(description="The end of the maintenance window; null: none.")]
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
    disks: list[Disk]


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


def write_stop(found: counts.WriteStop) -> WriteStop:
    """Return a stop of all writes."""
    return WriteStop(at=instant.from_us(found.at_us), by=found.who, reason=found.reason)


def _replicas(found: counts.Standing, in_flight_max: int) -> list[Replica]:
    """Return the replicas, each with its share of the requests in flight."""
    stop = found.write_stop
    shares = Membership(0, tuple(Member(one.slot, 0, 0, 0) for one in found.replicas))
    return [
        Replica(
            slot=one.slot,
            name=one.name,
            silent_s=round(one.silent_s, 3),
            evicted=one.evicted,
            in_flight_max=0 if one.evicted else shares.share(one.slot, in_flight_max),
            writing=not one.evicted if stop is None else one.writes_despite(stop),
        )
        for one in found.replicas
    ]


def standing(found: counts.Standing, log: Iterable[counts.Reach], in_flight_max: int) -> Standing:
    """Return the status according to the store and the log."""
    return Standing(
        documents={status.value: count for status, count in found.documents.items()},
        oldest_pending_at=shape.at(found.oldest_pending_us),
        oldest_pending_seconds=found.oldest_pending_s,
        conflicts=found.conflicts,
        dead_letters=found.dead_letters,
        comparisons_due=found.comparisons_due,
        write_stop=None if found.write_stop is None else write_stop(found.write_stop),
        replicas=_replicas(found, in_flight_max),
        notifications_failing=[
            Failing(to=name, since=instant.from_us(since_us)) for name, since_us in found.not_notified.items()
        ],
        log=[shape.of(LogPartition, one) for one in log],
    )


def status(found: counts.Standing, log: Iterable[counts.Reach], in_flight_max: int, **said: object) -> Status:
    """Return the overall status, with what the daemon adds."""
    return shape.of(Status, standing(found, log, in_flight_max), **said)


def disks(found: Iterable[counts.Space]) -> list[Disk]:
    """Return the file systems of store and log."""
    return [Disk(of=one.of, free_bytes=one.free, size_bytes=one.size, low=one.is_low) for one in found]


def rule(found: policies.Rule) -> Rule:
    """Return a rule of the policy."""
    return shape.of(Rule, found)


def series(found: Sequence[Point]) -> Series:
    """Return the measurements."""
    return Series(
        step_s=STEP_S, points=[shape.of(SeriesPoint, point, at=instant.from_us(point.at_us)) for point in found]
    )
