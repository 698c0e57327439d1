"""Decisions and plans: what is to happen to each managed field, and to the document."""

import enum
from typing import NamedTuple

import attrs

from reconciler.model.base import Base
from reconciler.model.snapshot import Token
from reconciler.model.stamp import Stamp
from reconciler.model.value import MISSING, Json, Missing


class Verb(enum.StrEnum):
    """What happens to a field."""

    KEEP = "keep"  # nothing to do: they agree, or a former yield stands
    WRITE = "write"  # Windchill gets the desired value
    YIELD = "yield"  # Windchill's value stands; it becomes the base
    HOLD = "hold"  # a person decides; nothing is written


class Pair(NamedTuple):
    """A wanted value, and another form of it that a person has accepted."""

    wanted: Json
    stored: Json


class Hold(enum.StrEnum):
    """Why a field is held."""

    DECIDE = "decide"  # both sides moved, or its rule wants a person, or nobody can tell what would be overwritten
    REFUSED = "refused"  # Windchill does not take the value
    CONTESTED = "contested"  # Windchill stores another one, or something changes it again after each write


@attrs.frozen
class Decision:
    """One field's decision with everything it was taken from."""

    field: str
    verb: Verb
    reason: str
    rule: str
    strategy: str
    desired: Json
    base: Json | Missing
    live: Json | Missing
    stamp: Stamp  # the newest claim that the decision considered
    target: Json | Missing = MISSING  # what is to be written, for WRITE
    ours: bool = False
    theirs: bool = False
    elements: dict[str, Stamp] = attrs.field(factory=dict)  # for sets: the claims settled if this decision goes through
    held_elements: tuple[str, ...] = ()  # for sets: elements that a person has to decide
    hold: Hold = Hold.DECIDE  # for HOLD, and for held elements
    word: Stamp | None = None  # when a person decided it, if that is what is wanted
    accepted: tuple[Pair, ...] = ()  # forms of wanted values that count as those
    later: bool = False  # to be written, but in a write of its own after this one


@attrs.frozen
class InSync:
    """Nothing to write and nobody to ask."""

    decisions: tuple[Decision, ...]
    base: Base  # the base with what was adopted


@attrs.frozen
class Held:
    """Nothing to write, and at least one field that waits for a person."""

    decisions: tuple[Decision, ...]
    base: Base


@attrs.frozen
class Patch:
    """
    The fields to write, and only those, guarded by the token they were decided on.

    What the server takes only in a write of its own is not among them while there is anything else to write.
    """

    decisions: tuple[Decision, ...]
    base: Base
    fields: dict[str, Json]
    token: Token | None  # None: the server gives no token, so that nothing can be written safely


Plan = InSync | Held | Patch
