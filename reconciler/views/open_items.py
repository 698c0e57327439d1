"""Open items: conflicts, dead letters and hot spots."""

import base64
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from reconciler.core.explain import hotspots
from reconciler.core.planning import reasons
from reconciler.model import action, event, instant, standing
from reconciler.model.document import ConflictRow
from reconciler.views import actions, shape
from reconciler.views.actions import By
from reconciler.views.shape import Instant, Next, Shape

HEADERS_MAX = 100

# ----------------------------------------------------------------------------------------------------------- conflicts


class Conflict(Shape, frozen=True, kw_only=True):
    """A field that waits for a decision. `live` is Windchill's value when the conflict opened."""

    id: str
    document: str
    field: str
    base: Any
    has_base: bool
    desired: Any
    live: Any
    opened_at: Instant
    closed_at: Instant | None
    reason: str
    codes: Annotated[list[str], Meta(description="The reason as stable codes.")]
    hold: Annotated[str, Meta(description="decide, refused or contested; determines how it can be resolved.")]
    event: str
    source: str
    claimed_at: Annotated[str, Meta(description="The time that the event names for our value.")]


class ConflictPage(Shape, frozen=True, kw_only=True):
    """Conflicts, oldest first."""

    items: list[Conflict]
    next: Next


def conflict(found: ConflictRow) -> Conflict:
    """Return a conflict."""
    said = found.conflict
    return shape.of(
        Conflict,
        said,
        document=found.document,
        opened_at=instant.from_us(said.opened_at_us),
        reason=reasons.text(said.reasons),
        codes=reasons.codes(said.reasons),
        closed_at=shape.at(found.closed_at_us),
        event=said.stamp.id,
        source=said.stamp.source,
        claimed_at=said.stamp.time,
    )


# -------------------------------------------------------------------------------------------------------- dead letters


class DeadLetterRow(Shape, frozen=True, kw_only=True):
    """A record of the change log that could not be used."""

    id: str
    reason: str
    stage: str
    status: Annotated[str, Meta(description="open, replayed or discarded.")]
    topic: str
    partition: int
    offset: int
    refused_at: Instant
    recorded_at: Instant | None


class DeadLetterPage(Shape, frozen=True, kw_only=True):
    """Dead letters, oldest first."""

    items: list[DeadLetterRow]
    next: Next


class Content(Shape, frozen=True, kw_only=True):
    """Bytes, possibly cut."""

    base64: str
    bytes: Annotated[int, Meta(description="Total number of bytes.")]
    truncated: bool


class Header(Shape, frozen=True, kw_only=True):
    """A header of a record."""

    name: str
    value: Content | None


class DeadLetter(DeadLetterRow, frozen=True, kw_only=True):
    """A dead letter with its original bytes."""

    key: Content | None
    value: Content | None
    headers: list[Header]
    headers_left_out: int
    closed: Annotated[By | None, Meta(description="Who discarded, replayed or corrected it.")]


def dead_letter_row(letter: event.DeadLetter) -> DeadLetterRow:
    """Return a dead letter as a list row."""
    return shape.of(DeadLetterRow, letter, **_placed(letter))


def dead_letter(letter: event.DeadLetter, bytes_max: int, closed: action.OperatorAction | None) -> DeadLetter:
    """Return a dead letter with at most `bytes_max` bytes of each value."""
    shown = letter.headers[:HEADERS_MAX]
    return shape.of(
        DeadLetter,
        letter,
        **_placed(letter),
        key=_content(letter.key, bytes_max),
        value=_content(letter.value, bytes_max),
        headers=[Header(name=name, value=_content(value, bytes_max)) for name, value in shown],
        headers_left_out=len(letter.headers) - len(shown),
        closed=actions.by(closed),
    )


def _placed(letter: event.DeadLetter) -> dict[str, object]:
    """Return where and when a dead letter was recorded and refused."""
    try:
        recorded = shape.at(letter.timestamp * 1000) if letter.timestamp > 0 else None
    except OverflowError:  # the record may be unusable because of its timestamp
        recorded = None
    return {
        "topic": letter.place.topic,
        "partition": letter.place.partition,
        "offset": letter.place.offset,
        "refused_at": shape.at(letter.refused_at_us),
        "recorded_at": recorded,
    }


def _content(content: bytes | None, bytes_max: int) -> Content | None:
    if content is None:
        return None
    shown = base64.b64encode(content[:bytes_max]).decode()
    return Content(base64=shown, bytes=len(content), truncated=len(content) > bytes_max)


# ----------------------------------------------------------------------------------------------------------- hot spots


class Period(Shape, frozen=True, kw_only=True):
    """Version conflicts of 24 clock hours; attempts count from a document's first version conflict on."""

    conflicts: int
    attempts: int
    rate: float


class HotSpot(Shape, frozen=True, kw_only=True):
    """A document or a field, with its version conflicts."""

    document: str | UnsetType = UNSET
    field: str | UnsetType = UNSET
    conflicts: int
    attempts: int
    rate: float
    day: Annotated[Period, Meta(description="The current clock hour and the 23 before it.")]
    day_before: Annotated[Period, Meta(description="The 24 hours before those.")]
    hours: Annotated[list[int], Meta(description="Version conflicts per clock hour of both days, oldest first.")]
    trend: Annotated[str, Meta(description="quiet, too few to tell, new, rising, falling or steady.")]
    advice: str


class HotSpots(Shape, frozen=True, kw_only=True):
    """Hot spots, highest rate of the last day first; rates of few attempts count less."""

    items: list[HotSpot]


def hot_spot(spot: standing.HotSpot) -> HotSpot:
    """Return a hot spot."""
    where = {spot.kind: spot.name}  # kind is "document" or "field"
    return HotSpot(
        conflicts=spot.conflicts,
        attempts=spot.attempts,
        rate=hotspots.rate(spot.conflicts, spot.attempts),
        day=_period(spot.day_conflicts, spot.day_attempts),
        day_before=_period(spot.before_conflicts, spot.before_attempts),
        hours=hotspots.by_hour(spot),
        trend=hotspots.trend(spot),
        advice=hotspots.advice(spot),
        **where,
    )


def _period(conflicts: int, attempts: int) -> Period:
    return Period(conflicts=conflicts, attempts=attempts, rate=hotspots.rate(conflicts, attempts))
