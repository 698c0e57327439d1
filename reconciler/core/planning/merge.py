"""
Merge: who wins one value under a strategy: the table of README.md, "Policy: who wins".

Rules of this file:
1. It knows nothing of documents, lists or patches. One table decides whole values and single elements of sets.
2. `ours` and `theirs` are facts found by the caller. *Ours*: the claim is later than the claim agreed in the base, and
   another event's. *Theirs*: the live value differs from the base, and from the value that the producer expected.
"""

import enum

import msgspec
from msgspec import structs

from reconciler.model.plan import Reason, ReasonCode, TieBreak, Verb
from reconciler.model.policy import Adopt, Rule, Strategy


class _Action(enum.Enum):
    KEEP = enum.auto()
    WRITE = enum.auto()
    YIELD = enum.auto()
    HOLD = enum.auto()
    FILL = enum.auto()  # write if blank, else keep
    NEWEST = enum.auto()  # the later of the event and the document's modification
    OVERLAP = enum.auto()  # as `on_overlap` of the rule says


_K, _W, _Y, _H = _Action.KEEP, _Action.WRITE, _Action.YIELD, _Action.HOLD
_COLUMNS = (Strategy.EXTERNAL, Strategy.PRESERVE, Strategy.MERGE, Strategy.NEWEST, Strategy.HOLD, Strategy.FILL)
_ROWS: dict[ReasonCode, tuple[_Action, ...]] = {
    #              external  preserve  merge            newest          hold  fill
    ReasonCode.AGREED: (_K, _K, _K, _K, _K, _K),
    ReasonCode.OURS: (_W, _W, _W, _W, _W, _Action.FILL),
    ReasonCode.THEIRS: (_W, _Y, _Y, _Y, _H, _K),
    ReasonCode.BOTH: (_W, _Y, _Action.OVERLAP, _Action.NEWEST, _H, _Action.FILL),
    ReasonCode.NEITHER: (_W, _K, _K, _K, _K, _K),
}
_TABLE = {
    (code, strategy): action
    for code, actions in _ROWS.items()
    for strategy, action in zip(_COLUMNS, actions, strict=True)
}
_OVERLAP = {
    Strategy.HOLD: _Action.HOLD,
    Strategy.EXTERNAL: _Action.WRITE,
    Strategy.PRESERVE: _Action.YIELD,
    Strategy.NEWEST: _Action.NEWEST,
}
# Adoption where it is not clear whose value is wanted (README.md, "Policy: who wins").
_ADOPTION = {
    Strategy.EXTERNAL: _Action.WRITE,
    Strategy.PRESERVE: _Action.YIELD,
    Strategy.MERGE: _Action.YIELD,
    Strategy.NEWEST: _Action.YIELD,
    Strategy.HOLD: _Action.HOLD,
    Strategy.FILL: _Action.FILL,
}
_ADOPT = {Adopt.WRITE: _Action.WRITE, Adopt.YIELD: _Action.YIELD, Adopt.HOLD: _Action.HOLD}
_VERBS = {_Action.KEEP: Verb.KEEP, _Action.WRITE: Verb.WRITE, _Action.YIELD: Verb.YIELD, _Action.HOLD: Verb.HOLD}
_WHOLE_SECOND = ".000000Z"
_TO_THE_SECOND = len("2026-11-22T10:00:00")


class Moves(msgspec.Struct, frozen=True):
    """The facts about one value that decide it."""

    agreed: bool  # live = desired
    ours: bool
    theirs: bool
    blank: bool  # the live field is blank
    claimed_at: str  # canonical instant of the event that made the claim
    modified_at: str | None  # when others last modified the document; None: the server does not say


class Ruling(msgspec.Struct, frozen=True):
    """A verb and its reason."""

    verb: Verb
    reason: Reason


def decide(moves: Moves, rule: Rule) -> Ruling:
    """Decide a value that has a base."""
    code = _row(moves)
    return _act(_TABLE[code, rule.strategy], moves, rule, Reason(code))


def adopt(moves: Moves, rule: Rule) -> Ruling:
    """
    Decide a value that has no base: first seen, or its base was lost.

    `moves.theirs` is false if the producer expected the live value, so that it is no one else's edit.
    """
    if moves.agreed:
        return Ruling(Verb.KEEP, Reason(ReasonCode.ADOPTED_AGREED))
    if not moves.theirs or predates(moves):
        return _act(_TABLE[ReasonCode.OURS, rule.strategy], moves, rule, Reason(ReasonCode.ADOPTED_OURS))
    action = _ADOPT[rule.on_adopt] if rule.on_adopt is not None else _ADOPTION[rule.strategy]
    untimed = moves.modified_at is None
    code = ReasonCode.ADOPTED_UNTIMED if untimed else ReasonCode.ADOPTED_MODIFIED_SINCE
    return _act(action, moves, rule, Reason(code))


def predates(moves: Moves) -> bool:
    """
    Whether the document's last modification by others is known to be older than the claim.

    Many servers cut off fractions: an edit at 10:00:00.9 reads 10:00:00. So a time without a fraction means its whole
    second, and a claim within that second may be older or newer.
    """
    if moves.modified_at is None:
        return False
    if moves.modified_at.endswith(_WHOLE_SECOND):
        return moves.claimed_at[:_TO_THE_SECOND] > moves.modified_at[:_TO_THE_SECOND]
    return moves.claimed_at > moves.modified_at


def _row(moves: Moves) -> ReasonCode:
    if moves.agreed:
        return ReasonCode.AGREED
    if moves.ours:
        return ReasonCode.BOTH if moves.theirs else ReasonCode.OURS
    return ReasonCode.THEIRS if moves.theirs else ReasonCode.NEITHER


def _act(action: _Action, moves: Moves, rule: Rule, reason: Reason) -> Ruling:
    match action:
        case _Action.OVERLAP:
            asked = structs.replace(reason, overlap=rule.on_overlap.value)
            return _act(_OVERLAP[rule.on_overlap], moves, rule, asked)
        case _Action.FILL:
            verb, tie_break = (Verb.WRITE, TieBreak.BLANK) if moves.blank else (Verb.KEEP, TieBreak.FILLED)
        case _Action.NEWEST if moves.modified_at is None:
            verb, tie_break = Verb.HOLD, TieBreak.UNTIMED
        case _Action.NEWEST:
            verb, tie_break = (Verb.WRITE, TieBreak.EVENT) if predates(moves) else (Verb.YIELD, TieBreak.DOCUMENT)
        case _:
            return Ruling(_VERBS[action], reason)
    return Ruling(verb, structs.replace(reason, tie_break=tie_break))
