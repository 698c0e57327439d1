"""
Merge: what one move, or two, of one value comes to under a strategy: the table of README.md, "Policy: who wins".

Rules of this file:
1. It knows nothing of documents, lists or patches. Whole values and single elements of sets are decided by one table.
2. `ours` and `theirs` are facts found by the caller. *Ours*: the claim is a later one than the claim agreed in the
   base, and another event's. *Theirs*: the live value differs from the base's, and from the value that the producer
   said to expect.
"""

import enum

import attrs

from reconciler.model.plan import Verb
from reconciler.model.policy import Adopt, Rule, Strategy


class Case(enum.StrEnum):
    """The rows of the table."""

    AGREED = "agreed"  # live = desired
    OURS = "ours only"
    THEIRS = "theirs only"
    BOTH = "ours and theirs"
    NEITHER = "neither"


class _Action(enum.Enum):
    KEEP = enum.auto()
    WRITE = enum.auto()
    YIELD = enum.auto()
    HOLD = enum.auto()
    FILL = enum.auto()  # write if blank, else keep
    NEWEST = enum.auto()  # the later of the event and the document's modification
    OVERLAP = enum.auto()  # what the rule says under `on_overlap`


_K, _W, _Y, _H = _Action.KEEP, _Action.WRITE, _Action.YIELD, _Action.HOLD
_COLUMNS = (Strategy.EXTERNAL, Strategy.PRESERVE, Strategy.MERGE, Strategy.NEWEST, Strategy.HOLD, Strategy.FILL)
_ROWS: dict[Case, tuple[_Action, ...]] = {
    #              external  preserve  merge            newest          hold  fill
    Case.AGREED: (_K, _K, _K, _K, _K, _K),
    Case.OURS: (_W, _W, _W, _W, _W, _Action.FILL),
    Case.THEIRS: (_W, _Y, _Y, _Y, _H, _K),
    Case.BOTH: (_W, _Y, _Action.OVERLAP, _Action.NEWEST, _H, _Action.FILL),
    Case.NEITHER: (_W, _K, _K, _K, _K, _K),
}
_TABLE = {
    (case, strategy): action
    for case, actions in _ROWS.items()
    for strategy, action in zip(_COLUMNS, actions, strict=True)
}
_OVERLAP = {
    Strategy.HOLD: _Action.HOLD,
    Strategy.EXTERNAL: _Action.WRITE,
    Strategy.PRESERVE: _Action.YIELD,
    Strategy.NEWEST: _Action.NEWEST,
}
# Adoption when nobody can tell whose value is wanted (README.md, "Policy: who wins").
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


@attrs.frozen
class Moves:
    """What is known of one value when it is decided."""

    agreed: bool  # live = desired
    ours: bool
    theirs: bool
    blank: bool  # there is nothing in the live field
    claimed_at: str  # canonical instant of the event that made the claim
    modified_at: str | None  # when others last modified the document; None: the server does not say


@attrs.frozen
class Ruling:
    """The verb, and the words that explain it."""

    verb: Verb
    reason: str


def decide(moves: Moves, rule: Rule) -> Ruling:
    """Decide a value that has a base."""
    case = _case(moves)
    return _act(_TABLE[case, rule.strategy], moves, rule, case.value)


def adopt(moves: Moves, rule: Rule) -> Ruling:
    """
    Decide a value that has no base: first seen, or its base was lost.

    `moves.theirs` false says that the live value is one the producer expected, so that it is no one else's edit.
    """
    if moves.agreed:
        return Ruling(Verb.KEEP, "adopted: both sides agree")
    if not moves.theirs or predates(moves):
        return _act(_TABLE[Case.OURS, rule.strategy], moves, rule, "adopted, ours only")
    action = _ADOPT[rule.on_adopt] if rule.on_adopt is not None else _ADOPTION[rule.strategy]
    if moves.modified_at is None:
        return _act(action, moves, rule, "adopted: the server does not say when the document was modified")
    return _act(action, moves, rule, "adopted: the document was modified after the event")


def predates(moves: Moves) -> bool:
    """
    Whether the document's last modification by others is known to be older than the claim.

    Many servers show whole seconds, cut off: an edit at 10:00:00.9 reads 10:00:00. So a time without a fraction stands
    for its whole second, and nobody can tell about a claim within it.
    """
    if moves.modified_at is None:
        return False
    if moves.modified_at.endswith(_WHOLE_SECOND):
        return moves.claimed_at[:_TO_THE_SECOND] > moves.modified_at[:_TO_THE_SECOND]
    return moves.claimed_at > moves.modified_at


def _case(moves: Moves) -> Case:
    if moves.agreed:
        return Case.AGREED
    if moves.ours:
        return Case.BOTH if moves.theirs else Case.OURS
    return Case.THEIRS if moves.theirs else Case.NEITHER


def _act(action: _Action, moves: Moves, rule: Rule, why: str) -> Ruling:
    if action is _Action.OVERLAP:
        return _act(_OVERLAP[rule.on_overlap], moves, rule, f"{why}, on_overlap = {rule.on_overlap}")
    if action is _Action.FILL:
        return Ruling(Verb.WRITE, f"{why}, blank") if moves.blank else Ruling(Verb.KEEP, f"{why}, not blank")
    if action is _Action.NEWEST:
        if moves.modified_at is None:
            return Ruling(Verb.HOLD, f"{why}, and the server does not say when the document was modified")
        if predates(moves):
            return Ruling(Verb.WRITE, f"{why}, the event is later")
        return Ruling(Verb.YIELD, f"{why}, the document's modification is later")
    return Ruling(_VERBS[action], why)
