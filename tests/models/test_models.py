"""The small worlds, each searched to its end; `make models` searches the large ones as well."""

import pytest

from reconciler.core.planning import merge
from reconciler.model.plan import ReasonCode
from reconciler.model.policy import Rule, Strategy
from tests.models import writing
from tests.models.explore import explore
from tests.models.runs import RUNS, Run

QUICK = [run for run in RUNS if run.quick]


@pytest.mark.parametrize("run", QUICK, ids=lambda run: run.name)
def test_a_small_world_ends_as_the_rules_say(run: Run) -> None:
    found = explore(run.model)
    assert run.ends_right(found), f"{found.states:,} states, {found.broken}"


def test_every_rule_is_left_out_once_and_missed() -> None:
    """Looks alone are not missed: they make a window shorter, and doubts carry the safety."""
    left_out = {name for run in RUNS for name in [run.name.partition("without ")[2].partition(",")[0]]}
    assert set(writing.RULES) - {"looks", "account_is_ours"} <= left_out


@pytest.mark.parametrize("strategy", writing.VERBS)
def test_the_model_decides_as_the_program_does(strategy: writing.Strategy) -> None:
    rule = Rule(fields=("*",), strategy=Strategy(strategy), on_overlap=Strategy.HOLD)
    for (ours, theirs), verb in writing.VERBS[strategy].items():
        moves = merge.Moves(False, ours, theirs, False, "2026-11-22T10:00:00Z", None)
        ruling = merge.decide(moves, rule)
        assert ruling.verb == verb
        assert ruling.reason.code is not ReasonCode.AGREED
