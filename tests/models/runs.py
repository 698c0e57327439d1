"""
The worlds that are searched, and what each shows.

A world that holds has no way to harm. Of the others each leaves out one rule, and the promise named is what that rule
is for; the last ones are the known limits (docs/reliability.md).
"""

from typing import Any

import attrs

from tests.models import folding, limiting, writing
from tests.models.explore import STUCK, Found, Model
from tests.models.writing import LESS, OLD_POLICY, OURS_AS_THEIRS, THEIRS_AS_OURS, UNSEEN, Rules, Scene


@attrs.frozen
class Run:
    """A world to search; `breaks` is the promise that is broken there, None if all hold."""

    name: str
    model: Model[Any]
    breaks: str | None = None
    quick: bool = True

    def ends_right(self, found: Found) -> bool:
        """Whether a search has found what it should; after a broken promise others may break too."""
        return self.breaks in found.broken if self.breaks else not found.broken


NONE: tuple[str, ...] = ()
THREE = ("a", "x", "y")
BACK = ("a", "x", "a")  # a wish that is taken back
RELEASED = ("a", "x", None, "y")  # not managed for a while


def holds(name: str, quick: bool = True, rules: Rules | None = None, **scene: Any) -> Run:
    """A world in which nothing can go wrong."""
    return Run(name, writing.model(Scene(rules=rules or Rules(), **scene)), None, quick)


def without(rule: str, breaks: str, quick: bool = True, **scene: Any) -> Run:
    """A world without one rule, and what that breaks."""
    under = f", {scene['strategy']}" if "strategy" in scene else ""
    return Run(f"without {rule}{under}", writing.model(Scene(rules=Rules(**{rule: False}), **scene)), breaks, quick)


def _folding(**scene: Any) -> Model[Any]:
    return folding.model(folding.Scene(**scene))


def _limiting(**scene: Any) -> Model[Any]:
    return limiting.model(limiting.Scene(**scene))


HOLDING = (
    holds("an edit and a kill"),
    holds("two edits and a kill", edits=("p", "q"), quick=False),
    holds("two wishes, an edit and a kill", wishes=THREE, quick=False),
    holds("three replicas and an edit", replicas=3, faults=0, quick=False),
    holds("a wish taken back, and a kill", replicas=1, wishes=BACK, edits=NONE),
    holds("a wish taken back, and a kill, by two", wishes=BACK, edits=NONE, quick=False),
    holds("released and managed again", replicas=1, wishes=RELEASED, edits=NONE),
    holds("released and managed again, by two", wishes=RELEASED, edits=NONE, faults=0, quick=False),
    holds("an action, a wish taken back, and a kill", replicas=1, wishes=BACK, edits=NONE, guarded=False),
    holds("an action, two wishes, and a kill", replicas=1, wishes=THREE, edits=NONE, guarded=False),
    holds("an action, by two", edits=NONE, faults=0, guarded=False, quick=False),
    holds("a late statement", replicas=1, wishes=(*THREE, "z"), edits=NONE, kills=False, late_statements=True),
    holds("the answer of a take is lost", replicas=1, lost_takes=True),
    holds("the answer of a take is lost, by two", lost_takes=True, quick=False),
    holds("pauses and another policy", replicas=1, edits=NONE, faults=0, pauses=True),
    holds("pauses and another policy, by two", edits=NONE, faults=0, pauses=True, quick=False),
    holds("without looks: doubt carries the safety", rules=Rules(looks=False), edits=NONE),
    holds("without looks, an edit, two wishes", rules=Rules(looks=False), wishes=THREE, quick=False),
    holds(
        "a failover that loses an intent",
        rules=Rules(account_is_ours=True), replicas=1, wishes=THREE, faults=0, failover=True, quick=False,
    ),
    holds(
        "a failover that loses an intent, by two",
        rules=Rules(account_is_ours=True), edits=NONE, faults=0, failover=True, quick=False,
    ),
    *(
        holds(f"{strategy}: {name}", strategy=strategy, quick=quick, **scene)
        for strategy in ("external", "preserve", "hold")
        for name, quick, scene in (
            ("an edit and a kill", True, {"replicas": 1}),
            ("an edit and a kill, by two", False, {}),
            ("two edits", False, {"replicas": 1, "edits": ("p", "q")}),
            ("two wishes, an edit and a kill", False, {"replicas": 1, "wishes": THREE}),
            ("a wish taken back, and a kill", True, {"replicas": 1, "wishes": BACK, "edits": NONE}),
            ("released and managed again", False, {"replicas": 1, "wishes": RELEASED, "edits": NONE}),
        )
    ),
    holds("preserve: two wishes and an edit, by two", strategy="preserve", wishes=THREE, faults=0, quick=False),
    holds("hold: two wishes and an edit, by two", strategy="hold", wishes=THREE, faults=0, quick=False),
    holds("hold: a person decides", strategy="hold", replicas=1, edits=("p", "q"), decides=True),
    holds("hold: a person decides, by two", strategy="hold", decides=True, quick=False),
    holds("merge: a person decides", replicas=1, edits=("p", "q"), decides=True),
)  # fmt: skip

BROKEN = (
    without("fenced", OURS_AS_THEIRS, quick=False),
    without("intent_first", OURS_AS_THEIRS, replicas=1, wishes=BACK, edits=NONE),
    without("doubts_stand", OURS_AS_THEIRS, replicas=1, wishes=BACK, edits=NONE, faults=0),
    without("release_keeps", OURS_AS_THEIRS, replicas=1, wishes=RELEASED, edits=NONE, faults=0),
    without("actions_stand", OURS_AS_THEIRS, replicas=1, wishes=THREE, edits=NONE, guarded=False),
    without(
        "version_named", OURS_AS_THEIRS,
        replicas=1, wishes=(*THREE, "z"), edits=NONE, kills=False, late_statements=True,
    ),
    without("recovers", LESS, replicas=1, edits=NONE, faults=0, failover=True),
    without("waits", LESS, edits=NONE, faults=0, failover=True),
    without("policy_named", OLD_POLICY, replicas=1, edits=NONE, faults=0, pauses=True),
    without("takes_found", STUCK, replicas=1, lost_takes=True),
    without("doubts_stand", OURS_AS_THEIRS, strategy="preserve", replicas=1, wishes=BACK, edits=NONE, faults=0),
    without("doubts_stand", OURS_AS_THEIRS, strategy="hold", replicas=1, wishes=BACK, edits=NONE, faults=0),
)  # fmt: skip

KNOWN = (
    Run(
        "a person sets a lost write back before our next read",
        writing.model(Scene(replicas=1, edits=("a",), faults=0)),
        THEIRS_AS_OURS,
    ),
    Run(
        "a person edits between the look and an action",
        writing.model(Scene(replicas=1, faults=0, guarded=False)),
        UNSEEN,
    ),
    Run(
        "a failover that loses an intent, by the account's name unknown",
        writing.model(Scene(replicas=1, wishes=THREE, edits=NONE, faults=0, failover=True)),
        OURS_AS_THEIRS,
    ),
)

SHARING = (
    Run("two fold the same rows", _folding(late_statements=False)),
    Run("two fold the same rows, and late statements", _folding(), quick=False),
    Run("two fold the same rows more often", _folding(late_statements=False, folds_max=4), quick=False),
    Run("positions not compared: it only saves work", _folding(positions_compared=False), quick=False),
    Run("without rows_compared", _folding(late_statements=False, rows_compared=False), folding.LOST),
    Run("without losers_first", _folding(late_statements=False, losers_first=False), folding.LOST),
    Run("shares of the limit", _limiting()),
    Run("a share known at once", _limiting(carries="at once"), limiting.TOO_MANY),
    Run("a share known with a beat", _limiting(carries="with the next beat"), limiting.TOO_MANY),
)

RUNS = (*HOLDING, *BROKEN, *KNOWN, *SHARING)
