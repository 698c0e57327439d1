"""Outcomes: what the reconciler publishes (DESIGN section 5), as CloudEvents without their envelope's constants."""

import enum

import attrs

from reconciler.model.value import Json


class OutcomeType(enum.StrEnum):
    """The types of our outcome events."""

    RECONCILED = "windchill.document.reconciled.v1"
    CONFLICT_OPENED = "windchill.conflict.opened.v1"
    CONFLICT_CLOSED = "windchill.conflict.closed.v1"
    PARKED = "windchill.document.parked.v1"
    SIGNING_BEGAN = "windchill.signing.began.v1"  # of no document


@attrs.frozen
class Outcome:
    """One outcome. `id` is a digest of what happened, so that publishing it twice is seen to be one event."""

    id: str
    type: OutcomeType
    key: str
    at_us: int
    data: dict[str, Json]
