"""Decisions and plans: what is to happen to each managed field, and to the document."""

import enum
from typing import NamedTuple

import attrs
import msgspec

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


class ReasonCode(enum.StrEnum):
    """Why a field was decided as it was: stable codes of the trail and of outcomes."""

    # The rows of the policy's table.
    AGREED = "agreed"  # live = desired
    OURS = "ours_only"
    THEIRS = "theirs_only"
    BOTH = "ours_and_theirs"
    NEITHER = "neither"
    # A field without a base.
    ADOPTED_AGREED = "adopted_agreed"
    ADOPTED_OURS = "adopted_ours_only"
    ADOPTED_MODIFIED_SINCE = "adopted_modified_since"  # after the event: no one can tell whose value is wanted
    ADOPTED_UNTIMED = "adopted_untimed"  # the server does not say when the document was modified
    # What no rule can decide.
    HIDDEN = "hidden"  # by the server
    READ_ONLY = "read_only"
    NOT_AN_OBJECT = "not_an_object"  # the live value of the group that the field is in
    GROUP = "group"  # the name is one of a group of fields
    CROWDED = "crowded"  # too many claims of one time
    # What was tried before.
    REFUSED = "refused"
    CONTESTED = "contested"


class TieBreak(enum.StrEnum):
    """What decided a field where its rule asks further."""

    BLANK = "blank"
    FILLED = "not_blank"
    EVENT = "event_is_later"
    DOCUMENT = "document_is_later"
    UNTIMED = "untimed"  # the server does not say when the document was modified


class Reason(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a field, or one element of a list, was decided as it was. `core/planning/reasons.py` puts it into words."""

    code: ReasonCode
    overlap: str = ""  # what the rule says under `on_overlap`, where that was asked
    tie_break: TieBreak | None = None
    element: str = ""  # its canonical text
    about: str = ""  # another field: the one in the way, or a member of the group
    message: str = ""  # what the server said, or what was seen of the last writes


@attrs.frozen
class Decision:
    """One field's decision with everything it was taken from."""

    field: str
    verb: Verb
    reasons: tuple[Reason, ...]  # one; of a list that is merged, those of the first elements that were decided so
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
