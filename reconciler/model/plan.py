"""Decisions on managed fields, and the plan of a document."""

import enum
from typing import NamedTuple

import msgspec

from reconciler.model.base import Base
from reconciler.model.snapshot import Token
from reconciler.model.stamp import Stamp
from reconciler.model.value import MISSING, Json, Missing


class Verb(enum.StrEnum):
    """The action on a field."""

    KEEP = "keep"  # nothing to do: they agree, or an earlier yield still counts
    WRITE = "write"  # Windchill gets the desired value
    YIELD = "yield"  # Windchill's value stays and becomes the base
    HOLD = "hold"  # a person decides; nothing is written


class Pair(NamedTuple):
    """A wanted value, and another form of it that a person has accepted."""

    wanted: Json
    stored: Json


class Hold(enum.StrEnum):
    """Why a field is held."""

    DECIDE = "decide"  # both sides changed it, its rule wants a person, or a write could replace an unknown value
    REFUSED = "refused"  # Windchill refuses the value
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
    ADOPTED_MODIFIED_SINCE = "adopted_modified_since"  # after the event: it is not clear whose value is wanted
    ADOPTED_UNTIMED = "adopted_untimed"  # the server does not say when the document was modified
    # No rule can decide it.
    HIDDEN = "hidden"  # by the server
    READ_ONLY = "read_only"
    NOT_AN_OBJECT = "not_an_object"  # the live value of the group that the field is in
    GROUP = "group"  # the name is one of a group of fields
    CROWDED = "crowded"  # too many claims of one time
    # Earlier tries failed.
    REFUSED = "refused"
    CONTESTED = "contested"


class TieBreak(enum.StrEnum):
    """The further fact that decided a field under its rule."""

    BLANK = "blank"
    FILLED = "not_blank"
    EVENT = "event_is_later"
    DOCUMENT = "document_is_later"
    UNTIMED = "untimed"  # the server does not say when the document was modified


class Reason(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a field, or one element of a list, was decided as it was; `core/planning/reasons.py` has the sentences."""

    code: ReasonCode
    overlap: str = ""  # the rule's `on_overlap`, if that decided
    tie_break: TieBreak | None = None
    element: str = ""  # its canonical text
    about: str = ""  # another field: the one in the way, or a member of the group
    message: str = ""  # from the server, about the last writes, or the command that drops the claim


class Decision(msgspec.Struct, frozen=True):
    """One field's decision with all its inputs."""

    field: str
    verb: Verb
    reasons: tuple[Reason, ...]  # one; of a list that is merged, those of the first elements that were decided so
    rule: str
    strategy: str
    desired: Json
    base: Json | Missing
    live: Json | Missing
    stamp: Stamp  # the newest claim that the decision considered
    target: Json | Missing = MISSING  # the value to write, for WRITE
    ours: bool = False
    theirs: bool = False
    elements: dict[str, Stamp] = {}  # for sets: the claims agreed if this decision goes through
    held_elements: tuple[str, ...] = ()  # for sets: elements that a person has to decide
    hold: Hold = Hold.DECIDE  # for HOLD, and for held elements
    by_person: Stamp | None = None  # the stamp of a person's decision, if the desired value is from it
    accepted: tuple[Pair, ...] = ()  # forms that count as wanted values
    later: bool = False  # goes out in a separate write after this one

    @property
    def waits(self) -> bool:
        """Whether a person has to decide the field, or elements of it."""
        return self.verb is Verb.HOLD or bool(self.held_elements)


class InSync(msgspec.Struct, frozen=True):
    """Nothing to write, and no field waits for a person."""

    decisions: tuple[Decision, ...]
    base: Base  # with the adopted fields


class Held(msgspec.Struct, frozen=True):
    """Nothing to write, and at least one field that waits for a person."""

    decisions: tuple[Decision, ...]
    base: Base


class Patch(msgspec.Struct, frozen=True):
    """
    The fields to write, and only those, guarded by the token that they were decided on.

    A field that needs a separate write is not among them while there is anything else to write.
    """

    decisions: tuple[Decision, ...]
    base: Base
    fields: dict[str, Json]
    token: Token | None  # None: the server gives no token, so no write is safe


Plan = InSync | Held | Patch
