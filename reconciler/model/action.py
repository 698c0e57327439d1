"""
Operators' actions, as the action log has them, and their results.

The action log is a part of the audit trail: each action is chained to the record before it (`model/chain.py`).
"""

import enum
from typing import Final

import msgspec

from reconciler.model.snapshot import Token
from reconciler.model.value import MISSING, Json, Missing

UNKNOWN_DOCUMENT = "no event has named this document so far"
MOVED_ON = "it has moved since it was shown"
UNKNOWN_LETTER = "there is no dead letter of this id"
RESOLVED_MAX = 500  # conflicts decided by one action
RESOLVED_DEFAULT = 100
CLI = "cli"  # the role of a person who uses a command on the machine itself


class OperatorAction(msgspec.Struct, frozen=True):
    """
    What one person did to one thing.

    `target` is the key of a document, or the id of a conflict or a dead letter; `document` is empty where the action is
    on none. `details` hold what was given and what came of it: reason, values, ids of the events appended.
    """

    at_us: int
    who: str
    role: str  # producer, viewer, operator, admin; or "cli"
    kind: str  # an `ActionKind`, or what another part of the program has to record
    target: str
    document: str
    details: dict[str, Json]
    result: str  # "done"; "appended": done as soon as the log is read
    id: int = 0  # given by the store
    issuer: str = ""  # the identity provider that vouched for the name; empty: none did
    ordinal: int | msgspec.UnsetType = msgspec.UNSET  # as in `AuditRecord`


class ActionKind(enum.StrEnum):
    """What operators can do."""

    RETRY = "retry"
    PAUSE = "pause"
    RESUME = "resume"
    RELEASE = "release"
    RESOLVE = "resolve"
    REPLAY = "replay"
    DISCARD = "discard"
    RESEND = "resend"
    EMIT = "emit"
    RENAME = "rename"
    REVERT = "revert"
    ADOPT = "adopt"
    REFOLD = "refold"
    COMPARE = "compare"
    PRUNE = "prune"
    OPEN_WINDOW = "open-window"
    CLOSE_WINDOW = "close-window"
    STOP_WRITES = "stop-writes"
    RESUME_WRITES = "resume-writes"


# Actions on documents that no event tells of.
UNLOGGED: Final = (ActionKind.RETRY, ActionKind.PAUSE, ActionKind.RESUME, ActionKind.REFOLD, ActionKind.COMPARE)


class Change(enum.StrEnum):
    """What an action changes in the store, in the transaction that records it."""

    NOTHING = "nothing"
    RETRY = "retry"  # its document is due now; not if it is paused
    PAUSE = "pause"
    RESUME = "resume"
    REPLAY = "replay"  # its dead letter is "replayed"
    DISCARD = "discard"  # its dead letter is "discarded"
    STOP_WRITES = "stop-writes"  # no write begins any more; not if they are stopped
    RESUME_WRITES = "resume-writes"  # not if they go on


# -------------------------------------------------------------------------------------------------------------- results


class Done(msgspec.Struct, frozen=True):
    """The targets of an action that were changed, and those that were not, with why."""

    done: tuple[str, ...]
    left: dict[str, str] = {}


class Gone(msgspec.Struct, frozen=True):
    """The target does not exist, or not any more."""

    reason: str


class Unusable(msgspec.Struct, frozen=True):
    """The input can't be used, with a reason; nothing was done."""

    reason: str


class Appended(msgspec.Struct, frozen=True):
    """Events are in the log; they take effect when the reconciler reads them."""

    document: str
    events: tuple[str, ...]  # ids


# ------------------------------------------------------------------------------------------------------------ conflicts


class Side(enum.StrEnum):
    """How a conflict is decided: whose value the field gets, or what is done about one that Windchill did not keep."""

    DESIRED = "desired"
    LIVE = "live"
    ACCEPT = "accept"  # what Windchill stores counts as the desired value from now on
    RETRY = "retry"  # the desired value is written again, and counted from zero


SIDES: Final = {"desired": Side.DESIRED, "live": Side.LIVE, "ours": Side.DESIRED, "theirs": Side.LIVE}  # by each name
WAYS: Final = {**SIDES, "accept": Side.ACCEPT, "retry": Side.RETRY}


class Other(msgspec.Struct, frozen=True):
    """A value that is neither side's."""

    value: Json


Take = Side | Other


class Step(msgspec.Struct, frozen=True):
    """
    One thing that will be written: a field from its live value to another, or an element of a list that comes or goes.

    `before` and `after` are the field's values; of an element, whether it is there.
    """

    field: str
    before: Json
    after: Json
    element: Json | Missing = MISSING


class Preview(msgspec.Struct, frozen=True):
    """
    What a decision would do, and what it rests on.

    `seen` stands for what was looked at: the conflict, the live value, the token and what is asked for. A decision that
    hands it back is refused when any of them has moved. `events` are as they would be appended, but for id and time.
    """

    conflict: str
    document: str
    field: str
    live: Json
    desired: Json
    token: Token | None
    wanted: Json
    steps: tuple[Step, ...]  # empty: Windchill has what is wanted
    events: tuple[dict[str, object], ...]
    command: str
    seen: str


class Resolved(msgspec.Struct, frozen=True):
    """A decision that is in the log."""

    conflict: str
    document: str
    field: str
    wanted: Json
    live: Json  # that is knowingly replaced
    events: tuple[dict[str, object], ...]  # as they were appended


class Stale(msgspec.Struct, frozen=True):
    """The choice was made on something that has moved since; nothing was done."""

    preview: Preview


class Previews(msgspec.Struct, frozen=True):
    """What deciding several conflicts at once would do: each, and which would be left with why."""

    previews: tuple[Preview, ...]
    left: dict[str, str]  # conflict → why
    more: bool


class ResolvedMany(msgspec.Struct, frozen=True):
    """Several conflicts decided at once: which, and which were left with why. `more`: there are others beyond these."""

    decided: tuple[Resolved, ...]
    left: dict[str, str]  # conflict → why
    more: bool
